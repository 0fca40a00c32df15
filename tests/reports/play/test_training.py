"""The training of a pair, played back from its probes."""

import csv
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from chromium import Tab, number
from sample_runs import run_record

from kerasbn.probes.readings import TABLE
from kerasbn.probes.topics.activations import HISTOGRAM
from kerasbn.reports.play.play import Play
from kerasbn.reports.play.training import Training, training
from kerasbn.runs import Run, read_run

REDUCED_MOTION = {"name": "prefers-reduced-motion", "value": "reduce"}
LAYERS = ["dense_1", "dense_2", "dense_3", "logits"]


@pytest.fixture(scope="session")
def pair(probed: Path) -> list[Run]:
    return [read_run(probed.parent / name) for name in ("bn", "plain")]


@pytest.fixture(scope="session")
def recorded(pair: list[Run]) -> Training:
    found = training(pair)
    assert found is not None
    return found


def test_values_are_those_of_the_probes(recorded: Training, pair: list[Run]) -> None:
    assert recorded.steps == [0, 10, 20, 40]
    assert recorded.steps_per_epoch == 4000 // 32
    assert (recorded.layers, recorded.levels) == (LAYERS, list(HISTOGRAM))
    with (pair[1].path / TABLE).open(newline="") as lines:
        rows = {
            (int(row["step"]), row["layer"], row["quantity"], row["which"]): float(row["value"])
            for row in csv.DictReader(lines)
        }
    for i, step in enumerate(recorded.steps):
        loss = rows[step, "model", "loss", ""]
        assert recorded.plain.loss[i] == pytest.approx(loss, rel=1e-3)
        for k, layer in enumerate(LAYERS):
            norm = rows[step, layer, "kernel_gradient", ""]
            assert recorded.plain.gradients[k][i] == pytest.approx(norm, rel=1e-3)
            for n, level in enumerate(HISTOGRAM):
                value = rows[step, layer, "preactivation_percentile", str(level)]
                assert recorded.plain.percentiles[k][n][i] == pytest.approx(value, rel=1e-3)


def test_runs_without_probes_have_no_training(tmp_path: Path, pair: list[Run]) -> None:
    assert training([]) is None
    assert training([pair[0], Run(tmp_path, run_record())]) is None


def rewritten(pair: list[Run], folder: Path, keep: Callable[[str], bool], last: str) -> Training:
    """The training with some rows left out, and another last value of each quantity."""
    runs = []
    for run in pair:
        copy = folder / run.name
        copy.mkdir()
        (copy / "probes.json").write_text((run.path / "probes.json").read_text())
        lines = [line for line in (run.path / TABLE).read_text().splitlines() if keep(line)]
        lines = [
            line.rpartition(",")[0] + "," + last if line.startswith("40,") else line
            for line in lines
        ]
        (copy / TABLE).write_text("\n".join(lines))
        runs.append(Run(copy, run.record))
    found = training(runs)
    assert found is not None
    return found


def words(page: Tab, selector: str) -> list[str]:
    found = page.run(f"[...document.querySelectorAll({selector!r})].map(each => each.innerText)")
    assert isinstance(found, list)
    return found


def shown_step(page: Tab) -> str:
    return words(page, ".player output")[0]


