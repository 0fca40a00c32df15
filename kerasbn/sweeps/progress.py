"""Progress and status of a sweep: written by the process that runs it, shown by any."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from kerasbn import runs
from kerasbn.common.errors import InputError, expected
from kerasbn.common.files import Uninterrupted, try_lock
from kerasbn.common.folders import new_folder
from kerasbn.common.records import read_json, write_json
from kerasbn.common.terminal import progress_terminal
from kerasbn.sweeps import summaries
from kerasbn.sweeps.study_data import STATUSES, Outcome, StudyData, outcome_of
from kerasbn.sweeps.trials import Event, Files, TrialBatch, list_batches
from kerasbn.training.checkpoint import read_progress

PROGRESS, LOCK = "progress.json", ".lock"
CHECKPOINTS = ".checkpoints"  # of batches in training, by their numbers
UPDATE_SECONDS = 1.0  # between two updates
TABLE_SHARE = 0.05  # of the time can go into writing results.csv
MAX_RUNNING = 6  # batches shown one by one
_BEST = {"with_bn": "best with BN", "without_bn": "best without"}


@dataclass(frozen=True)
class StudyStatus:
    """The status of a study: ``running``, ``finished`` or ``stopped``, and its trials by status.

    `done` trials finished or diverged; `best` has the best configuration for each of `_BEST`, and
    `running` the share that is done of each batch. While a sweep runs, progress.json holds this.
    """

    study: str
    state: str
    trials: int
    done: int
    finished: int
    diverged: int
    failed: int
    missing: int
    best: dict[str, summaries.Best]
    errors: list[str]
    running: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Return the status as pairs of a name and a text."""
        rows = [("done", f"{self.done:,} of {self.trials:,} trials")]
        if self.diverged:
            rows.append(("diverged", f"{self.diverged:,} of these"))
        others = f" and {len(self.errors) - 1} other errors" if len(self.errors) > 1 else ""
        errors = f" ({self.errors[0]}{others})" if self.errors else ""
        rows.append(("failed", f"{self.failed:,}{errors}"))
        if self.state == "running":
            shown = [f"{batch} ({share:.0%})" for batch, share in self.running.items()]
            if len(shown) > MAX_RUNNING:
                shown[MAX_RUNNING:] = [f"and {len(shown) - MAX_RUNNING} more batches"]
            rows += [("running", text) for text in shown or ["starting"]]
        rows += [(_BEST[kind], str(each)) for kind, each in self.best.items()]
        if self.state == "running" and self.done + self.failed < self.trials:
            rows.append(("time left", duration(self.seconds_left)))
        return rows

    def table(self) -> Table:
        """Return the status as a table for a terminal."""
        table = Table(title=f"{self.study}: {self.state}", show_header=False, box=None)
        table.add_column(style="bold", no_wrap=True)
        for row in self.rows():
            table.add_row(*row)
        return table

    def lines(self) -> list[str]:
        """Return the status as lines of plain text."""
        head = f"{self.study}: {self.state}"
        return [head, *(f"{name:12} {text}" for name, text in self.rows())]

    def line(self) -> str:
        """Return the status in one line, without what is running."""
        return "; ".join(f"{name} {text}" for name, text in self.rows() if name != "running")


def status_of(study: StudyData) -> StudyStatus:
    """Return the status of a study that no process is training."""
    counts: dict[str, Any] = {status: len(study.with_status(status)) for status in STATUSES}
    summarized, tops = summaries.summarize(study), {}
    for kind in _BEST:
        bn = kind == "with_bn"
        if top := summaries.best(summarized, bn):
            tops[kind] = summaries.as_best(top, bn, study.axes)
    return StudyStatus(
        study=study.name,
        state="finished" if study.is_complete else "stopped",
        trials=len(study.trials),
        done=counts["finished"] + counts["diverged"],
        **counts,
        best=tops,
        errors=sorted({study.outcomes[each.name].error for each in study.with_status("failed")}),
    )


def read_status(study: StudyData) -> StudyStatus:
    """Return the status of a study that another process may be training."""
    if not is_running(study.path):
        return status_of(study)
    with suppress(InputError):  # nothing is written yet, or the sweep has just ended
        return read_json(study.path / PROGRESS, StudyStatus, "the progress of a sweep")
    return replace(status_of(study), state="running")


