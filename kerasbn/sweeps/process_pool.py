"""Process pool for sweeps on one machine.

A worker that dies, killed or out of memory, takes down only the batch of trials it was training;
the batch is retried on a new worker.

Why not a library: executors of loky and `concurrent.futures` fail all pending work when a worker
dies. pebble fails only the task at work, but its workers share two pipes: one that dies with the
lock of a pipe stalls the others for a minute (noxdafox/pebble#163), and one that dies while none
is at work breaks the pool, so each worker would need a pool of its own, which is more code than
the loop below. Here every worker has its own pipe, and nothing is shared that a death could lock.
"""

import multiprocessing
import os
import pickle
import shutil
import signal
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np

from kerasbn.data.datasets import Dataset
from kerasbn.sweeps.trials import Event, TrialBatch, error_line

ATTEMPTS = 3  # to train a batch whose worker dies
REPORT_SHARE = 0.02  # of a batch: smaller advances are not reported

# A fork would copy the threads and locks of libraries that do not expect it.
CONTEXT = multiprocessing.get_context("spawn")


def train_in_processes(
    batches: Sequence[TrialBatch],
    data: Dataset,
    *,
    workers: int,
    device: str = "auto",
    verbose: bool = False,
) -> Generator[Event, None, None]:
    """Train the batches in processes, in order; yield events until all are trained or failed.

    All workers memory-map one copy of the dataset. Closing the generator, or an exception in it,
    kills them.
    """
    waiting = deque((batch, 1) for batch in batches)
    with TemporaryDirectory(prefix="kerasbn-sweep-") as scratch:
        _save(data, Path(scratch))
        arguments = (Path(scratch), device, verbose)
        pool = [_Worker(arguments) for _ in range(min(workers, len(batches)))]
        try:
            while waiting or any(worker.task for worker in pool):
                for worker in pool:
                    if waiting and not worker.task:
                        yield worker.start(*waiting.popleft())
                ready = wait([worker.connection for worker in pool if worker.task])
                for place, worker in enumerate(pool):
                    if worker.connection not in ready:
                        continue
                    event = worker.receive()
                    if event is not None:
                        yield event
                        continue
                    batch, attempt, death = worker.post_mortem()
                    pool[place] = _Worker(arguments)
                    if attempt < ATTEMPTS:
                        waiting.appendleft((batch, attempt + 1))
                    else:
                        line = f"its process ended {attempt} times ({death})"
                        yield Event(batch.number, error=line)
        finally:
            for worker in pool:
                worker.process.kill()
            for worker in pool:
                worker.process.join()


class _Worker:
    """A process and its task: the batch it is training and the number of the attempt."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.connection, far_end = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_work, args=(far_end, *arguments), daemon=True)
        self.process.start()
        far_end.close()  # so that the connection ends with the process
        self.task: tuple[TrialBatch, int] | None = None

    def start(self, batch: TrialBatch, attempt: int) -> Event:
        """Send the process a batch to train."""
        self.task = (batch, attempt)
        with suppress(OSError):  # it died: `receive` will return None
            self.connection.send(batch)
        return Event(batch.number)

    def receive(self) -> Event | None:
        """Return the next event of the process; None if it died."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return None
        if event.is_last:
            self.task = None
        return event

    def post_mortem(self) -> tuple[TrialBatch, int, str]:
        """Return the task of a dead process, and how it died."""
        assert self.task is not None
        self.process.join()
        code = self.process.exitcode or 0
        return *self.task, f"signal {-code}" if code < 0 else f"exit code {code}"


def _save(data: Dataset, scratch: Path) -> None:
    """Write the dataset to files, its arrays apart so that `_load` can memory-map them.

    Not as an argument of the processes: `multiprocessing` writes arguments to a pipe of which it
    holds both ends, and blocks forever if the process is killed before it has read them.
    """
    arrays: list[pickle.PickleBuffer] = []
    content = pickle.dumps(data, protocol=5, buffer_callback=arrays.append)
    (scratch / "dataset.pickle").write_bytes(content)
    for i, array in enumerate(arrays):
        (scratch / f"{i}.array").write_bytes(array.raw())


def _load(scratch: Path) -> Dataset:
    paths = sorted(scratch.glob("*.array"))
    arrays = [np.memmap(path, np.uint8, "r") for path in paths]
    content = (scratch / "dataset.pickle").read_bytes()
    data: Dataset = pickle.loads(content, buffers=arrays)  # noqa: S301 - our own
    return data


def follow_parent(scratch: Path | None = None) -> None:
    """End this process with the one that started it; then remove `scratch`, which that left behind.

    Ctrl-C reaches all processes of a terminal, but only the one that started the others heeds it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_and_die() -> None:
        parent.join()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    Thread(target=wait_and_die, daemon=True).start()


def _work(connection: Connection, scratch: Path, device: str, verbose: bool) -> None:
    """Train the batches that the connection delivers, one after another."""
    follow_parent(scratch)
    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow(verbose)
    from kerasbn.sweeps.worker import train_batch, use_one_thread

    use_one_thread()
    data = _load(scratch)
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            batch: TrialBatch = connection.recv()
            reported = 0.0

            def report(share: float, number: int = batch.number) -> None:
                nonlocal reported
                if share - reported >= REPORT_SHARE:
                    reported = share
                    connection.send(Event(number, share))

            try:
                files = train_batch(batch, data, device=device, scratch=scratch, report=report)
                connection.send(Event(batch.number, 1.0, files))
            except Exception as error:  # noqa: BLE001 - the sweep goes on without this batch
                connection.send(Event(batch.number, error=error_line(error)))
