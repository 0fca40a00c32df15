"""How far a sweep is, as another process reads it and as people see it."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kerasbn.errors import InputError
from kerasbn.sweeps.progress import (
    Progress,
    is_running,
    read_progress,
    running,
    status_of,
    write_progress,
)
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.trials import Configuration, groups
from kerasbn.sweeps.view import duration, line, lines

MadeUp = Callable[[Mapping[str, Any], Callable[[Configuration, int], float | str | None]], Study]
RAW = {"seeds": 2, "axes": {"hidden": ["4", "8", "16"]}}
ANOTHER = """
import sys
from pathlib import Path
from kerasbn.sweeps.progress import is_running, read_progress
print(is_running(Path(sys.argv[1])), read_progress(Path(sys.argv[1])))
"""


def figures(each: Configuration, epoch: int) -> float | str | None:
    if each.point["hidden"] == (16,):
        return "no memory"
    return 0.7 + 0.02 * epoch + 0.05 * each.bn + 0.01 * each.training.seed


def test_another_process_sees_what_runs_and_only_while_it_does(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    progress = Progress(groups(list(study.configurations)), done={0}, shares={1: 0.25})

    def seen() -> str:
        return subprocess.run(
            [sys.executable, "-c", ANOTHER, study.path], capture_output=True, text=True, check=True
        ).stdout

    with running(study.path):
        write_progress(study.path, progress)
        assert seen().startswith("True {'began':")
        assert "'share': 0.25" in seen()
        with pytest.raises(InputError, match="another process is at"), running(study.path):
            pass
    assert seen() == "False None\n"
    assert not is_running(study.path)
    assert read_progress(study.path) is None
    assert not list(study.path.glob(".lock")) + list(study.path.glob("progress.json"))


def test_a_folder_that_is_not_there_runs_nothing(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be written"), running(tmp_path / "none"):
        pass


def test_the_time_left_is_that_of_the_work_left(made_up: MadeUp) -> None:
    listed = groups(list(made_up(RAW, figures).configurations))
    progress = Progress(listed)
    assert progress.left() is None
    costs = {group.number: group.cost for group in listed}
    first, second, *_ = costs
    progress.done, progress.shares = {first}, {second: 0.5}
    progress.began -= 100
    work = costs[first] + costs[second] / 2
    assert progress.left() == pytest.approx(100 * (sum(costs.values()) - work) / work, rel=0.01)


def test_where_it_stands_is_told_in_words(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    progress = Progress(groups(list(study.configurations)), shares={0: 0.5})
    progress.began -= 60
    status = status_of(study, progress.record(), alive=True)
    told = lines(status)
    assert told.splitlines()[:3] == [
        "made-up: running",
        "done         8 of 12 networks",
        "failed       4 (no memory)",
    ]
    assert "(50%)" in told
    # Epoch 3 of seeds 0 and 1: 0.81 and 0.82 with, 0.76 and 0.77 without.
    assert "best with BN 81.50 ± 0.71 % at" in told
    assert "best without 76.50 ± 0.71 % at" in told
    assert "time left    about " in told
    assert line(status).startswith("8/12 networks; 4 failed; best with BN 81.50 ± 0.71 % at")
    assert status_of(study, None, alive=False)["state"] == "stopped"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "not known yet"), (0, "about 1 s"), (89, "about 89 s"), (90, "about 2 min"),
     (5399, "about 90 min"), (5400, "about 1.5 h")],
)  # fmt: skip
def test_times_are_round(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
