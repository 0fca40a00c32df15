"""A run: the folder of one trained model, with its settings, history and weights.

    saved_models/NAME/run.json      settings, dataset, versions, device, final metrics, times
                      history.csv   one row per epoch
                      model.keras   the plain Keras model
                      curves.png    the curves of history.csv

A folder appears under its name only when it is complete. The name stands nowhere inside it, so a
run can be renamed or copied.
"""

import hashlib
import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

from kerasbn.common import records
from kerasbn.common.errors import ArgumentError, InputError, expected
from kerasbn.common.folders import NewFolder, new_folder, problem_with
from kerasbn.common.saved_models import MODEL_SUFFIXES, SAVED_MODEL
from kerasbn.training.settings import ModelSettings, TrainingSettings

ROOT = Path("saved_models")
RECORD, HISTORY, MODEL, CURVES = "run.json", "history.csv", "model.keras", "curves.png"
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
HISTORY_COLUMNS = ("epoch", "accuracy", "loss", "step", "val_accuracy", "val_loss")

Status = Literal["finished", "interrupted", "diverged"]
History = dict[str, list[float]]

MNIST_FOLDER = "mnist"  # records hold no paths: commands name a folder for users to replace


@dataclass(frozen=True)
class DataRecord:
    """The dataset of a training, without the place it was read from."""

    name: str
    digest: str  # SHA-256 of images and labels
    train: int  # number of examples
    test: int
    note: str = ""  # what a reader should know about it

    def __post_init__(self) -> None:
        if min(self.train, self.test) < 1:
            raise ValueError("a dataset without examples")

    @property
    def options(self) -> list[str]:
        """The options of a command that name the dataset; none for data given from Python."""
        folders = {"mnist": ["--data-dir", MNIST_FOLDER], "mnist-sample": []}
        return ["--dataset", self.name, *folders[self.name]] if self.name in folders else []


@dataclass(frozen=True)
class RunRecord:
    """What ``run.json`` holds.

    An interrupted run (Ctrl-C) and a diverged one (the loss became NaN or infinite) keep the epochs
    before that.
    """

    status: Status
    started: str  # ISO 8601 in UTC
    finished: str
    seconds: float
    model: ModelSettings
    training: TrainingSettings
    data: DataRecord
    device: str  # in words
    versions: dict[str, str]  # of Python and the libraries that the results depend on
    parameters: int  # number of the model's
    epochs: int  # number of those with metrics
    final: dict[str, float] = field(default_factory=dict)  # the last row of the history
    diverged_at_step: int | None = None
    recalibrated: dict[str, Any] | None = None  # what the recalibration changed that made this run
    digest: str = ""  # of history and weights; see `digest_of`
    ensemble: int = 1  # number of models that were trained as one
    environment: dict[str, str] = field(default_factory=dict)  # what else results depend on


@dataclass(frozen=True)
class Run:
    """A run on disk: its folder, and what its ``run.json`` holds."""

    path: Path
    record: RunRecord

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def status(self) -> Status:
        """How the training ended; see `RunRecord`."""
        return self.record.status

    @property
    def model_path(self) -> Path:
        """The file of the model; missing if the training diverged in its first epoch."""
        return self.path / MODEL

    @cached_property
    def history(self) -> History:
        """The columns of ``history.csv``: `epoch` (from 1) and the metrics after each epoch."""
        return read_history(self.path / HISTORY)


def read_run(path: Path) -> Run:
    """Read the run in the folder `path`."""
    if not os.path.exists(path / RECORD):  # noqa: PTH110 - no error if a name is too long
        is_there = os.path.exists(path)  # noqa: PTH110 - likewise
        found = f"a folder without {RECORD}" if is_there else "no run"
        raise expected(path, found, "the folder of a run", "kerasbn report lists the runs")
    record = records.read_json(path / RECORD, RunRecord, "the record of a run", "train again")
    return Run(path, record)


def read_history(path: Path) -> History:
    """Read a history as columns of finite numbers."""
    what, advice = "one row of numbers per epoch", "the run is damaged: train again"
    return records.read_csv(path, dict.fromkeys(HISTORY_COLUMNS, float), what, advice)


