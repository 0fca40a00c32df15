"""A run: one folder that holds what a training was told, what it measured and what it made.

    saved_models/NAME/run.json      settings, data, versions, device, final figures, times
                      history.csv   a row per epoch
                      model.keras   the plain Keras network
                      curves.png    the curves of history.csv

A folder appears under its name only when it is whole. Its name is the folder's and stands nowhere
inside it, so a run may be renamed or copied.
"""

import csv
import json
import math
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kerasbn.errors import InputError, expected
from kerasbn.files import NewFolder, new_folder

ROOT = Path("saved_models")
RECORD, HISTORY, MODEL, CURVES = "run.json", "history.csv", "model.keras", "curves.png"
FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy")
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")

# What a record must hold, and as what.
_REQUIRED = {"status": str, "finished": str, "network": dict, "training": dict, "data": dict}
_NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Run:
    """A finished run on disk.

    `status` is ``finished``, ``interrupted`` (Ctrl-C; the epochs so far) or ``diverged`` (the loss
    became NaN or infinite; the epochs before that).
    """

    path: Path
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def status(self) -> str:
        """How the training ended."""
        return str(self.record["status"])

    @property
    def model_path(self) -> Path:
        """Where the network is, if the training came so far as to keep one."""
        return self.path / MODEL

    @cached_property
    def history(self) -> dict[str, list[float]]:
        """The columns of history.csv: `epoch` (from 1) and the figures at the end of each.

        Raises:
            InputError: if the file is missing or damaged.
        """
        return read_history(self.path / HISTORY)


def read_run(path: Path) -> Run:
    """The run in the folder `path`.

    Raises:
        InputError: if there is no such folder, or its record is missing or damaged.
    """
    file = path / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise expected(
            path, "no run" if not path.exists() else f"a folder without {RECORD}", "a run's folder",
            "kerasbn report lists the runs there are",
        ) from error  # fmt: skip
    except ValueError as error:
        raise expected(file, "text that is not JSON", "a run's record", "train again") from error
    if wrong := _what_is_wrong(record):
        raise expected(file, f"a damaged record ({wrong})", "a run's whole record", "train again")
    return Run(path, record)


def _what_is_wrong(record: Any) -> str:  # noqa: ANN401 - whatever the JSON was
    """Why this is no run's record, such as "without 'status'"; empty if it is one."""
    for key, kind in _REQUIRED.items():
        if not isinstance(record, dict) or key not in record:
            return f"without '{key}'"
        if not isinstance(record[key], kind):
            return f"with {json.dumps(record[key])[:40]} as '{key}'"
    hidden, final = record["network"].get("hidden", []), record.get("final", {})
    for key, value, kind in (("hidden", hidden, list), ("final", final, dict)):
        if not isinstance(value, kind):
            return f"with {json.dumps(value)[:40]} as '{key}'"
    return ""


