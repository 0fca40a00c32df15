"""Process pool for sweeps on one machine.

A worker that dies, killed or out of memory, takes down only the batch of trials it was training;
the batch is retried on a new worker.

Why not a library: executors of loky and `concurrent.futures` fail all pending work when a worker
dies. pebble's workers share two pipes: one that dies with the lock of a pipe stalls the others for
a minute (noxdafox/pebble#163). Here every worker has its own pipe.
"""

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread

import numpy as np

from kerasbn.common.files import scratch_folder
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
    checkpoints: Path | None = None,
) -> Generator[Event, None, None]:
    """Train the batches in processes, in order; yield events until all are trained or failed.

    All workers memory-map one copy of the dataset. Closing the generator, or an exception in it,
    kills them. Batches go on after the checkpoints in a folder, each in the one of its number.
    """
    waiting = deque((batch, 1) for batch in batches)
    processes: dict[Connection, SpawnProcess] = {}
    tasks: dict[
        Connection, tuple[TrialBatch, int]
    ] = {}  # what each trains, and which attempt it is
    with scratch_folder() as scratch:
        _save(data, scratch)
        arguments = (scratch, device, verbose, checkpoints)
        try:
            while waiting or tasks:
                while waiting and len(tasks) < workers:
                    idle = next((each for each in processes if each not in tasks), None)
                    connection = idle or _start(processes, arguments)
                    batch, _ = tasks[connection] = waiting.popleft()
                    with suppress(OSError):  # it died, as the connection will tell
                        connection.send(batch)
                    yield Event(batch.number)
                ready = wait(list(tasks))
                for connection in [each for each in tasks if each in ready]:
                    batch, attempt = tasks[connection]
                    try:
                        event = connection.recv()
                    except (EOFError, OSError):
                        process = processes.pop(connection)
                        process.join()
                        code = process.exitcode or 0
                        death = f"signal {-code}" if code < 0 else f"exit code {code}"
                        line = f"its process ended {attempt} times ({death})"
                        event = Event(batch.number, error=line)
                        if attempt < ATTEMPTS:
                            waiting.appendleft((batch, attempt + 1))
                            del tasks[connection]
                            continue
                    if event.is_last:
                        del tasks[connection]
                    yield event
        finally:
            for process in processes.values():
                process.kill()
            for process in processes.values():
                process.join()


def _start(
    processes: dict[Connection, SpawnProcess], arguments: tuple[Path, str, bool, Path | None]
) -> Connection:
    """Start a process that trains the batches it is sent; return the connection to it."""
    connection, far_end = CONTEXT.Pipe()
    processes[connection] = CONTEXT.Process(target=_work, args=(far_end, *arguments), daemon=True)
    processes[connection].start()
    far_end.close()  # so that the connection ends with the process
    return connection


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
    """End this process with the one that started it, and remove the `scratch` that it leaves."""
    # Ctrl-C reaches all processes of a terminal, but only the one that started the others heeds it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_and_die() -> None:
        parent.join()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    Thread(target=wait_and_die, daemon=True).start()


def _work(
    connection: Connection, scratch: Path, device: str, verbose: bool, checkpoints: Path | None
) -> None:
    """Train the batches that the connection delivers, one after another."""
    follow_parent(scratch)
    tempfile.tempdir = str(scratch)  # TensorFlow's files too go when this process is killed
    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow(verbose)
    from kerasbn.sweeps.worker import train_batch

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

            def warn(line: str, number: int = batch.number) -> None:
                connection.send(Event(number, warnings=(line,)))

            try:
                checkpoint = checkpoints and checkpoints / str(batch.number)
                files = train_batch(
                    batch, data, device=device, scratch=scratch, report=report, warn=warn,
                    checkpoint=checkpoint,
                )  # fmt: skip
                connection.send(Event(batch.number, 1.0, files))
            except Exception as error:  # noqa: BLE001 - the sweep goes on without this batch
                connection.send(Event(batch.number, error=error_line(error)))
