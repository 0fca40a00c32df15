"""A study: the folder of a sweep.

    saved_models/studies/NAME/study.json     the grid, the data, the versions
                              results.csv    a row per trial: final figures, how it ended
                              history.csv    a row per trial and epoch
                              findings.md    what the figures show, in sentences
                              *.png          the figures as charts
                              TRIAL/         the run of each finished trial

The first three files suffice to read a study: it can be shown and drawn without its runs.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from kerasbn import runs
from kerasbn.common.errors import InputError, expected
from kerasbn.common.files import new_folder
from kerasbn.common.records import as_table, read_csv, read_json, to_plain, write_csv, write_json
from kerasbn.common.wording import plural
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.trained_model import data_record, versions
from kerasbn.sweeps.grid import KEYS, Grid, parse_grid
from kerasbn.sweeps.trials import Trial, list_trials
from kerasbn.training.settings import option_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = runs.ROOT / "studies"
RECORD, RESULTS, HISTORY, FINDINGS = "study.json", "results.csv", "history.csv", "findings.md"
STATUSES = ("finished", "diverged", "failed", "missing")
MAX_TABLE_BYTES = 2**30
_ADVICE = "sweep again"

History = Mapping[str, list[float]]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: the columns of results.csv, None where there is no value.

    Attributes:
        status: ``finished``, ``diverged`` (the loss became NaN or infinite) or ``failed`` (it
            could not be trained).
        epochs, step: How far it came.
        diverged_at_step: Where it diverged.
        loss, accuracy, val_loss, val_accuracy: The final metrics; None unless it finished.
        digest: SHA-256 of its history and weights.
        error: Why it failed, in one line.
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

    Attributes:
        name: The name of the grid.
        command: The command that reproduces the study; empty if it was started from Python.
        grid: The grid, see `Grid.record`.
        data: The dataset.
        versions: The versions of the packages that the results depend on.
    """

    name: str
    command: str
    grid: dict[str, Any]
    data: runs.DataRecord
    versions: dict[str, str]


