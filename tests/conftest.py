"""Fixtures shared by tests of several packages."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sample_folders import Disk
from sample_mirror import Answer, send, served, write_files
from sample_runs import quick_training

from kerasbn.data import datasets as files
from kerasbn.data import download
from kerasbn.data.idx import IdxFile

if TYPE_CHECKING:
    from kerasbn.experiments.comparison import Comparison

FULL_MNIST = Path(
    os.environ.get("KERASBN_TEST_MNIST") or Path(__file__).parents[2].joinpath("shared/data/mnist")
)

# Tests of a file share what they made, so a file goes to one process. The tests of these files are
# long and share little: each goes to whichever process is free, the last ones of the suite.
APART = ("test_crash.py", "test_differential.py", "test_sessions.py", "test_checkpoint.py")


def pytest_configure() -> None:
    """Save a fifth of the time."""
    gc.set_threshold(20_000, 20, 20)  # among so many objects of libraries, collecting takes long
    for pool in ("INTRAOP", "INTEROP"):  # the threads of two processes would wait for each other
        os.environ.setdefault(f"TF_NUM_{pool}_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class FilesAndTests(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return nodeid if file.endswith(APART) else file

    return FilesAndTests(config, log)


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
def float64() -> Iterator[None]:
    """Let models compute in float64."""
    import keras  # not before a test that needs it

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def quick() -> Iterator[None]:
    """Train and save figures quickly, for tests of something else."""
    with quick_training():
        yield


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
    small, digest = write_files(folder, (20, 20, 10, 10))
    monkeypatch.setattr(files, "MNIST", small)
    monkeypatch.setitem(files.DIGESTS, "mnist", digest)
    return small


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
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(served(mnist_folder, answer))


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
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk, with room at first."""
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.close()


@pytest.fixture
def full_disk(disk: Disk) -> Path:
    """A folder on a full disk."""
    disk.fill()
    return disk.path


@pytest.fixture
def whole() -> Answer:
    """The answer of a working mirror."""
    return send


@pytest.fixture(scope="session")
def comparison(
    sample_digits: files.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "Comparison"]:
    """A comparison of three epochs on the sample, and the folder its runs are in."""
    from kerasbn.experiments.compare import compare

    root = tmp_path_factory.mktemp("comparison") / "saved_models"
    with quick_training():
        return root, compare(sample_digits, epochs=3, seed=1, root=root)


@pytest.fixture(scope="session")
def probed_pair(
    few_digits: files.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "Comparison"]:
    """A comparison with probes, trained long enough to predict well, and the folder of its runs."""
    from kerasbn.experiments.compare import compare

    root = tmp_path_factory.mktemp("looked") / "saved_models"
    with quick_training():
        return root, compare(few_digits, hidden=(12, 9), epochs=3, seed=1, probe=True, root=root)
