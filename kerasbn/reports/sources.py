"""What can be reported: runs, comparisons and studies, found by name or folder, and listed.

No Keras is loaded.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kerasbn import runs
from kerasbn.common import wording
from kerasbn.common.errors import ArgumentError, InputError, expected
from kerasbn.experiments import comparison as comparisons
from kerasbn.experiments.comparison import Comparison, read_comparison
from kerasbn.experiments.trained_model import TrainedModel, trained_model
from kerasbn.reports.reproduce import printable
from kerasbn.runs import DataRecord, Run
from kerasbn.sweeps import study as studies
from kerasbn.sweeps.study import Study, read_study
from kerasbn.training.settings import SETTINGS, short_text

if TYPE_CHECKING:
    from rich.table import Table

Subject = TrainedModel | Comparison | Study
T = TypeVar("T")


@dataclass(frozen=True)
class Inventory:
    """What is in saved_models.

    Attributes:
        runs: The runs, the newest last.
        comparisons: The comparisons by name.
        studies: The studies by name.
        problems: An error for each that is damaged.
    """

    runs: Sequence[Run]
    comparisons: Sequence[Comparison]
    studies: Sequence[Study]
    problems: Sequence[InputError]

    @property
    def names(self) -> list[str]:
        """The names of all of them."""
        found: list[Run | Comparison | Study] = [*self.runs, *self.comparisons, *self.studies]
        return [each.name for each in found]


def take_inventory(root: Path = runs.ROOT) -> Inventory:
    """Read everything in `root`. What is damaged becomes a problem and hides nothing else."""
    found, problems = runs.survey(root)
    compared = sorted(root.glob(f"[!.]*/{comparisons.RECORD}"))
    swept = sorted((root / studies.ROOT.name).glob(f"[!.]*/{studies.RECORD}"))
    return Inventory(
        found,
        _readable(read_comparison, compared, problems),
        _readable(read_study, swept, problems),
        problems,
    )


def find_subject(subject: object, root: Path = runs.ROOT) -> Subject:
    """Return what `subject` stands for.

    Args:
        subject: A name in `root` or among its studies, the path of a folder, or a result: a run, a
            comparison or a study.
        root: The folder of the runs.

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
    for path in (root / subject, root / studies.ROOT.name / subject, Path(subject)):
        if os.path.isdir(path):  # noqa: PTH112 - false, not an error, if the name is too long
            return read_subject(path)
    names = ", ".join(take_inventory(root).names) or "none yet"
    what = f"a run, comparison or study in {root} ({names})"
    raise expected(subject, "an unknown name", what, "see kerasbn report")


def read_subject(path: Path) -> Subject:
    """Read the run, comparison or study in the folder `path`.

    Raises:
        InputError: If it is none of them, or damaged.
    """
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
    for other in subjects[1:]:
        first, second = data_of(subjects[0]), data_of(other)
        if first.digest != second.digest:
            one, two = (f"{data.name} ({data.digest[:8]})" for data in (first, second))
            raise expected(
                f"{subjects[0].name} and {other.name}", f"{one} and {two}", "the same dataset",
                "report them separately, since their metrics cannot be compared",
            )  # fmt: skip


def inventory_tables(inventory: Inventory, width: int) -> list["Table"]:
    """Return a table of the runs, one of the comparisons and one of the studies, as far as any.

    Columns that do not fit into `width` are left out, the least important first, so that no word
    breaks.
    """
    listed: list[tuple[str, list[dict[str, str]]]] = [
        ("Runs", [_run_row(each) for each in inventory.runs]),
        ("Comparisons", [_comparison_row(each) for each in inventory.comparisons]),
        ("Studies", [_study_row(each) for each in inventory.studies]),
    ]
    return [_table(title, rows, width) for title, rows in listed if rows]


def _readable(
    read: Callable[[Path], T], files: Sequence[Path], problems: list[InputError]
) -> list[T]:
    found = []
    for file in files:
        try:
            found.append(read(file.parent))
        except InputError as error:
            problems.append(error)
    return found


# The columns of each row are in order of importance.
def _run_row(run: Run) -> dict[str, str]:
    record = run.record
    return {
        "run": printable(run.name),
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
    shown: dict[str, Any] = {"with BN": None, "without BN": None}
    if last is not None:
        shown = {"with BN": last.with_bn.mean, "without BN": last.without_bn.mean}
    return {
        "comparison": printable(comparison.name),
        **{name: wording.percent(mean) for name, mean in shown.items()},
        "seeds": str(len(comparison.seeds)),
        "epochs": str(max(len(each.history["epoch"]) for each in comparison.members)),
        "hidden": short_text(first.model.hidden),
        "data": first.data.name,
    }


def _study_row(study: Study) -> dict[str, str]:
    missing, total = len(study.with_status("missing")), len(study.trials)
    return {
        "study": printable(study.name),
        "trials": f"{total - missing:,} of {total:,}" if missing else f"{total:,}",
        "seeds": str(study.grid.seeds),
        "axes": ", ".join(SETTINGS[axis].label for axis in study.axes) or wording.MISSING,
        "data": data_of(study).name,
    }


def _table(title: str, rows: Sequence[dict[str, str]], width: int) -> "Table":
    from rich.table import Table

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
