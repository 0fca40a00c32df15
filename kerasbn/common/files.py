"""Files: they appear under their name only when complete, and are checked before they are read."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from kerasbn.common.errors import InputError, expected

MAX_UNPACKED, MAX_RATIO = 2**29, 20


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to `path` at the end of the block.

    The temporary file is in the same folder and has the same suffix, since many writers choose
    their format by it. If the block raises, it is removed and an existing file at `path` is left
    unchanged. If `path` is a symbolic link, the file that it points to is replaced.

    Raises:
        InputError: If the folder does not exist or is not writable, the disk is full, or `path` is
            a folder or a device.
    """
    path = Path(path)
    with describe_errors(path):
        target = path.resolve()
        if target.exists() and not target.is_file():
            found = "a folder" if target.is_dir() else "a device or pipe"
            raise expected(path, found, "the path of a file to write")
        temporary = _temporary_path(target)
        temporary.touch(exist_ok=False)
        if target.exists():
            shutil.copymode(target, temporary)
    try:
        with describe_errors(path, temporary):
            yield temporary
            temporary.replace(target)
    finally:
        with suppress(OSError):  # it is renamed already, or the error being raised says more
            temporary.unlink()


def check_archive(path: Path, what: str) -> None:
    """Raise `InputError` if a zip archive unpacks to so much that it could fill the memory.

    Weights and arrays hardly shrink, so no archive of them is `MAX_RATIO` times smaller.

    Raises:
        zipfile.BadZipFile: If the file is no archive, or a damaged one.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size):
        size = f"an archive that unpacks to {unpacked / 2**30:,.1f} GiB"
        most = f"{what} that unpacks to at most {MAX_RATIO} times its size"
        raise expected(path, size, most, "write it without compression")


def check_new_file(path: Path, suffix: str) -> None:
    """Raise `InputError` unless `path` can become a file ending in `suffix`."""
    if path.is_dir():
        raise expected(path, "a folder", f"a file ending in {suffix}")
    if path.suffix != suffix:
        found = f"a file ending in '{path.suffix}'" if path.suffix else "a file without an ending"
        raise expected(path, found, f"one ending in {suffix}")
    if not path.parent.is_dir():
        raise expected(path, "a folder that does not exist", "an existing one", "make it first")


def _temporary_path(target: Path) -> Path:
    """Return an unused hidden path in the same folder, with the same suffix."""
    return target.with_name(f".{target.stem[:40]}.{uuid4().hex[:12]}.part{target.suffix}")


@contextmanager
def describe_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn an `OSError` from writing into an `InputError` about `path`.

    With `temporary`, the block is the caller's and may fail for other reasons than writing there.
    Errors about other files or about a connection pass unchanged.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        named = error.filename if isinstance(error.filename, str | os.PathLike) else None
        if temporary and named and not Path(named).resolve().is_relative_to(temporary.resolve()):
            raise
        reason = " ".join((error.strerror or str(error)).split())  # HDF5's have several lines
        raise InputError(
            f"{path}: cannot be written ({reason}); "
            "choose an existing, writable folder with enough disk space"
        ) from error
