"""Folders that appear under their name only when they are complete.

Until then a folder is called ``.NAME.part`` and is locked, so that its name is taken from the
start. The lock ends with its process. A folder that a killed process leaves behind is unfinished:
if it holds a checkpoint it can be resumed, otherwise the next process that needs the name clears
it.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EEXIST, ENOTEMPTY
from itertools import count
from pathlib import Path

from kerasbn.common.errors import InputError, KerasbnError, StoppedError, expected
from kerasbn.common.files import (
    Uninterrupted,
    atomic_write,
    describe_errors,
    open_locked,
    try_lock,
)

CHECKPOINT = "checkpoint"  # the folder inside an unfinished folder that it is resumed from
SESSION = "session.json"  # the file in there that comes first and goes last

_IS_MAC = sys.platform == "darwin"
_EXCHANGING_CALL, _AT_FDCWD = ("renameatx_np", -2) if _IS_MAC else ("renameat2", -100)
_EXCHANGE = 2  # the flag of both


@dataclass
class NewFolder:
    """A folder being written.

    Attributes:
        path: Where it is written.
        placed: Where it is once it is complete; None before.
        complete: Whether it is worth keeping even if what comes next fails; set by its writer.
        cleared: Whether something unfinished was removed that had its name.
        replaced: Whether `path` now holds what had the name before.
    """

    path: Path
    placed: Path | None = None
    complete: bool = False
    cleared: bool = False
    replaced: bool = False

    @property
    def name(self) -> str:
        """Its name once it is complete."""
        return final_name(self.path)


@contextmanager
def new_folder(
    parent: Path,
    name: str,
    *,
    numbered: bool = False,
    replace: bool = False,
    start: Path | None = None,
) -> Iterator[NewFolder]:
    """Yield a folder to write to, which gets its name in `parent` at the end of the block.

    `parent` is created if missing. If the name is taken, `replace` replaces a folder, and
    `numbered` uses `name-2`, `name-3` and so on. `start` is an unfinished or interrupted folder to
    begin with.

    If the block raises, an existing folder is left unchanged. What was written is kept under a free
    name if it is complete, as an unfinished folder if it holds a checkpoint, and is removed
    otherwise.

    Raises:
        InputError: If the name is taken and neither option is set, another process is writing it,
            or the folder cannot be written.
    """
    target = parent / name
    with Uninterrupted() as uninterrupted:
        with describe_errors(target):
            target, lock = _reserve(parent, name, numbered=numbered, replace=replace, start=start)
        folder = NewFolder(_part(target))
        try:
            with describe_errors(target):
                folder.cleared = _prepare(folder.path, start)
            with describe_errors(target, folder.path), uninterrupted.interruptible():
                yield folder
            with describe_errors(target):
                _place(folder, target, replace=replace or start is not None)
            if folder.placed != target and not numbered:
                kept = f"it is kept as {folder.placed}"
                raise expected(target, "a name that was taken in the meantime", "a free one", kept)
        except BaseException as error:
            if isinstance(error, InputError):  # users should not see its temporary name
                error.args = (str(error).replace(str(folder.path), str(target)),)
            if folder.complete and not folder.placed:
                _place(folder, target, replace=replace or start is not None)
                _add(error, f"what was finished is kept as {folder.placed}")
            elif not folder.placed and is_resumable(folder.path):
                _add(error, f"resume with --resume {folder.name}")
            raise
        finally:
            if folder.replaced or (not folder.placed and not is_resumable(folder.path)):
                shutil.rmtree(folder.path, ignore_errors=True)
            os.close(lock)


def final_name(part: Path) -> str:
    """Return the name that an unfinished folder will have; that of another folder is its own."""
    return (
        part.name.removeprefix(".").removesuffix(".part") if part.suffix == ".part" else part.name
    )


def resumable_folder(target: Path) -> Path | None:
    """Return the unfinished or interrupted folder that `target` can be resumed from, if any."""
    return next(filter(is_resumable, (_part(target), target)), None)


def is_resumable(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint."""
    return (folder / CHECKPOINT / SESSION).is_file()


