"""The digits: the full MNIST from wherever it is, or the sample of 5,000 that needs no network."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from kerasbn.data import download
from kerasbn.data import mnist_sample as sample
from kerasbn.data.idx import MNIST, Split, find, read_folder, require_folder
from kerasbn.errors import InputError, expected

__all__ = ["DATASETS", "Dataset", "Place", "Split", "fetch", "load_dataset", "survey", "taken"]

DATASETS = ("auto", "mnist", "mnist-sample")
ENVIRONMENT = "KERASBN_DATA"

State = Literal["whole", "absent", "incomplete", "damaged"]

IS_THE_SAMPLE = (
    "This is the sample of 5,000 digits, not MNIST with its 70,000, which `kerasbn data fetch` "
    "downloads and --data-dir finds in a folder."
)


@dataclass(frozen=True)
class Dataset:
    """A data set of handwritten digits.

    Attributes:
        name: `mnist` or `mnist-sample`.
        train: the digits to train on: 60,000, or 4,000 of the sample.
        test: the digits to test on: 10,000, or 1,000 of the sample.
        source: the folder or the package they were read from.
        digest: SHA-256 of all pixels and labels, training digits first; it names the content,
            whatever the form of the files.
        note: what a user must know to mistake them for no others, as a sentence, or empty.
    """

    name: str
    train: Split
    test: Split
    source: str
    digest: str
    note: str = ""


@dataclass(frozen=True)
class Place:
    """A place where digits may be, and what is there.

    Attributes:
        name: `--data-dir`, `KERASBN_DATA`, `cache`, or `package`.
        dataset: `mnist` or `mnist-sample`.
        where: the folder or the package.
        state: `whole`, all there and every sum holds; `absent`; `incomplete`, some files are
            there; `damaged`, all are there and one does not hold what it must.
        digits: what was read there, if it is whole.
        problem: what is wrong there, as one line, or empty.
    """

    name: str
    dataset: str
    where: str
    state: State
    digits: Dataset | None = None
    problem: str = ""


def load_dataset(
    dataset: str = "auto", data_dir: str | Path | None = None, *, quiet: bool = False
) -> Dataset:
    """The digits of `dataset`, checked.

    Args:
        dataset: `mnist`, the full set: from `data_dir`, or else from the folder that the
            environment variable KERASBN_DATA names, the user's cache folder, or a public mirror,
            whichever has it first. `mnist-sample`, the 5,000 digits that the extra `digits`
            installs. `auto`, the former if it can be had, otherwise the latter with a note.
        data_dir: the folder with MNIST's four files; then no other place is looked in.
        quiet: whether a download shows no progress on standard error.

    Raises:
        InputError: if the digits are nowhere to be had, or do not hold what they must.
    """
    _check(dataset, data_dir)
    if dataset == "mnist-sample":
        return _read_sample()
    if data_dir is not None:
        return _read_mnist(_path(data_dir))
    for _, folder in _known_folders():
        if all(find(folder, file) for file in MNIST):
            return _read_mnist(folder)
    try:
        fetch(quiet=quiet)
    except download.UnavailableError as unavailable:
        if dataset == "mnist":
            raise
        try:
            return _read_sample(note=IS_THE_SAMPLE)
        except sample.NoSampleError as absent:
            raise InputError(f"{unavailable} ({absent})") from absent
    return _read_mnist(home())


def fetch(data_dir: str | Path | None = None, *, quiet: bool = False) -> list[Path]:
    """Download what is missing of MNIST into `data_dir`, or `home()`; gives the files added.

    Raises:
        UnavailableError: if no mirror gave it.
        InputError: if something there does not hold what it must, or the folder cannot be written.
    """
    folder = home() if data_dir is None else _path(data_dir)
    if folder.exists():
        require_folder(folder)
    return download.fetch(folder, MNIST, download.MIRRORS, quiet=quiet)


def home() -> Path:
    """Where downloads go: the folder KERASBN_DATA names, or else the user's cache folder."""
    return _known_folders()[0][1]


def survey(dataset: str = "auto", data_dir: str | Path | None = None) -> list[Place]:
    """Every place where the digits of `dataset` may be, in the order `load` looks, as it is found.

    Raises:
        InputError: if `data_dir` is given and is no folder.
    """
    _check(dataset, data_dir)
    folders = _known_folders()
    if data_dir is not None:
        require_folder(_path(data_dir))
        folders.insert(0, ("--data-dir", _path(data_dir)))
    places = [*(_survey_folder(name, folder) for name, folder in folders), _survey_sample()]
    return [place for place in places if dataset in ("auto", place.dataset)]


def taken(places: list[Place]) -> Place | None:
    """The place of a survey that `load` reads, whole or not; None if it asks the mirrors first."""
    if places[0].name == "--data-dir":
        return places[0]
    return next((place for place in places if place.state in ("whole", "damaged")), None)


def _survey_folder(name: str, folder: Path) -> Place:
    found = [find(folder, file) is not None for file in MNIST]
    if not any(found):
        return Place(name, "mnist", str(folder), "absent")
    try:
        digits = _read_mnist(folder)
    except InputError as error:
        state: State = "damaged" if all(found) else "incomplete"
        return Place(name, "mnist", str(folder), state, problem=str(error))
    return Place(name, "mnist", str(folder), "whole", digits)


def _survey_sample() -> Place:
    try:
        digits = _read_sample()
    except sample.NoSampleError:
        return Place("package", "mnist-sample", sample.INSTALL, "absent")
    except InputError as error:
        return Place("package", "mnist-sample", sample.PACKAGE, "damaged", problem=str(error))
    return Place("package", "mnist-sample", digits.source, "whole", digits)


def _check(dataset: str, data_dir: str | Path | None) -> None:
    """Raise the `InputError` for a data set that does not exist, or that no folder holds."""
    if dataset not in DATASETS:
        raise expected("--dataset", repr(dataset), f"one of {', '.join(DATASETS)}")
    if dataset == "mnist-sample" and data_dir is not None:
        raise expected(
            "--data-dir",
            "a folder together with mnist-sample",
            "one of the two: the sample comes with a package",
            "leave one out",
        )


def _known_folders() -> list[tuple[str, Path]]:
    """The folders MNIST is looked for in when none is given, with the name of each."""
    cache = platformdirs.user_cache_path("kerasbn", appauthor=False) / "mnist"
    named = os.environ.get(ENVIRONMENT)
    return [*([(ENVIRONMENT, _path(named))] if named else []), ("cache", cache)]


def _path(folder: str | Path) -> Path:
    return Path(folder).expanduser()


def _read_mnist(folder: Path) -> Dataset:
    train, test = read_folder(folder, MNIST)
    return Dataset("mnist", train, test, str(folder), _digest(train, test))


def _read_sample(note: str = "") -> Dataset:
    path, source = sample.locate()
    train, test = sample.read_sample(path)
    return Dataset("mnist-sample", train, test, source, _digest(train, test), note)


def _digest(train: Split, test: Split) -> str:
    found = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        found.update(array.data)
    return found.hexdigest()
