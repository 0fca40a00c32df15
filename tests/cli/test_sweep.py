"""`kerasbn sweep` in real processes: recipes, resuming, lost workers, and invalid input."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kerasbn.cli.main import main

STUDIES = Path("saved_models/studies")
SAMPLE = ("--dataset", "mnist-sample")
# Small enough to be quick, long enough to be interrupted.
GRID = """
question = "Which activation?"
seeds = 2
[options]
hidden = "8"
steps = {steps}
[axes]
activation = ["relu", "tanh", "sigmoid"]
"""


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kerasbn", "sweep", *arguments],
        cwd=folder, env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def sweep(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def until(found: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def table(study: Path) -> list[dict[str, str]]:
    with (study / "results.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def children(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes of a sweep."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(p) for p, parent, *args in rows
            if int(parent) == process.pid and "spawn_main" in "".join(args)]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that one worker trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "grid.toml").write_text(GRID.format(steps=600))
    code, out, err = sweep(folder, "grid.toml", "--workers", "1", *SAMPLE)
    assert code == 0, err
    assert out.splitlines()[-1] == f"study: {STUDIES}/grid (accuracy.png)"
    return folder / STUDIES / "grid"


@pytest.mark.parametrize(
    ("recipe", "changes", "trials"),
    [
        ("learning-rate", ["--set", "lr=0.001 0.1 3"], 6),
        ("depth", ["--set", "hidden=8 8,8", "--set", "activation=tanh sigmoid"], 8),
        ("batch-size", ["--set", "batch_size=2 32"], 4),
        ("figure1", [], 2),
        ("teaching-table", [], 24),
    ],
)
@pytest.mark.slow
def test_every_recipe_gives_results_charts_and_findings(
    recipe: str, changes: list[str], trials: int, tmp_path: Path
) -> None:
    code, out, err = sweep(tmp_path, recipe, "--steps", "12", "--seeds", "1", *changes, *SAMPLE)
    assert code == 0, err
    study = tmp_path / STUDIES / recipe
    assert len(table(study)) == trials
    assert {row["status"] for row in table(study)} <= {"finished", "diverged"}
    assert list(study.glob("*.png"))
    assert "with bn" in out.lower()
    findings = (study / "findings.md").read_text()
    assert all(line in findings for line in out.splitlines()[:-1])
    assert f"kerasbn sweep {recipe} --seeds 1 --steps 12" in findings


@pytest.mark.slow
def test_a_study_has_a_row_and_a_run_for_every_trial(whole: Path) -> None:
    rows = table(whole)
    assert len(rows) == 12
    for row in rows:
        record = json.loads((whole / row["trial"] / "run.json").read_text())
        assert record["final"]["val_accuracy"] == float(row["val_accuracy"])
        assert (record["model"]["bn"], record["training"]["seed"]) == (
            row["bn"] == "true", int(row["seed"]),
        )  # fmt: skip
        assert (whole / row["trial"] / "model.keras").is_file()


@pytest.mark.slow
def test_rerunning_trains_only_what_is_missing_with_the_same_results(whole: Path) -> None:
    """A run is lost and one is damaged: the tables end up bit-identical."""
    before = (whole / "results.csv").read_bytes(), (whole / "history.csv").read_bytes()
    runs = sorted(path.parent for path in whole.glob("*/run.json"))
    kept = {path: (path / "run.json").stat().st_mtime_ns for path in runs}
    (runs[0] / "run.json").unlink()
    (runs[-1] / "run.json").write_text("{")
    code, _, err = sweep(whole.parents[2], "grid", "--workers", "2", *SAMPLE)
    assert code == 0, err
    assert "10 of 12 trials are already trained" in err
    assert ((whole / "results.csv").read_bytes(), (whole / "history.csv").read_bytes()) == before
    again = {path for path in runs if (path / "run.json").stat().st_mtime_ns != kept[path]}
    assert runs[0] in again
    assert len(again) < len(runs)


@pytest.mark.slow
def test_a_study_kept_without_its_runs_is_drawn_again(whole: Path, tmp_path: Path) -> None:
    """It needs neither data nor training."""
    kept = tmp_path / STUDIES / "kept"
    kept.mkdir(parents=True)
    for name in ("study.json", "results.csv", "history.csv"):
        shutil.copy(whole / name, kept)
    (tmp_path / "grid.toml").write_text(GRID.format(steps=600))
    for arguments in (["kept"], ["grid.toml", "--run", "kept", *SAMPLE]):
        code, _, err = sweep(tmp_path, *arguments)
        assert code == 0, err
        for file in (*whole.glob("*.png"), whole / "results.csv", whole / "history.csv"):
            assert (kept / file.name).read_bytes() == file.read_bytes()
        assert not [path for path in kept.iterdir() if path.is_dir()]
        findings = (kept / "findings.md").read_text().split("Reproduce")[0]
        assert findings == (whole / "findings.md").read_text().split("Reproduce")[0]
        (kept / "findings.md").unlink()


@pytest.mark.slow
def test_status_from_another_terminal_ctrl_c_and_a_killed_worker(
    whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.toml").write_text(GRID.format(steps=600))
    study = tmp_path / STUDIES / "grid"
    process = start(tmp_path, "grid.toml", "--workers", "1", *SAMPLE)
    try:
        until(lambda: len(list(study.glob("[!.]*/run.json"))) > 0)
        code, out, _ = sweep(tmp_path, "grid", "--status")
        assert code == 0
        assert "running" in out
        os.kill(children(process)[0], signal.SIGKILL)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "trials are kept in" in err.splitlines()[-1]
    assert "Traceback" not in err
    process = start(tmp_path, "grid.toml", "--workers", "1", *SAMPLE)
    try:
        until(lambda: len(children(process)) > 0)
        # Killed before it has read what to train: another one takes its place.
        os.kill(children(process)[0], signal.SIGKILL)
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert (study / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    code, out, _ = sweep(tmp_path, "grid", "--status", "--json")
    assert (code, json.loads(out)["running"]) == (0, [])


@pytest.mark.slow
def test_killed_in_mid_sweep_it_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID.format(steps=600))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    study = tmp_path / STUDIES / "grid"
    process = start(tmp_path, "grid.toml", "--workers", "1", *SAMPLE, TMPDIR=str(scratch))
    try:
        until(lambda: len(list(study.glob("[!.]*/run.json"))) > 0)
        trainers = children(process)
        assert list(scratch.glob("kerasbn-*"))
        process.kill()
        process.communicate(timeout=60)
    finally:
        process.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in trainers), 30)
    assert not list(scratch.glob("kerasbn-*"))  # TensorFlow leaves small files of its own
    code, out, _ = sweep(tmp_path, "grid", "--status", "--json")
    assert (code, json.loads(out)["state"]) == (0, "stopped")


@pytest.mark.slow
def test_a_failed_trial_is_recorded_and_stops_nothing_else(tmp_path: Path) -> None:
    """A layer whose weights exceed the memory."""
    grid = GRID.format(steps=5).replace("seeds = 2", "seeds = 1").replace('hidden = "8"', "")
    grid = grid.replace('["relu", "tanh", "sigmoid"]', '["relu"]')
    (tmp_path / "grid.toml").write_text(f'{grid}hidden = ["8", "8,1000000,1000000"]\n')
    code, out, err = sweep(tmp_path, "grid.toml", *SAMPLE)
    assert (code, out) == (1, "")
    assert "2 of 4 trials could not be trained" in err.splitlines()[-1]
    assert "the same command tries them again" in err.splitlines()[-1]
    rows = table(tmp_path / STUDIES / "grid")
    assert [row["status"] for row in rows] == ["finished", "finished", "failed", "failed"]
    assert all(row["error"] for row in rows[2:])
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["learnin-rate"], "did you mean 'learning-rate'?"),
        (["depth", "--set", "lr"], "received no '='"),
        (["depth", "--set", "speed=3"], "received 'speed'"),
        (
            ["depth", "--set", "lr=-1"],
            "--set lr=-1: received '-1', expected a finite number above 0",
        ),
        (["depth", "--seeds", "0"], "seeds: received 0"),
        (["depth", "--seeds", "900"], "--yes"),
        (["depth", "--set", "batch_size=1"], "batch_size=1: received 1, expected at least 2"),
        (["depth", "--set", "batch_size=4001"], "at most the 4,000 training examples"),
        (["depth", "--run", "a/b"], "--run a/b: received 'a/b'"),
        (["depth", "--workers", "0"], "--workers"),
        (["depth", "--workers", "1", "--address", "x:1"], "expected one of the two"),
        (["depth", "--address", "nowhere"], "nowhere"),
        (["nobody", "--status"], "received no study of this name"),
        (["empty.toml"], "received an empty grid"),
    ],
)
def test_invalid_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.toml").touch()
    monkeypatch.chdir(tmp_path)
    dataset = [] if "--status" in arguments else SAMPLE
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *arguments, *dataset])
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert (ended.value.code, out) == (2, "")
    assert line in last
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.toml"]


@pytest.mark.parametrize("columns", [80, 40])
def test_findings_wrap_between_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from kerasbn.cli.sweep import _bullet

    text = (
        "With BN, learning rates 0.0003 to 0.03 come within one point of the best. Without BN, 0.1."
    )
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = _bullet(text).splitlines()
    assert all(len(line) <= columns for line in lines)
    assert " ".join(line[2:] for line in lines) == text
    assert {line[:2] for line in lines[1:]} == {"  "}


def test_an_unreachable_cluster_is_reported_soon(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        began = time.monotonic()
        code, out, err = sweep(tmp_path, "figure1", "--address", address, *SAMPLE)
    assert (code, out) == (2, "")
    assert f"--address {address}" in err.splitlines()[-1]
    assert time.monotonic() - began < 60
    assert not (tmp_path / "saved_models").exists()


@pytest.mark.slow
def test_another_grid_under_the_same_name_is_refused(whole: Path) -> None:
    folder = whole.parents[2]
    (folder / "other.toml").write_text(GRID.format(steps=7))
    code, _, err = sweep(folder, "other.toml", "--run", "grid", *SAMPLE)
    assert code == 2
    assert "received a study of another grid" in err
    assert "--force" in err