def is_being_written(target: Path) -> bool:
    """Return whether a living process is writing the folder `target`."""
    try:
        looking = os.open(_part(target), os.O_RDONLY | os.O_NONBLOCK)  # even a pipe opens at once
    except FileNotFoundError:
        return False
    try:
        return not try_lock(looking, shared=True)
    finally:
        os.close(looking)


def problem_with(target: Path, *, replace: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a name for a new folder, and what to do about it, if anything."""
    if is_being_written(target):
        return f"a name that another process is writing ({target})", "wait for it to end"
    if target.exists() and not replace:
        return f"a name that is taken ({target})", "add --force to replace it"
    if is_resumable(_part(target)) and not replace:
        found = f"a name that has an unfinished training ({target})"
        return found, f"resume with --resume {target.name}, or add --force to start again"
    return None


def _reserve(
    parent: Path, name: str, *, numbered: bool, replace: bool, start: Path | None
) -> tuple[Path, int]:
    """Lock the first free name; return its path and the lock."""
    parent.mkdir(parents=True, exist_ok=True)
    replace = replace or start is not None
    for target in _names(parent / name, numbered):
        problem = problem_with(target, replace=replace)
        lock = None if problem else open_locked(_part(target), _open_folder)
        if lock is not None:
            return target, lock
        if not numbered:
            found, advice = problem or (f"a name that another process is writing ({target})", "")
            raise expected(target, found, "a new name", advice)
    raise AssertionError("there is always another number")


def _prepare(part: Path, start: Path | None) -> bool:
    """Fill a locked folder with what it starts from; return whether something was removed."""
    if part == start:
        return False
    old = list(part.iterdir())
    for path in old:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if start is not None:
        # Only the last file makes the copy one to resume from, whenever this process is killed.
        shutil.copytree(start, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SESSION))
        with atomic_write(part / CHECKPOINT / SESSION) as session:
            shutil.copyfile(start / CHECKPOINT / SESSION, session)
    return bool(old)


def _place(folder: NewFolder, target: Path, *, replace: bool) -> None:
    """Give a complete folder its name, or the next free one."""
    if replace and target.is_dir():
        _exchange(folder.path, target)
        folder.placed, folder.replaced = target, True
        return
    for path in _names(target, numbered=True):
        if path.exists():  # rename would silently replace an empty folder
            continue
        try:
            folder.path.rename(path)
            folder.placed = path
        except OSError as error:
            if error.errno not in (EEXIST, ENOTEMPTY):  # another process just took the name
                raise
            continue
        return
    raise AssertionError("there is always another number")


def _exchange(first: Path, second: Path) -> None:
    """Exchange the names of two folders: at once if the system can, so that both always exist."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    call = getattr(libc, _EXCHANGING_CALL, None)
    if call and call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0:
        return
    old = second.rename(first.with_name(f"{first.name}.old"))
    try:
        first.rename(second)
    except BaseException:
        old.rename(second)
        raise
    old.rename(first)


def _add(error: BaseException, words: str) -> None:
    """Add to an error what was kept."""
    if isinstance(error, KeyboardInterrupt):
        raise StoppedError(f"stopped; {words}") from error
    if isinstance(error, KerasbnError):
        error.args = (f"{error}; {words}",)
    else:
        error.add_note(words)


def _names(target: Path, numbered: bool) -> Iterable[Path]:
    """Yield `target` and, if `numbered`, `target-2`, `target-3` and so on."""
    for number in count(1) if numbered else (1,):
        yield target if number == 1 else target.with_name(f"{target.name}-{number}")


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _open_folder(folder: Path) -> int:
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # its writer just gave it its name
            return os.open(folder, os.O_RDONLY)
