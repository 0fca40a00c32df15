"""Trials: the models that a grid trains, and which of them train together.

A configuration is one combination of the axes' values. A trial is a configuration with or without
BN and one seed; each becomes a run. A trial batch is the unit of a sweep's work.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise, product
from math import ceil
from typing import Any

from kerasbn.common.errors import KerasbnError, quoted
from kerasbn.sweeps.grid import Grid, Range, prefixed
from kerasbn.training import settings
from kerasbn.training.settings import ModelSettings, SettingValue, TrainingSettings

MAX_PAIRS = 8  # in a trial batch: more run slower per trial
MAX_NAME = 90  # characters

Configuration = Mapping[str, SettingValue]
Files = dict[str, dict[str, bytes]]  # of runs: contents by the names of the trial and the file


@dataclass(frozen=True)
class Trial:
    """One model to train: the name of its run, its value on each axis, and its settings."""

    name: str
    configuration: Configuration
    model: ModelSettings
    training: TrainingSettings

    @property
    def bn(self) -> bool:
        """Whether the model has BN layers."""
        return self.model.bn

    @property
    def seed(self) -> int:
        """The random seed."""
        return self.training.seed


@dataclass(frozen=True)
class TrialBatch:
    """Trials that train together, as ensembles; they differ in seed, learning rate and BN only.

    A batch is trained as a whole or not at all, since the size of an ensemble affects rounding.
    Batches depend on the grid alone, not on what is missing or on what trains them. `number` is the
    index of a batch among those of the grid.
    """

    number: int
    trials: tuple[Trial, ...]

    @property
    def cost(self) -> float:
        """The approximate work, in multiplications; to compare batches of one sweep.

        The fixed overhead of a training step costs about as much as half a million.
        """
        model, training = self.trials[0].model, self.trials[0].training
        products = sum(a * b for a, b in pairwise([784, *model.hidden, 10]))
        step = training.batch_size * products + 500_000
        steps = training.steps or training.epochs * 60_000 / training.batch_size
        return len(self.trials) * step * steps

    def __str__(self) -> str:
        first, last = self.trials[0].name, self.trials[-1].name
        return f"{first} to {last}" if len(self.trials) > 2 else f"{first}, {last}"


@dataclass(frozen=True)
class Event:
    """What happened to a batch: it started or went on (`share` is done), was trained, or failed.

    `warnings` are lines for the user about what does not stop it.
    """

    batch: int
    share: float = 0.0
    files: Files | None = None
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the batch was trained or failed."""
        return self.files is not None or bool(self.error)


def error_line(error: BaseException) -> str:
    """Return an error in one line, with its type unless it is one of kerasbn's own."""
    text = quoted(error, longest=300)
    return text if isinstance(error, KerasbnError) else f"{type(error).__name__}: {text}"


def configurations(grid: Grid) -> Iterator[dict[str, SettingValue]]:
    """Return the combinations of the axes' values, the last axis fastest, or a random sample.

    A sample depends on `sample_seed` alone, since Python keeps the sequence of `random.random`
    stable. Numbers are rounded to three significant digits.
    """
    if grid.sample is None:
        lists = [axis for axis in grid.axes.values() if not isinstance(axis, Range)]
        for values in product(*lists):
            yield dict(zip(grid.axes, values, strict=True))
        return
    source = random.Random(grid.sample_seed)  # noqa: S311 - a sample of settings, no secret
    for _ in range(grid.sample):
        drawn = {}
        for key, axis in grid.axes.items():
            share = source.random()
            drawn[key] = axis.at(share) if isinstance(axis, Range) else axis[int(share * len(axis))]
        yield drawn


def list_trials(grid: Grid) -> list[Trial]:
    """Return every trial of the grid; raise `InputError` if the settings of one are invalid."""
    trials: dict[str, Trial] = {}  # a sample may draw a configuration twice: it is trained once
    for configuration in configurations(grid):
        model, training = settings.settings_from({**grid.options, **configuration})
        models = [replace(model, bn=bn) for bn in grid.kinds]
        for own, each in product(settings.seed_settings(training, grid.seeds), models):
            name = _name(configuration, each.bn, own.seed)
            trials.setdefault(name, Trial(name, configuration, each, own))
    return list(trials.values())


def list_batches(trials: list[Trial]) -> list[TrialBatch]:
    """Return the trials in batches of nearly equal size, as large as `MAX_PAIRS` allows."""
    alike: dict[Any, list[list[Trial]]] = {}
    for _, pair_of_trials in groupby(trials, lambda t: (t.training, t.configuration)):
        pair = list(pair_of_trials)
        shape = (replace(pair[0].model, bn=True), replace(pair[0].training, lr=1.0, seed=0))
        alike.setdefault(shape, []).append(pair)
    batches: list[TrialBatch] = []
    for same in alike.values():
        count = ceil(len(same) / MAX_PAIRS)
        for i in range(count):
            part = same[i * len(same) // count : (i + 1) * len(same) // count]
            batches.append(TrialBatch(len(batches), tuple(t for pair in part for t in pair)))
    return batches


def check_trials(trials: list[Trial], examples: int) -> None:
    """Raise `InputError` if a trial cannot be trained on so many examples; the line names it."""
    for trial in trials:
        with prefixed(trial.name):
            trial.training.check([trial.model], examples)


def _name(configuration: Configuration, bn: bool, seed: int) -> str:
    """Return a name such as ``lr-0.1_hidden-3x32_bn_seed-0``, safe on any file system."""
    parts = [f"{key}-{settings.short_text(value)}" for key, value in configuration.items()]
    ending = f"{'bn' if bn else 'plain'}_seed-{seed}"
    name = re.sub(r"[^\w.-]+", "-", "_".join([*parts, ending]), flags=re.ASCII)
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256("_".join(parts).encode()).hexdigest()[:12]
    return f"{name[: MAX_NAME - len(ending) - 14]}_{digest}_{ending}"
