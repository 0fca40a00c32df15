"""Atomic writing: a file or folder appears under its name only when it is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EEXIST, ENOTEMPTY
from itertools import count
from pathlib import Path
from uuid import uuid4

from kerasbn.common.errors import InputError, expected


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
    with _describe_errors(path):
        target = path.resolve()
        if target.exists() and not target.is_file():
            found = "a folder" if target.is_dir() else "a device or pipe"
            raise expected(path, found, "the path of a file to write")
        temporary = _temporary_path(target)
        temporary.touch(exist_ok=False)
        if target.exists():
            shutil.copymode(target, temporary)
    try:
        with _describe_errors(path, temporary):
            yield temporary
            temporary.replace(target)
    finally:
        with suppress(OSError):  # it is renamed already, or the error being raised says more
            temporary.unlink()


def check_new_file(path: Path, suffix: str) -> None:
    """Raise `InputError` unless `path` can become a file ending in `suffix`."""
    if path.is_dir():
        raise expected(path, "a folder", f"a file ending in {suffix}")
    if path.suffix != suffix:
        found = f"a file ending in '{path.suffix}'" if path.suffix else "a file without an ending"
        raise expected(path, found, f"one ending in {suffix}")
    if not path.parent.is_dir():
        raise expected(path, "a folder that does not exist", "an existing one", "make it first")


@dataclass
class NewFolder:
    """A folder being written to `path`; once complete, it is at `placed`."""

    path: Path
    placed: Path | None = None


@contextmanager
def new_folder(
    parent: Path, name: str, *, numbered: bool = False, replace: bool = False
) -> Iterator[NewFolder]:
    """Yield a temporary folder in `parent`, which is renamed to `name` at the end of the block.

    `parent` is created if missing. If the name is taken, `replace` replaces a folder, and
    `numbered` uses `name-2`, `name-3` and so on. If the block raises, the temporary folder is
    removed and an existing one is left unchanged.

    Raises:
        InputError: If the name is taken and neither option is set, or the folder cannot be written.
    """
    target = parent / name
    with _describe_errors(target):
        parent.mkdir(parents=True, exist_ok=True)
        folder = NewFolder(_temporary_path(target))
        folder.path.mkdir()
    try:
        with _describe_errors(target, folder.path):
            yield folder
        with _describe_errors(target):
            if replace and target.is_dir():
                folder.placed = _replace_folder(folder.path, target)
            else:
                folder.placed = _rename_to_free_name(folder.path, target, numbered)
    except InputError as error:  # users should not see the temporary name of the folder
        error.args = (str(error).replace(str(folder.path), str(target)),)
        raise
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def _replace_folder(folder: Path, target: Path) -> Path:
    old = target.rename(_temporary_path(target))
    try:
        folder.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return target


def _rename_to_free_name(folder: Path, target: Path, numbered: bool) -> Path:
    for number in count(1) if numbered else (1,):
        path = target if number == 1 else target.with_name(f"{target.name}-{number}")
        if path.exists():  # rename would silently replace an empty folder
            continue
        try:
            return folder.rename(path)
        except OSError as error:
            if error.errno not in (EEXIST, ENOTEMPTY):  # another process just took the name
                raise
    raise FileExistsError(EEXIST, "it exists already", str(target))


def _temporary_path(target: Path) -> Path:
    """Return an unused hidden path in the same folder, with the same suffix."""
    return target.with_name(f".{target.stem[:40]}.{uuid4().hex[:12]}.part{target.suffix}")


@contextmanager
def _describe_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
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