class RunningSweep:
    """A sweep while it runs: what it has trained so far, written to disk and shown.

    On a terminal the status is a live table on standard error, elsewhere a line for each batch that
    ends. The batches that are `missing` are trained in the context `view`.
    """

    def __init__(self, study: StudyData, *, quiet: bool) -> None:
        known = study.outcomes
        self._outcomes = {name: known[name] for name in known if known[name].status != "failed"}
        self.study = replace(study, outcomes=self._outcomes)
        self._batches = list_batches(list(study.trials))
        done = self._outcomes.keys()
        self.missing = [
            each for each in self._batches if not done >= {trial.name for trial in each.trials}
        ]
        self._shares: dict[int, float] = {}  # of each batch that was started; 1 once it has ended
        self._before = {each.number: self._share_before(each) for each in self.missing}
        self._started = time.monotonic()
        self._next_view = self._next_table = 0.0  # when they can be written again
        self._console = progress_terminal(quiet=quiet)
        is_live = self._console.is_terminal and not quiet
        self.view = Live(console=self._console, transient=True) if is_live else nullcontext()
        if len(self.missing) < len(self._batches):
            kept = f"{len(self._outcomes)} of {len(study.trials)} trials are already trained"
            self._console.print(kept)

    def take(self, event: Event) -> None:
        """Record and show an event."""
        if event.files is not None:
            self._keep(event.files)
            checkpoint = self.study.path / CHECKPOINTS / str(event.batch)
            shutil.rmtree(checkpoint, ignore_errors=True)
        elif event.error:
            failed = Outcome("failed", error=event.error)
            self._outcomes.update({each.name: failed for each in self._batches[event.batch].trials})
        for line in event.warnings:
            self._console.print(line)
        share = max(event.share, self._before[event.batch])
        self._shares[event.batch] = 1.0 if event.is_last else share
        if event.is_last and time.monotonic() > self._next_table:
            self.write()
        if event.is_last or not event.share or time.monotonic() > self._next_view:
            self._show(event.is_last)

    def write(self) -> None:
        """Write results.csv; in a large sweep not after every batch."""
        began = time.monotonic()
        self.study.write_results()
        self._next_table = began + (time.monotonic() - began) / TABLE_SHARE

    def write_tables(self) -> None:
        """Write results.csv and history.csv."""
        self.write()
        self.study.write_histories()

    def kept(self) -> str:
        """Say what is on disk."""
        done = sum(each.status != "failed" for each in self._outcomes.values())
        return f"{done} of {len(self.study.trials)} trials are kept in {self.study.path}"

    def _show(self, is_last: bool) -> None:
        now, total = time.monotonic(), sum(batch.cost for batch in self.missing)
        done = sum(self._batches[i].cost * share for i, share in self._shares.items())
        here = done - sum(self._batches[i].cost * self._before[i] for i in self._shares)
        status = replace(
            status_of(self.study),
            state="running",
            running={str(self._batches[i]): part for i, part in self._shares.items() if part < 1},
            seconds_left=(now - self._started) * (total - done) / here if here else None,
        )
        write_json(self.study.path / PROGRESS, status)
        if isinstance(self.view, Live):
            self.view.update(status.table())
        elif is_last:
            self._console.print(status.line())
        self._next_view = now + UPDATE_SECONDS

    def _share_before(self, batch: TrialBatch) -> float:
        """Return the share of a batch that its checkpoint holds, if it can be read."""
        epochs = batch.trials[0].training.epochs_on(self.study.record.data.train)
        for path in (self.study.path / CHECKPOINTS / str(batch.number)).glob("*/*.npz"):
            with suppress(InputError):
                return read_progress(path).epochs / epochs
        return 0.0

    def _keep(self, files: Files) -> None:
        """Write the runs of a batch, each complete or not at all."""
        for name, content in files.items():
            with new_folder(self.study.path, name, replace=True) as folder:
                for file, data in content.items():
                    (folder.path / file).write_bytes(data)
            self._outcomes[name] = outcome_of(runs.read_run(self.study.path / name))


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Lock the study in the folder `path`; raise `InputError` if another process has locked it.

    The lock ends with the process.
    """
    with Uninterrupted() as uninterrupted:
        try:
            # Without O_NONBLOCK, a pipe of that name would wait forever.
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        with os.fdopen(lock, "r+b", buffering=0):
            if not try_lock(lock):
                found = "a study that another process is training"
                advice = "watch it with --status, or choose another --run"
                raise expected(path, found, "an idle study", advice)
            try:
                with uninterrupted.interruptible():
                    yield
            finally:
                for name in (PROGRESS, LOCK):
                    with suppress(OSError):
                        (path / name).unlink()


def is_running(path: Path) -> bool:
    """Return whether a process is training the study in the folder `path`."""
    if not (path / LOCK).is_file():
        return False
    with suppress(FileNotFoundError), (path / LOCK).open("rb") as file:
        return not try_lock(file.fileno(), shared=True)
    return False


def duration(seconds: float | None) -> str:
    """Return a rough duration: ``about 3 min``."""
    if seconds is None:
        return "not known yet"
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
