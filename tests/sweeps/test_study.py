"""Studies on disk: read as written, and refused if they are damaged or have another grid."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Dataset
from kerasbn.sweeps.grid import parse_grid
from kerasbn.sweeps.study import (
    Study,
    find_study,
    open_study,
    read_study,
    with_runs,
)
from kerasbn.sweeps.trials import Trial

MadeUp = Callable[[Mapping[str, Any], Callable[[Trial, int], float | str | None]], Study]
HISTORY = "trial,epoch,step,loss,accuracy,val_loss,val_accuracy\n"
UNKNOWN_AXIS = json.dumps(
    {
        "name": "a",
        "command": "",
        "grid": {"axes": {"speed": [1]}},
        "data": {"name": "mnist", "digest": "d", "train": 1, "test": 1},
        "versions": {},
    }
)
RAW = {"seeds": 2, "axes": {"lr": [0.1, 1.0], "activation": ["relu"]}}


def figures(trial: Trial, epoch: int) -> float | str | None:
    if trial.seed and trial.training.lr == 1.0:
        return None if trial.bn else "out of memory, with a comma"
    return 0.5 + 0.1 * epoch + 0.01 * trial.bn


def test_a_study_is_read_as_it_was_written(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    again = read_study(study.path)
    assert again == study
    assert again.axes == ["lr"]  # an axis with one value does not count
    assert [len(again.with_status(s)) for s in ("finished", "diverged", "failed", "missing")] == [
        6, 1, 1, 0,
    ]  # fmt: skip
    (failed,) = again.with_status("failed")
    assert again.outcomes[failed.name].error == "out of memory, with a comma"
    (diverged,) = again.with_status("diverged")
    assert again.outcomes[diverged.name].val_accuracy is None
    before = (study.path / "results.csv").read_bytes()
    study.write_results()
    assert (study.path / "results.csv").read_bytes() == before


def test_a_study_is_shown_in_a_notebook(made_up: MadeUp) -> None:
    study = made_up({"axes": {"lr": [0.1, 1.0]}}, lambda trial, _: 0.5 + 0.1 * trial.bn)
    assert repr(study).startswith("<Study made-up: 4 trials (4 finished). With BN, ")
    shown = study._repr_html_()
    assert "<p>made-up: 4 trials (4 finished)</p>" in shown
    assert all(f"<li>{line}</li>" in shown for line in study.findings())
    assert "<img alt='Test accuracy' src='data:image/png;base64," in shown
    empty = replace(study, outcomes={})
    assert repr(empty) == "<Study made-up: 4 trials (4 missing).>"
    assert "<img" not in empty._repr_html_()


def test_a_study_is_found_by_name_and_by_folder(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    root = study.path.parent
    assert find_study("made-up", root) == find_study(str(study.path), root) == study
    with pytest.raises(InputError, match=r"other: received no study of this name.*\(made-up\)"):
        find_study("other", root)


def test_an_existing_study_is_kept_and_another_grid_or_dataset_is_refused(
    made_up: MadeUp, few_digits: Dataset
) -> None:
    study = made_up(RAW, figures)
    grid = study.grid
    # Without a run, the outcome in the table counts.
    assert open_study(study.path, grid, few_digits).outcomes == study.outcomes
    same = parse_grid(RAW | {"question": "In other words?"}, "made-up", "made-up")
    open_study(study.path, same, few_digits)
    other = parse_grid(RAW | {"seeds": 3}, "made-up", "made-up")
    with pytest.raises(InputError, match=r"received a study of another grid.*--force"):
        open_study(study.path, other, few_digits)
    data = replace(few_digits, name="other", test=few_digits.train)
    with pytest.raises(InputError, match="a study on few-digits, expected other"):
        open_study(study.path, grid, data)
    record = json.loads((study.path / "study.json").read_text())
    record["versions"]["keras"] = "1.0"
    (study.path / "study.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"started with keras 1\.0, expected keras .* throughout"):
        open_study(study.path, grid, few_digits)
    new = open_study(study.path, other, few_digits, force=True)
    assert (new.grid.seeds, dict(new.outcomes)) == (3, {})


def test_a_damaged_run_is_missing_and_a_deleted_one_keeps_its_outcome(
    made_up: MadeUp,
) -> None:
    study = made_up(RAW, figures)
    damaged = study.trials[0].name
    (study.path / damaged).mkdir()
    again = with_runs(study)
    assert [each.name for each in again.with_status("missing")] == [damaged]
    assert again.outcomes.keys() == study.outcomes.keys() - {damaged}
    assert (study.is_complete, again.is_complete) == (False, False)
    lines = (study.path / "history.csv").read_text().splitlines()
    again.write_histories()
    left = (study.path / "history.csv").read_text().splitlines()
    assert [float(cell) for row in left[1:] for cell in row.split(",")[1:]] == [
        float(cell) for row in lines[1:] if damaged not in row for cell in row.split(",")[1:]
    ]
    with_runs(read_study(study.path)).write_histories()
    assert (study.path / "history.csv").read_text().splitlines() == left


def test_a_folder_that_is_not_a_study_is_left_alone(few_digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(InputError, match="a folder that is not a study"):
        open_study(tmp_path / "photos", parse_grid(RAW, "a", "a"), few_digits)
    assert (tmp_path / "photos" / "cat.png").exists()


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("study.json", "{", "text that is not JSON"),
        ("study.json", "[]", "a damaged record"),
        ("study.json", '{"name": "a"}', "missing required field `command`"),
        ("study.json", UNKNOWN_AXIS, "received 'speed'"),
        ("results.csv", "trial,status\na,finished\n", "a damaged table"),
        ("results.csv", None, "no such file"),
        ("history.csv", f"{HISTORY}a,one,1,1,1,1,1\n", "'one' in column 'epoch'"),
        ("history.csv", f"{HISTORY}a,nan,1,1,1,1,1\n", "'nan' in column 'epoch'"),
    ],
)
def test_a_damaged_study_is_refused(
    made_up: MadeUp, file: str, content: str | None, line: str
) -> None:
    path = made_up(RAW, figures).path
    if content is None:
        (path / file).unlink()
    else:
        (path / file).write_text(content)
    with pytest.raises(InputError, match=line):
        _ = read_study(path).histories
