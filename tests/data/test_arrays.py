"""Arrays for a model's inputs are read only if they fit into the memory."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from kerasbn.common import files
from kerasbn.common.errors import InputError
from kerasbn.data.arrays import read_inputs


def test_arrays_by_name(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (found,), labels = read_inputs(tmp_path / "data.npz", {"x": (None, 3)})
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(labels, y)


def test_an_archive_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 10**6)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((10**6, 3)))
    with pytest.raises(InputError, match=r"received an archive that unpacks to 0\.0 GiB, expected"):
        read_inputs(path, {"x": (None, 3)})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None  # the file is intact
    np.savez(path, x=np.ones((10**6, 3)))  # as large, but not compressed
    assert read_inputs(path, {"x": (None, 3)})[0][0].shape == (10**6, 3)
