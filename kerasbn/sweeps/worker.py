"""What a worker does, in a process of this machine or on a cluster: train a batch of trials."""

import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import keras
import tensorflow as tf

from kerasbn.common.errors import InputError
from kerasbn.common.files import scratch_folder
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.sessions import OpenSession, TrainingSession
from kerasbn.experiments.train import TrainingJob, train_jobs
from kerasbn.sweeps.trials import Files, TrialBatch
from kerasbn.training.callbacks import Logs
from kerasbn.training.checkpoint import read_checkpoint


class ReportShare(keras.callbacks.Callback):
    """Calls `report` with the share of the training that is done, epochs of a checkpoint too."""

    def __init__(self, report: Callable[[float], None]) -> None:
        super().__init__()
        self._report, self._epoch = report, 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Report a chunk."""
        chunks = self.params["steps"]
        self._report((self._epoch * chunks + batch + 1) / (self.params["epochs"] * chunks))


def train_batch(
    batch: TrialBatch,
    data: Dataset,
    *,
    device: str = "auto",
    scratch: Path | None = None,
    report: Callable[[float], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
    checkpoint: Path | None = None,
) -> Files:
    """Train the trials of a batch, in a process that computed nothing else; return their files.

    Files are returned as bytes since a worker may be on another machine, with another disk.
    `report` is called with the share that is done, 0 to 1. Temporary files go to `scratch`, or to
    the system's folder for them. Training continues from the checkpoint in the folder `checkpoint`,
    and writes others there. Without a readable one it starts anew; `warn` is called with a line if
    that is damaged. Raises `InputError` if the batch cannot be trained here.
    """
    # One thread everywhere, since their number affects rounding.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    jobs = [TrainingJob(each.name, each.model, each.training, each.name) for each in batch.trials]
    session = None
    if checkpoint:
        checkpoint.mkdir(parents=True, exist_ok=True)
        session = OpenSession(TrainingSession("train", jobs[0].model, jobs[0].training), checkpoint)
        _remove_if_damaged(session.state(jobs[0].key), str(batch), warn)
    with scratch_folder(scratch) as folder:
        trained = train_jobs(
            jobs,
            data,
            device=device,
            root=folder,
            figures=False,
            callbacks=[ReportShare(report)],
            session=session,
        )
        files = {
            run.name: {file.name: file.read_bytes() for file in run.path.iterdir()}
            for run in trained
        }
    keras.backend.clear_session()  # or the graphs of all batches would stay in memory
    gc.collect()
    return files


def _remove_if_damaged(state: Path, batch: str, warn: Callable[[str], None]) -> None:
    if not state.exists():
        return
    try:
        read_checkpoint(state)
    except InputError:
        warn(f"{batch}: the checkpoint is damaged; training starts again")
        with suppress(OSError):
            state.unlink()
