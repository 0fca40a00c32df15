"""Files: they appear under their name only when complete, and are checked before they are read."""

import fcntl
import os
import shutil
import signal
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Self
from uuid import uuid4

from kerasbn.common.errors import InputError, expected

MAX_UNPACKED, MAX_RATIO = 2**29, 20


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to `path` at the end of the block.

    The temporary file is in the same folder and has the same suffix, since many writers choose
    their format by it. If the block raises, it is removed and an existing file at `path` is left
    unchanged. If `path` is a symbolic link, the file that it points to is replaced. What killed
    processes left of the same file is removed.

    Raises:
        InputError: If the folder does not exist or is not writable, the disk is full, or `path` is
            a folder or a device.
    """
    path = Path(path)
    with Uninterrupted() as uninterrupted:
        with describe_errors(path):
            target = path.resolve()
            if target.exists() and not target.is_file():
                raise expected(path, _kind(target.stat()), "the path of a file to write")
            temporary, lock = _temporary_file(target)
            if target.exists():
                shutil.copymode(target, temporary)
        try:
            with describe_errors(path, temporary):
                with uninterrupted.interruptible():
                    yield temporary
                temporary.replace(target)
        except BaseException:  # once it is renamed, its name may be another writer's
            with suppress(OSError):  # the error being raised says more
                temporary.unlink()
            raise
        finally:
            os.close(lock)


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder, which is removed at the end of the block."""
    with (
        Uninterrupted() as uninterrupted,
        TemporaryDirectory(prefix="kerasbn-", dir=parent, ignore_cleanup_errors=True) as name,
        uninterrupted.interruptible(),
    ):
        yield Path(name)


class Uninterrupted:
    """Puts off Ctrl-C until the end of its block, so that what is created there is also removed.

    Only the blocks of `interruptible` within can be interrupted. On the command line, SIGTERM
    becomes Ctrl-C and is put off as well.
    """

    def __init__(self) -> None:
        self._previous: Any = None  # the handler while signals are put off
        self._received = False

    def __enter__(self) -> Self:
        self._put_off()
        return self

    def __exit__(self, *_: object) -> None:
        self._deliver()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C interrupt the block, at once if it came before."""
        self._deliver()
        try:
            yield
        finally:
            self._put_off()

    def _put_off(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()  # no other is interrupted
        if is_main and signal.getsignal(signal.SIGINT) is not None:  # None could not be restored
            self._previous = signal.signal(signal.SIGINT, self._note)

    def _deliver(self) -> None:
        if self._previous is None:
            return
        signal.signal(signal.SIGINT, self._previous)
        self._previous = None
        if self._received:
            self._received = False
            signal.raise_signal(signal.SIGINT)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self._received = True


def check_file(path: Path, what: str, advice: str = "") -> None:
    """Raise `InputError` unless `path` is a regular file that can be read.

    A pipe or a device is not even opened, since that could wait forever.
    """
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                file.read(1)
                return
        found = _kind(status)
    except FileNotFoundError:
        found = "no such file"
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        found = f"a file that cannot be read ({reason})"
    raise expected(path, found, what, advice)


def read_file(path: Path, max_bytes: int, what: str, advice: str = "") -> bytes:
    """Read a regular file of at most `max_bytes`; raise `InputError` for any other."""
    check_file(path, what, advice)
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        most = f"{what} of at most {max_bytes / 2**20:,.0f} MiB"
        raise expected(path, "a file that is too large", most, advice)
    return content


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


def check_new_file(path: Path, *suffixes: str) -> None:
    """Raise `InputError` unless `path` can become a file ending in one of `suffixes`."""
    suffix = " or ".join(suffixes)
    if path.exists() and not path.is_file():
        raise expected(path, _kind(path.stat()), f"a file ending in {suffix}")
    if path.suffix not in suffixes:
        found = f"a file ending in '{path.suffix}'" if path.suffix else "a file without an ending"
        raise expected(path, found, f"one ending in {suffix}")
    if not path.parent.is_dir():
        raise expected(path, "a folder that does not exist", "an existing one", "make it first")


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed; return False if another process has it.

    A `shared` lock is for looking only: it excludes none of its kind.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def open_locked(path: Path, opener: Callable[[Path], int]) -> int | None:
    """Open what will be renamed once it is complete, and lock it; None if it is locked already.

    `opener` opens `path`, and creates it if it is missing.
    """
    while True:
        descriptor = opener(path)
        if not try_lock(descriptor):
            os.close(descriptor)
            return None
        with suppress(FileNotFoundError):  # its writer renamed it before it was locked here
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _kind(status: os.stat_result) -> str:
    """Return what a path is that is no regular file."""
    return "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"


def _temporary_file(target: Path) -> tuple[Path, int]:
    """Create a hidden file in the same folder, with the same suffix; return it and its lock.

    Its name is always the same, so that what a killed process left is found and removed. Only while
    another process writes the same file is there a second one.
    """
    name, suffix = f".{target.stem[:40]}", f".new{target.suffix}"
    temporary = target.with_name(f"{name}{suffix}")
    with suppress(PermissionError):  # left by another user
        while (lock := open_locked(temporary, _open_file)) is not None:
            if os.fstat(lock).st_size == 0:
                return temporary, lock
            temporary.unlink()
            os.close(lock)
    temporary = target.with_name(f"{name}.{uuid4().hex[:12]}{suffix}")
    return temporary, os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)


def _open_file(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)


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
        two = (error.filename, error.filename2)  # as of a copy, whose source is elsewhere
        named = [Path(each).resolve() for each in two if isinstance(each, str | os.PathLike)]
        own = temporary.resolve() if temporary else None
        if own and named and not any(each.is_relative_to(own) for each in named):
            raise
        reason = " ".join((error.strerror or str(error)).split())  # HDF5's have several lines
        raise InputError(
            f"{path}: cannot be written ({reason}); "
            "choose an existing, writable folder with enough disk space"
        ) from error
