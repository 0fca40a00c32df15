"""What can be reported: runs, comparisons and studies, found by name or folder, and listed.

No Keras is loaded.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasbn import runs
from kerasbn.common import wording
from kerasbn.common.errors import ArgumentError, InputError, expected
from kerasbn.experiments import comparison as comparisons
from kerasbn.experiments.comparison import Comparison, read_comparison
from kerasbn.experiments.sessions import Unfinished, unfinished
from kerasbn.experiments.trained_model import TrainedModel, trained_model
from kerasbn.runs import DataRecord, Run
from kerasbn.sweeps import study as studies
from kerasbn.sweeps.study import Study, read_study
from kerasbn.training.settings import SETTINGS, short_text

if TYPE_CHECKING:
    from rich.table import Table

Subject = TrainedModel | Comparison | Study
Listed = Run | Comparison | Study | Unfinished


def take_inventory(root: Path = runs.ROOT) -> tuple[list[Listed], list[InputError]]:
    """Return all runs, the newest last, comparisons, studies and unfinished trainings in `root`.

    What is damaged becomes an error in the second list and hides nothing else.
    """
    survey, problems = runs.survey(root)
    stopped, damaged = unfinished(root)
    problems += damaged
    found: list[Listed] = [*survey, *stopped]
    compared = sorted(root.glob(f"[!.]*/{comparisons.RECORD}"))
    swept = sorted((root / studies.STUDIES.name).glob(f"[!.]*/{studies.RECORD}"))
    for file in (*compared, *swept):
        try:
            found.append((read_comparison if file in compared else read_study)(file.parent))
        except InputError as error:
            problems.append(error)
    return found, problems


def find_subject(subject: object, root: Path = runs.ROOT) -> Subject:
    """Return what a name in `root` or among its studies, a folder, or a result stands for.

    Raises:
        InputError: If there is nothing of that name, or it is damaged.
    """
    if isinstance(subject, Run):
        return trained_model(subject)
    if isinstance(subject, Comparison | Study):
        return subject
    if not isinstance(subject, str | Path):
        raise ArgumentError(
            "subjects", subject, "names or folders of runs, comparisons or studies, or such results"
        )
    folders = (root / subject, root / studies.STUDIES.name / subject, Path(subject))
    # This is false, not an error, if the name is too long.
    path = next((each for each in folders if os.path.isdir(each)), None)  # noqa: PTH112
    if path is None:
        names = ", ".join(each.name for each in take_inventory(root)[0]) or "none yet"
        what = f"a run, comparison or study in {root} ({names})"
        raise expected(subject, "an unknown name", what, "see kerasbn report")
    if (path / comparisons.RECORD).is_file() and not (path / runs.RECORD).is_file():
        return read_comparison(path)
    if (path / studies.RECORD).is_file():
        return read_study(path)
    return trained_model(runs.read_run(path))


def data_of(subject: Subject) -> DataRecord:
    """Return the dataset that the models of a subject were trained on."""
    if isinstance(subject, Study):
        return subject.record.data
    return subject.data if isinstance(subject, TrainedModel) else subject.first.data


def check_same_data(subjects: Sequence[Subject]) -> None:
    """Raise `InputError` if two subjects were trained on different data; the line names both."""
    first = data_of(subjects[0])
    for other in subjects[1:]:
        second = data_of(other)
        if first.digest != second.digest:
            one, two = (f"{data.name} ({data.digest[:8]})" for data in (first, second))
            raise expected(
                f"{subjects[0].name} and {other.name}", f"{one} and {two}", "the same dataset",
                "report them separately, since their metrics cannot be compared",
            )  # fmt: skip


def inventory_tables(found: Sequence[Listed], width: int) -> list["Table"]:
    """Return a table of the runs, one of the comparisons and one of the studies, as far as any.

    Columns that do not fit into `width` are left out, the least important first, so that no word
    breaks.
    """
    tables = {
        "Runs": [_run_row(each) for each in found if isinstance(each, Run)],
        "Comparisons": [_comparison_row(each) for each in found if isinstance(each, Comparison)],
        "Studies": [_study_row(each) for each in found if isinstance(each, Study)],
        "Unfinished": [_unfinished_row(each) for each in found if isinstance(each, Unfinished)],
    }
    return [_table(title, rows, width) for title, rows in tables.items() if rows]


# The columns of each row are in order of importance.
def _run_row(run: Run) -> dict[str, str]:
    record = run.record
    return {
        "run": run.name,
        "BN": "yes" if record.model.bn else "no",
        "test accuracy": wording.percent(record.final.get("val_accuracy")),
        "status": record.status,
        "epochs": str(record.epochs),
        "hidden": short_text(record.model.hidden),
        "data": record.data.name,
        "finished (UTC)": record.finished[:16].replace("T", " "),
    }


def _comparison_row(comparison: Comparison) -> dict[str, str]:
    last, first = comparison.last, comparison.first
    return {
        "comparison": comparison.name,
        "with BN": wording.percent(last.with_bn.mean if last else None),
        "without BN": wording.percent(last.without_bn.mean if last else None),
        "seeds": str(len(comparison.seeds)),
        "epochs": str(max(len(each.history["epoch"]) for each in comparison.members)),
        "hidden": short_text(first.model.hidden),
        "data": first.data.name,
    }


def _study_row(study: Study) -> dict[str, str]:
    missing, total = len(study.with_status("missing")), len(study.trials)
    return {
        "study": study.name,
        "trials": f"{total - missing:,} of {total:,}" if missing else f"{total:,}",
        "seeds": str(study.grid.seeds),
        "axes": ", ".join(SETTINGS[axis].label for axis in study.axes) or wording.MISSING,
        "data": study.record.data.name,
    }


def _unfinished_row(training: Unfinished) -> dict[str, str]:
    return {
        "unfinished": training.name,
        "resume with": "running" if training.running else training.command,
        "epochs": f"{training.epochs} of {training.all_epochs}",
    }


def _table(title: str, rows: Sequence[dict[str, str]], width: int) -> "Table":
    from rich.table import Table

    rows = [{name: wording.escaped(text) for name, text in row.items()} for row in rows]
    columns = list(rows[0])
    widths = {each: max(len(each), *(len(row[each]) for row in rows)) for each in columns}
    while len(columns) > 1 and sum(widths[each] + 2 for each in columns) - 2 > width:
        columns.pop()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for each in columns:
        table.add_column(each, no_wrap=len(columns) > 1, overflow="fold")
    for row in rows:
        table.add_row(*(row[each] for each in columns))
    return table
