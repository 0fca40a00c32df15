"""What can be reported, read back from its folder: a run, a comparison, or the study of a sweep.

No Keras is loaded.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from kerasbn import runs
from kerasbn.errors import InputError, expected
from kerasbn.experiments.comparison import (
    KINDS,
    Comparison,
    Member,
    comparison_of,
    member_of,
    read_comparison,
)
from kerasbn.experiments.comparison import RECORD as COMPARISON
from kerasbn.runs import DataRecord
from kerasbn.sweeps import study as studies
from kerasbn.sweeps.study import Study

Subject = Member | Comparison | Study
Trained = Member
Pairs = Comparison
Data = DataRecord
pairs_of, read_trained, read_pairs = comparison_of, member_of, read_comparison
__all__ = ["KINDS", "Data", "Pairs", "Trained", "pairs_of", "read_pairs", "read_trained"]


def find_subject(name: str, root: Path = runs.ROOT) -> Subject:
    """What is called `name` in `root` or among the studies there, or the folder at that path.

    Raises:
        InputError: if there is none, or what is there is damaged.
    """
    for path in (root / name, root / studies.ROOT.name / name, Path(name)):
        if os.path.isdir(path):  # noqa: PTH112 - false, not an error, for a name that is too long
            return read_subject(path)
    listed = [*(each.name for each in runs.list_runs(root)), *list_studies(root)]
    names = ", ".join(listed) or "none yet"
    raise expected(
        name, "no run of this name, and no study", f"one in {root} ({names})", "see kerasbn report"
    )


def list_studies(root: Path = runs.ROOT) -> list[str]:
    """The names of the comparisons in `root`, and of the sweeps in its studies."""
    places = (root.glob(f"[!.]*/{COMPARISON}"), root.glob(f"studies/[!.]*/{studies.RECORD}"))
    return [path.parent.name for found in places for path in sorted(found)]


def read_subject(path: Path) -> Subject:
    """The run, comparison or sweep in the folder `path`.

    Raises:
        InputError: if it is neither, or damaged.
    """
    if (path / COMPARISON).is_file() and not (path / runs.RECORD).is_file():
        return read_comparison(path)
    if (path / studies.RECORD).is_file():
        return _read_study(path)
    return member_of(runs.read_run(path))


def _read_study(path: Path) -> Study:
    study = studies.read_study(path)
    try:
        data_of(study)
    except (KeyError, TypeError) as error:
        file, what = path / studies.RECORD, "the record of a study"
        raise expected(file, f"a damaged record (data: {error})", what, "sweep again") from error
    return study


def data_of(subject: Subject) -> DataRecord:
    """The digits that a subject's networks were trained on."""
    if isinstance(subject, Study):
        return DataRecord(**subject.record["data"])
    return subject.data if isinstance(subject, Member) else subject.first.data


def check_same_data(subjects: Sequence[Subject]) -> None:
    """Raise `InputError` if two of them were trained on different digits; the line names both."""
    for other in subjects[1:]:
        first, second = data_of(subjects[0]), data_of(other)
        if first.digest != second.digest:
            one, two = (f"{data.name} ({data.digest[:8]})" for data in (first, second))
            raise InputError(
                f"{subjects[0].name} and {other.name}: received one on {one} and one on {two}, "
                "expected the same digits; their figures cannot be compared, so report them apart"
            )
