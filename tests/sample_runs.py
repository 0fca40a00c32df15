"""Runs for tests: records without a training, and short trainings."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kerasbn.common.records import write_csv, write_json
from kerasbn.runs import HISTORY, HISTORY_COLUMNS, RECORD, DataRecord, Run, RunRecord, Status
from kerasbn.training.settings import ModelSettings, TrainingSettings

if TYPE_CHECKING:
    from kerasbn.data.datasets import Dataset
    from kerasbn.experiments.comparison import Comparison
    from kerasbn.experiments.train import TrainingJob
    from kerasbn.experiments.trained_model import TrainedModel


@contextmanager
def quick_training() -> Iterator[None]:
    """Train without XLA in the block, and save figures without drawing them.

    Compiling and drawing take more than half of the time of a small training.
    """
    from kerasbn.training import loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "TrainingLoop", partial(loop.TrainingLoop, compiled=False))
        patch.setattr("matplotlib.figure.Figure.draw", lambda *_: None)
        yield


def run_record(**changes: Any) -> RunRecord:
    """A record of a finished run of one epoch, with some changes."""
    values: dict[str, Any] = {
        "status": "finished",
        "started": "2026-01-02T03:04:00+00:00",
        "finished": "2026-01-02T03:04:05+00:00",
        "seconds": 5.0,
        "model": ModelSettings(),
        "training": TrainingSettings(epochs=1),
        "data": DataRecord("mnist-sample", "0" * 64, 4000, 1000),
        "device": "CPU",
        "versions": {"kerasbn": "0"},
        "parameters": 26698,
        "epochs": 1,
        "final": {"val_accuracy": 0.8},
    }
    return RunRecord(**values | changes)


def write_run(
    root: Path,
    name: str,
    record: RunRecord | None = None,
    history: Iterable[Sequence[float]] = ((1, 0.9, 0.2, 125, 0.8, 0.3),),
) -> Run:
    """A run on disk, without a model."""
    folder = root / name
    folder.mkdir(parents=True)
    record = record or run_record()
    write_json(folder / RECORD, record)
    write_csv(folder / HISTORY, HISTORY_COLUMNS, history)
    return Run(folder, record)


def write_comparison(
    root: Path, model: ModelSettings, training: TrainingSettings, seeds: int = 1
) -> "Comparison":
    """A comparison on disk with made-up metrics, better with BN; the models are empty files."""
    from kerasbn.experiments.comparison import KINDS, Comparison
    from kerasbn.experiments.trained_model import trained_model

    folder = root / "compare"
    folder.mkdir(parents=True)
    sides: dict[str, list[TrainedModel]] = {kind: [] for kind in KINDS}
    for kind, name, scale in zip(KINDS, ("bn", "plain"), (0.3, 0.5), strict=True):
        for seed in range(training.seed, training.seed + seeds):
            random = np.random.default_rng([kind == "with_bn", seed])
            factors = random.uniform(0.8, 1.2, training.epochs).tolist()
            errors = [scale / i * factor for i, factor in enumerate(factors, start=1)]
            history = [
                (i, 1 - each, 3 * each, 20 * i, 1 - 1.1 * each, 3.3 * each)
                for i, each in enumerate(errors, start=1)
            ]
            record = run_record(
                model=replace(model, bn=kind == "with_bn"),
                training=replace(training, seed=seed),
                epochs=training.epochs,
                final=dict(zip(HISTORY_COLUMNS, history[-1], strict=True)),
            )
            place, own_name = (root, name) if seeds == 1 else (folder, f"{name}-seed-{seed}")
            run = write_run(place, own_name, record, history)
            run.model_path.touch()
            sides[kind].append(trained_model(run))
    with_bn, without_bn = map(tuple, sides.values())
    comparison = Comparison("compare", with_bn, without_bn, folder)
    comparison.write()
    return comparison


def job(model: ModelSettings, run: str | None = None, *, probe: bool = False) -> "TrainingJob":
    """A job for `train_runs`, named by whether the model has BN."""
    from kerasbn.experiments.train import TrainingJob

    return TrainingJob("bn" if model.bn else "plain", model, TrainingSettings(), run, probe)


def train_runs(
    jobs: "Sequence[TrainingJob]", data: "Dataset", training: TrainingSettings, **options: Any
) -> list[Run]:
    """Train jobs with these settings, and return their runs."""
    from kerasbn.experiments.train import train_jobs

    return train_jobs([replace(each, training=training) for each in jobs], data, **options)


def trained_member(
    bn: bool, seed: int, status: Status = "finished", epochs: int = 2
) -> "TrainedModel":
    """A model of a comparison, with a made-up history and no run."""
    from kerasbn.experiments.trained_model import TrainedModel

    random = np.random.default_rng([bn, seed])
    history = {name: random.uniform(0.8, 0.9, epochs).tolist() for name in HISTORY_COLUMNS}
    history["epoch"] = [float(i + 1) for i in range(epochs)]
    return TrainedModel(
        f"{'bn' if bn else 'plain'}-seed-{seed}",
        ModelSettings(bn=bn),
        TrainingSettings(seed=seed),
        DataRecord("mnist", "0" * 64, 60_000, 10_000),
        "CPU",
        status,
        history,
        7 if status == "diverged" else None,
    )
