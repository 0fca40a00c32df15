"""Studies on disk: the same whoever wrote them, and refused where they are damaged or another's."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerasbn.data.datasets import Dataset
from kerasbn.errors import InputError
from kerasbn.sweeps.grid import parse
from kerasbn.sweeps.study import (
    Study,
    find_study,
    open_study,
    read_study,
    with_runs,
    write_histories,
    write_table,
)
from kerasbn.sweeps.trials import Configuration

MadeUp = Callable[[Mapping[str, Any], Callable[[Configuration, int], float | str | None]], Study]
RAW = {"seeds": 2, "axes": {"lr": [0.1, 1.0], "activation": ["relu"]}}


def figures(each: Configuration, epoch: int) -> float | str | None:
    if each.training.seed and each.training.lr == 1.0:
        return None if each.bn else "out of memory, with a comma"
    return 0.5 + 0.1 * epoch + 0.01 * each.bn


def test_a_study_is_read_as_it_was_written(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    again = read_study(study.path)
    assert again == study
    assert again.axes == ["lr"]  # an axis with one value is none
    assert [len(again.with_status(s)) for s in ("finished", "diverged", "failed", "missing")] == [
        6, 1, 1, 0,
    ]  # fmt: skip
    (failed,) = again.with_status("failed")
    assert again.results[failed.name].error == "out of memory, with a comma"
    (diverged,) = again.with_status("diverged")
    assert again.results[diverged.name].figures == {}
    before = (study.path / "results.csv").read_bytes()
    write_table(study.path, study.configurations, study.results, study.grid.axes)
    assert (study.path / "results.csv").read_bytes() == before


def test_a_study_is_found_by_name_and_by_folder(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    root = study.path.parent
    assert find_study("made-up", root) == find_study(str(study.path), root) == study
    with pytest.raises(InputError, match=r"nobody: received no study of this name.*\(made-up\)"):
        find_study("nobody", root)


def test_what_there_is_stays_and_another_grid_or_other_digits_are_refused(
    made_up: MadeUp, few_digits: Dataset
) -> None:
    study = made_up(RAW, figures)
    grid = study.grid
    # Of runs that are gone altogether, and of failures, the table tells.
    assert open_study(study.path, grid, few_digits).results == study.results
    same = parse(RAW | {"question": "Put otherwise?"}, "made-up", "made-up")
    open_study(study.path, same, few_digits)
    other = parse(RAW | {"seeds": 3}, "made-up", "made-up")
    with pytest.raises(InputError, match=r"received a study of another grid.*--force"):
        open_study(study.path, other, few_digits)
    digits = replace(few_digits, name="mnist", digest="another")
    with pytest.raises(InputError, match=f"a study on {few_digits.name}, expected one on mnist"):
        open_study(study.path, grid, digits)
    record = json.loads((study.path / "study.json").read_text())
    record["versions"]["keras"] = "1.0"
    (study.path / "study.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"begun with keras 1\.0, expected keras .* for all of it"):
        open_study(study.path, grid, few_digits)
    begun = open_study(study.path, other, few_digits, force=True)
    assert (begun.grid.seeds, dict(begun.results)) == (3, {})


def test_a_damaged_run_is_missing_and_one_that_is_gone_is_told_by_the_tables(
    made_up: MadeUp,
) -> None:
    study = made_up(RAW, figures)
    damaged = study.configurations[0].name
    (study.path / damaged).mkdir()
    again = with_runs(study)
    assert [each.name for each in again.with_status("missing")] == [damaged]
    assert again.results.keys() == study.results.keys() - {damaged}
    assert (study.whole, again.whole) == (False, False)
    lines = (study.path / "history.csv").read_text().splitlines()
    write_histories(again)
    left = (study.path / "history.csv").read_text().splitlines()
    assert [float(cell) for row in left[1:] for cell in row.split(",")[1:]] == [
        float(cell) for row in lines[1:] if damaged not in row for cell in row.split(",")[1:]
    ]
    write_histories(with_runs(read_study(study.path)))
    assert (study.path / "history.csv").read_text().splitlines() == left


def test_a_folder_that_is_no_study_is_left_alone(few_digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(InputError, match="a folder that is no study"):
        open_study(tmp_path / "photos", parse(RAW, "a", "a"), few_digits)
    assert (tmp_path / "photos" / "cat.png").exists()


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("study.json", "{", "a damaged record"),
        ("study.json", "[]", "a damaged record"),
        ("study.json", '{"grid": {"axes": {"speed": [1]}}, "recipe": "a"}', "received 'speed'"),
        ("results.csv", "run,status\na,finished\n", "a damaged table"),
        ("results.csv", None, "a damaged table"),
        ("history.csv", "run,epoch\na,one\n", "a damaged table"),
        ("history.csv", "run,epoch\na,nan\n", "an epoch that is no number"),
    ],
)
def test_a_damaged_study_is_told(
    made_up: MadeUp, file: str, content: str | None, line: str
) -> None:
    path = made_up(RAW, figures).path
    if content is None:
        (path / file).unlink()
    else:
        (path / file).write_text(content)
    with pytest.raises(InputError, match=line):
        _ = read_study(path).histories
