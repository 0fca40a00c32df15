"""What a worker does, in a process of this machine or on a cluster: train a batch of trials."""

import gc
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import tensorflow as tf

from kerasbn.data.datasets import Dataset
from kerasbn.experiments.sessions import OpenSession, TrainingSession
from kerasbn.experiments.train import TrainingJob, train_jobs
from kerasbn.sweeps.trials import Files, TrialBatch


def train_batch(
    batch: TrialBatch,
    data: Dataset,
    *,
    device: str = "auto",
    scratch: Path | None = None,
    report: Callable[[float], None] = lambda _: None,
    checkpoint: Path | None = None,
) -> Files:
    """Train the trials of a batch, in a process that computed nothing else; return their files.

    Files are returned as bytes since a worker may be on another machine, with another disk.
    `report` is called with the share that is done, 0 to 1. Temporary files go to `scratch`, or to
    the system's folder for them. Training continues from the checkpoint in the folder `checkpoint`,
    and writes others there. Raises `InputError` if the batch cannot be trained here.
    """
    # One thread everywhere, since their number affects rounding.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    jobs = [TrainingJob(each.name, each.model, each.training, each.name) for each in batch.trials]
    session = None
    if checkpoint:
        checkpoint.mkdir(parents=True, exist_ok=True)
        session = OpenSession(TrainingSession("train", jobs[0].model, jobs[0].training), checkpoint)
    chunks = count(1)
    progress: Any = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: report(
            next(chunks) / (progress.params["epochs"] * progress.params["steps"])
        )
    )
    with TemporaryDirectory(prefix="kerasbn-", dir=scratch) as folder:
        trained = train_jobs(
            jobs,
            data,
            device=device,
            root=Path(folder),
            figures=False,
            callbacks=[progress],
            session=session,
        )
        files = {
            run.name: {file.name: file.read_bytes() for file in run.path.iterdir()}
            for run in trained
        }
    keras.backend.clear_session()  # or the graphs of all batches would stay in memory
    gc.collect()
    return files
