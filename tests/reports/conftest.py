"""Subjects of reports with made-up figures, and a browser. TensorFlow is not loaded."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import NAMES, Chromium, Tab
from sample_runs import write_comparison

from kerasbn.data.datasets import Dataset
from kerasbn.experiments.comparison import Comparison
from kerasbn.probes.readings import (
    MODEL,
    BatchResult,
    LayerNames,
    ProbeRecord,
    Reading,
    write_probes,
)
from kerasbn.probes.topics.activations import HISTOGRAM
from kerasbn.runs import Run
from kerasbn.training.settings import ModelSettings, TrainingSettings

STEP_SIZES = (0.1, 0.4)
QUANTITIES = {
    "dense": (
        "kernel_gradient", "preactivation_gradient", "preactivation_mean", "preactivation_sd",
        "percentile 15", "percentile 50", "percentile 85", "saturated", "input_mean_drift",
        "input_sd_drift", "shift_cosine", "shift_distance", "shift_relative",
    ),
    "bn": (
        *(f"{name} {rank}" for name in ("beta", "gamma") for rank in (0, 15, 50, 85, 100)),
        "moving_mean_distance", "moving_sd_ratio", "outside",
    ),
    MODEL: (
        "loss", "gradient", "smoothness",
        *(f"{name} {size}" for name in ("loss_after", "change") for size in STEP_SIZES),
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None or subprocess.run([program, "--version"], capture_output=True).returncode:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}")
    browser = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def tab(chromium: Chromium) -> Iterator[Callable[..., Tab]]:
    """Return a function that opens a page at a width, light or dark."""
    opened = []

    def open_tab(path: Path, width: int, *, dark: bool = False) -> Tab:
        opened.append(Tab(chromium, width, dark=dark))
        opened[-1].open(path)
        return opened[-1]

    yield open_tab
    for each in opened:
        each.close()


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """A comparison of one pair, and the folder its runs are in."""
    root = tmp_path_factory.mktemp("comparison") / "saved_models"
    return root, write_comparison(root, ModelSettings(), TrainingSettings(epochs=3, seed=1))


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison over three seeds."""
    root = tmp_path_factory.mktemp("seeds") / "saved_models"
    training = TrainingSettings(epochs=3, seed=4, lr=0.02)
    write_comparison(root, ModelSettings(hidden=(12,)), training, seeds=3)
    return root / "compare"


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of one pair, deep and with probes, and of its runs beside it."""
    root = tmp_path_factory.mktemp("probed") / "saved_models"
    model = ModelSettings(hidden=(8, 8, 8), activation="sigmoid")
    for run in write_comparison(root, model, TrainingSettings(epochs=2, seed=1)).probed_runs:
        _probe(run)
    return root / "compare"


@pytest.fixture(scope="session")
def swept(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of learning rate by activation, with made-up figures.

    Without BN every trial at the highest learning rate diverged.
    """
    from kerasbn.sweeps.grid import parse_grid
    from kerasbn.sweeps.study import open_study
    from kerasbn.sweeps.study_data import Outcome

    raw = {
        "question": "Which learning rates does a network learn at?",
        "seeds": 3,
        "options": {"epochs": 1},
        "axes": {"lr": [0.001, 0.1, 10.0], "activation": ["relu", "tanh"]},
    }
    path = tmp_path_factory.mktemp("swept") / "saved_models" / "studies" / "rates"
    study = open_study(
        path, parse_grid(raw, "rates", "a test"), few_digits, command="kerasbn sweep x"
    )
    random = np.random.default_rng(3)
    results = {}
    for each in study.trials:
        diverged = not each.bn and each.training.lr > 1
        accuracy = 0.6 + 0.3 * each.bn + float(random.normal(0, 0.02))
        results[each.name] = (
            Outcome("diverged", epochs=0, diverged_at_step=3, digest="0")
            if diverged
            else Outcome("finished", 1, 20, None, 1.0, 0.5, 1.0, accuracy, "0")
        )
    replace(study, outcomes=results).write_results()
    return path


def _probe(run: Run) -> None:
    """Write made-up readings of every quantity."""
    bn = run.record.model.bn
    layers = [LayerNames(f"dense_{i}", f"bn_{i}" if bn else None) for i in (1, 2, 3)]
    layers.append(LayerNames("logits"))
    results = [
        BatchResult(statistics, size, order, 0.5 + size / 200, 0.1, 0.2)
        for statistics in (("moving", "batch") if bn else ("moving",))
        for size in (1, 2, 8, 64)
        for order in ("shuffled", "sorted")
    ]
    record = ProbeRecord(640, 8, 32, STEP_SIZES, tuple(layers), tuple(results))
    write_probes(run.path, _readings(layers), record)


def _readings(layers: list[LayerNames]) -> Iterator[Reading]:
    random = np.random.default_rng(3)
    names = {MODEL: MODEL} | {each.dense: "dense" for each in layers}
    names |= {each.bn: "bn" for each in layers if each.bn}
    for name, kind in names.items():
        if kind == "dense":
            yield Reading(0, name, "typical_unit", "", 3)
        for quantity, _, which in (each.partition(" ") for each in QUANTITIES[kind]):
            for step in (0, 10, 20, 40):
                if step > 0 or not quantity.startswith(("shift", "input")):
                    yield Reading(step, name, quantity, which, float(random.uniform(0.05, 2)))
        for step in (0, 10, 20, 40) if kind == "dense" else ():
            values = np.percentile(random.normal(step / 10, 1 + step, 500), HISTOGRAM)
            for level, value in zip(HISTOGRAM, values, strict=True):
                yield Reading(step, name, "preactivation_percentile", str(level), value)