@pytest.mark.slow
def test_the_slider_shows_each_step(open_part: Callable[..., Tab], recorded: Training) -> None:
    page = open_part("training", Play(training=recorded))
    page.run('document.querySelector(".player input").focus()')
    shapes = set()
    keys = [("", 0), ("ArrowRight", 1), ("End", 3), ("ArrowLeft", 2), ("Home", 0), ("ArrowUp", 1)]
    for key, index in keys:
        if key:
            page.press(key)
        step = recorded.steps[index]
        at, epoch = shown_step(page).split(", epoch ")
        assert at == f"step {step}"
        assert [*map(number, epoch.split(" of "))] == pytest.approx([step / 125, 0.32], rel=0.05)
        spoken = "document.querySelector('.player input').getAttribute('aria-valuetext')"
        assert page.run(spoken) == shown_step(page)
        shapes.add(page.run("document.querySelector('.histogram .filled').getAttribute('d')"))
        cells = words(page, ".layer .cell")
        models = [recorded.bn, recorded.plain] * 4
        for i, (cell, model) in enumerate(zip(cells, models, strict=True)):
            low, high = (
                model.percentiles[i // 2][recorded.levels.index(level)][index] for level in (10, 90)
            )
            shown = re.search(r"most: (\S+) to (\S+)\s+gradient norm (\S+)", cell)
            assert shown is not None
            wanted = [low, high, model.gradients[i // 2][index]]
            assert [*map(number, shown.groups())] == pytest.approx(wanted, rel=0.06)
        claim = words(page, "[data-finding]")[0]
        found = re.fullmatch(
            rf"At step {step}, the loss is (\S+) with BN and (\S+) without BN. The first layer's "
            r"gradient is (\S+) times .* with BN and (\S+) times the last layer's without BN.",
            claim,
        )
        assert found is not None
        both = recorded.bn, recorded.plain
        first, last = (np.array([each.gradients[k][index] for each in both]) for k in (0, -1))
        wanted = [*(each.loss[index] for each in both), *(first / last)]
        assert [*map(number, found.groups())] == pytest.approx(wanted, rel=0.06)
    assert len(shapes) == len(recorded.steps)
    assert page.errors() == []


@pytest.mark.slow
def test_play_runs_to_the_end_and_pauses(open_part: Callable[..., Tab], recorded: Training) -> None:
    page = open_part("training", Play(training=recorded))
    page.call("Emulation.setEmulatedMedia", features=[REDUCED_MOTION])
    assert page.run("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    label = 'document.querySelector(".player button").innerText'
    assert page.run(label) == "Play"  # never by itself
    page.run('document.querySelector(".player button").click()')
    assert page.run(label) == "Pause"
    assert page.run("document.getAnimations().length") == 0
    end = time.monotonic() + 20
    while page.run(label) == "Pause" and time.monotonic() < end:
        time.sleep(0.1)
    assert shown_step(page).startswith("step 40, ")
    page.run('document.querySelector(".player button").click()')
    assert shown_step(page).startswith("step 0, ")
    page.run('document.querySelector(".player button").click()')
    assert page.run(label) == "Play"


@pytest.mark.slow
def test_values_that_are_not_finite_are_named(
    open_part: Callable[..., Tab], pair: list[Run], tmp_path: Path
) -> None:
    data = Play(training=rewritten(pair, tmp_path, lambda _: True, "nan"))
    page = open_part("training", data, 360)
    page.run('document.querySelector(".player input").focus()')
    page.press("End")
    assert "no finite values" in words(page, ".layer .cell")[0]
    assert "not finite" in words(page, ".layer .cell")[-1]
    assert "NaN" not in page.run("document.querySelector('main').innerHTML")
    assert page.errors() == []


@pytest.mark.slow
def test_older_probes_show_gradients_alone(
    open_part: Callable[..., Tab], pair: list[Run], tmp_path: Path
) -> None:
    old = rewritten(pair, tmp_path, lambda line: "preactivation_percentile" not in line, "2")
    assert old.levels == []
    page = open_part("training", Play(training=old))
    assert "hold no histograms" in words(page, "[data-missing]")[0]
    assert len(words(page, ".layer .cell")) == 8
    assert page.run('document.querySelectorAll(".histogram").length') == 0
    assert "The charts" not in page.run("document.body.innerText")
    assert page.errors() == []


@pytest.mark.slow
def test_without_probes_the_part_says_so(open_part: Callable[..., Tab], trained: Play) -> None:
    page = open_part("training", msgspec.structs.replace(trained, training=None))
    assert "--probe" in words(page, "[data-missing]")[0]
    assert page.run('document.querySelectorAll(".playback, .layer").length') == 0
    assert page.errors() == []


@pytest.mark.slow
def test_histograms_are_those_of_the_percentiles(
    open_part: Callable[..., Tab], recorded: Training
) -> None:
    """A histogram of percentiles is that of many values with these percentiles."""
    page = open_part("training", Play(training=recorded))
    for values in ([-3.0, -1.0, 0.5, 2.0], [-30.0, 0.0, 0.0, 9.0], [1.0, 1.0, 1.0, 1.0]):
        levels, end = [0, 20, 70, 100], 5.0
        shares = page.run(f"histogram.ofPercentiles({levels}, {values}, {end})")
        many = np.interp(np.linspace(0, 100, 200_001), levels, values)
        edges = np.linspace(-end, end, len(shares) + 1)
        counts, _ = np.histogram(np.clip(many, -end, end), edges)
        np.testing.assert_allclose(shares, counts / counts.sum(), atol=1e-3)
        assert math.isclose(sum(shares), 1)
        ours = page.run(f"[...histogram.ofValues({many[::100].tolist()}, {end})]")
        bins = np.linspace(-end, end, len(ours) + 1)
        counts, _ = np.histogram(np.clip(many[::100], -end, end), bins)
        np.testing.assert_allclose(ours, counts / counts.sum(), atol=1e-3)
