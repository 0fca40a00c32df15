"""A group of a sweep, trained: what a worker does, wherever it is, and what it gives back.

Files go back to whoever asked, as bytes: a worker may be on another machine, with another disk.
"""

import gc
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import h5py
import keras
import numpy as np
import tensorflow as tf

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.train import Member, train
from kerasbn.records import write_json
from kerasbn.sweeps.events import Files
from kerasbn.sweeps.trials import Group


class Watch(keras.callbacks.Callback):
    """Tells how far a training is, as a share from 0 to 1, after every chunk of batches."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        super().__init__()
        self._tell = tell
        self._chunks = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras's call
        """Tell."""
        self._chunks += 1
        self._tell(self._chunks / (self.params["epochs"] * self.params["steps"]))


def train_group(
    group: Group,
    digits: Dataset,
    *,
    device: str = "auto",
    scratch: Path | None = None,
    tell: Callable[[float], None] | None = None,
) -> Files:
    """Train the members of a group; gives the files of their runs, by run and name.

    Args:
        group: what to train.
        digits: on what.
        device: as in `experiment.train`.
        scratch: a folder to write in on the way; the system's for such things where None.
        tell: called with the share that is done, now and then.

    Raises:
        InputError: if it cannot be trained here.
    """
    members = [Member(each.name, each.network, each.name, each.training) for each in group.members]
    with TemporaryDirectory(prefix="kerasbn-", dir=scratch) as folder:
        kept = train(
            members,
            digits,
            group.members[0].training,
            device=device,
            quiet=True,
            root=Path(folder),
            pictures=False,
            callbacks=[Watch(tell)] if tell else [],
        )
        for run in kept:
            record = replace(run.record, digest=digest_of(run))
            write_json(run.path / runs.RECORD, record)
        files = {
            run.name: {file.name: file.read_bytes() for file in run.path.iterdir()} for run in kept
        }
    keras.backend.clear_session()  # or the graphs of all groups would stay
    gc.collect()
    return files


def digest_of(run: runs.Run) -> str:
    """SHA-256 of the history and the weights of a run: its results without times and places."""
    found = hashlib.sha256()
    for name in ("epoch", "step", *runs.METRICS):
        found.update(np.asarray(run.history[name], np.float64).tobytes())
    if run.model_path.is_file():
        with ZipFile(run.model_path) as archive, archive.open("model.weights.h5") as file:
            weights = h5py.File(file, "r")["layers"]
            names: list[str] = []
            weights.visit(names.append)
            for name in sorted(names):
                if isinstance(weights[name], h5py.Dataset):
                    found.update(name.encode() + weights[name][()].tobytes())
    return found.hexdigest()


def use_threads(count: int) -> None:
    """Let TensorFlow compute with so many threads; before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)
