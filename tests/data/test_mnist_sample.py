import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.data import mnist_sample
from kerasbn.data.datasets import Split, load_dataset
from kerasbn.data.idx import Bytes


def splits_of(arrays: list[Bytes]) -> tuple[Split, Split]:
    return Split(*arrays[:2]), Split(*arrays[2:])


@pytest.fixture(scope="module")
def splits() -> tuple[Split, Split]:
    return splits_of(mnist_sample.read_sample(mnist_sample.find_sample()[0]))


def contents(split: Split) -> set[bytes]:
    """The set of images, each with its label."""
    rows = zip(split.images, split.labels, strict=True)
    return {image.tobytes() + bytes([label]) for image, label in rows}


def test_4000_training_and_1000_test_images_balanced_over_classes(
    splits: tuple[Split, Split],
) -> None:
    for split, count in zip(splits, (400, 100), strict=True):
        assert np.bincount(split.labels).tolist() == [count] * 10
        assert split.images.shape == (10 * count, 28, 28)
        assert split.images.dtype == split.labels.dtype == np.uint8


def test_the_split_never_changes(splits: tuple[Split, Split]) -> None:
    sums = [
        hashlib.sha256(each.images.tobytes() + each.labels.tobytes()).hexdigest() for each in splits
    ]
    assert sums == [
        "9745fc96c7ab562bee26e4623d29b2b542c37a644f2c7e3f06448a0edc1b5a07",
        "5c7f6648a3462e49b7ef97f75a380674a6948b50f98e30fae6024a5b31718b4a",
    ]


def test_no_image_appears_twice(splits: tuple[Split, Split]) -> None:
    train, test = map(contents, splits)
    assert (len(train), len(test)) == (4000, 1000)
    assert not train & test


def test_all_are_in_the_training_set_of_mnist_and_none_in_its_test_set(
    splits: tuple[Split, Split], full_mnist: Path
) -> None:
    mnist = load_dataset("mnist", full_mnist)
    train, test = contents(mnist.train), contents(mnist.test)
    sample = contents(splits[0]) | contents(splits[1])
    assert sample <= train
    assert not sample & test


def test_the_order_mixes_the_classes(splits: tuple[Split, Split]) -> None:
    """The file is sorted by label, but the first few images must not all be zeros."""
    for split in splits:
        assert len(set(split.labels[:40].tolist())) == 10


def test_the_split_does_not_depend_on_the_order_in_the_file() -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (60, 28, 28), np.uint8)
    labels = np.repeat(np.arange(3, dtype=np.uint8), 20)
    other = rng.permutation(60)
    shuffled = mnist_sample.split_sample(images[other], labels[other])
    for one, two in zip(mnist_sample.split_sample(images, labels), shuffled, strict=True):
        np.testing.assert_array_equal(one, two)


def test_reading_the_sample_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kerasbn.data.datasets import load_dataset; load_dataset('mnist-sample');"
        "print([m for m in ('mlxtend', 'pandas', 'sklearn', 'scipy', 'tensorflow', 'rich', 'pooch')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_extra_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_sample, "PACKAGE", "a-package-that-is-not-installed")
    with pytest.raises(InputError, match=r'install it with pip install "kerasbn\[digits\]"'):
        mnist_sample.find_sample()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "No such file"),
        (b"0,0,0,7\n", "Not a gzipped file"),
        (gzip.compress(b"0,0,0,7\n"), "received SHA-256"),
        (gzip.compress(b"0,0,0,7\n" * 99)[:-9], "Compressed file ended"),
    ],
    # gzip stores the time, but all processes of a test run have to agree on the names of the tests.
    ids=["missing", "not gzipped", "other content", "truncated"],
)
def test_a_damaged_package(tmp_path: Path, content: bytes | None, line: str) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=line) as caught:
        mnist_sample.read_sample(path)
    assert "reinstall it" in str(caught.value)
    assert "\n" not in str(caught.value)
