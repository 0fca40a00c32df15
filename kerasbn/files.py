"""Files that are whole or not there: written beside their place, then renamed into it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EEXIST, ENOTEMPTY
from itertools import count
from pathlib import Path
from uuid import uuid4

from kerasbn.errors import InputError, expected


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place at the end.

    The temporary name keeps the suffix, since many writers choose their format by it. If the block
    raises, nothing is left behind and what stood at `path` still stands. A link stays a link, and
    what it points to is replaced.

    Raises:
        InputError: if the folder is missing or cannot be written, the disk is full, or `path` is a
            folder or a device.
    """
    path = Path(path)
    with _in_words(path):
        place = path.resolve()
        if place.exists() and not place.is_file():
            found = "a folder" if place.is_dir() else "a device or pipe"
            raise expected(path, found, "the path of a file to write")
        temporary = _beside(place)
        temporary.touch(exist_ok=False)
        if place.exists():
            shutil.copymode(place, temporary)
    try:
        with _in_words(path, temporary):
            yield temporary
            temporary.replace(place)
    finally:
        with suppress(OSError):  # it has its new name, or the error on its way says more
            temporary.unlink()


class NewFolder:
    """A folder being written: `path` while it is, and `placed` once it stands in its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.placed: Path | None = None


@contextmanager
def new_folder(
    parent: Path, name: str, *, numbered: bool = False, replace: bool = False
) -> Iterator[NewFolder]:
    """Give a temporary folder in `parent`, renamed to `parent/name` at the end of the block.

    If the block raises, the temporary folder is removed and whatever stood there still stands.

    Args:
        parent: the folder to make it in; made if missing.
        name: what it is to be called.
        numbered: whether a taken name gives `name-2`, `name-3` and so on.
        replace: whether a folder that has the name gives way.

    Raises:
        InputError: if the name is taken and neither is wanted, or it cannot be written.
    """
    place = parent / name
    with _in_words(place):
        parent.mkdir(parents=True, exist_ok=True)
        folder = NewFolder(_beside(place))
        folder.path.mkdir()
    try:
        with _in_words(place, folder.path):
            yield folder
        with _in_words(place):
            swapped = replace and _swap(folder.path, place)
            folder.placed = place if swapped else _first_free(folder.path, place, numbered)
    except InputError as error:  # about a file in it: nobody knows the folder's temporary name
        raise type(error)(str(error).replace(str(folder.path), str(place))) from error
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def _swap(folder: Path, place: Path) -> bool:
    """Rename `folder` to `place`, whose folder gives way; false if there is none."""
    if not place.is_dir():
        return False
    aside = _beside(place)
    place.rename(aside)
    try:
        folder.rename(place)
    except BaseException:
        aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _first_free(folder: Path, place: Path, numbered: bool) -> Path:
    """Rename `folder` to `place` or, if numbers are allowed, to the first that is free."""
    for number in count(1):
        free = place if number == 1 else place.with_name(f"{place.name}-{number}")
        if not free.exists():  # a rename alone would silently take an empty folder's place
            try:
                return folder.rename(free)
            except OSError as error:
                if error.errno not in (EEXIST, ENOTEMPTY):  # another took the name just now
                    raise
        if not numbered:
            break
    raise FileExistsError(EEXIST, "it exists already", str(place))


def _beside(place: Path) -> Path:
    """A name nobody has, in the same folder, hidden and with the same suffix."""
    return place.with_name(f".{place.stem[:40]}.{uuid4().hex[:12]}.part{place.suffix}")


@contextmanager
def _in_words(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn what the file system refuses into one line about `path`.

    With `temporary`, the block is the caller's, who may fail at something else than writing there:
    an error that names another file, or is a connection's, passes as it is.
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
            "choose a folder that exists, may be written and has space left"
        ) from error
