"""What a record says of where its figures come from. Loads nothing heavy."""

import platform
from importlib.metadata import version

import kerasbn
from kerasbn.data.datasets import Dataset
from kerasbn.runs import DataRecord


def data_of(data: Dataset) -> DataRecord:
    """Return what a record says about a dataset; the place it was read from is private."""
    return DataRecord(data.name, data.digest, len(data.train), len(data.test), data.note)


def versions() -> dict[str, str]:
    """The versions of all that the figures of a training depend on."""
    libraries = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {"kerasbn": kerasbn.__version__, "python": platform.python_version(), **libraries}
