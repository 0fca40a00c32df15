"""Arrays are read only if they are numbers, intact, and fit into the memory."""

import io
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


def described(dtype: str, shape: tuple[int, ...]) -> str:
    return repr({"descr": dtype, "fortran_order": False, "shape": shape})


def npy(header: str, data: bytes = bytes(48), version: int = 1) -> bytes:
    """An array whose file says what `header` says."""
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + size + header.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        npy(described("<f8", (10**15, 3))),
        npy(described("<f8", (10**30, 3))),
        npy(described("<f8", (-2, 3))),
        npy(described("|V0", (10**15, 3))),
        npy(described("<U4", (1, 3))),
        npy(described("|O", (2, 3))),
        npy("(" * 300),
        npy("{", version=3),
        b"no array",
    ],
)
def test_what_is_no_array_of_numbers_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(InputError, match=r"received a file that is no \.npz of numeric arrays"):
        read_inputs(path, {"x": (None, 3)})


def test_labels_that_are_one_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((4, 3)), y=np.int64(4))
    with pytest.raises(InputError, match="received a single number, expected one label for each"):
        read_inputs(tmp_path / "data.npz", {"x": (None, 3)})


def test_an_input_without_samples_takes_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.float64(4))
    with pytest.raises(InputError, match=r"array 'x': received the shape \(\), expected"):
        read_inputs(tmp_path / "data.npz", {"x": ()})


def test_an_array_with_any_name_is_named_in_one_line(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{"a\nb\u2028": np.ones(3), "y" * 60_000: np.ones(3)})  # type: ignore[arg-type]
    (tmp_path / "data.npz").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=r"no array 'x' but a\\nb\\u2028, yyy") as caught:
        read_inputs(tmp_path / "data.npz", {"x": (None, 3)})
    assert len(str(caught.value)) < 1100


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
