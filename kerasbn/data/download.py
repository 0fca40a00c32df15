"""Download MNIST from a public mirror with `pooch`: complete files with the right hash, or none.

Time-outs start only after the host name is resolved and count for each address. So without a
network, pooch could hang for minutes: `unreachable` finds the dead mirrors within a few seconds.
"""

import gzip
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kerasbn.common.errors import InputError
from kerasbn.common.files import atomic_write, scratch_folder
from kerasbn.data.idx import IdxFile, find_file, read_file

if TYPE_CHECKING:
    from rich.progress import Progress

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_CONNECT_SECONDS = 3.0  # to resolve the name and connect, over all addresses
STALL_SECONDS = 10.0  # without receiving a byte


class UnavailableError(InputError):
    """No mirror delivered the files."""


class _MirrorError(Exception):
    """One mirror failed; the next may work."""


def download_files(
    folder: Path, files: tuple[IdxFile, ...], mirrors: tuple[str, ...], *, quiet: bool = False
) -> list[Path]:
    """Download those of `files` that `folder` lacks, store them uncompressed, and return them.

    Existing files are validated and never overwritten. Each new file is moved into place once its
    hash is verified, so an interrupted download can simply be started again. The mirrors are base
    URLs, ending in a slash, that serve `NAME.gz`; they are tried in this order.

    Raises:
        UnavailableError: If no mirror delivered a file.
        InputError: If an existing file is invalid or the folder is not writable.
    """
    for file in files:
        if path := find_file(folder, file):
            read_file(path, file)
    missing = [file for file in files if not find_file(folder, file)]
    if not missing:
        return []
    failures = unreachable(mirrors, _CONNECT_SECONDS)
    if len(failures) == len(mirrors):
        raise _unavailable(failures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be created ({error.strerror}); "
            "set KERASBN_DATA or --data-dir to a writable folder"
        ) from error
    from rich import progress

    from kerasbn.common.terminal import progress_terminal

    console = progress_terminal(quiet=quiet)
    columns = ("{task.description}", progress.BarColumn(bar_width=None), progress.DownloadColumn())
    bars = progress.Progress(*columns, console=console)
    with bars if bars.console.is_terminal else nullcontext():
        return [_download(folder, file, mirrors, failures, bars) for file in missing]


def _download(
    folder: Path, file: IdxFile, mirrors: Iterable[str], failures: dict[str, str], bars: "Progress"
) -> Path:
    """Download one file from the first mirror that delivers it; add those that fail to `failures`.

    Without a terminal, a line per file replaces the progress bars.
    """
    path, name = folder / file.name, f"{file.name}.gz"
    for mirror in [mirror for mirror in mirrors if mirror not in failures]:
        if not bars.console.is_terminal:
            bars.console.print(f"downloading {mirror}{name}")
        task = bars.add_task(file.name.partition("-idx")[0], total=file.gzip_size)
        advance = partial(bars.advance, task)
        try:
            with (
                atomic_write(path) as part,
                scratch_folder() as scratch,
                gzip.open(_retrieve(f"{mirror}{name}", file, scratch, advance)) as source,
                part.open("wb") as to,
            ):
                shutil.copyfileobj(source, to)
        except _MirrorError as error:
            failures[mirror] = str(error)
        else:
            return path
    raise _unavailable(failures)


def _retrieve(url: str, file: IdxFile, scratch: Path, advance: Callable[[int], None]) -> Path:
    """Download a gzipped file into the folder `scratch`, and verify its hash.

    Raises:
        _MirrorError: If the server does not answer, stops halfway, or sends a different file.
    """
    import pooch
    import requests

    def download(url: str, output: str, _: object) -> None:
        answer = requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, STALL_SECONDS))
        with answer, Path(output).open("wb") as to:
            answer.raise_for_status()
            for block in answer.iter_content(1 << 16):
                if to.tell() + len(block) > file.gzip_size:
                    raise _MirrorError("it sent more data than the file has")
                to.write(block)
                advance(len(block))

    logger = pooch.get_logger()
    level, name = logger.level, f"{file.name}.gz"
    logger.setLevel(logging.WARNING)  # it would print every step to standard error
    try:
        path = pooch.retrieve(url, file.gzip_sha256, name, scratch, downloader=download)
    except requests.Timeout as error:
        raise _MirrorError(f"no data for {STALL_SECONDS:g} s") from error
    except requests.HTTPError as error:
        raise _MirrorError(f"it answered {error}") from error
    except requests.RequestException as error:
        raise _MirrorError("the connection broke or stalled") from error
    except ValueError as error:  # pooch's error for a wrong hash
        raise _MirrorError(f"its {name} differs from MNIST's") from error
    finally:
        logger.setLevel(level)
    return Path(path)


def unreachable(mirrors: Iterable[str], seconds: float) -> dict[str, str]:
    """Return the mirrors that accept no connection within `seconds`, with the reasons.

    All are tried at once, in daemon threads that can be abandoned: resolving a name has no
    time-out, and a connection's time-out applies to each of up to sixteen addresses.
    """
    failures = dict.fromkeys(mirrors, f"no connection within {seconds:g} s")

    def connect(mirror: str) -> None:
        try:
            with socket.create_connection(_address(mirror), timeout=seconds):
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


def _address(url: str) -> tuple[str, int]:
    """Return the host and port to connect to for `url`: the proxy's if one is configured."""
    from requests.utils import get_environ_proxies, select_proxy

    parts = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


def _unavailable(failures: dict[str, str]) -> UnavailableError:
    """Return the error that names each mirror's failure and the alternatives."""
    reasons = "; ".join(f"{urlsplit(mirror).netloc}: {why}" for mirror, why in failures.items())
    return UnavailableError(
        f"MNIST: received nothing from its mirrors ({reasons}), expected its four files from one "
        "of them; give a folder that contains them with --data-dir, or use --dataset mnist-sample"
    )
