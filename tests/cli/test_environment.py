"""Configuration files, environment variables and odd streams change no result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_processes import run_forked

HOSTILE = {
    "floatx": "float16", "epsilon": 0.1, "backend": "jax", "image_data_format": "channels_first",
}  # fmt: skip
TRAIN = "train --steps 20 --hidden 8 --dataset mnist-sample --quiet --run run --json"


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a folder, with all threads; `kerasbn` is this one."""
    command = command.replace("kerasbn", f"{sys.executable} -m kerasbn", 1)
    folder.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if "_THREADS" not in name}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=folder, check=False,
        text=True, errors="replace", capture_output=True, env={**inherited, **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_configuration_changes_no_result(tmp_path: Path) -> None:
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    home = tmp_path / "home"
    home.mkdir()
    (home / "keras.json").write_text(json.dumps(HOSTILE))
    for folder in (plain, hostile):
        folder.mkdir()
    (hostile / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\nbackend: svg\n")
    environment = {
        "KERAS_HOME": str(home), "KERAS_BACKEND": "torch", "MPLBACKEND": "nothing", "LC_ALL": "C",
    }  # fmt: skip
    code, out, err = run_forked(TRAIN, plain)
    assert code == 0, err
    done = run(f"kerasbn {TRAIN}", hostile, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(out)["final"] == json.loads(done.stdout)["final"]
    for name in ("history.csv", "curves.png"):
        one, other = (
            (folder / "saved_models/run" / name).read_bytes() for folder in (plain, hostile)
        )
        assert one == other, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("kerasbn report >&-", 0),
        ("kerasbn report >&- 2>&-", 0),
        ("kerasbn report <&-", 0),
        ("kerasbn report nothing 2>&-", 2),
        ("kerasbn --help >&- <&-", 0),
        ("kerasbn infer - --model none.onnx <&-", 2),
    ],
)
def test_closed_streams(command: str, code: int, tmp_path: Path) -> None:
    done = run(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    done = run("kerasbn --help | true", tmp_path)
    assert done.returncode in (0, 141)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_encoding_that_lacks_characters(tmp_path: Path) -> None:
    done = run("kerasbn report 'Größe→'", tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
