import gzip
import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from sample_mirror import Answer, send

from kerasbn.common.errors import InputError
from kerasbn.data import download
from kerasbn.data.download import UnavailableError, download_files, unreachable
from kerasbn.data.idx import IdxFile, read_folder

Mirror = Callable[[Answer], str]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder"


@pytest.fixture
def refusing() -> str:
    """The address of a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a port that accepts no more connections; an attempt gets no answer."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with socket.create_connection(listening.getsockname()):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def truncated(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content[: len(content) // 2], len(content))


def truncated_without_notice(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content[: len(content) // 2])


def altered_inside(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    pixels = bytearray(gzip.decompress(content))
    pixels[-1] ^= 1
    send(handler, gzip.compress(bytes(pixels)))


def altered_outside(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])


def decompressed(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, gzip.decompress(content))


def login_page(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, b"<html>Welcome to the hotel</html>")


def empty(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, b"")


def not_found(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_error(404)


def unavailable(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_error(503)


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))  # until the client hangs up


def decompression_bomb(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, gzip.compress(gzip.decompress(content) + bytes(1_000_000)))


def stalls_at_once(_: BaseHTTPRequestHandler, __: bytes) -> None:
    time.sleep(0.6)


def stalls_halfway(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    truncated(handler, content)
    handler.wfile.flush()
    time.sleep(0.6)


def hangs_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True


BAD = {
    truncated: "the connection broke",
    truncated_without_notice: "differs from MNIST's",
    altered_inside: "differs from MNIST's",
    altered_outside: "differs from MNIST's",
    decompressed: "differs from MNIST's",
    login_page: "its train-images-idx3-ubyte.gz differs from MNIST's",
    empty: "differs from MNIST's",
    not_found: "404",
    unavailable: "503",
    endless: "more data than the file has",
    decompression_bomb: "more data than the file has",
    stalls_at_once: "no data for 0.3 s",
    stalls_halfway: "the connection broke or stalled",
    hangs_up: "the connection broke",
}


@pytest.fixture(autouse=True)
def _short_time_outs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_mirror_delivers_the_files(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], mnist_folder: Path, target: Path
) -> None:
    added = download_files(target, idx_files, (mirror(whole),))
    assert [path.name for path in added] == [file.name for file in idx_files]
    assert names(target) == {file.name for file in idx_files}
    for path, file in zip(added, idx_files, strict=True):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    for downloaded, original in zip(
        read_folder(target, idx_files), read_folder(mnist_folder, idx_files), strict=True
    ):
        assert downloaded.tobytes() == original.tobytes()


@pytest.mark.parametrize("bad", BAD, ids=lambda answer: answer.__name__)
def test_a_bad_mirror_leaves_nothing_and_the_next_takes_over(
    bad: Answer, mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    bad_mirror = mirror(bad)
    with pytest.raises(UnavailableError, match=BAD[bad]) as caught:
        download_files(target, idx_files, (bad_mirror,))
    assert "\n" not in str(caught.value)
    assert not names(target)

    download_files(target, idx_files, (bad_mirror, mirror(whole)))
    read_folder(target, idx_files)
    assert names(target) == {file.name for file in idx_files}


def test_a_mirror_that_refuses_connections_is_skipped(
    refusing: str, mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    assert len(download_files(target, idx_files, (refusing, mirror(whole)))) == 4


def test_no_mirror_answers(
    refusing: str,
    silent: str,
    idx_files: tuple[IdxFile, ...],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(UnavailableError) as caught:
        download_files(target, idx_files, (refusing, silent, "http://no-such-host.invalid/"))
    line = str(caught.value)
    assert "refused" in line
    assert "no-such-host.invalid" in line
    assert "--data-dir" in line
    assert "mnist-sample" in line
    assert not target.exists()


def test_all_mirrors_together_take_no_longer_than_one(silent: str) -> None:
    started = time.monotonic()
    found = unreachable((silent, silent + "again/", silent + "and-again/"), 0.3)
    assert 0.25 < time.monotonic() - started < 0.8
    assert set(found.values()) <= {"no connection within 0.3 s", "timed out"}
    assert len(found) == 3


def test_resolving_a_name_cannot_take_longer_than_the_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resolving a name has no time-out of its own."""
    over = threading.Event()
    daemons = []

    def never(*_: object, **__: object) -> list[object]:
        daemons.append(threading.current_thread().daemon)
        over.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    mirrors = ("http://a.invalid/", "http://b.invalid/", "http://c.invalid/")
    started = time.monotonic()
    assert unreachable(mirrors, 0.2) == dict.fromkeys(mirrors, "no connection within 0.2 s")
    assert time.monotonic() - started < 0.5
    assert daemons == [True] * 3  # as daemons, so that the program can exit
    over.set()


def test_only_the_proxy_has_to_be_reachable(
    monkeypatch: pytest.MonkeyPatch, mirror: Mirror, whole: Answer, refusing: str
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", mirror(whole))
    assert unreachable(("http://no-such-host.invalid/",), 3) == {}
    monkeypatch.setenv("http_proxy", refusing)
    assert "http://no-such-host.invalid/" in unreachable(("http://no-such-host.invalid/",), 3)


def test_a_mirror_that_failed_is_not_asked_again(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    requests = []

    def failing_once(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        requests.append(handler.path)
        truncated(handler, content)

    download_files(target, idx_files, (mirror(failing_once), mirror(whole)))
    assert len(requests) == 1


def test_a_second_download_adds_only_what_is_missing(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    def images_only(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        (whole if "images" in handler.path else not_found)(handler, content)

    only_training_images = {idx_files[0].name}
    with pytest.raises(UnavailableError):
        download_files(target, idx_files, (mirror(images_only),))
    assert names(target) == only_training_images
    added = download_files(target, idx_files, (mirror(whole),))
    assert len(added) == 3
    assert download_files(target, idx_files, ()) == []


def test_existing_files_are_never_overwritten(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    """Other datasets use the same file names."""
    target.mkdir(parents=True)
    existing = target / idx_files[0].name
    existing.write_bytes(idx_files[0].header + bytes(20 * 28 * 28))
    with pytest.raises(InputError, match="other than MNIST's"):
        download_files(target, idx_files, (mirror(whole),))
    assert names(target) == {existing.name}
    assert existing.read_bytes().endswith(bytes(20 * 28 * 28))


def test_a_folder_that_cannot_be_created(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be created .*KERASBN_DATA") as caught:
        download_files(tmp_path / "file" / "mnist", idx_files, (mirror(whole),))
    assert not isinstance(caught.value, UnavailableError)  # `auto` must not fall back to the sample


def test_without_a_terminal_each_file_is_one_line(
    mirror: Mirror,
    whole: Answer,
    idx_files: tuple[IdxFile, ...],
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = mirror(whole)
    download_files(target, idx_files, (address,))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [f"downloading {address}{f.name}.gz" for f in idx_files]
    (target / idx_files[0].name).unlink()
    download_files(target, idx_files, (address,), quiet=True)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_each_file_has_a_progress_bar(
    mirror: Mirror,
    whole: Answer,
    idx_files: tuple[IdxFile, ...],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    download_files(target, idx_files, (mirror(whole),))
    for file in idx_files:
        assert file.name.partition("-idx")[0] in terminal.getvalue()
    assert "downloading" not in terminal.getvalue()
    assert "kB" in terminal.getvalue()


def test_ctrl_c_leaves_nothing_half_written(
    mirror: Mirror,
    whole: Answer,
    idx_files: tuple[IdxFile, ...],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("requests.Response.iter_content", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download_files(target, idx_files, (mirror(whole),), quiet=True)
    assert names(target) == set()
