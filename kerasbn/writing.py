"""Files that are whole or not there: written beside their place, then renamed into it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EEXIST
from pathlib import Path

from kerasbn.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place at the end.

    The temporary name keeps the suffix, since many writers choose their format by it. If the block
    raises, nothing is left behind and what stood at `path` still stands.

    Raises:
        InputError: if the folder is missing or cannot be written, or the disk is full.
    """
    path = Path(path)
    with _in_words(path):
        handle, name = tempfile.mkstemp(prefix=".", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
        # mkstemp makes files private; a result is as readable as any other file of its folder.
        Path(name).chmod(0o666 & ~_umask())
    temporary = Path(name)
    try:
        with _in_words(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    with _in_words(parent / name):
        parent.mkdir(parents=True, exist_ok=True)
        folder = NewFolder(Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=parent)))
        folder.path.chmod(0o777 & ~_umask())
    try:
        with _in_words(parent / name):
            yield folder
            folder.placed = _place(folder.path, parent, name, numbered, replace)
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def _place(folder: Path, parent: Path, name: str, numbered: bool, replace: bool) -> Path:
    """Rename `folder` to the first free name, or to the given one; the path it now has."""
    place = parent / name
    if replace and place.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".old", dir=parent))
        place.replace(aside / name)
        folder.replace(place)
        shutil.rmtree(aside, ignore_errors=True)
        return place
    number = 1
    while place.exists():  # rename(2) alone would silently replace an empty folder
        if not numbered:
            raise FileExistsError(EEXIST, "it exists already", str(place))
        number += 1
        place = parent / f"{name}-{number}"
    folder.replace(place)
    return place


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line about `path`.

    The block may also fail to read something elsewhere: an error that names a file outside the
    folder of `path` passes as it is.
    """
    try:
        yield
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else None
        if named and not Path(named).absolute().is_relative_to(path.parent.absolute()):
            raise
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "choose a folder that exists, may be written and has space left"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
