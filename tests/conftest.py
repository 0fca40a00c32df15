"""Fixtures shared by tests of several packages."""

import gzip
import hashlib
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kerasbn.data import datasets as files
from kerasbn.data import download
from kerasbn.data.idx import MNIST, IdxFile

if TYPE_CHECKING:
    from kerasbn.experiments.comparison import Comparison

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]

FULL_MNIST = Path(
    os.environ.get("KERASBN_TEST_MNIST") or Path(__file__).parents[2].joinpath("shared/data/mnist")
)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works() -> None:
    """Handle SIGINT, which background jobs of a shell and their children ignore by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def full_mnist() -> Path:
    """The folder of the full MNIST, for the few tests that need it."""
    if not FULL_MNIST.is_dir():
        pytest.skip("needs the full MNIST: set KERASBN_TEST_MNIST to a folder that holds it")
    return FULL_MNIST


@pytest.fixture(scope="session")
def sample_digits() -> files.Dataset:
    """The 5,000 digits of the extra `digits`."""
    return files.load_dataset("mnist-sample")


@pytest.fixture(scope="session")
def few_digits(sample_digits: files.Dataset) -> files.Dataset:
    """The first 640 of them to train on and 100 to test on, for what must be quick."""
    train, test = sample_digits.train, sample_digits.test
    return files.Dataset(
        "few-digits",
        files.Split(train.images[:640], train.labels[:640]),
        files.Split(test.images[:100], test.labels[:100]),
    )


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that this machine has an empty cache, no KERASBN_DATA, and no mirror."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # the cache of macOS is in there
    monkeypatch.delenv("KERASBN_DATA", raising=False)
    monkeypatch.setattr(download, "MIRRORS", ())


@pytest.fixture
def idx_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[IdxFile, ...]:
    """Four small gzipped IDX files in `tmp_path`/mnist that stand in for MNIST."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    digits = np.random.default_rng(7)
    small, digest = [], hashlib.sha256()
    for file, count in zip(MNIST, (20, 20, 10, 10), strict=True):
        shape = (count, *file.shape[1:])
        header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        highest = 10 if len(shape) == 1 else 256
        pixels = digits.integers(0, highest, shape, np.uint8).tobytes()
        digest.update(pixels)
        content = header + pixels
        gzipped = gzip.compress(content, mtime=0)
        (folder / f"{file.name}.gz").write_bytes(gzipped)
        sha256, gzip_sha256 = (hashlib.sha256(each).hexdigest() for each in (content, gzipped))
        small.append(IdxFile(file.name, shape, sha256, len(gzipped), gzip_sha256))
    monkeypatch.setattr(files, "MNIST", tuple(small))
    monkeypatch.setitem(files.DIGESTS, "mnist", digest.hexdigest())
    return tuple(small)


@pytest.fixture
def mnist_folder(idx_files: tuple[IdxFile, ...], tmp_path: Path) -> Path:
    """The folder of `idx_files`."""
    assert len(idx_files) == 4
    return tmp_path / "mnist"


@pytest.fixture
def mirror(mnist_folder: Path) -> Iterator[Callable[[Answer], str]]:
    """Return a function that starts a local server and returns its URL.

    Its argument answers a request, given the request handler and the content of the file.
    """
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self, (mnist_folder / self.path.lstrip("/")).read_bytes())

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def kerasbn(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process.

    It returns the exit code, standard output and standard error.
    """
    from kerasbn.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a full disk.

    If mounting is allowed (as root on Linux), it is a small disk of its own. Otherwise this process
    is limited to files of a few bytes, which gives the same error.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0:
        (disk / "fills it").write_bytes(bytes(4096))
        yield disk
        subprocess.run(["umount", str(disk)], check=True)
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    yield disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def whole() -> Answer:
    """The answer of a working mirror."""
    return send


def send(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer with `content`."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture(scope="session")
def comparison(
    sample_digits: files.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "Comparison"]:
    """A comparison of three epochs on the sample, and the folder its runs are in."""
    from kerasbn.experiments.compare import compare

    root = tmp_path_factory.mktemp("comparison") / "saved_models"
    return root, compare(sample_digits, epochs=3, seed=1, root=root)


@pytest.fixture(scope="session")
def probed_pair(
    few_digits: files.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "Comparison"]:
    """A comparison with probes, trained long enough to predict well, and the folder of its runs."""
    from kerasbn.experiments.compare import compare

    root = tmp_path_factory.mktemp("looked") / "saved_models"
    return root, compare(few_digits, hidden=(12, 9), epochs=3, seed=1, probe=True, root=root)
