"""Progress and status of a sweep: written by the process that runs it, shown by any."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kerasbn.common.errors import InputError, expected
from kerasbn.common.records import read_json, write_json
from kerasbn.common.wording import percent_sd
from kerasbn.sweeps.study import STATUSES, Study
from kerasbn.sweeps.summaries import best, describe, summarize
from kerasbn.sweeps.trials import TrialBatch

try:
    import fcntl
except ImportError:  # Windows has none: there, a running sweep cannot be recognized
    fcntl = None  # type: ignore[assignment] # absence is a value here

PROGRESS, LOCK = "progress.json", ".lock"
UPDATE_SECONDS = 1.0  # between two updates
MAX_RUNNING = 6  # batches shown one by one
KINDS = {"with_bn": "best with BN", "without_bn": "best without"}


@dataclass(frozen=True)
class RunningBatch:
    """A batch of trials that is being trained, and the share that is done."""

    trials: str
    share: float


@dataclass(frozen=True)
class ProgressRecord:
    """What progress.json holds; `started` is a `time.time`, `seconds_left` an estimate."""

    started: float
    running: list[RunningBatch]
    seconds_left: float | None


@dataclass
class Progress:
    """The progress of a running sweep.

    Attributes:
        batches: All batches that were missing at the start.
        done: The numbers of those that are trained or failed.
        shares: The share done of those being trained, by number.
        started: When the sweep started, as of `time.time`.
    """

    batches: Sequence[TrialBatch]
    done: set[int] = field(default_factory=set)
    shares: dict[int, float] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def seconds_left(self) -> float | None:
        """Return the time left at the pace so far; None if nothing is done yet."""
        costs = {batch.number: batch.cost for batch in self.batches}
        done = sum(costs[number] for number in self.done)
        done += sum(costs[number] * share for number, share in self.shares.items())
        if not done:
            return None
        return (time.time() - self.started) * (sum(costs.values()) - done) / done

    def record(self) -> ProgressRecord:
        """Return what progress.json holds."""
        names = {batch.number: str(batch) for batch in self.batches}
        running = [RunningBatch(names[number], share) for number, share in self.shares.items()]
        return ProgressRecord(self.started, running, self.seconds_left())


@dataclass(frozen=True)
class Best:
    """The best mean test accuracy, its standard deviation, and where it is reached."""

    accuracy: float | None
    sd: float | None
    where: str

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"{percent_sd(self.accuracy, self.sd)}{place}"


@dataclass(frozen=True)
class Status:
    """The status of a study: ``running``, ``finished`` or ``stopped``, and its trials by status.

    `done` trials finished or diverged; `best` has the best configuration for each of `KINDS`.
    """

    study: str
    state: str
    trials: int
    done: int
    finished: int
    diverged: int
    failed: int
    missing: int
    running: list[RunningBatch]
    seconds_left: float | None
    best: Mapping[str, Best]
    errors: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """Return the status as pairs of a name and a text."""
        rows = [("done", f"{self.done:,} of {self.trials:,} trials")]
        if self.diverged:
            rows.append(("diverged", f"{self.diverged:,} of these"))
        failed = f"{self.failed:,}"
        if self.failed:
            more = f" and {len(self.errors) - 1} other errors" if len(self.errors) > 1 else ""
            failed += f" ({self.errors[0]}{more})"
        rows.append(("failed", failed))
        if self.state == "running":
            shown = [f"{each.trials} ({each.share:.0%})" for each in self.running]
            more_batches = len(shown) - MAX_RUNNING
            shown[MAX_RUNNING:] = [f"and {more_batches} more batches"] if more_batches > 0 else []
            rows += [("running", text) for text in shown or ["starting"]]
        rows += [(KINDS[kind], str(each)) for kind, each in self.best.items()]
        if self.state == "running":
            rows.append(("time left", duration(self.seconds_left)))
        return rows

    def table(self) -> Table:
        """Return the status as a table for a terminal."""
        table = Table(title=f"{self.study}: {self.state}", show_header=False, box=None)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        previous = ""
        for name, text in self.rows():
            table.add_row("" if name == previous else name, text)
            previous = name
        return table

    def text(self) -> str:
        """Return the status as lines of plain text."""
        head = f"{self.study}: {self.state}"
        return "\n".join([head, *(f"{name:12} {text}" for name, text in self.rows())])

    def line(self) -> str:
        """Return the status in one line."""
        parts = [f"{self.done}/{self.trials} trials"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        parts += [f"{KINDS[kind]} {each}" for kind, each in self.best.items()]
        if self.seconds_left and self.done + self.failed < self.trials:
            parts.append(f"{duration(self.seconds_left)} left")
        return "; ".join(parts)


class StatusView:
    """Shows the status of a running sweep on standard error; a context manager.

    On a terminal it is a live table, elsewhere a line for each batch that ends.

    Args:
        quiet: Whether to show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        # soft_wrap: do not break lines where the output is a file or a pipe.
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, transient=True, refresh_per_second=4)
            if self._console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: Status, *, ended: bool = False) -> None:
        """Show the status; `ended` says that a batch has just ended."""
        if self._live:
            self._live.update(status.table())
        elif ended:
            self._console.print(status.line(), markup=False)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, markup=False)


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Lock the study in the folder `path` for this process; the lock ends with the process.

    Raises:
        InputError: If another process holds the lock.
    """
    try:
        descriptor = os.open(path / LOCK, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        if fcntl:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise expected(
                    path, "a study that another process is training", "an idle study",
                    "watch it with --status, or choose another --run",
                ) from error  # fmt: skip
        try:
            yield
        finally:
            for name in (PROGRESS, LOCK):
                with suppress(OSError):
                    (path / name).unlink()
    finally:
        os.close(descriptor)


def is_running(path: Path) -> bool:
    """Return whether a process is training the study in the folder `path`."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_progress(path: Path, progress: Progress) -> None:
    """Write progress.json for other processes."""
    write_json(path / PROGRESS, progress.record())


def read_progress(path: Path) -> ProgressRecord | None:
    """Return the latest progress of a running sweep; None if there is none."""
    if is_running(path):
        with suppress(InputError):  # nothing is written yet, or the sweep has just ended
            return read_json(path / PROGRESS, ProgressRecord, "the progress of a sweep")
    return None


def status_of(study: Study, progress: ProgressRecord | None, *, alive: bool) -> Status:
    """Return the status of a study.

    Args:
        study: The study as it is on disk.
        progress: Its progress if it runs.
        alive: Whether a process is training it.
    """
    counts = {status: len(study.with_status(status)) for status in STATUSES}
    summaries, tops = summarize(study), {}
    for kind in KINDS:
        bn = kind == "with_bn"
        top = best(summaries, bn)
        results = top.of(bn) if top else None
        if top and results:
            place = describe(top.configuration, study.axes)
            tops[kind] = Best(results.spread.mean, results.spread.sd, place)
    return Status(
        study=study.name,
        state="running" if alive else "finished" if study.is_complete else "stopped",
        trials=len(study.trials),
        done=counts["finished"] + counts["diverged"],
        **counts,
        running=progress.running if progress else [],
        seconds_left=progress.seconds_left if progress else None,
        best=tops,
        errors=sorted({study.outcomes[each.name].error for each in study.with_status("failed")}),
    )


def duration(seconds: float | None) -> str:
    """Return a rough duration: ``about 3 min``."""
    if seconds is None:
        return "not known yet"
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
