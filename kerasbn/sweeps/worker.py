"""What a worker does, in a process of this machine or on a cluster: train a batch of trials."""

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
from kerasbn.common.records import write_json
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.train import TrainingJob, train_jobs
from kerasbn.sweeps.trials import Files, TrialBatch


class ReportShare(keras.callbacks.Callback):
    """Reports the share of a training that is done, 0 to 1, after every chunk of steps."""

    def __init__(self, report: Callable[[float], None]) -> None:
        super().__init__()
        self._report = report
        self._chunks = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras's call
        """Report."""
        self._chunks += 1
        self._report(self._chunks / (self.params["epochs"] * self.params["steps"]))


def train_batch(
    batch: TrialBatch,
    data: Dataset,
    *,
    device: str = "auto",
    scratch: Path | None = None,
    report: Callable[[float], None] | None = None,
) -> Files:
    """Train the trials of a batch; return the files of their runs.

    Files are returned as bytes since a worker may be on another machine, with another disk.

    Args:
        batch: What to train.
        data: The dataset.
        device: See `kerasbn.train`.
        scratch: The folder for temporary files; None for the system's.
        report: Called with the share that is done, 0 to 1.

    Raises:
        InputError: If the batch cannot be trained here.
    """
    members = [
        TrainingJob(trial.name, trial.model, trial.training, trial.name) for trial in batch.trials
    ]
    with TemporaryDirectory(prefix="kerasbn-", dir=scratch) as folder:
        trained = train_jobs(
            members,
            data,
            device=device,
            quiet=True,
            root=Path(folder),
            figures=False,
            callbacks=[ReportShare(report)] if report else [],
        )
        for run in trained:
            write_json(run.path / runs.RECORD, replace(run.record, digest=digest_of(run)))
        files = {
            run.name: {file.name: file.read_bytes() for file in run.path.iterdir()}
            for run in trained
        }
    keras.backend.clear_session()  # or the graphs of all batches would stay in memory
    gc.collect()
    return files


def digest_of(run: runs.Run) -> str:
    """Return SHA-256 of the history and the weights of a run, without times and paths."""
    digest = hashlib.sha256()
    for name in ("epoch", "step", *runs.METRICS):
        digest.update(np.asarray(run.history[name], np.float64).tobytes())
    if run.model_path.is_file():
        with ZipFile(run.model_path) as archive, archive.open("model.weights.h5") as file:
            weights = h5py.File(file, "r")["layers"]
            names: list[str] = []
            weights.visit(names.append)
            for name in sorted(names):
                if isinstance(weights[name], h5py.Dataset):
                    digest.update(name.encode() + weights[name][()].tobytes())
    return digest.hexdigest()


def use_threads(count: int) -> None:
    """Limit TensorFlow to so many threads; call it before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)
