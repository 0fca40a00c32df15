"""The data of a study: what it trains, and how each trial ended."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from kerasbn import runs
from kerasbn.common.errors import expected
from kerasbn.common.records import read_csv, write_csv
from kerasbn.sweeps.grid import Grid
from kerasbn.sweeps.trials import Trial
from kerasbn.training.settings import option_text

RECORD, RESULTS, HISTORY = "study.json", "results.csv", "history.csv"
STATUSES = ("finished", "diverged", "failed", "missing")
MAX_TABLE_BYTES = 2**30
STUDY_ADVICE = "sweep again"
_HISTORY_COLUMNS = ("epoch", "step", *runs.METRICS)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: the columns of results.csv, None where there is no value.

    A trial ``finished`` (only then it has metrics), ``diverged`` (the loss became NaN or infinite)
    or ``failed`` (it could not be trained: `error` says why, in one line). `digest` is the SHA-256
    of its history and weights.
    """

    status: str
    epochs: int | None = None
    step: int | None = None
    diverged_at_step: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class StudyRecord:
    """What study.json holds.

    `grid` is that of `Grid.record`, `command` reproduces the study (empty if it was started from
    Python), and its results depend on the `versions`.
    """

    name: str
    command: str
    grid: dict[str, Any]
    data: runs.DataRecord
    versions: dict[str, str]


@dataclass(frozen=True, repr=False)
class StudyData:
    """The data of a study on disk, complete or not; see `kerasbn.Study`."""

    path: Path
    record: StudyRecord
    grid: Grid
    trials: tuple[Trial, ...]
    outcomes: Mapping[str, Outcome]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def is_complete(self) -> bool:
        """Whether every trial was trained."""
        return not (self.with_status("missing") or self.with_status("failed"))

    @property
    def axes(self) -> list[str]:
        """The axes with more than one value."""
        axes = self.grid.axes
        values = {axis: {trial.configuration[axis] for trial in self.trials} for axis in axes}
        return [axis for axis in axes if len(values[axis]) > 1]

    def with_status(self, status: str) -> list[Trial]:
        """Return the trials with one of `STATUSES`."""
        return [trial for trial in self.trials if self.status(trial) == status]

    def status(self, trial: Trial) -> str:
        """Return the status of a trial, one of `STATUSES`."""
        outcome = self.outcomes.get(trial.name)
        return outcome.status if outcome else "missing"

    @cached_property
    def histories(self) -> Mapping[str, runs.History]:
        """The columns of each trial's history, by the names of the trials, from history.csv."""
        table = _read_table(self.path / HISTORY, dict.fromkeys(_HISTORY_COLUMNS, float))
        histories: dict[str, runs.History] = {}
        for trial, *values in zip(*table.values(), strict=True):
            history = histories.setdefault(trial, {name: [] for name in _HISTORY_COLUMNS})
            for column, value in zip(history.values(), values, strict=True):
                column.append(value)
        return histories

    @property
    def table(self) -> tuple[list[str], list[list[Any]]]:
        """The names of the columns of results.csv, and a row of values for each trained trial."""
        rows = [
            [each.name, *each.configuration.values(), each.bn, each.seed, *astuple(outcome)]
            for each in self.trials
            if (outcome := self.outcomes.get(each.name))
        ]
        return ["trial", *self.grid.axes, "bn", "seed", *get_type_hints(Outcome)], rows

    def write_results(self) -> None:
        """Write results.csv; equal outcomes give equal bytes."""
        columns, rows = self.table
        end = columns.index("seed")  # the settings up to it are written as options are
        texts = ([name, *map(option_text, row[:end]), *row[end:]] for name, *row in rows)
        write_csv(self.path / RESULTS, columns, texts)

    def write_histories(self) -> None:
        """Write history.csv from the runs, to seven digits; trials without one keep their rows."""
        rows = list(self._history_rows())  # before the old file is replaced
        write_csv(self.path / HISTORY, ["trial", *_HISTORY_COLUMNS], rows)

    def _history_rows(self) -> Iterator[list[str]]:
        for trial in self.trials:
            history: runs.History = {}
            if self.status(trial) not in ("finished", "diverged"):
                continue
            if (self.path / trial.name).is_dir():
                history = runs.read_history(self.path / trial.name / runs.HISTORY)
            elif trial.name in self.histories:
                history = self.histories[trial.name]
            for row in zip(*(history.get(name, ()) for name in _HISTORY_COLUMNS), strict=True):
                yield [trial.name, *(f"{cell:.7g}" for cell in row)]


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Read results.csv in the folder of a study."""
    table = _read_table(path / RESULTS, get_type_hints(Outcome))
    outcomes = {name: Outcome(*values) for name, *values in zip(*table.values(), strict=True)}
    for name, outcome in outcomes.items():
        has_metrics = None not in [getattr(outcome, metric) for metric in runs.METRICS]
        if outcome.status not in STATUSES or has_metrics != (outcome.status == "finished"):
            found = f"a damaged table (trial {name})"
            raise expected(path / RESULTS, found, "the results of a study", STUDY_ADVICE)
    return outcomes


def outcome_of(run: runs.Run) -> Outcome:
    """Return the outcome of a run; raise `InputError` if a finished one lacks a final metric."""
    record, final = run.record, run.record.final
    if record.status != "finished":
        final = {}
    elif not final.keys() >= {"step", *runs.METRICS}:
        raise expected(run.path, "a run without final metrics", "a complete run", STUDY_ADVICE)
    metrics: dict[str, Any] = {name: final.get(name) for name in runs.METRICS}
    return Outcome(
        status=record.status,
        epochs=record.epochs,
        step=int(final["step"]) if final else None,
        diverged_at_step=record.diverged_at_step,
        digest=record.digest,
        **metrics,
    )


def _read_table(path: Path, columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    return read_csv(
        path,
        {"trial": str, **columns},
        "a table of a study",
        STUDY_ADVICE,
        max_bytes=MAX_TABLE_BYTES,
    )
