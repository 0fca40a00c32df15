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
import traceback
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np

from kerasbn.data.datasets import Dataset, Split
from kerasbn.sweeps.trials import Event, TrialBatch, error_line

ATTEMPTS = 3  # to train a batch whose worker dies
REPORT_SHARE = 0.02  # of a batch: smaller advances are not reported

# A fork would copy the threads and locks of libraries that do not expect it.
_CONTEXT = multiprocessing.get_context("spawn")


def train_in_processes(
    batches: Sequence[TrialBatch],
    data: Dataset,
    *,
    workers: int,
    threads: int,
    device: str = "auto",
    verbose: bool = False,
) -> Generator[Event, None, None]:
    """Train the batches in processes; yield events until all are trained or failed.

    Closing the generator, or an exception in it, kills the processes.

    Args:
        batches: What to train, in this order.
        data: The dataset. All workers memory-map one copy of it.
        workers: The number of processes.
        threads: The number of TensorFlow's threads in each.
        device: See `kerasbn.train`.
        verbose: Whether TensorFlow prints its messages.
    """
    waiting = deque((batch, 1) for batch in batches)
    with TemporaryDirectory(prefix="kerasbn-sweep-") as scratch:
        _save(data, Path(scratch))
        arguments = (Path(scratch), threads, device, verbose)
        pool = [_Worker(arguments) for _ in range(min(workers, len(batches)))]
        try:
            while waiting or any(worker.task for worker in pool):
                for worker in pool:
                    if waiting and not worker.task:
                        yield worker.start(*waiting.popleft())
                for connection in wait([worker.connection for worker in pool if worker.task]):
                    place = next(i for i, each in enumerate(pool) if each.connection is connection)
                    event = pool[place].receive()
                    if event is not None:
                        yield event
                        continue
                    batch, attempt, death = pool[place].post_mortem()
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
    """A process and the batch it is training.

    Attributes:
        task: The batch and the number of the attempt; None while idle.
    """

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.connection, far_end = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_run, args=(far_end, *arguments), daemon=True)
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
        """Return the batch of a dead process, the number of the attempt, and how it died."""
        assert self.task is not None
        self.process.join()
        code = self.process.exitcode or 0
        return *self.task, f"signal {-code}" if code < 0 else f"exit code {code}"


def _save(data: Dataset, scratch: Path) -> None:
    """Write the dataset to files.

    Not as an argument of the processes: `multiprocessing` writes arguments to a pipe of which it
    holds both ends, and blocks forever if the process is killed before it has read them.
    """
    for part in ("train", "test"):
        split: Split = getattr(data, part)
        np.save(scratch / f"{part}-images.npy", split.images)
        np.save(scratch / f"{part}-labels.npy", split.labels)
    empty = Split(data.test.images[:0], data.test.labels[:0])
    (scratch / "dataset.pickle").write_bytes(pickle.dumps(replace(data, train=empty, test=empty)))


def _load(scratch: Path) -> Dataset:
    """Return the dataset of `_save`, memory-mapped."""
    data: Dataset = pickle.loads((scratch / "dataset.pickle").read_bytes())  # noqa: S301 - our own
    train, test = (
        Split(*(np.load(scratch / f"{part}-{name}.npy", "r") for name in ("images", "labels")))
        for part in ("train", "test")
    )
    return replace(data, train=train, test=test)


def _run(connection: Connection, scratch: Path, threads: int, device: str, verbose: bool) -> None:
    """Run a worker process: it works in a thread, and dies with the process that started it.

    Ctrl-C reaches all processes of a terminal; the one that started the workers ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = (connection, threads, device, scratch, verbose)
    Thread(target=_work, args=work, daemon=True).start()
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(scratch, ignore_errors=True)  # a parent that was killed left it behind
    os._exit(1)


def _work(connection: Connection, threads: int, device: str, scratch: Path, verbose: bool) -> None:
    """Train the batches that the connection delivers, one after another."""
    try:
        from kerasbn.common.keras_internals import quiet_tensorflow

        quiet_tensorflow(verbose)
        from kerasbn.sweeps.worker import train_batch, use_threads

        use_threads(threads)
        data = _load(scratch)
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
    except EOFError:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nothing above this thread would show it
        traceback.print_exc()
        os._exit(1)