def read_history(path: Path) -> dict[str, list[float]]:
    """The columns of a history by name, every value a finite number.

    Raises:
        InputError: if the file is missing, or a row is not made of such numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            columns, rows = reader.fieldnames or [], list(reader)
        missing = [name for name in ("epoch", *FIGURES) if name not in columns]
        if missing:
            raise ValueError(f"no column '{missing[0]}'")
        return {name: [_number(row[name]) for row in rows] for name in columns}
    except FileNotFoundError as error:
        raise expected(
            path, "no such file", f"the run's {HISTORY}", "the run is damaged: train again"
        ) from error
    except (OSError, ValueError, csv.Error) as error:
        raise expected(
            path, f"a damaged table ({error})", "a row of numbers for every epoch",
            "the run is damaged: train again",
        ) from error  # fmt: skip


def _number(cell: str | None) -> float:
    """The finite number in a cell; None stands for one that a row breaks off before."""
    if cell is None:
        raise ValueError("a row that breaks off")
    if not math.isfinite(number := float(cell)):
        raise ValueError(f"'{cell}' as a figure")
    return number


def survey(root: Path = ROOT) -> tuple[list[Run], list[InputError]]:
    """The whole runs in `root`, the one that finished last at the end, and what ails the others."""
    whole, problems = [], []
    for file in sorted(root.glob(f"[!.]*/{RECORD}")):
        try:
            whole.append(read_run(file.parent))
        except InputError as error:
            problems.append(error)
    return sorted(whole, key=lambda run: str(run.record["finished"])), problems


def list_runs(root: Path = ROOT) -> list[Run]:
    """The whole runs in `root`, the one that finished last at the end."""
    return survey(root)[0]


def find_run(name: str, root: Path = ROOT) -> Run:
    """The run called `name` in `root`, or the run in the folder at the path `name`.

    Raises:
        InputError: if there is none, with the names there are.
    """
    for path in (root / name, Path(name)):
        if path.is_dir():
            return read_run(path)
    names = ", ".join(run.name for run in list_runs(root)) or "none yet"
    raise expected(name, "no run of this name", f"a run in {root} ({names})", "see kerasbn report")


def find_model(name: str | None = None, root: Path = ROOT) -> Path:
    """The file of a network: the newest run's, that of a run by name or folder, or the file itself.

    Args:
        name: a run's name, a run's folder, or a .keras or .h5 file; None for the newest run.
        root: the folder the runs are in.

    Raises:
        InputError: if there is none, or the run diverged before it kept a network.
    """
    if name is not None and (Path(name).suffix in MODEL_SUFFIXES or Path(name).is_file()):
        if not Path(name).is_file():
            raise expected(name, "no such file", "a .keras or .h5 file or the name of a run")
        return Path(name)
    if name is None:
        runs = [run for run in list_runs(root) if run.model_path.is_file()]
        if not runs:
            raise expected(root, "no run", "a trained network", "train one: kerasbn train --bn")
        return runs[-1].model_path
    run = find_run(name, root)
    if not run.model_path.is_file():
        raise expected(
            run.path, f"a run without {MODEL} (it {run.status})", "a run that kept its network",
            "train again with a lower --lr",
        )  # fmt: skip
    return run.model_path


def run_of(model: Path) -> Run | None:
    """The run whose network is in this file, None if it is a file on its own.

    Raises:
        InputError: if the run's record is damaged.
    """
    if model.name != MODEL or not (model.parent / RECORD).is_file():
        return None
    return read_run(model.resolve().parent)  # resolved, since a run has its folder's name


def check_name(name: str, *, force: bool = False, root: Path = ROOT) -> None:
    """Check that a run may be called `name`.

    Raises:
        InputError: if it is a path, empty, hidden or too long, or taken and `force` is not set.
    """
    if not _NAME.fullmatch(name):
        raise expected(
            f"--run {name}",
            f"'{name}' as a name",
            "letters, digits, '.', '_' and '-' only",
            f"a run is always a folder in {ROOT} of the current folder",
        )
    if (root / name).exists() and not force:
        raise expected(
            f"--run {name}",
            f"a name that is taken ({root / name})",
            "a new one",
            "add --force to replace what is there",
        )


def pair_names(name: str | None) -> dict[str, str | None]:
    """What the two runs and the folder of a comparison are called; None means by default."""
    return {part: f"{name}-{part}" if name else None for part in ("bn", "plain", "compare")}


def check_pair_names(name: str | None, *, force: bool = False, root: Path = ROOT) -> None:
    """Raise `InputError` if a comparison may not be called `name`."""
    if name is not None:
        for each in (name, *filter(None, pair_names(name).values())):
            # The name alone is nobody's, so it may be taken.
            check_name(each, force=force or each == name, root=root)


def new_run(
    name: str | None, default: str, *, force: bool = False, root: Path = ROOT
) -> AbstractContextManager[NewFolder]:
    """A folder to write a run into, named when the block ends.

    Args:
        name: the name that was asked for, or None for `default`, `default-2`, ...
        default: the name where none was asked for.
        force: whether an older run called `name` gives way.
        root: the folder the runs are in.
    """
    if name is None:
        return new_folder(root, default, numbered=True)
    return new_folder(root, name, replace=force)


def write_record(folder: Path, record: dict[str, Any], name: str = RECORD) -> None:
    """Write a record as JSON; NaN and infinity, which JSON has not, become null."""
    text = json.dumps(finite(record), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:  # noqa: ANN401 - anything JSON holds
    """The same with None for NaN and infinity, which JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
