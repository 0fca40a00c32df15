"""What is requested, the public function, and a running sweep with a fake backend."""

import json
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sample_folders import Disk
from sample_sweeps import made_up_backend

import kerasbn
from kerasbn.common.errors import InputError, StoppedError
from kerasbn.data.datasets import Dataset
from kerasbn.sweeps import process_pool
from kerasbn.sweeps.grid import parse_grid
from kerasbn.sweeps.progress import PROGRESS, is_running
from kerasbn.sweeps.study import open_study
from kerasbn.sweeps.sweep import requested, sweep
from kerasbn.sweeps.trials import Event, TrialBatch


def test_a_recipe_with_changes_gives_a_grid_and_the_command_that_reproduces_it() -> None:
    changes = {"seeds": 2, "steps": 7, "lr": [0.1, 1.0], "activation": "tanh"}
    grid, path, command = requested("depth", changes, "mine")
    assert path == Path("saved_models/studies/mine")
    assert grid.axes["lr"] == (0.1, 1.0)
    assert grid.options["activation"] == "tanh"
    assert (grid.seeds, grid.options["steps"]) == (2, 7)
    assert command == [
        "kerasbn", "sweep", "depth", "--seeds", "2", "--steps", "7",
        "--set", "lr=0.1 1", "--set", "activation=tanh", "--run", "mine",
    ]  # fmt: skip


def test_the_command_does_not_hold_the_folder_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[axes]\nlr = [0.1, 0.2]\n")
    _, path, command = requested(file, {})
    assert (path.name, command) == ("mine", ["kerasbn", "sweep", "mine.toml"])


def test_an_existing_study_is_continued_as_it_is(few_digits: Dataset, tmp_path: Path) -> None:
    grid, _, _ = requested("depth", {"seeds": 2})
    open_study(tmp_path / "mine", grid, few_digits, command="kerasbn sweep depth")
    for given in ("mine", str(tmp_path / "mine")):
        assert requested(given, {}, root=tmp_path) == (grid, tmp_path / "mine", None)
    with pytest.raises(InputError, match="changes to an existing study, expected none"):
        requested("mine", {"lr": 1}, root=tmp_path)
    with pytest.raises(InputError, match="changes to an existing study"):
        requested("mine", {}, "other", root=tmp_path)
    again = open_study(tmp_path / "mine", grid, few_digits)
    assert again.record.command == "kerasbn sweep depth"


@pytest.mark.parametrize(
    ("grid", "arguments", "line"),
    [
        (3, {}, "grid=3: received 3, expected the name of a recipe or study"),
        ({}, {}, "grid: received an empty grid"),
        ("depth", {"lr": "high"}, "lr='high': received 'high', expected a finite number"),
        ("depth", {"learning_rate": 1}, "did you mean 'lr'"),
        ("depth", {"seeds": "2"}, "seeds: received '2', expected a whole number"),
        ("depth", {"data": [1]}, "received a list, expected a kerasbn.Dataset"),
        ("depth", {"workers": 0}, "workers=0: received 0, expected a whole number above 0"),
        ("depth", {"workers": 1, "address": "auto"}, "expected either workers or address"),
    ],
)
def test_invalid_arguments_are_named(grid: Any, arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        sweep(grid, **arguments)
    assert line in str(refused.value)


@pytest.mark.slow
def test_the_public_function_returns_a_study(
    few_digits: Dataset,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    grid = {"axes": {"lr": [0.01, 1.0]}, "options": {"hidden": [8]}}
    study = kerasbn.sweep(grid, few_digits, run="rates", epochs=1, workers=1, root=tmp_path)
    assert repr(study).startswith("<Study rates: 4 trials (4 finished). With BN, ")
    assert study.is_complete
    assert list(study.results["lr"]) == [0.01, 0.01, 1.0, 1.0]
    assert list(study.results["bn"]) == [True, False, True, False]
    assert all(0 < accuracy < 1 for accuracy in study.results["val_accuracy"])
    assert list(study.figures()) == ["accuracy"]
    assert any(line.startswith("Best test accuracy: ") for line in study.findings())
    assert capfd.readouterr() == ("", "")
    assert not list(temporary.iterdir())  # the workers were killed
    before = {path: path.stat().st_mtime_ns for path in study.path.glob("*/run.json")}
    assert kerasbn.sweep(grid, few_digits, run="rates", epochs=1, root=str(tmp_path)) == study
    assert {path: path.stat().st_mtime_ns for path in study.path.glob("*/run.json")} == before


def test_the_progress_of_all_batches_is_visible_from_the_start(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def backend(missing: Sequence[TrialBatch], *_: Any, **__: Any) -> Generator[Event, None, None]:
        yield from (Event(batch.number) for batch in missing)
        seen.append(json.loads((tmp_path / "mine" / PROGRESS).read_text()))
        yield Event(missing[0].number, 0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(process_pool, "train_in_processes", backend)
    grid = parse_grid({"axes": {"batch_size": [8, 16, 32]}}, "mine", "mine").record()
    with pytest.raises(StoppedError, match=r"0 of 6 trials are kept in .*the same command cont"):
        sweep(grid, few_digits, run="mine", root=tmp_path)
    (progress,) = seen
    assert list(progress["running"].values()) == [0.0] * 3
    assert not is_running(tmp_path / "mine")
    with pytest.raises(StoppedError, match="the same command without --force continues"):
        sweep(grid, few_digits, run="mine", root=tmp_path, force=True)


def test_a_full_disk_stops_a_sweep_and_keeps_what_was_trained(
    disk: Disk, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(missing: Sequence[TrialBatch], *_: Any, **__: Any) -> Generator[Event, None, None]:
        for event in made_up_backend(missing):
            yield event
            if event.files:
                disk.fill()

    grid = {"axes": {"batch_size": [8, 16, 32]}}
    monkeypatch.setattr(process_pool, "train_in_processes", backend)
    with pytest.raises(InputError, match=r"cannot be written.*; 2 of 6 trials are kept in .*cont"):
        sweep(grid, few_digits, run="mine", root=disk.path)
    disk.free()
    monkeypatch.setattr(process_pool, "train_in_processes", made_up_backend)
    (disk.path / "mine/.checkpoints/0").mkdir(parents=True)  # of a sweep killed just before
    study = sweep(grid, few_digits, run="mine", root=disk.path)
    assert study.is_complete
    assert not list(study.path.glob(".*"))
