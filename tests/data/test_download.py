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
from rich.console import Console
from rich.progress import Progress

from kerasbn.data import download
from kerasbn.data.download import UnavailableError, failing, fetch
from kerasbn.data.idx import IdxFile, read_folder
from kerasbn.errors import InputError

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
Mirror = Callable[[Answer], str]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder"


@pytest.fixture
def refusing() -> str:
    """The address of a port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a port that takes no more connections: an attempt gets no answer at all."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with socket.create_connection(listening.getsockname()):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def reply(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def truncated(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    reply(handler, content[: len(content) // 2], len(content))


def truncated_and_hiding_it(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    reply(handler, content[: len(content) // 2])


def altered_inside(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    digits = bytearray(gzip.decompress(content))
    digits[-1] ^= 1
    reply(handler, gzip.compress(bytes(digits)))


def altered_outside(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    reply(handler, content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])


def login_page(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    reply(handler, b"<html>Welcome to the hotel</html>")


def nothing_inside(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    reply(handler, b"")


def not_found(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_error(404)


def out_of_order(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_error(503)


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))  # until the other side hangs up


def a_bomb(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    reply(handler, gzip.compress(gzip.decompress(content) + bytes(10_000_000)))


def stalling_at_once(_: BaseHTTPRequestHandler, __: bytes) -> None:
    time.sleep(0.6)


def stalling_halfway(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    truncated(handler, content)
    handler.wfile.flush()
    time.sleep(0.6)


def hanging_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True


BAD = {
    truncated: "the connection broke",
    truncated_and_hiding_it: "a damaged",
    altered_inside: "another train-images-idx3-ubyte.gz than MNIST's",
    altered_outside: "a damaged train-images-idx3-ubyte.gz",
    login_page: "another train-images-idx3-ubyte.gz than MNIST's",
    nothing_inside: "another train-images-idx3-ubyte.gz than MNIST's",
    not_found: "404",
    out_of_order: "503",
    endless: "more than the file has",
    a_bomb: "another train-images-idx3-ubyte.gz than MNIST's",
    stalling_at_once: "nothing came for 0.3 s",
    stalling_halfway: "the connection broke or stalled",
    hanging_up: "the connection broke",
}


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_mirror_gives_the_digits(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], mnist_folder: Path, target: Path
) -> None:
    added = fetch(target, idx_files, (mirror(whole),))
    assert [path.name for path in added] == [file.name for file in idx_files]
    assert names(target) == {file.name for file in idx_files}
    for path, file in zip(added, idx_files, strict=True):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    for fetched, given in zip(
        read_folder(target, idx_files), read_folder(mnist_folder, idx_files), strict=True
    ):
        assert fetched.images.tobytes() == given.images.tobytes()


def test_a_server_may_unpack_what_it_sends(
    mirror: Mirror, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    unpacked = mirror(lambda handler, content: reply(handler, gzip.decompress(content)))
    assert len(fetch(target, idx_files, (unpacked,))) == 4
    read_folder(target, idx_files)


@pytest.mark.parametrize("bad", BAD, ids=lambda answer: answer.__name__)
def test_a_bad_mirror_leaves_nothing_and_the_next_takes_over(
    bad: Answer, mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    bad_mirror = mirror(bad)
    with pytest.raises(UnavailableError, match=BAD[bad]) as caught:
        fetch(target, idx_files, (bad_mirror,))
    assert "\n" not in str(caught.value)
    assert not names(target)

    fetch(target, idx_files, (bad_mirror, mirror(whole)))
    read_folder(target, idx_files)
    assert names(target) == {file.name for file in idx_files}


def test_a_mirror_that_refuses_gives_way_to_the_next(
    refusing: str, mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    assert len(fetch(target, idx_files, (refusing, mirror(whole)))) == 4


def test_no_mirror_answers(
    refusing: str,
    silent: str,
    idx_files: tuple[IdxFile, ...],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UnavailableError) as caught:
        fetch(target, idx_files, (refusing, silent, "http://no-such-host.invalid/"))
    line = str(caught.value)
    assert "refused" in line
    assert "no-such-host.invalid" in line
    assert "--data-dir" in line
    assert "mnist-sample" in line
    assert not target.exists()


def test_all_mirrors_together_take_no_longer_than_one(silent: str) -> None:
    started = time.monotonic()
    found = failing((silent, silent + "again/", silent + "and-again/"), 0.3)
    assert 0.25 < time.monotonic() - started < 0.8
    assert set(found.values()) <= {"no connection within 0.3 s", "timed out"}
    assert len(found) == 3


def test_a_name_that_is_never_found_does_not_hold_anyone_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looking up a name has no time-out of its own."""
    over = threading.Event()
    left_behind = []

    def never(*_: object, **__: object) -> list[object]:
        left_behind.append(threading.current_thread().daemon)
        over.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    mirrors = ("http://a.invalid/", "http://b.invalid/", "http://c.invalid/")
    started = time.monotonic()
    assert failing(mirrors, 0.2) == dict.fromkeys(mirrors, "no connection within 0.2 s")
    assert time.monotonic() - started < 0.5
    assert left_behind == [True] * 3  # as daemons, so that the program can still end
    over.set()


