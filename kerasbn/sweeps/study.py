"""A study: the folder of a sweep.

    saved_models/studies/NAME/study.json     the grid, the data, the versions
                              results.csv    a row per trial: final figures, how it ended
                              history.csv    a row per trial and epoch
                              findings.md    what the figures show, in sentences
                              *.png          the figures as charts
                              TRIAL/         the run of each finished trial

The first three files suffice to read a study: it can be shown and drawn without its runs.
"""

import html
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kerasbn import runs
from kerasbn.common.errors import InputError, expected
from kerasbn.common.folders import new_folder
from kerasbn.common.plotting import html_image
from kerasbn.common.records import as_table, read_json, write_json
from kerasbn.common.wording import plural
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.trained_model import data_record, versions
from kerasbn.sweeps import study_data
from kerasbn.sweeps.charts import draw_charts
from kerasbn.sweeps.findings import findings
from kerasbn.sweeps.grid import Grid, parse_grid
from kerasbn.sweeps.study_data import STATUSES, STUDY_ADVICE, StudyData, StudyRecord
from kerasbn.sweeps.trials import list_trials

STUDIES = runs.ROOT / "studies"
RECORD = study_data.RECORD


class Study(StudyData):
    """A study on disk, complete or not.

    Attributes:
        path: Its folder.
        record: The content of study.json.
        grid: What is trained.
        trials: All trials of the grid.
        outcomes: By the names of the trials; trials without one are missing.
    """

    @property
    def results(self) -> Any:  # noqa: ANN401 - pandas may not be installed
        """The final figures of every trained trial as one table.

        A pandas DataFrame where pandas is installed, otherwise a dict of columns: `trial`, the
        axes, `bn`, `seed`, and those of results.csv; None where there is no figure.
        """
        columns, rows = self.table
        return as_table({name: [row[i] for row in rows] for i, name in enumerate(columns)})

    def findings(self) -> list[str]:
        """Return what the study shows, as sentences, the most important first."""
        return findings(self)

    def figures(self) -> dict[str, Figure]:
        """Return the charts of the study by name, the most important first."""
        return {chart.name: chart.figure for chart in draw_charts(self)}

    def figure(self) -> Figure:
        """Return the most important chart.

        Raises:
            InputError: If nothing is trained yet.
        """
        figures = self.figures()
        if not figures:
            raise expected(self.path, "a study without results", "a trained study", "sweep first")
        return next(iter(figures.values()))

    def __repr__(self) -> str:
        first = "".join(f" {line}" for line in self.findings()[:1] if self.outcomes)
        return f"<Study {self._counts()}.{first}>"

    def _repr_html_(self) -> str:
        """Show the findings and the most important chart in a notebook."""
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.findings())
        image = html_image(self.figure(), "Test accuracy") if self.outcomes else ""
        return f"<p>{html.escape(self._counts())}</p><ul>{lines}</ul>{image}"

    def _counts(self) -> str:
        """Return how many trials there are of each status, in words."""
        counts = {status: len(self.with_status(status)) for status in STATUSES}
        states = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
        return f"{self.name}: {plural(len(self.trials), 'trial')} ({states})"


def study_folder(name: str, root: Path = STUDIES) -> Path | None:
    """Return the folder of the study called `name` in `root`, or `name` itself if it is one."""
    return next((path for path in (root / name, Path(name)) if (path / RECORD).is_file()), None)


def find_study(name: str, root: Path = STUDIES) -> Study:
    """Read the study in `study_folder`; if there is none, raise `InputError` with those known."""
    path = study_folder(name, root)
    if path is None:
        names = ", ".join(sorted(file.parent.name for file in root.glob(f"[!.]*/{RECORD}")))
        raise expected(name, "no study of this name", f"a study in {root} ({names or 'none yet'})")
    return read_study(path)


def read_study(path: Path) -> Study:
    """Read the study in the folder `path`; raise `InputError` if there is none or it is damaged."""
    file = path / RECORD
    if not file.is_file():
        found = f"a folder without {RECORD}" if path.is_dir() else "no study"
        raise expected(path, found, "the folder of a study")
    record = read_json(file, StudyRecord, "the record of a study", STUDY_ADVICE)
    grid = parse_grid(record.grid, record.name, str(file))
    return Study(path, record, grid, tuple(list_trials(grid)), study_data.read_outcomes(path))


def open_study(
    path: Path, grid: Grid, data: Dataset, *, command: str = "", force: bool = False
) -> Study:
    """Return the study at `path`, with the outcomes of its runs; create it if there is none.

    Raises `InputError` if there is another study, unless `force` replaces it, or the folder cannot
    be written.
    """
    record = StudyRecord(grid.name, command, grid.record(), data_record(data), versions())
    if (path / RECORD).is_file() and not force:
        study = read_study(path)
        _check_same(study, grid, record)
        write_json(path / RECORD, replace(record, command=command or study.record.command))
        return with_runs(read_study(path))
    if path.exists() and not force:
        raise expected(path, "a folder that is not a study", "a new name", "choose another --run")
    with new_folder(path.parent, path.name, replace=force) as folder:
        write_json(folder.path / RECORD, record)
        StudyData(folder.path, record, grid, (), {}).write_results()
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
                outcomes[trial.name] = study_data.outcome_of(runs.read_run(folder))
    return replace(study, outcomes=outcomes)


def _check_same(study: Study, grid: Grid, record: StudyRecord) -> None:
    """Raise `InputError` if the study has another grid, dataset or versions."""
    advice = (
        f"continue that one (kerasbn sweep {study.path}), choose another --run, or add --force to "
        "start again"
    )
    if study.grid != replace(
        grid, name=study.grid.name, question=study.grid.question, source=study.grid.source
    ):
        raise expected(study.path, "a study of another grid", "the same grid", advice)
    old = study.record
    if old.data.digest != record.data.digest:
        raise expected(study.path, f"a study on {old.data.name}", record.data.name, advice)
    for name, version in record.versions.items():
        if old.versions.get(name) != version:
            found = f"a study started with {name} {old.versions.get(name)}"
            raise expected(study.path, found, f"{name} {version} throughout", advice)
