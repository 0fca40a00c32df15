import gzip
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasbn.common.errors import InputError
from kerasbn.data.idx import MNIST, IdxFile, find_file, read_file, read_folder

IMAGES, LABELS = 0, 1


def idx_file(name: str, shape: tuple[int, ...], raw: bytes) -> IdxFile:
    return IdxFile(name, shape, hashlib.sha256(raw).hexdigest(), 0, "")


def content(folder: Path, file: IdxFile) -> bytes:
    return gzip.decompress((folder / f"{file.name}.gz").read_bytes())


def error_of(path: Path, file: IdxFile) -> str:
    """The one-line error of reading `path`."""
    with pytest.raises(InputError) as caught:
        read_file(path, file)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: received ")
    assert "expected " in line
    assert "; " in line
    return line


@pytest.mark.slow
def test_the_checksums_are_those_of_the_full_mnist(full_mnist: Path) -> None:
    arrays = read_folder(full_mnist, MNIST)
    assert [array.shape for array in arrays] == [file.shape for file in MNIST]
    train_images, train_labels, _, test_labels = arrays
    # Mean and standard deviation of MNIST, as published in many places.
    assert train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert train_images.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(test_labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


def test_reads_gzipped_and_plain_files_alike(
    mnist_folder: Path, idx_files: tuple[IdxFile, ...]
) -> None:
    gzipped = read_folder(mnist_folder, idx_files)
    for file in idx_files:
        (mnist_folder / file.name).write_bytes(content(mnist_folder, file))
        (mnist_folder / f"{file.name}.gz").unlink()
    plain = read_folder(mnist_folder, idx_files)
    for one, other, file in zip(gzipped, plain, idx_files, strict=True):
        assert one.shape == file.shape
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


def test_the_header_and_data_follow_the_format(tmp_path: Path) -> None:
    images = bytes(range(12))
    raw = b"\x00\x00\x08\x03" + b"\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x02" + images
    file = idx_file("images", (2, 3, 2), raw)
    (tmp_path / "images").write_bytes(raw)
    read = read_file(tmp_path / "images", file)
    assert read.tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    assert not read.flags.writeable
    assert file.header + images == raw
    assert file.size == len(raw)


def test_missing_files_are_named(mnist_folder: Path, idx_files: tuple[IdxFile, ...]) -> None:
    (mnist_folder / f"{idx_files[1].name}.gz").unlink()
    assert find_file(mnist_folder, idx_files[1]) is None
    with pytest.raises(InputError, match="without train-labels-idx1-ubyte, expected") as caught:
        read_folder(mnist_folder, idx_files)
    assert "t10k" not in str(caught.value)


def test_a_path_that_is_no_folder(tmp_path: Path, idx_files: tuple[IdxFile, ...]) -> None:
    with pytest.raises(InputError, match="received a path that does not exist"):
        read_folder(tmp_path / "nowhere", idx_files)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="received a file, expected the folder"):
        read_folder(tmp_path / "file", idx_files)


def test_labels_in_place_of_images(mnist_folder: Path, idx_files: tuple[IdxFile, ...]) -> None:
    images, labels = (mnist_folder / f"{file.name}.gz" for file in idx_files[:2])
    swap = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(swap)
    assert "received labels of shape 20, expected images of shape 20 x" in error_of(
        images, idx_files[IMAGES]
    )
    assert "received images of shape 20 x 28 x 28, expected labels of" in error_of(
        labels, idx_files[LABELS]
    )


def test_the_advice_repairs_the_folder_that_was_read(
    mnist_folder: Path, idx_files: tuple[IdxFile, ...]
) -> None:
    """Without the folder the command would download into another one."""
    folder = mnist_folder.rename(mnist_folder.with_name("my mnist"))
    path = folder / f"{idx_files[0].name}.gz"
    path.write_bytes(b"")
    command = f"`kerasbn data fetch --data-dir '{folder}'`"
    assert error_of(path, idx_files[0]).endswith(f"delete it and run {command}")
    path.unlink()
    with pytest.raises(InputError, match=re.escape(f"; {command} downloads what is missing")):
        read_folder(folder, idx_files)


def test_the_test_set_in_place_of_the_training_set(
    mnist_folder: Path, idx_files: tuple[IdxFile, ...]
) -> None:
    path = mnist_folder / f"{idx_files[2].name}.gz"
    assert "received images of shape 10 x 28 x 28, expected images of shape 20" in error_of(
        path, idx_files[0]
    )


def test_other_images_of_the_same_shape(mnist_folder: Path, idx_files: tuple[IdxFile, ...]) -> None:
    other = replace(idx_files[0], sha256=MNIST[0].sha256)
    assert "a file other than MNIST's" in error_of(mnist_folder / f"{other.name}.gz", other)


def test_plain_bytes_under_a_gzip_name(mnist_folder: Path, idx_files: tuple[IdxFile, ...]) -> None:
    path = mnist_folder / f"{idx_files[0].name}.gz"
    path.write_bytes(content(mnist_folder, idx_files[0]))
    assert "Not a gzipped file" in error_of(path, idx_files[0])


def test_a_file_that_is_too_long_is_not_read_to_the_end(tmp_path: Path) -> None:
    raw = b"\0\0\x08\x01\0\0\0\x03\x01\x02\x03"
    file = idx_file("labels", (3,), raw)
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(raw + bytes(100_000_000), 9))
    assert "received more bytes, expected 11" in error_of(path, file)


@pytest.mark.parametrize(
    "received", [b"", b"\0", b"PK\x03\x04and more", b"\0\0\x0d\x03", b"\0\0\x08\x02"]
)
def test_a_file_of_another_format(received: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(received)
    line = error_of(tmp_path / "labels", MNIST[1])
    assert re.search("received a file that begins with .*, expected labels", line)


def test_a_folder_with_the_name_of_a_file(tmp_path: Path) -> None:
    (tmp_path / MNIST[0].name).mkdir()
    assert "received a folder" in error_of(tmp_path / MNIST[0].name, MNIST[0])


SHARED_FILES = settings(
    max_examples=60,
    deadline=None,
    # The test only reads the files, so all examples can share them.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("which", [IMAGES, LABELS])
@SHARED_FILES
@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_flipped_bit_never_changes_the_images(
    mnist_folder: Path,
    idx_files: tuple[IdxFile, ...],
    suffix: str,
    which: int,
    place: int,
    bit: int,
) -> None:
    file = idx_files[which]
    original = content(mnist_folder, file)
    damaged = bytearray(gzip.compress(original, mtime=0) if suffix else original)
    damaged[place % len(damaged)] ^= 1 << bit
    path = mnist_folder.parent / f"damaged{suffix}"
    path.write_bytes(damaged)
    try:
        read = read_file(path, file)
    except InputError:
        return
    # A bit of the gzip header that does not affect the content, such as the time.
    assert suffix
    assert read.tobytes() == original[len(file.header) :]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@SHARED_FILES
@given(kept=st.integers(min_value=0))
def test_a_truncated_file_is_refused(
    mnist_folder: Path, idx_files: tuple[IdxFile, ...], suffix: str, kept: int
) -> None:
    original = content(mnist_folder, idx_files[0])
    damaged = gzip.compress(original, mtime=0) if suffix else original
    path = mnist_folder.parent / f"short{suffix}"
    path.write_bytes(damaged[: kept % len(damaged)])
    assert "received" in error_of(path, idx_files[0])