def test_a_proxy_is_what_must_answer(
    monkeypatch: pytest.MonkeyPatch, mirror: Mirror, whole: Answer, refusing: str
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", mirror(whole))
    assert failing(("http://no-such-host.invalid/",), 3) == {}
    monkeypatch.setenv("http_proxy", refusing)
    assert "http://no-such-host.invalid/" in failing(("http://no-such-host.invalid/",), 3)


def test_a_mirror_that_failed_is_not_waited_for_again(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    asked = []

    def failing_once(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        asked.append(handler.path)
        truncated(handler, content)

    fetch(target, idx_files, (mirror(failing_once), mirror(whole)))
    assert len(asked) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    def images_only(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        (whole if "images" in handler.path else not_found)(handler, content)

    only_training_images = {idx_files[0].name}
    with pytest.raises(UnavailableError):
        fetch(target, idx_files, (mirror(images_only),))
    assert names(target) == only_training_images
    added = fetch(target, idx_files, (mirror(whole),))
    assert len(added) == 3
    assert fetch(target, idx_files, ()) == []


def test_nothing_that_stands_there_is_overwritten(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], target: Path
) -> None:
    """Another data set has files of the same names."""
    target.mkdir(parents=True)
    theirs = target / idx_files[0].name
    theirs.write_bytes(idx_files[0].header + bytes(20 * 28 * 28))
    with pytest.raises(InputError, match="other content than MNIST's"):
        fetch(target, idx_files, (mirror(whole),))
    assert names(target) == {theirs.name}
    assert theirs.read_bytes().endswith(bytes(20 * 28 * 28))


def test_a_folder_that_cannot_be_made(
    mirror: Mirror, whole: Answer, idx_files: tuple[IdxFile, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made .*KERASBN_DATA") as caught:
        fetch(tmp_path / "file" / "mnist", idx_files, (mirror(whole),))
    assert not isinstance(caught.value, UnavailableError)  # `auto` must not pass over it


def test_a_line_for_each_file_where_there_is_no_terminal(
    mirror: Mirror,
    whole: Answer,
    idx_files: tuple[IdxFile, ...],
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = mirror(whole)
    fetch(target, idx_files, (address,))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [f"downloading {address}{f.name}.gz" for f in idx_files]
    (target / idx_files[0].name).unlink()
    fetch(target, idx_files, (address,), quiet=True)
    assert capsys.readouterr().err == ""


def test_a_bar_for_each_file_on_a_terminal(
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
    fetch(target, idx_files, (mirror(whole),))
    for file in idx_files:
        assert f"{file.name}.gz" in terminal.getvalue()
    assert "downloading" not in terminal.getvalue()


def test_a_bar_moves_as_pooch_moves_it() -> None:
    with Progress(console=Console(file=io.StringIO())) as shown:
        bar = download._Bar(shown, "digits.gz")
        bar.total = 300
        bar.update(100)
        assert (bar.total, shown.tasks[0].completed) == (300, 100)
        bar.reset()
        bar.update(300)
        bar.close()
        assert shown.finished
