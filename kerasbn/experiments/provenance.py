"""What a record says of where its figures come from. Loads nothing heavy."""

import platform
from importlib.metadata import version
from typing import Any

import kerasbn
from kerasbn.data.datasets import Dataset


def data_of(digits: Dataset) -> dict[str, Any]:
    """What a record says of the digits: not where they were, which is nobody else's business."""
    return {
        "name": digits.name,
        "digest": digits.digest,
        "train": len(digits.train),
        "test": len(digits.test),
        "note": digits.note,
    }


def versions() -> dict[str, str]:
    """The versions of all that the figures of a training depend on."""
    libraries = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {"kerasbn": kerasbn.__version__, "python": platform.python_version(), **libraries}
