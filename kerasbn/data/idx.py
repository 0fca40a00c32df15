"""IDX files, the form MNIST comes in: read, and checked down to the last bit.

Format: http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT": four bytes of magic number (two
zeros, the type 8 for unsigned bytes, the number of axes), four bytes for each axis, then the data.
"""

import gzip
import hashlib
import os
import shlex
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbn.errors import InputError, expected

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Split:
    """Dataset with their labels.

    Attributes:
        images: uint8 [n, 28, 28], 0 for paper and 255 for ink.
        labels: uint8 [n], 0 to 9.
    """

    images: Bytes
    labels: Bytes

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class IdxFile:
    """What one IDX file must hold.

    Attributes:
        name: its name without `.gz`.
        shape: [n, 28, 28] for images, [n] for labels.
        sha256: the sum of its uncompressed content, header included.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """The bytes it begins with: magic number and axes."""
        return b"".join(n.to_bytes(4, "big") for n in (0x0800 + len(self.shape), *self.shape))

    @property
    def size(self) -> int:
        """Bytes of the uncompressed file."""
        return len(self.header) + prod(self.shape)


# Training images and labels, then test images and labels.
MNIST = (
    IdxFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

GZIP_MAGIC = b"\x1f\x8b"


def find(folder: Path, file: IdxFile) -> Path | None:
    """Where `file` lies in `folder`, uncompressed or gzipped; None if it does not."""
    candidates = (folder / file.name, folder / f"{file.name}.gz")
    # Path.exists raises where a folder may not be entered; what cannot be reached is not there.
    return next((path for path in candidates if os.path.exists(path)), None)  # noqa: PTH110


def read_folder(folder: Path, files: tuple[IdxFile, ...]) -> tuple[Split, Split]:
    """The training and the test digits of a folder with four IDX files, gzipped or not.

    Raises:
        InputError: if the folder or a file is missing, or a file does not hold what it must.
    """
    require_folder(folder)
    paths = [find(folder, file) for file in files]
    absent = [file.name for file, path in zip(files, paths, strict=True) if path is None]
    if absent:
        raise expected(
            folder,
            f"a folder without {', '.join(absent)}",
            "MNIST's four files, gzipped or not",
            f"{_fetch_into(folder)} adds what is missing",
        )
    train_images, train_labels, test_images, test_labels = (
        read_file(path, file) for path, file in zip(paths, files, strict=True) if path
    )
    return Split(train_images, train_labels), Split(test_images, test_labels)


def require_folder(folder: Path) -> None:
    """Raise the `InputError` for a data folder that is missing or is no folder."""
    try:
        os.listdir(folder)  # noqa: PTH208 - iterdir would wait with its error until it is used
    except OSError as error:
        found = {FileNotFoundError: "a path where nothing is", NotADirectoryError: "a file"}
        raise expected(
            folder,
            found.get(type(error), f"a folder that cannot be read ({error.strerror})"),
            "the folder that holds MNIST's four files",
            "correct it, or leave it out to have the digits looked for",
        ) from error


def read_file(path: Path, file: IdxFile) -> Bytes:
    """The array in an IDX file, of `file.shape` and read-only.

    Raises:
        InputError: if it cannot be read, is damaged, or holds something else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            # One byte more shows a file that is too long, without reading all of a huge one.
            content = stream.read(file.size + 1)
    except gzip.BadGzipFile as error:
        raise damaged(path, "a file that is not gzip, or damaged", "gzip, as .gz says") from error
    except EOFError as error:
        raise damaged(path, "a gzip file that breaks off", "a whole one") from error
    except zlib.error as error:
        raise damaged(path, "a damaged gzip file", "a whole one") from error
    except OSError as error:
        why = f"what cannot be read ({error.strerror})"
        raise expected(path, why, "a file", "correct it or give another folder") from error
    return parse(content, file, path)


def parse(content: bytes, file: IdxFile, path: Path) -> Bytes:
    """The array in the uncompressed content of an IDX file, of `file.shape` and read-only.

    The sum is looked at last, since every other check can say better what is wrong.

    Args:
        content: the file's bytes.
        file: what they must hold.
        path: where they are from, for the error's line.

    Raises:
        InputError: if they hold something else.
    """
    kind = {1: "labels", 3: "images"}
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else None
    if axes != len(file.shape):
        found = kind.get(axes or 0, f"bytes that begin with {content[:4].hex() or 'nothing'}")
        wanted = f"{kind[len(file.shape)]}, an IDX file that begins with {file.header[:4].hex()}"
        raise damaged(path, found, wanted)
    header = content[: len(file.header)]
    if len(header) == len(file.header) and header != file.header:
        shape = np.frombuffer(header, ">u4", offset=4)
        raise damaged(path, f"the shape {by(*shape)}", by(*file.shape))
    if len(content) != file.size:
        found = f"only {len(content):,}" if len(content) < file.size else "more"
        raise damaged(path, f"{found} bytes", f"{file.size:,}")
    array = np.frombuffer(content, np.uint8, offset=len(file.header)).reshape(file.shape)
    if array.ndim == 1 and len(array) and array.max() > 9:
        place = int(np.argmax(array > 9))
        raise damaged(path, f"the label {array[place]} at place {place:,}", "labels 0 to 9")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise damaged(
            path,
            f"other content than MNIST's (SHA-256 {found[:12]}...)",
            f"SHA-256 {file.sha256[:12]}...",
        )
    return array


def damaged(path: Path, received: str, wanted: str) -> InputError:
    """The error for a file that does not hold what it must."""
    return expected(path, received, wanted, f"delete it and run {_fetch_into(path.parent)}")


def _fetch_into(folder: Path) -> str:
    """The command that downloads into a folder what is missing there."""
    return f"`kerasbn data fetch --data-dir {shlex.quote(str(folder))}`"


def by(*axes: int) -> str:
    """A shape as one reads it aloud: 60,000 x 28 x 28."""
    return " x ".join(f"{axis:,}" for axis in axes)
