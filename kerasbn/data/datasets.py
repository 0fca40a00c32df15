"""Datasets: the full MNIST from wherever it is available, or a sample of it that works offline."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import platformdirs

from kerasbn.common.errors import ArgumentError, InputError, did_you_mean, expected
from kerasbn.data import download, mnist_sample
from kerasbn.data.idx import MNIST, Bytes, find_file, read_folder, require_folder

DATASETS = ("auto", "mnist", "mnist-sample")
# SHA-256 of the pixels and labels of each; records hold them, so they never change.
DIGESTS = {
    "mnist": "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    "mnist-sample": "7179b4349acab521b9a54191ecb10ad4f4df48c014c680f4a64ad65b1d5f6681",
}
CUSTOM = "custom"  # the name of other data that were given one of these names
ENVIRONMENT = "KERASBN_DATA"
SAMPLE_NOTE = (
    "This is a sample of 5,000 MNIST images, not the full 70,000; `kerasbn data fetch` downloads "
    "those, or --data-dir names a folder that has them."
)

Availability = Literal["ok", "missing", "incomplete", "damaged"]


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 `[n, 28, 28]`, 0 for the background and 255 for ink.
        labels: uint8 `[n]`, classes 0 to 9.

    Raises:
        InputError: If the arrays have another shape or type, or labels are above 9.
    """

    images: Bytes
    labels: Bytes

    def __post_init__(self) -> None:
        for name, shape in (("images", ("n", 28, 28)), ("labels", ("n",))):
            array = np.asarray(getattr(self, name))
            if array.dtype != np.uint8 or array.ndim != len(shape) or array.shape[1:] != shape[1:]:
                wanted = f"uint8 of shape ({', '.join(map(str, shape))})"
                raise expected(name, f"{array.dtype} of shape {array.shape}", wanted)
            object.__setattr__(self, name, array)
        images, labels, highest = len(self.images), len(self.labels), self.labels.max(initial=0)
        if images != labels or highest > 9:
            received = f"{labels:,} labels up to {highest}"
            raise expected("labels", received, f"one label per image ({images:,}), 0 to 9")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self):,} images)"


@dataclass(frozen=True, repr=False)
class Dataset:
    """Labeled 28x28 grayscale images, split into training and test images.

    `kerasbn.load_dataset` returns one. Arrays of your own become one with `Dataset(name, train,
    test)`, where `train` and `test` are `kerasbn.data.datasets.Split(images, labels)`.

    Attributes:
        name: `"mnist"`, `"mnist-sample"`, or a name of your own. Other images and labels under one
            of these two names are called `"custom"`.
        train: Training images and labels, `Split` with the arrays `images` (uint8 `[n, 28, 28]`)
            and `labels` (uint8 `[n]`).
        test: Test images and labels, likewise.
        source: Folder or package that the images come from.
        digest: SHA-256 of all pixels and labels, training split first. Identifies the content,
            independently of the file format.
        note: One sentence the user should see, such as that this is only a sample; or empty.

    Raises:
        InputError: If a split is no `Split` or has no images.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> data.name, data.train, data.test
        ('mnist-sample', Split(4,000 images), Split(1,000 images))
        >>> data.test.images.shape, data.test.labels.shape
        ((1000, 28, 28), (1000,))
    """

    name: str
    train: Split
    test: Split
    source: str = "arrays"
    digest: str = field(init=False)
    note: str = ""

    def __post_init__(self) -> None:
        sha256 = hashlib.sha256()
        for name, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Split) or not len(split):
                found = "no images" if isinstance(split, Split) else f"a {type(split).__name__}"
                advice = "make one with kerasbn.data.datasets.Split(images, labels)"
                raise expected(name, found, "a Split with images", advice)
            sha256.update(split.images.tobytes())
            sha256.update(split.labels.tobytes())
        object.__setattr__(self, "digest", sha256.hexdigest())
        if DIGESTS.get(self.name, self.digest) != self.digest:
            for field_name, value in (("name", CUSTOM), ("source", "arrays"), ("note", "")):
                object.__setattr__(self, field_name, value)

    def __repr__(self) -> str:
        sizes = f"{len(self.train):,} training and {len(self.test):,} test images"
        return f"Dataset({self.name}: {sizes}, from {self.source})"


@dataclass(frozen=True)
class Location:
    """A place that may hold a dataset, and what was found there.

    The status is `ok` if all files are there with the right checksums, `missing` if none is,
    `incomplete` if some are, `damaged` if a checksum is wrong; `problem` says what is wrong.
    """

    kind: str  # `--data-dir`, `KERASBN_DATA`, `cache` or `package`
    name: str
    path: str
    status: Availability
    dataset: Dataset | None = None
    problem: str = ""