@dataclass(frozen=True, repr=False)
class Study:
    """A study on disk, complete or not.

    Attributes:
        path: Its folder.
        record: The content of study.json.
        grid: What is trained.
        trials: All trials of the grid.
        outcomes: By the names of the trials; trials without one are missing.
    """

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
        return [
            axis
            for axis in self.grid.axes
            if len({trial.configuration[axis] for trial in self.trials}) > 1
        ]

    def with_status(self, status: str) -> list[Trial]:
        """Return the trials with one of `STATUSES`."""
        return [trial for trial in self.trials if self.status(trial) == status]

    def status(self, trial: Trial) -> str:
        """Return the status of a trial, one of `STATUSES`."""
        outcome = self.outcomes.get(trial.name)
        return outcome.status if outcome else "missing"

    @cached_property
    def histories(self) -> Mapping[str, History]:
        """The columns of each trial's history, by the names of the trials.

        Raises:
            InputError: If history.csv is missing or damaged.
        """
        return _read_histories(self.path / HISTORY)

    @property
    def results(self) -> Any:  # noqa: ANN401 - pandas may not be installed
        """The final figures of every trained trial as one table.

        A pandas DataFrame where pandas is installed, otherwise a dict of columns: `trial`, the
        axes, `bn`, `seed`, and those of results.csv; None where there is no figure.
        """
        rows = list(self._rows())
        return as_table({name: [row[i] for row in rows] for i, name in enumerate(self._columns)})

    @property
    def _columns(self) -> list[str]:
        return ["trial", *self.grid.axes, "bn", "seed", *get_type_hints(Outcome)]

    def findings(self) -> list[str]:
        """Return what the study shows, as sentences, the most important first."""
        from kerasbn.sweeps.findings import findings

        return findings(self)

    def figures(self) -> dict[str, "Figure"]:
        """Return the charts of the study by name, the most important first."""
        from kerasbn.sweeps.charts import draw_charts

        return {chart.name: chart.figure for chart in draw_charts(self)}

    def figure(self) -> "Figure":
        """Return the most important chart.

        Raises:
            InputError: If nothing is trained yet.
        """
        figures = self.figures()
        if not figures:
            raise expected(self.path, "a study without results", "a trained study", "sweep first")
        return next(iter(figures.values()))

    def __repr__(self) -> str:
        counts = {status: len(self.with_status(status)) for status in STATUSES}
        states = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
        first = "".join(f" {line}" for line in self.findings()[:1] if self.outcomes)
        return f"<Study {self.name}: {plural(len(self.trials), 'trial')} ({states}).{first}>"

    def _rows(self) -> Iterator[list[Any]]:
        for trial in self.trials:
            outcome = self.outcomes.get(trial.name)
            if outcome:
                configuration = trial.configuration.values()
                yield [trial.name, *configuration, trial.bn, trial.seed, *astuple(outcome)]

    def write_results(self) -> None:
        """Write results.csv; equal outcomes give equal bytes."""
        settings = len(self.grid.axes) + 1
        rows = (
            [name, *map(option_text, cells[:settings]), *cells[settings:]]
            for name, *cells in self._rows()
        )
        write_csv(self.path / RESULTS, self._columns, rows)

    def write_histories(self) -> None:
        """Write history.csv from the runs; trials without a run keep their rows.

        Figures have seven significant digits.
        """
        columns = ["epoch", "step", *runs.METRICS]
        write_csv(self.path / HISTORY, ["trial", *columns], list(self._history_rows(columns)))

    def _history_rows(self, columns: list[str]) -> Iterator[list[str]]:
        for trial in self.trials:
            if self.status(trial) not in ("finished", "diverged"):
                continue
            history: History = {name: [] for name in columns}
            if (self.path / trial.name).is_dir():
                history = runs.read_history(self.path / trial.name / runs.HISTORY)
            elif trial.name in self.histories:
                history = self.histories[trial.name]
            for row in zip(*(history[name] for name in columns), strict=True):
                yield [trial.name, *(f"{cell:.7g}" for cell in row)]


def find_study(name: str, root: Path = ROOT) -> Study:
    """Return the study called `name` in `root`, or in the folder `name`.

    Raises:
        InputError: If there is none; the message lists the studies.
    """
    for path in (root / name, Path(name)):
        if (path / RECORD).is_file():
            return read_study(path)
    names = ", ".join(sorted(file.parent.name for file in root.glob(f"[!.]*/{RECORD}")))
    raise expected(name, "no study of this name", f"a study in {root} ({names or 'none yet'})")


def read_study(path: Path) -> Study:
    """Return the study in the folder `path`.

    Raises:
        InputError: If there is none, or it is damaged.
    """
    file = path / RECORD
    if not file.is_file():
        found = f"a folder without {RECORD}" if path.is_dir() else "no study"
        raise expected(path, found, "the folder of a study")
    record = read_json(file, StudyRecord, "the record of a study", _ADVICE)
    grid = parse_grid(record.grid, record.name, str(file))
    return Study(path, record, grid, tuple(list_trials(grid)), _read_outcomes(path / RESULTS))


def open_study(
    path: Path, grid: Grid, data: Dataset, *, command: str = "", force: bool = False
) -> Study:
    """Return the study at `path`, with the outcomes of its runs; create it if there is none.

    Args:
        path: Its folder.
        grid: What is trained.
        data: The dataset.
        command: The command that reproduces it.
        force: Whether to replace a study of another grid.

    Raises:
        InputError: If there is another study, or the folder cannot be written.
    """
    record = StudyRecord(grid.name, command, grid.record(), data_record(data), versions())
    if (path / RECORD).is_file() and not force:
        study = read_study(path)
        _check_same(study, record)
        write_json(path / RECORD, replace(record, command=command or study.record.command))
        return with_runs(read_study(path))
    if path.exists() and not force:
        raise expected(path, "a folder that is not a study", "a new name", "choose another --run")
    with new_folder(path.parent, path.name, replace=force) as folder:
        write_json(folder.path / RECORD, record)
        Study(folder.path, record, grid, (), {}).write_results()
    return read_study(path)


