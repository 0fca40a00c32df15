"""What the seeds of each configuration show together, and how fast they learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbn.experiments.statistics import Difference, Spread, paired_difference, spread
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.trials import Configuration, Trial
from kerasbn.training.settings import SETTINGS, Value, short_text

FIGURE = "val_accuracy"  # test accuracy: what a sweep compares
LEARNED = 0.2  # a lower test accuracy is hardly better than guessing one of ten classes


@dataclass(frozen=True)
class SeedResults:
    """The trials of one configuration with BN, or those without.

    Attributes:
        accuracies: The test accuracy of each finished trial, by seed.
        diverged: The seeds that diverged; they are in no mean.
        failed: The seeds that could not be trained.
        missing: The number of seeds that are not trained yet.
    """

    accuracies: Mapping[int, float]
    diverged: Sequence[int]
    failed: Sequence[int]
    missing: int

    @property
    def spread(self) -> Spread:
        """Mean and standard deviation of the finished trials."""
        return spread(list(self.accuracies.values()))

    @property
    def band(self) -> tuple[float, float]:
        """One standard deviation below and above the mean, within the range of the seeds."""
        found, own = self.spread, self.accuracies.values()
        mean, sd = found.mean or 0.0, found.sd or 0.0
        return max(mean - sd, min(own, default=0.0)), min(mean + sd, max(own, default=0.0))

    @property
    def trained(self) -> int:
        """The number of trials that finished or diverged."""
        return len(self.accuracies) + len(self.diverged)

    @property
    def is_sound(self) -> bool:
        """Whether every seed finished, so that the mean may count as the best."""
        return bool(self.accuracies) and not (self.diverged or self.failed or self.missing)

    @property
    def fails(self) -> bool:
        """Whether the mean is below `LEARNED`, or most seeds diverged."""
        mean = self.spread.mean
        return len(self.diverged) > len(self.accuracies) or (mean is not None and mean < LEARNED)


@dataclass(frozen=True)
class Summary:
    """One configuration, with and without BN; None for what the grid does not train."""

    configuration: Configuration
    with_bn: SeedResults | None
    without_bn: SeedResults | None

    @property
    def difference(self) -> Difference:
        """With BN minus without, over the seeds that finished both."""
        return difference(self.with_bn, self.without_bn)

    def of(self, bn: bool) -> SeedResults | None:
        """Return the results with BN, or those without."""
        return self.with_bn if bn else self.without_bn


@dataclass(frozen=True)
class Curves:
    """Test accuracy over training, of the trials with BN or of those without.

    Attributes:
        steps: Where it was measured.
        finished: By seed, an accuracy for each of `steps`.
        diverged: By seed, the steps and accuracies until a trial diverged.
    """

    steps: Sequence[float]
    finished: Mapping[int, Sequence[float]]
    diverged: Mapping[int, tuple[Sequence[float], Sequence[float]]]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean over seeds at each step."""
        return np.asarray(np.mean(list(self.finished.values()), axis=0), np.float64)

    @property
    def sd(self) -> NDArray[np.float64] | None:
        """The standard deviation over seeds at each step; None for one seed."""
        one = len(self.finished) < 2
        return None if one else np.std(list(self.finished.values()), axis=0, ddof=1)


def difference(first: SeedResults | None, second: SeedResults | None) -> Difference:
    """Return the difference, first minus second, over the seeds that finished both."""
    a, b = (each.accuracies if each else {} for each in (first, second))
    seeds = [seed for seed in a if seed in b]
    return paired_difference([a[seed] for seed in seeds], [b[seed] for seed in seeds])


def summarize(study: Study) -> list[Summary]:
    """Return a summary of each configuration, in the order of the grid."""
    by_key: dict[tuple[Value, ...], dict[bool, list[Trial]]] = {}
    for trial in study.trials:
        key = tuple(trial.configuration.values())
        by_key.setdefault(key, {}).setdefault(trial.bn, []).append(trial)
    summaries = []
    for kinds in by_key.values():
        configuration = next(iter(kinds.values()))[0].configuration
        results = {bn: _seed_results(study, trials) for bn, trials in kinds.items()}
        summaries.append(Summary(configuration, results.get(True), results.get(False)))
    return summaries


def best(summaries: Sequence[Summary], bn: bool) -> Summary | None:
    """Return the summary with the highest mean, among those where every seed finished."""
    sound = [each for each in summaries if (results := each.of(bn)) and results.is_sound]
    return max(sound, key=lambda each: mean_of(each, bn), default=None)


def mean_of(summary: Summary, bn: bool) -> float:
    """Return the mean test accuracy; -1 if there is none."""
    results = summary.of(bn)
    mean = results.spread.mean if results else None
    return -1.0 if mean is None else mean


def describe(configuration: Configuration, axes: Sequence[str]) -> str:
    """Return a configuration in words, such as ``learning rate 0.01, activation relu``."""
    return ", ".join(f"{SETTINGS[axis].label} {short_text(configuration[axis])}" for axis in axes)


def curves_of(study: Study, bn: bool) -> Curves:
    """Return the test accuracy over training of all trials with BN, or without.

    Only meaningful in a study without axes, where trials differ in the seed alone.
    """
    finished, diverged = {}, {}
    steps: Sequence[float] = []
    for trial in study.trials:
        history = study.histories.get(trial.name)
        if trial.bn != bn or history is None:
            continue
        if study.status(trial) == "finished":
            steps = history["step"]
            finished[trial.seed] = history[FIGURE]
        elif study.status(trial) == "diverged":
            diverged[trial.seed] = (history["step"], history[FIGURE])
    return Curves(steps, finished, diverged)


def speed_of(study: Study) -> tuple[float, int, int] | None:
    """Return how fast BN reaches the best mean accuracy without BN.

    Returns:
        The best mean without BN, the first step at which the mean with BN is as high, and the step
        at which it is reached without. None if BN does not reach it.
    """
    with_bn, without_bn = curves_of(study, True), curves_of(study, False)
    if not with_bn.finished or not without_bn.finished:
        return None
    highest = int(np.argmax(without_bn.mean))
    accuracy = without_bn.mean[highest]
    for step, mean in zip(with_bn.steps, with_bn.mean, strict=True):
        if mean >= accuracy:
            return float(accuracy), int(step), int(without_bn.steps[highest])
    return None


def _seed_results(study: Study, trials: Sequence[Trial]) -> SeedResults:
    seeds: dict[str, list[int]] = {}
    for trial in trials:
        seeds.setdefault(study.status(trial), []).append(trial.seed)
    return SeedResults(
        {
            trial.seed: outcome.val_accuracy
            for trial in trials
            if (outcome := study.outcomes.get(trial.name)) and outcome.val_accuracy is not None
        },
        seeds.get("diverged", []),
        seeds.get("failed", []),
        len(seeds.get("missing", [])),
    )
