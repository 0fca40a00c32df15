"""Reading runs from the disk, complete or damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from sample_runs import run_record, write_run

from kerasbn import runs
from kerasbn.common.errors import InputError

HEADER = "epoch,accuracy,loss,step,val_accuracy,val_loss\n"


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_run(tmp_path, "bn")
    read = runs.read_run(tmp_path / "bn")
    assert read == written
    assert read.history["val_accuracy"] == [0.8]


def test_the_run_that_finished_last_is_the_last(tmp_path: Path) -> None:
    write_run(tmp_path, "b", run_record(finished="2026-01-01T00:00:00+00:00"))
    write_run(tmp_path, "a", run_record(finished="2026-01-03T00:00:00+00:00"))
    write_run(tmp_path, "c")
    write_run(tmp_path, ".half.part")  # being written, or left by a crash
    assert [run.name for run in runs.survey(tmp_path)[0]] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"status": 7}, "status"),
        ({"status": "odd"}, "status"),
        ({"finished": None}, "finished"),
        ({"model": 3}, "model"),
        ({"model": {"hidden": 5}}, "model.hidden"),
        ({"model": {"hidden": [0]}}, "hidden"),
        ({"training": []}, "training"),
        ({"training": {"lr": -1}}, "lr"),
        ({"data": None}, "data"),
        ({"final": {"val_accuracy": "x"}}, "final"),
    ],
)
def test_a_damaged_record_is_named_and_hides_no_other(
    change: dict[str, Any], place: str, tmp_path: Path
) -> None:
    bad = write_run(tmp_path, "bad").path / runs.RECORD
    bad.write_text(json.dumps(json.loads(bad.read_text()) | change))
    write_run(tmp_path, "good")
    whole, (problem,) = runs.survey(tmp_path)
    assert [run.name for run in whole] == ["good"]
    assert "bad/run.json: received a damaged record (" in str(problem)
    assert place in str(problem)


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ("", "no column 'epoch'"),
        ("epoch,loss\n1,0.2\n", "no column 'accuracy'"),
        (f"{HEADER}1,0.9,0.2\n", "a row is cut off"),
        (f"{HEADER}1,0.9,x,125,0.8,0.3\n", "'x' in column 'loss'"),
        (f"{HEADER}1,0.9,nan,125,0.8,0.3\n", "'nan' in column 'loss'"),
        (f"{HEADER}1,0.9,0.2,125,0.8,inf\n", "'inf' in column 'val_loss'"),
    ],
)
def test_a_damaged_history_is_an_error_that_says_how(
    history: str, words: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path, "bad")
    (run.path / runs.HISTORY).write_text(history)
    with pytest.raises(InputError) as caught:
        _ = runs.read_run(run.path).history
    assert f"history.csv: received a damaged table ({words}), expected" in str(caught.value)


def test_a_history_without_epochs_is_complete(tmp_path: Path) -> None:
    """A training that diverges in its first epoch leaves one."""
    run = write_run(tmp_path, "short")
    (run.path / runs.HISTORY).write_text(HEADER)
    assert runs.read_run(run.path).history["epoch"] == []
