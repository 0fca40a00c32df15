"""Processes of this machine that train the groups of a sweep, and may die of it.

A process that is killed, or runs out of memory, takes nothing with it but the group it was at,
which another process begins again. (The pools of `concurrent.futures` break as a whole when one of
their processes dies, and cannot say what it was doing.)
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
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from kerasbn.data.datasets import Dataset
from kerasbn.sweeps.events import Advanced, Began, Event, Failed, Trained, in_one_line
from kerasbn.sweeps.trials import Group

TRIES = 3  # how often a group is begun whose process dies
DIGITS = "digits.pickle"  # in the scratch folder
OFTEN = 0.02  # the least share of a group that is worth a message

# A fork would share the threads and locks of libraries that know nothing of it.
_CONTEXT = multiprocessing.get_context("spawn")


def in_processes(
    groups: Sequence[Group],
    digits: Dataset,
    *,
    workers: int,
    threads: int,
    device: str = "auto",
    verbose: bool = False,
) -> Generator[Event, None, None]:
    """Train the groups in processes, and tell what happens; ends when all are trained or failed.

    When it is closed, or an exception passes through it, the processes are ended too.

    Args:
        groups: what to train, in this order.
        digits: on what.
        workers: how many processes at once.
        threads: how many threads TensorFlow has in each.
        device: as in `experiment.train`.
        verbose: whether TensorFlow may say what it has to say.
    """
    waiting = deque((group, 1) for group in groups)
    with TemporaryDirectory(prefix="kerasbn-sweep-") as scratch:
        # In a file: what a process is started with, `multiprocessing` writes into a pipe that it
        # holds both ends of, and if that is more than the pipe takes, and the process is killed
        # before it has read it, waits forever.
        Path(scratch, DIGITS).write_bytes(pickle.dumps(digits))
        given = (threads, device, Path(scratch), verbose)
        crew = [_Worker(given) for _ in range(min(workers, len(groups)))]
        try:
            while waiting or any(worker.task for worker in crew):
                for worker in crew:
                    if waiting and not worker.task:
                        yield worker.begin(*waiting.popleft())
                for connection in wait([worker.connection for worker in crew if worker.task]):
                    place = next(i for i, each in enumerate(crew) if each.connection is connection)
                    event = crew[place].receive()
                    if event is not None:
                        yield event
                        continue
                    group, tries, how = crew[place].bury()
                    crew[place] = _Worker(given)
                    if tries < TRIES:
                        waiting.appendleft((group, tries + 1))
                    else:
                        yield Failed(group.number, f"its process ended {tries} times ({how})")
        finally:
            for worker in crew:
                worker.process.kill()
            for worker in crew:
                worker.process.join()


class _Worker:
    """A process, and the group it is at."""

    def __init__(self, given: tuple[int, str, Path, bool]) -> None:
        self.connection, far_end = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_live, args=(far_end, *given), daemon=True)
        self.process.start()
        far_end.close()  # so that the connection ends with the process
        self.task: tuple[Group, int] | None = None

    def begin(self, group: Group, tries: int) -> Event:
        """Hand it a group."""
        self.task = (group, tries)
        with suppress(OSError):  # it has died; `receive` finds out
            self.connection.send(group)
        return Began(group.number)

    def receive(self) -> Event | None:
        """What it has to tell; None if it has died."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(event, Trained | Failed):
            self.task = None
        return event

    def bury(self) -> tuple[Group, int, str]:
        """What it was at, for which time, and how it died."""
        assert self.task is not None
        self.process.join()
        code = self.process.exitcode or 0
        return *self.task, f"signal {-code}" if code < 0 else f"exit code {code}"


def _live(connection: Connection, threads: int, device: str, scratch: Path, verbose: bool) -> None:
    """The life of a worker process: it works in a thread, and dies with whoever started it.

    Ctrl-C at a terminal reaches all its processes; the one that started the workers ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = (connection, threads, device, scratch, verbose)
    Thread(target=_work, args=work, daemon=True).start()
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(scratch, ignore_errors=True)  # it had no time to, if it was killed
    os._exit(1)


def _work(connection: Connection, threads: int, device: str, scratch: Path, verbose: bool) -> None:
    """Train group after group, as they come."""
    try:
        from kerasbn.keras_internals import quiet_tensorflow

        quiet_tensorflow(verbose)
        from kerasbn.sweeps.work import train_group, use_threads

        use_threads(threads)
        digits: Dataset = pickle.loads((scratch / DIGITS).read_bytes())  # noqa: S301 - ours
        while True:
            group: Group = connection.recv()
            told = 0.0

            def tell(share: float, number: int = group.number) -> None:
                nonlocal told
                if share - told >= OFTEN:
                    told = share
                    connection.send(Advanced(number, share))

            try:
                files = train_group(group, digits, device=device, scratch=scratch, tell=tell)
                connection.send(Trained(group.number, files))
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                connection.send(Failed(group.number, in_one_line(error)))
    except EOFError:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nobody above this thread would see it
        traceback.print_exc()
        os._exit(1)
