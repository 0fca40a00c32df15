"""Read and validate IDX files, the format of MNIST.

Format: http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT". Four bytes of magic number (two
zeros, type 8 for unsigned bytes, number of axes), four bytes per axis, then the data.
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

from kerasbn.common.errors import InputError, expected
from kerasbn.common.files import check_file

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class IdxFile:
    """What one IDX file has to contain.

    `name` is without `.gz`; `sha256` is that of the uncompressed file, header included; `gzip_size`
    and `gzip_sha256` are those of the gzipped file that the mirrors serve.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    gzip_size: int
    gzip_sha256: str

    @property
    def header(self) -> bytes:
        """The first bytes: magic number and axes."""
        return b"".join(n.to_bytes(4, "big") for n in (0x0800 + len(self.shape), *self.shape))

    @property
    def size(self) -> int:
        """Size of the uncompressed file in bytes."""
        return len(self.header) + prod(self.shape)


# Training images and labels, then test images and labels.
MNIST = (
    IdxFile(
        "train-images-idx3-ubyte", (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    IdxFile(
        "train-labels-idx1-ubyte", (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte", (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte", (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)  # fmt: skip


def find_file(folder: Path, file: IdxFile) -> Path | None:
    """Return the path of `file` in `folder`, uncompressed or gzipped, or None if it is missing."""
    candidates = (folder / file.name, folder / f"{file.name}.gz")
    # Path.exists raises in a folder without search permission; os.path.exists returns False.
    return next((path for path in candidates if os.path.exists(path)), None)  # noqa: PTH110


def read_folder(folder: Path, files: tuple[IdxFile, ...]) -> list[Bytes]:
    """Read the arrays of `files` from a folder; raise `InputError` if one is missing or invalid."""
    require_folder(folder)
    paths = [find_file(folder, file) for file in files]
    missing = [file.name for file, path in zip(files, paths, strict=True) if path is None]
    if missing:
        raise expected(
            folder, f"a folder without {', '.join(missing)}", "MNIST's four files, gzipped or not",
            f"{_fetch_command(folder)} downloads what is missing",
        )  # fmt: skip
    return [read_file(path, file) for path, file in zip(paths, files, strict=True) if path]


def require_folder(folder: Path) -> None:
    """Raise `InputError` if a data folder is missing, unreadable or not a folder."""
    try:
        os.listdir(folder)  # noqa: PTH208 - iterdir is lazy and would raise only when used
    except OSError as error:
        found = {FileNotFoundError: "a path that does not exist", NotADirectoryError: "a file"}
        raise expected(
            folder, found.get(type(error), f"a folder that cannot be read ({error.strerror})"),
            "the folder with MNIST's four files",
            "correct it, or leave it out to search the default locations",
        ) from error  # fmt: skip


def read_file(path: Path, file: IdxFile) -> Bytes:
    """Read and validate an IDX file. Returns a read-only array of shape `file.shape`.

    The checksum is compared last, since every other check gives a more specific message.
    """
    check_file(path, "a file of MNIST", "correct it or give another folder")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            # One byte more reveals a file that is too long without reading all of it.
            content = stream.read(file.size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"a damaged file ({error})", "an intact gzip file") from error
    if content[: len(file.header)] != file.header:
        raise _damaged(path, _header_text(content), _header_text(file.header))
    if len(content) != file.size:
        found = f"only {len(content):,}" if len(content) < file.size else "more"
        raise _damaged(path, f"{found} bytes", f"{file.size:,}")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        found = f"a file other than MNIST's (SHA-256 {sha256[:12]}...)"
        raise _damaged(path, found, f"SHA-256 {file.sha256[:12]}...")
    return np.frombuffer(content, np.uint8, offset=len(file.header)).reshape(file.shape)


def _damaged(path: Path, received: str, wanted: str) -> InputError:
    """Return the error for a file with invalid content."""
    return expected(path, received, wanted, f"delete it and run {_fetch_command(path.parent)}")


def _fetch_command(folder: Path) -> str:
    """Return the command that downloads the missing files into `folder`."""
    return f"`kerasbn data fetch --data-dir {shlex.quote(str(folder))}`"


def _header_text(content: bytes) -> str:
    """Return what the header of an IDX file says: `images of shape 60,000 x 28 x 28`."""
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    if axes not in (1, 3) or len(content) < 4 + 4 * axes:
        return f"a file that begins with {content[:4].hex() or 'nothing'}"
    shape = " x ".join(f"{n:,}" for n in np.frombuffer(content, ">u4", axes, 4))
    return f"{'labels' if axes == 1 else 'images'} of shape {shape}"