def digest_of(run: Run) -> str:
    """Return SHA-256 of the history and the weights of a run, without times and paths."""
    import h5py
    import numpy as np

    digest = hashlib.sha256()
    for name in ("epoch", "step", *METRICS):
        digest.update(np.asarray(run.history[name], np.float64).tobytes())
    if run.model_path.is_file():
        with ZipFile(run.model_path) as archive, archive.open("model.weights.h5") as file:
            weights = h5py.File(file, "r")["layers"]
            names: list[str] = []
            weights.visit(names.append)
            for name in sorted(names):
                if isinstance(weights[name], h5py.Dataset):
                    digest.update(name.encode() + weights[name][()].tobytes())
    return digest.hexdigest()


def survey(root: Path = ROOT) -> tuple[list[Run], list[InputError]]:
    """Return the runs in `root`, the newest last, and an error for each damaged one."""
    runs, problems = [], []
    for file in sorted(root.glob(f"[!.]*/{RECORD}")):
        try:
            runs.append(read_run(file.parent))
        except InputError as error:
            problems.append(error)
    return sorted(runs, key=lambda run: run.record.finished), problems


def find_run(name: str, root: Path | str = ROOT) -> Run:
    """Return the run called `name` in `root`, or the run in the folder `name`.

    Raises:
        InputError: If there is none; the message lists the runs.
    """
    root = Path(root)
    for path in (root / name, Path(name)):
        if path.is_dir():
            return read_run(path)
    names = ", ".join(run.name for run in survey(root)[0]) or "none yet"
    raise expected(name, "no run of this name", f"a run in {root} ({names})", "see kerasbn report")


def find_model(name: str | None = None, root: Path = ROOT) -> Path:
    """Return a model file: `name` itself, that of the run `name`, or for None of the newest run."""
    if name is None:
        files = [run.model_path for run in survey(root)[0] if run.model_path.is_file()]
        if not files:
            raise expected(root, "no run", "a trained model", "train one: kerasbn train --bn")
        return files[-1]
    if Path(name).is_file() or (Path(name) / SAVED_MODEL).is_file():
        return Path(name)
    if Path(name).suffix in MODEL_SUFFIXES:
        raise expected(name, "no such file", "a .keras or .h5 file, or the name of a run")
    run = find_run(name, root)
    if not run.model_path.is_file():
        raise expected(
            run.path, f"a run without {MODEL} (it {run.status})", "a run with a model",
            "train again with a lower learning rate",
        )  # fmt: skip
    return run.model_path


def run_of(model: Path) -> Run | None:
    """Return the run that a model file belongs to, or None for a file on its own."""
    if model.name != MODEL or not (model.parent / RECORD).is_file():
        return None
    return read_run(model.resolve().parent)  # resolved, since the run has the name of its folder


def check_name(name: str, *, force: bool = False, root: Path = ROOT) -> None:
    """Raise `ArgumentError` if a run may not be called `name`, or if that is taken."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ArgumentError(
            "run", name, "letters, digits, '.', '_' and '-' only",
            f"a run is always a folder in {ROOT}",
        )  # fmt: skip
    if problem := problem_with(root / name, replace=force):
        found, advice = problem
        raise ArgumentError("run", name, "a new one", advice, received=found)


def check_comparison_name(
    name: str | None, *, several: bool, force: bool = False, root: Path = ROOT
) -> None:
    """Raise `ArgumentError` if a comparison of one or several pairs may not be called `name`."""
    if name is None:
        return
    # No folder of a single pair has the bare name, so it may be taken.
    check_name(name, force=force or not several, root=root)
    for part in () if several else ("bn", "plain", "compare"):
        check_name(f"{name}-{part}", force=force, root=root)


def new_run(
    name: str | None,
    default: str,
    *,
    force: bool = False,
    root: Path = ROOT,
    start: Path | None = None,
) -> AbstractContextManager[NewFolder]:
    """Return a folder to write to: `name`, or for None `default`, `default-2`, ...

    A training continues in the folder `start`; see `kerasbn.common.folders.new_folder`.
    """
    if name is None:
        return new_folder(root, default, numbered=True, start=start)
    return new_folder(root, name, replace=force, start=start)
