"""What a worker does, in a process of this machine or on a cluster: train a batch of trials."""

import gc
import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count
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


def train_batch(
    batch: TrialBatch,
    data: Dataset,
    *,
    device: str = "auto",
    scratch: Path | None = None,
    report: Callable[[float], None] = lambda _: None,
) -> Files:
    """Train the trials of a batch, in a process that computed nothing else; return their files.

    Files are returned as bytes since a worker may be on another machine, with another disk.
    `report` is called with the share that is done, 0 to 1. Temporary files go to `scratch`, or to
    the system's folder for them. Raises `InputError` if the batch cannot be trained here.
    """
    # One thread everywhere, since their number affects rounding.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    jobs = [TrainingJob(each.name, each.model, each.training, each.name) for each in batch.trials]
    chunks = count(1)
    progress: Any = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: report(
            next(chunks) / (progress.params["epochs"] * progress.params["steps"])
        )
    )
    with TemporaryDirectory(prefix="kerasbn-", dir=scratch) as folder:
        trained = train_jobs(
            jobs, data, device=device, root=Path(folder), figures=False, callbacks=[progress]
        )
        files = {}
        for run in trained:
            write_json(run.path / runs.RECORD, replace(run.record, digest=digest_of(run)))
            files[run.name] = {file.name: file.read_bytes() for file in run.path.iterdir()}
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
