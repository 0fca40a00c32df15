"""What is asked for in words, as data: a grid, and the study that is to be made of it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kerasbn.errors import expected
from kerasbn.runs import check_name
from kerasbn.sweeps.grid import Grid, check_size, load, recipes, values_of_text
from kerasbn.sweeps.study import RECORD, ROOT, Study, find_study, read_study, with_runs
from kerasbn.sweeps.trials import configurations


class Asked(NamedTuple):
    """What to sweep.

    Attributes:
        grid: what to train.
        name: what its study is called.
        root: the folder its study goes into.
        command: the command line that asks for the same anywhere, but for the digits.
        is_whole: whether it is a study that is begun and lacks nothing, so that no digits are
            needed to tell of it again.
    """

    grid: Grid
    name: str
    root: Path
    command: str
    is_whole: bool


def asked_for(
    given: str,
    numbers: Mapping[str, int | None],
    changes: Sequence[str],
    run: str | None = None,
    *,
    yes: bool = False,
    root: Path = ROOT,
) -> Asked:
    """What a command line asks for.

    Args:
        given: a grid's file, a recipe, or a study that is begun, by its name or folder.
        numbers: `seeds`, `epochs` and `steps`, where they were given.
        changes: options as ``KEY=VALUES``, with several values, between blanks, for an axis.
        run: another name for the study than the grid's.
        yes: whether a large grid is meant.
        root: where studies are.

    Raises:
        InputError: if there is no such grid or study, a change is none, a network cannot be, or
            the grid is large and not meant to be.
    """
    changed: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
    changed |= dict(change_of(text) for text in changes)
    begun = _begun(given, root)
    is_whole = False
    if begun is None:
        grid, name, folder = load(given, changed), run, root
    elif changed or run:
        raise expected(
            begun,
            "changes to a study that is begun",
            "none",
            "give its recipe or file, and a --run",
        )
    else:
        study = with_runs(read_study(begun))
        grid, name, folder, is_whole = study.grid, begun.resolve().name, begun.parent, study.whole
    name = grid.name if name is None else name
    check_size(grid, given, yes=yes)
    check_name(name, force=True)
    configurations(grid)  # refuses what cannot be
    return Asked(grid, name, folder, _command(given, numbers, changes, run), is_whole)


def study_asked_for(given: str, run: str | None = None, root: Path = ROOT) -> Study:
    """The study that a command line with the same words has made, or makes.

    Raises:
        InputError: if there is none.
    """
    return find_study(run or (Path(given).stem if given.endswith(".toml") else given), root)


def change_of(text: str) -> tuple[str, Any]:
    """The option and the value, or the list of values, that ``KEY=VALUES`` says.

    Raises:
        InputError: if it has no ``=``, no value, or a key that is no option.
    """
    key, sign, values = text.partition("=")
    if not sign:
        raise expected(f"--set {text}", "no '='", "such as --set lr=0.1")
    return key, values_of_text(key, values)


def _begun(given: str, root: Path) -> Path | None:
    """The folder of the study that `given` names, unless it names a grid."""
    if Path(given).is_file() or given in recipes():
        return None
    return next((p for p in (root / given, Path(given)) if (p / RECORD).is_file()), None)


def _command(
    given: str, numbers: Mapping[str, int | None], changes: Sequence[str], run: str | None
) -> str:
    words = ["kerasbn", "sweep", Path(given).name]
    for key, value in numbers.items():
        words += [f"--{key}", str(value)] if value is not None else []
    for text in changes:
        words += ["--set", text]
    return shlex.join([*words, *(["--run", run] if run else [])])