def with_runs(study: Study) -> Study:
    """Return the study with the outcomes of the runs in its folder.

    A damaged run is missing, and will be trained again. Without a run, the outcome in results.csv
    counts, as in a study that was kept without its runs.
    """
    outcomes = {}
    for trial in study.trials:
        folder = study.path / trial.name
        known = study.outcomes.get(trial.name)
        if known is not None and (known.status == "failed" or not folder.exists()):
            outcomes[trial.name] = known
        if (folder / runs.RECORD).is_file():
            with suppress(InputError):
                outcomes[trial.name] = outcome_of(runs.read_run(folder))
    return replace(study, outcomes=outcomes)


def outcome_of(run: runs.Run) -> Outcome:
    """Return the outcome of a run.

    Raises:
        InputError: If the record of a finished run lacks a final metric.
    """
    record = run.record
    step = loss = accuracy = val_loss = val_accuracy = None
    if record.status == "finished":
        names = ("step", *runs.METRICS)
        if not record.final.keys() >= {*names}:
            raise expected(run.path, "a run without final metrics", "a complete run", _ADVICE)
        step, loss, accuracy, val_loss, val_accuracy = (record.final[name] for name in names)
    return Outcome(
        record.status, record.epochs, None if step is None else int(step), record.diverged_at_step,
        loss, accuracy, val_loss, val_accuracy, record.digest,
    )  # fmt: skip


def _check_same(study: Study, record: StudyRecord) -> None:
    """Raise `InputError` if the study is not what `record` describes."""
    old = study.record
    advice = (
        f"continue that one (kerasbn sweep {study.path}), choose another --run, or add --force to "
        "start again"
    )
    grids = [to_plain(each.grid) for each in (old, record)]
    compared = [key for key in KEYS if key not in ("question", "source")]
    if any(grids[0].get(key) != grids[1].get(key) for key in compared):
        raise expected(study.path, "a study of another grid", "the same grid", advice)
    if old.data.digest != record.data.digest:
        raise expected(study.path, f"a study on {old.data.name}", record.data.name, advice)
    for name, version in record.versions.items():
        if old.versions.get(name) != version:
            found = f"a study started with {name} {old.versions.get(name)}"
            raise expected(study.path, found, f"{name} {version} throughout", advice)


def _read_outcomes(path: Path) -> dict[str, Outcome]:
    schema: dict[str, Any] = get_type_hints(Outcome)
    what = "the results of a study"
    columns = {"trial": str, **schema}
    table = read_csv(path, columns, what, _ADVICE, max_bytes=MAX_TABLE_BYTES)
    outcomes = {}
    for name, *values in zip(*table.values(), strict=True):
        outcome = outcomes[name] = Outcome(*values)
        has_metrics = None not in [getattr(outcome, metric) for metric in runs.METRICS]
        if outcome.status not in STATUSES or has_metrics != (outcome.status == "finished"):
            raise expected(path, f"a damaged table (trial {name})", what, _ADVICE)
    return outcomes


def _read_histories(path: Path) -> Mapping[str, History]:
    names = ("epoch", "step", *runs.METRICS)
    schema: dict[str, Any] = {"trial": str} | dict.fromkeys(names, float)
    table = read_csv(path, schema, "the histories of a study", _ADVICE, max_bytes=MAX_TABLE_BYTES)
    histories: dict[str, dict[str, list[float]]] = {}
    for i, trial in enumerate(table["trial"]):
        history = histories.setdefault(trial, {name: [] for name in names})
        for name in names:
            history[name].append(table[name][i])
    return histories
