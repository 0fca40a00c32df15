"""MNIST from a public mirror into a folder: whole files with the right sums, or none.

A network that is not there may refuse a connection at once or never answer. So all mirrors are
tried at the same time first, for a few seconds, and only those that answer are asked for files.
"""

import gzip
import io
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kerasbn.data.idx import GZIP_MAGIC, IdxFile, find, parse, read_file
from kerasbn.errors import InputError
from kerasbn.files import atomic_write

if TYPE_CHECKING:
    from rich.progress import Progress

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
CONNECT_SECONDS = 3.0  # for the name, and for every address it has, together
STALL_SECONDS = 10.0  # without a single byte


class UnavailableError(InputError):
    """No mirror gave the digits."""


class MirrorError(Exception):
    """One mirror failed; the next may not."""


def fetch(
    folder: Path,
    files: tuple[IdxFile, ...],
    mirrors: tuple[str, ...] = MIRRORS,
    *,
    quiet: bool = False,
) -> list[Path]:
    """Download those of `files` that are not in `folder`, uncompressed; nothing is overwritten.

    Each file is checked before it is renamed into its place. Progress goes to standard error.

    Args:
        folder: where to; it is made if it does not exist.
        files: what to download, and what it must hold.
        mirrors: addresses, ending in a slash, under which `NAME.gz` lies, best first.
        quiet: whether to leave out the progress.

    Returns:
        The files that were added.

    Raises:
        UnavailableError: if no mirror gave a file.
        InputError: if a file in the folder does not hold what it must, or the folder cannot be
            written.
    """
    for file in files:
        if path := find(folder, file):
            read_file(path, file)
    missing = [file for file in files if not find(folder, file)]
    if not missing:
        return []
    failures = failing(mirrors, CONNECT_SECONDS)
    if len(failures) == len(mirrors):
        raise unavailable(failures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made ({error.strerror}); "
            "set KERASBN_DATA or --data-dir to a folder that may be written"
        ) from error
    added = []
    with progress(quiet) as start:
        for file in missing:
            content = from_any(mirrors, file, failures, start)
            with atomic_write(folder / file.name) as part:
                part.write_bytes(content)
            added.append(folder / file.name)
    return added


def from_any(
    mirrors: Iterable[str],
    file: IdxFile,
    failures: dict[str, str],
    start: Callable[[str], "_Bar | None"],
) -> bytes:
    """The checked, uncompressed content of `file` from the first mirror that gives it.

    A mirror that fails is added to `failures` with the reason, and not asked again.
    """
    for mirror in mirrors:
        if mirror not in failures:
            try:
                return from_mirror(mirror, file, start)
            except MirrorError as error:
                failures[mirror] = str(error)
    raise unavailable(failures)


def from_mirror(mirror: str, file: IdxFile, start: Callable[[str], "_Bar | None"]) -> bytes:
    """The checked, uncompressed content of `file` from one mirror.

    Raises:
        MirrorError: if it does not answer, stops halfway, or gives something else.
    """
    import pooch
    import requests

    url = f"{mirror}{file.name}.gz"
    received = _Bounded(file.size + (1 << 16))  # gzip adds a little to what it cannot shrink
    download = pooch.HTTPDownloader(
        progressbar=start(url), chunk_size=1 << 16, timeout=(CONNECT_SECONDS, STALL_SECONDS)
    )
    try:
        download(url, received, None)
        content = received.getvalue()
        # A server may unpack what it sends, so what came decides, not the name.
        if content.startswith(GZIP_MAGIC):
            with gzip.open(io.BytesIO(content)) as stream:
                content = stream.read(file.size + 1)
        parse(content, file, Path(f"{file.name}.gz"))
    except requests.Timeout as error:
        raise MirrorError(f"nothing came for {STALL_SECONDS:g} s") from error
    except requests.HTTPError as error:
        raise MirrorError(f"it answered {error}") from error
    except requests.RequestException as error:
        raise MirrorError("the connection broke or stalled") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MirrorError(f"it gave a damaged {file.name}.gz") from error
    except InputError as error:
        raise MirrorError(f"it gave another {file.name}.gz than MNIST's") from error
    return content


def failing(mirrors: Iterable[str], seconds: float) -> dict[str, str]:
    """The mirrors, of those given, that cannot be connected to within `seconds`, with the reason.

    All are tried at once. The time-out of a connection counts for one address, and a name may have
    sixteen, and looking a name up has no time-out at all; hence threads that can be left behind.
    """
    failures = dict.fromkeys(mirrors, f"no connection within {seconds:g} s")

    def connect(mirror: str) -> None:
        try:
            with socket.create_connection(_gate(mirror), timeout=seconds):
                failures.pop(mirror, None)
        except OSError as error:
            failures[mirror] = error.strerror or str(error)

    threads = [threading.Thread(target=connect, args=[m], daemon=True) for m in failures]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(failures)


def _gate(url: str) -> tuple[str, int]:
    """Host and port that a request for `url` connects to: a proxy's if the environment has one."""
    from requests.utils import get_environ_proxies, select_proxy

    parts = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


def unavailable(failures: dict[str, str]) -> UnavailableError:
    """The error that says what became of each mirror, and what to do."""
    told = "; ".join(f"{urlsplit(mirror).netloc}: {why}" for mirror, why in failures.items())
    return UnavailableError(
        f"MNIST: received nothing from its mirrors ({told}), expected its four files from one of "
        "them; give a folder that holds them with --data-dir, or use --dataset mnist-sample"
    )


class _Bounded(io.BytesIO):
    """Bytes in memory that refuse to grow beyond what was asked for."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: bytes) -> int:  # type: ignore[override] # pooch writes bytes only
        if self.tell() + len(data) > self.limit:
            raise MirrorError("it sent far more than the file has")
        return super().write(data)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], "_Bar | None"]]:
    """Give a function that shows a file's download on standard error, for pooch to move.

    On a terminal it starts a bar and returns it; elsewhere it prints a line and returns None.
    """
    if quiet:
        yield lambda _url: None
    elif not sys.stderr.isatty():
        yield lambda url: print(f"downloading {url}", file=sys.stderr)  # noqa: T201 - for a log
    else:
        from rich import progress as bars
        from rich.console import Console

        columns = (
            bars.TextColumn("{task.description:24}"),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=Console(stderr=True)) as shown:
            yield lambda url: _Bar(shown, url.rpartition("/")[2])


class _Bar:
    """A row of rich's progress in the form pooch moves (its "custom progress bar")."""

    def __init__(self, shown: "Progress", name: str) -> None:
        self.shown = shown
        self.row = shown.add_task(name, total=None)

    @property
    def total(self) -> float | None:
        """Bytes to come; pooch sets it once the server has said how many."""
        return self.shown.tasks[self.row].total

    @total.setter
    def total(self, size: int) -> None:
        self.shown.update(self.row, total=size or None)

    def update(self, size: int) -> None:
        """Move on by `size` bytes."""
        self.shown.update(self.row, advance=size)

    def reset(self) -> None:
        """Move back to the beginning; pooch does so before it fills the bar at the end."""
        self.shown.update(self.row, completed=0)

    def close(self) -> None:
        """Nothing: all bars end together."""
