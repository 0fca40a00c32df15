"""`kerasbn sweep`: recipes, resuming, lost workers, and invalid input.

Processes train only where it matters; elsewhere `main` runs in this one.
"""

import csv
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_processes import Command, ForkedCommand, FreshCommand, run_forked
from sample_sweeps import made_up_backend

from kerasbn.cli.main import main
from kerasbn.sweeps import process_pool
from kerasbn.sweeps.grid import load_grid

STUDIES = Path("saved_models/studies")
SAMPLE = ("--dataset", "mnist-sample")
# Two batches of four trials, on activation. Few steps: compiling takes longer anyway.
GRID: tuple[str, ...] = (
    "teaching-table",
    "--steps",
    "12",
    "--set",
    "hidden=8",
    "--set",
    "init=normal:5",
)
GRID += ("--set", "lr=0.01 1", "--run", "grid")


def run(*arguments: str) -> int:
    """Run the command in this process; return its exit code."""
    try:
        main(["sweep", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def sweep(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return run_forked(shlex.join(["sweep", *arguments]), folder)


def until(found: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def table(study: Path) -> list[dict[str, str]]:
    with (study / "results.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def workers(process: Command) -> list[int]:
    """The worker processes of a sweep."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, parent, *args in rows
            if int(parent) == process.pid and "resource_tracker" not in "".join(args)]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that one worker trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    code, out, err = sweep(folder, *GRID, "--workers", "1", *SAMPLE)
    assert code == 0, err
    assert out.splitlines()[-1] == f"study: {STUDIES}/grid (accuracy.png, heat-map.png)"
    return folder / STUDIES / "grid"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, in which nothing is trained: accuracies are made up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process_pool, "train_in_processes", made_up_backend)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "charts"),
    [
        ("learning-rate", ["accuracy"]),
        ("depth", ["accuracy", "heat-map"]),
        ("batch-size", ["accuracy"]),
        ("figure1", ["accuracy"]),
        ("teaching-table", ["heat-map", "parallel"]),
    ],
)
def test_every_recipe_gives_results_charts_and_findings(
    recipe: str, charts: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe, "--steps", "12", "--seeds", "1", *SAMPLE) == 0
    study = here / STUDIES / recipe
    assert len(table(study)) == load_grid(recipe, {"seeds": 1}).size
    assert sorted(path.stem for path in study.glob("*.png")) == charts
    out = capsys.readouterr().out
    assert "with bn" in out.lower()
    findings = (study / "findings.md").read_text()
    assert all(line in findings for line in out.splitlines()[:-1])
    assert f"kerasbn sweep {recipe} --seeds 1 --steps 12 --dataset mnist-sample" in findings


@pytest.mark.slow
def test_a_study_has_a_row_and_a_run_for_every_trial(whole: Path) -> None:
    rows = table(whole)
    assert len(rows) == 8
    for row in rows:
        record = json.loads((whole / row["trial"] / "run.json").read_text())
        assert record["final"]["val_accuracy"] == float(row["val_accuracy"])
        assert record["model"]["bn"] == (row["bn"] == "true")
        for name in ("seed", "lr"):
            assert record["training"][name] == float(row[name])
        assert (whole / row["trial"] / "model.keras").is_file()


@pytest.mark.slow
def test_rerunning_trains_only_what_is_missing_with_the_same_results(whole: Path) -> None:
    """A run is lost and one is damaged: the tables end up bit-identical."""
    before = (whole / "results.csv").read_bytes(), (whole / "history.csv").read_bytes()
    runs = sorted(path.parent for path in whole.glob("*/run.json"))
    kept = {path: (path / "run.json").stat().st_mtime_ns for path in runs}
    (runs[0] / "run.json").unlink()
    (runs[1] / "run.json").write_text("{")
    code, _, err = sweep(whole.parents[2], "grid", "--workers", "2", *SAMPLE)
    assert code == 0, err
    assert "6 of 8 trials are already trained" in err
    assert ((whole / "results.csv").read_bytes(), (whole / "history.csv").read_bytes()) == before
    again = {path for path in runs if (path / "run.json").stat().st_mtime_ns != kept[path]}
    assert again == {path for path in runs if "relu" in path.name}


@pytest.mark.slow
def test_a_study_kept_without_its_runs_is_drawn_again(whole: Path, here: Path) -> None:
    """It needs neither data nor training."""
    kept = here / STUDIES / "kept"
    kept.mkdir(parents=True)
    for name in ("study.json", "results.csv", "history.csv"):
        shutil.copy(whole / name, kept)
    for arguments in (["kept"], [*GRID, *SAMPLE, "--run", "kept"]):
        assert run(*arguments) == 0
        for file in (*whole.glob("*.png"), whole / "results.csv", whole / "history.csv"):
            assert (kept / file.name).read_bytes() == file.read_bytes()
        assert not [path for path in kept.iterdir() if path.is_dir()]
        findings = (kept / "findings.md").read_text().split("Reproduce")[0]
        assert findings == (whole / "findings.md").read_text().split("Reproduce")[0]
        (kept / "findings.md").unlink()


@pytest.mark.slow
def test_killed_in_mid_sweep_it_leaves_nothing_behind_and_is_continued(
    whole: Path, tmp_path: Path
) -> None:
    command = shlex.join(["sweep", *GRID, "--workers", "1", *SAMPLE])
    scratch = tmp_path.with_name(f"{tmp_path.name}-tmp")
    study = tmp_path / STUDIES / "grid"
    process: Command = FreshCommand(command, tmp_path)
    try:
        until(lambda: len(list(study.glob("[!.]*/run.json"))) > 0)
        trainers = workers(process)
        assert trainers
        assert list(scratch.glob("kerasbn-*"))
        code, out, _ = sweep(tmp_path, "grid", "--status")  # from another terminal
        assert code == 0
        assert "running" in out
    finally:
        process.kill(signal.SIGKILL)
        process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in trainers), 30)
    assert not list(scratch.glob("kerasbn-*"))  # TensorFlow leaves small files of its own
    code, out, _ = sweep(tmp_path, "grid", "--status", "--json")
    assert (code, json.loads(out)["state"]) == (0, "stopped")
    process = ForkedCommand(command, tmp_path)
    kill_worker(process)  # another one takes its place
    code, out = process.wait()
    assert code == 0, out
    assert (study / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


def kill_worker(process: Command) -> None:
    """Kill the first worker of a sweep before it has read what to train."""
    until(lambda: len(workers(process)) > 0)
    os.kill(workers(process)[0], signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_stops_a_sweep_whose_worker_was_killed(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    command = shlex.join(["sweep", *GRID, "--workers", "1", *SAMPLE])
    process = ForkedCommand(command, tmp_path, errors=errors)
    kill_worker(process)
    process.kill(signal.SIGINT)
    assert process.wait() == (130, "")
    err = errors.read_text()
    assert "0 of 8 trials are kept in" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.slow
def test_what_exceeds_the_memory_fails_in_one_line(tmp_path: Path) -> None:
    grid = ("figure1", "--steps", "2", "--seeds", "1", "--set", "hidden=8,1000000,1000000")
    code, out, err = sweep(tmp_path, *grid, "--workers", "1", *SAMPLE)
    assert (code, out) == (1, "")
    assert "2 of 2 trials could not be trained" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_failed_trial_is_recorded_and_stops_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "grid.toml").write_text('[axes]\nhidden = ["8", "1000000", "9"]\n')
    assert run("grid.toml", *SAMPLE) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "2 of 6 trials could not be trained (MemoryError: too large)" in err.splitlines()[-1]
    assert "the same command tries them again" in err.splitlines()[-1]
    rows = table(here / STUDIES / "grid")
    assert [row["status"] for row in rows] == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2
    assert all(row["error"] == "MemoryError: too large" for row in rows[2:4])


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
        (["depth", "--workers", "1", "--address", "x:1"], "expected either workers or address"),
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
    assert run(*arguments, *dataset) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == ""
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
    lines = _bullet(text)
    assert all(len(line) <= columns for line in lines)
    assert " ".join(line[2:] for line in lines) == text
    assert {line[:2] for line in lines[1:]} == {"  "}


def test_an_unreachable_cluster_is_reported_soon(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        began = time.monotonic()
        assert run("figure1", "--address", address, *SAMPLE) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"--address {address}" in err.splitlines()[-1]
    assert time.monotonic() - began < 60
    assert not (here / "saved_models").exists()


@pytest.mark.usefixtures("here")
def test_another_grid_under_the_same_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("figure1", "--steps", "7", "--seeds", "1", *SAMPLE) == 0
    assert run("figure1", "--steps", "8", "--seeds", "1", *SAMPLE) == 2
    err = capsys.readouterr().err
    assert "received a study of another grid" in err
    assert "--force" in err
