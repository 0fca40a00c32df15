"""Runs on disk as they are found, whole or damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.errors import InputError

RECORD = {
    "status": "finished",
    "finished": "2026-01-02T03:04:05+00:00",
    "network": {"bn": True, "hidden": [32, 32]},
    "training": {"lr": 0.01},
    "data": {"name": "mnist"},
    "final": {"val_accuracy": 0.97},
}
HEADING = "epoch,accuracy,loss,step,val_accuracy,val_loss\n"
ROW = "1,0.9,0.2,125,0.8,0.3\n"


def write(root: Path, name: str, record: object, history: str = HEADING + ROW) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / runs.RECORD).write_text(json.dumps(record))
    (folder / runs.HISTORY).write_text(history)
    return folder


def test_the_run_that_finished_last_is_the_last(tmp_path: Path) -> None:
    write(tmp_path, "b", RECORD | {"finished": "2026-01-01T00:00:00+00:00"})
    write(tmp_path, "a", RECORD | {"finished": "2026-01-03T00:00:00+00:00"})
    write(tmp_path, "c", RECORD)
    write(tmp_path, ".half.part", RECORD)  # being written, or left by a machine that went down
    assert [run.name for run in runs.list_runs(tmp_path)] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 7}, "with 7 as 'status'"),
        ({"finished": None}, "with null as 'finished'"),
        ({"network": 3}, "with 3 as 'network'"),
        ({"network": {"hidden": 5}}, "with 5 as 'hidden'"),
        ({"training": []}, "with [] as 'training'"),
        ({"data": None}, "with null as 'data'"),
        ({"final": None}, "with null as 'final'"),
    ],
)
def test_a_record_of_another_kind_is_told_apart(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """One damaged record does not keep the others from being listed."""
    write(tmp_path, "bad", RECORD | change)
    write(tmp_path, "good", RECORD)
    whole, (problem,) = runs.survey(tmp_path)
    assert [run.name for run in whole] == ["good"]
    assert f"bad/run.json: received a damaged record ({words}), expected" in problem.args[0]


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ("", "no column 'epoch'"),
        ("epoch,loss\n1,0.2\n", "no column 'accuracy'"),
        (HEADING + "1,0.9,0.2\n", "a row that breaks off"),
        (HEADING + "1,0.9,x,125,0.8,0.3\n", "could not convert string to float: 'x'"),
        (HEADING + "1,0.9,nan,125,0.8,0.3\n", "'nan' as a figure"),
        (HEADING + "1,0.9,0.2,125,0.8,inf\n", "'inf' as a figure"),
    ],
)
def test_a_damaged_history_is_an_error_that_says_how(
    history: str, words: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "bad", RECORD, history)
    with pytest.raises(InputError) as caught:
        _ = runs.read_run(folder).history
    assert f"history.csv: received a damaged table ({words}), expected" in str(caught.value)


def test_a_history_of_no_epochs_is_whole(tmp_path: Path) -> None:
    """That is what a training leaves that diverged in its first epoch."""
    assert runs.read_run(write(tmp_path, "short", RECORD, HEADING)).history["epoch"] == []
