"""Progress of a sweep as another process reads it, and its status in words."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_folders import names
from sample_stops import stops_at_each_step

from kerasbn.common import files
from kerasbn.common.errors import InputError
from kerasbn.sweeps import progress
from kerasbn.sweeps.progress import (
    CHECKPOINTS,
    RunningSweep,
    duration,
    is_running,
    read_status,
    running,
    status_of,
)
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.trials import Event, Trial
from kerasbn.training.checkpoint import Checkpoint, Progress

MadeUp = Callable[[Mapping[str, Any], Callable[[Trial, int], float | str | None]], Study]
RAW = {"seeds": 2, "axes": {"hidden": ["4", "8", "16"]}}
ANOTHER = r"""
import sys
from pathlib import Path
from kerasbn.sweeps.progress import read_status
from kerasbn.sweeps.study import read_study
print("\n".join(read_status(read_study(Path(sys.argv[1]))).lines()))
"""


def figures(trial: Trial, epoch: int) -> float | str | None:
    if trial.configuration["hidden"] == (16,):
        return "no memory"
    return 0.7 + 0.02 * epoch + 0.05 * trial.bn + 0.01 * trial.seed


@pytest.mark.slow
def test_another_process_sees_the_progress_only_while_the_sweep_runs(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)

    def seen() -> str:
        return subprocess.run(
            [sys.executable, "-c", ANOTHER, study.path], capture_output=True, text=True, check=True
        ).stdout

    with running(study.path):
        assert read_status(study).rows()[2] == ("running", "starting")
        sweep = RunningSweep(study, quiet=True)
        sweep.take(Event(sweep.missing[0].number, 0.25))
        assert "made-up: running" in seen()
        assert "(25%)" in seen()
        with pytest.raises(InputError, match="another process is training"), running(study.path):
            pass
    assert seen().startswith("made-up: stopped")
    assert not is_running(study.path)
    assert not list(study.path.glob(".lock")) + list(study.path.glob("progress.json"))


def test_a_resumed_batch_starts_with_the_share_of_its_checkpoint(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    study = replace(made_up(RAW | {"options": {"epochs": 4}}, figures), outcomes={})
    for number, content in ((0, None), (1, b"damaged")):
        state = study.path / CHECKPOINTS / str(number) / "checkpoint/bn.npz"
        state.parent.mkdir(parents=True)
        Checkpoint(Progress(3), [], {}).write(state)
        if content:
            state.write_bytes(content)
    sweep = RunningSweep(study, quiet=False)
    cost = [batch.cost for batch in sweep.missing]
    with running(study.path):
        sweep.take(Event(0))
        sweep.take(Event(1, warnings=("batch 1: [damaged]",)))
        status = read_status(study)
        assert list(status.running.values()) == [0.75, 0.0]
        assert status.seconds_left is None
        now[0] += 10
        sweep.take(Event(1, 0.5))
        left = 10 * (0.25 * cost[0] + 0.5 * cost[1] + cost[2]) / (0.5 * cost[1])
        assert read_status(study).seconds_left == pytest.approx(left)
    assert "batch 1: [damaged]\n" in capsys.readouterr().err


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    assert not is_running(tmp_path)
    with running(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_stop_at_any_step_leaves_no_lock(tmp_path: Path) -> None:
    def run() -> None:
        with running(tmp_path):
            assert names(tmp_path) == [".lock"]

    for stopped in stops_at_each_step(run, progress, files):
        assert stopped
        assert names(tmp_path) == []
    run()  # it is not locked any more


def test_a_missing_folder_is_not_running(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be written"), running(tmp_path / "none"):
        pass


def test_the_time_left_is_that_of_the_remaining_work(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    study = replace(made_up(RAW, figures), outcomes={})
    sweep = RunningSweep(study, quiet=True)
    first, second, third = (batch.cost for batch in sweep.missing)
    with running(study.path):
        sweep.take(Event(0))
        assert read_status(study).seconds_left is None
        monkeypatch.setattr(time, "monotonic", lambda: 1100.0)
        sweep.take(Event(0, error="no memory"))
        sweep.take(Event(1, 0.5))
        assert read_status(study).seconds_left == pytest.approx(100 * (second + third) / first)
        monkeypatch.setattr(time, "monotonic", lambda: 1200.0)
        sweep.take(Event(1, 0.5))
        left = 200 * (second / 2 + third) / (first + second / 2)
        assert read_status(study).seconds_left == pytest.approx(left)


def test_the_status_is_shown_in_words(made_up: MadeUp) -> None:
    study = made_up(RAW, figures)
    status = replace(
        status_of(study), trials=13, state="running", running={"a, b": 0.5}, seconds_left=60
    )
    text = "\n".join(status.lines())
    assert status.lines()[:4] == [
        "made-up: running",
        "done         8 of 13 trials",
        "failed       4 (no memory)",
        "running      a, b (50%)",
    ]
    # Epoch 3 of seeds 0 and 1: 0.81 and 0.82 with, 0.76 and 0.77 without.
    assert "best with BN 81.50 ± 0.71% at" in text
    assert "best without 76.50 ± 0.71% at" in text
    assert "time left    about 60 s" in text
    assert status.line().startswith(
        "done 8 of 13 trials; failed 4 (no memory); best with BN 81.50 ± 0.71% at"
    )
    assert status_of(study).state == "stopped"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "not known yet"), (0, "about 1 s"), (89, "about 89 s"), (90, "about 2 min"),
     (5399, "about 90 min"), (5400, "about 1.5 h")],
)  # fmt: skip
def test_durations_are_rounded(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