def load_dataset(
    name: str = "auto", data_dir: str | Path | None = None, *, quiet: bool = True
) -> Dataset:
    """Load a dataset and verify its checksums.

    Args:
        name: Which dataset to load.

            - `"mnist"`: the full MNIST with 60,000 training and 10,000 test images, from the first
              of these that has it: `data_dir`, the folder named by the environment variable
              `KERASBN_DATA`, the user's cache folder, a public mirror (11 MB, kept in the cache).
            - `"mnist-sample"`: 4,000 and 1,000 images of it, from the optional dependency
              `kerasbn[digits]`; needs no network.
            - `"auto"`: the full MNIST if it is available, otherwise the sample.
        data_dir: Folder with MNIST's four IDX files, gzipped or not. If given, no other location
            is searched.
        quiet: If false, show the progress of a download on standard error.

    Returns:
        The `Dataset`. Its arrays are read-only.

    Raises:
        InputError: If an argument is invalid, or the dataset is unavailable or damaged.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> len(data.train), len(data.test)
        (4000, 1000)
        >>> data.train.images.dtype, data.train.labels[:5].tolist()
        (dtype('uint8'), [4, 7, 9, 4, 2])
    """
    _check_arguments(name, data_dir)
    if name == "mnist-sample":
        return _read_sample()
    if data_dir is not None:
        return _read_mnist(_path(data_dir))
    for _, folder in _default_folders():
        if all(find_file(folder, file) for file in MNIST):
            return _read_mnist(folder)
    try:
        fetch(quiet=quiet)
    except download.UnavailableError as unavailable:
        if name == "mnist":
            raise
        try:
            return _read_sample(SAMPLE_NOTE)
        except mnist_sample.SampleMissingError as missing:
            raise InputError(f"{unavailable} ({missing})") from missing
    return _read_mnist(cache_folder())


def fetch(data_dir: str | Path | None = None, *, quiet: bool = True) -> list[Path]:
    """Download MNIST's missing files into `data_dir`, by default `cache_folder()`; return them.

    Raises:
        UnavailableError: If no mirror delivered a file.
        InputError: If an existing file is invalid or the folder is not writable.
    """
    folder = cache_folder() if data_dir is None else _path(data_dir)
    if folder.exists():
        require_folder(folder)
    return download.download_files(folder, MNIST, download.MIRRORS, quiet=quiet)


def cache_folder() -> Path:
    """Return the folder for downloads: `KERASBN_DATA` if set, else the user's cache folder."""
    return _default_folders()[0][1]


def find_datasets(name: str = "auto", data_dir: str | Path | None = None) -> list[Location]:
    """Return every location that may hold dataset `name`, in the order `load_dataset` searches."""
    _check_arguments(name, data_dir)
    folders = _default_folders()
    if data_dir is not None:
        require_folder(_path(data_dir))
        folders.insert(0, ("--data-dir", _path(data_dir)))
    found = [*(_inspect_folder(kind, folder) for kind, folder in folders), _inspect_sample()]
    return [location for location in found if name in ("auto", location.name)]


def selected(locations: list[Location]) -> Location | None:
    """Return the location that `load_dataset` reads, intact or not; None before a download."""
    if locations[0].kind == "--data-dir":
        return locations[0]
    return next((each for each in locations if each.status in ("ok", "damaged")), None)


def _inspect_folder(kind: str, folder: Path) -> Location:
    place, found = (kind, "mnist", str(folder)), [find_file(folder, file) for file in MNIST]
    if not any(found):
        return Location(*place, "missing")
    try:
        return Location(*place, "ok", _read_mnist(folder))
    except InputError as error:
        return Location(*place, "damaged" if all(found) else "incomplete", problem=str(error))


def _inspect_sample() -> Location:
    place = ("package", "mnist-sample")
    try:
        dataset = _read_sample()
    except mnist_sample.SampleMissingError:
        return Location(*place, mnist_sample.INSTALL, "missing")
    except InputError as error:
        return Location(*place, mnist_sample.PACKAGE, "damaged", problem=str(error))
    return Location(*place, dataset.source, "ok", dataset)


def _check_arguments(name: str, data_dir: str | Path | None) -> None:
    """Raise `InputError` for an unknown dataset or arguments that exclude each other."""
    if not isinstance(name, str) or name not in DATASETS:
        wanted = "'auto', 'mnist' or 'mnist-sample'"
        # Not an ArgumentError: the option is --dataset, and a record may have any name.
        near = "" if name == CUSTOM else did_you_mean(str(name), DATASETS)
        advice = near or "data of your own are given from Python, as a kerasbn.Dataset"
        raise expected(f"name={name!r}", repr(name), wanted, advice)
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise ArgumentError("data_dir", data_dir, "the path of a folder")
    if name == "mnist-sample" and data_dir is not None:
        wanted = "none with mnist-sample, which comes with a package"
        raise ArgumentError("data_dir", str(data_dir), wanted, "leave one out")


def _default_folders() -> list[tuple[str, Path]]:
    """Return the folders searched for MNIST if none is given, each with its kind."""
    cache = platformdirs.user_cache_path("kerasbn", appauthor=False) / "mnist"
    named = os.environ.get(ENVIRONMENT)
    return [*([(ENVIRONMENT, _path(named))] if named else []), ("cache", cache)]


def _path(folder: str | Path) -> Path:
    return Path(folder).expanduser()


def _read_mnist(folder: Path) -> Dataset:
    arrays = read_folder(folder, MNIST)
    return Dataset("mnist", Split(*arrays[:2]), Split(*arrays[2:]), str(folder))


def _read_sample(note: str = "") -> Dataset:
    path, source = mnist_sample.find_sample()
    arrays = mnist_sample.read_sample(path)
    return Dataset("mnist-sample", Split(*arrays[:2]), Split(*arrays[2:]), source, note=note)
