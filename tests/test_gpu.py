"""`python -m tests.gpu` guards its pieces, keeps to its time, and sums up what they found."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from gpu import checks, commands
from gpu.__main__ import main
from gpu.commands import Context
from gpu.measure import Measurement, Piece, sums
from gpu.specs import Spec, full_specs, small_specs


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, True, None, time.monotonic() + 100)


@pytest.fixture
def measured(context: Context, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that runs pieces and returns what the file holds."""

    def run(*pieces: Piece, base: Context = context) -> dict[str, Any]:
        out, folder = tmp_path / "gpu.json", Path(mkdtemp(dir=tmp_path))
        results = Measurement(pieces, replace(base, folder=folder), out, {"logical": True}).run(2)
        found: dict[str, Any] = json.loads(out.read_text())
        assert found["logical"]
        assert found["pieces"] == results
        return found

    return run


def test_a_piece_that_fails_is_recorded_and_the_others_run(
    measured: Callable[..., dict[str, Any]],
) -> None:
    def fail(_: Context) -> dict[str, Any]:
        raise ValueError("two\nlines")

    def hang(context: Context) -> dict[str, Any]:
        context.expect(False, "seen before")
        raise subprocess.TimeoutExpired("kerasbn", 1)

    def work(context: Context) -> dict[str, Any]:
        context.expect(True, "never said")
        return {"figure": 1.5, "folder": context.folder.name}

    lanes = (Piece("a timing", work, lane="gpu"), Piece("last", work, lane="gpu"))
    pieces = measured(Piece("fails", fail), Piece("hangs", hang), *lanes)["pieces"]
    assert list(pieces) == ["fails", "hangs", "a timing", "last"]
    assert pieces["fails"]["problems"] == ["ValueError: two lines"]
    assert pieces["hangs"]["problems"] == ["seen before", "took too long, or no time was left"]
    assert pieces["a timing"]["problems"] == []
    assert (pieces["a timing"]["figure"], pieces["a timing"]["folder"]) == (1.5, "a-timing")


def test_nothing_runs_if_what_is_first_fails(measured: Callable[..., dict[str, Any]]) -> None:
    def fail(context: Context) -> dict[str, Any]:
        context.expect(False, "no GPU")
        return {}

    def work(_: Context) -> dict[str, Any]:
        return {}

    others = (Piece("check", work), Piece("timing", work, lane="gpu"))
    pieces = measured(Piece("seen", fail, is_first=True), *others)["pieces"]
    assert [each["problems"] for each in pieces.values()] == [
        ["no GPU"], *[["not run: what comes first has failed"]] * 2,
    ]  # fmt: skip
    pieces = measured(Piece("seen", work, is_first=True), *others)["pieces"]
    assert [each["problems"] for each in pieces.values()] == [[], [], []]


def test_what_does_not_fit_into_the_time_is_recorded(
    context: Context, measured: Callable[..., dict[str, Any]]
) -> None:
    def never(_: Context) -> dict[str, Any]:
        raise AssertionError

    late = replace(context, deadline=time.monotonic() - 1)
    problems = measured(Piece("late", never), base=late)["pieces"]["late"]["problems"]
    assert problems == ["not run: no time was left"]


def test_accuracy_outside_the_band_is_a_problem(context: Context) -> None:
    def side(value: float) -> list[dict[str, Any]]:
        return [{"history": {"val_accuracy": [0.1, value + off]}} for off in (-0.001, 0.001)]

    record = {"device": "GPU 0", "with_bn": side(0.971), "without_bn": side(0.93)}
    figures = checks.accuracies(context, record, checks.FULL)
    assert figures["bn"] == pytest.approx(0.971)
    assert context.problems == ["plain: test accuracy 0.9300, expected 0.9523 ± 0.0196"]


def test_specs_have_names_of_their_own() -> None:
    for specs in (full_specs(), small_specs()):
        assert len({spec.name for spec in specs}) == len(specs)
    assert Spec(members=8, hidden=(128, 64)).name == "kerasbn gpu members=8 hidden=128x64"


def test_ratios_say_where_the_gpu_pays() -> None:
    gpu, wide = Spec(), Spec(hidden=(512, 512))
    seconds = {
        gpu: 2.0, replace(gpu, device="cpu"): 1.0, wide: 2.0, replace(wide, device="cpu"): 6.0,
        Spec("keras", epochs=2): 20.0, replace(gpu, deterministic=True): 3.0,
    }  # fmt: skip
    results: dict[str, dict[str, Any]] = {
        spec.name: {"epoch": value} for spec, value in seconds.items()
    }
    results["jax gpu"] = {"problems": [], "skipped": "jax is not installed"}
    assert sums([*seconds, Spec("jax")], results) == {
        "cpu / gpu": {"kerasbn gpu": 0.5, "kerasbn gpu hidden=512x512": 3.0},
        "rival / kerasbn": {"keras gpu": 10.0},
        "option": {"kerasbn gpu deterministic=True": 1.5},
    }


@pytest.mark.slow
def test_a_logical_gpu_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    code = main(["--logical", "--out", str(out), "--only", "seen"])
    assert code == 0, out.read_text()
    (found,) = json.loads(out.read_text())["pieces"].values()
    assert found["device"] == "GPU 0 (logical)"
    assert found["environment"].keys() >= {"cuda", "cudnn", "TF32"}
    assert capsys.readouterr().out.startswith("seen: ok")


def test_an_unknown_piece_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--logical", "--only", "nothing*"])
    assert "received --only 'nothing*', expected some of seen, accuracy" in capsys.readouterr().err


def test_timings_on_both_devices_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    core = min(os.sched_getaffinity(0))
    show = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
    pinned = [sys.executable, "-c", commands.PINNED, str(core), *show]
    assert subprocess.check_output(pinned, text=True).strip() == f"{{{core}}}"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4, 12)))
    assert commands.cores_for("gpu") == "4,5"
    assert commands.cores_for("cpu") == "6,7,8,9,10,11"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert commands.cores_for("gpu") == commands.cores_for("cpu") == ""
