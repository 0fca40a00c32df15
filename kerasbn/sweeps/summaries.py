"""What the seeds of each configuration show together, and how fast they learn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from kerasbn.common.wording import percent_sd
from kerasbn.experiments.statistics import Difference, Spread, paired_difference, spread
from kerasbn.runs import History
from kerasbn.sweeps.study_data import StudyData
from kerasbn.sweeps.trials import Configuration, Trial
from kerasbn.training.settings import SETTINGS, short_text

KIND_NAMES = {True: "with BN", False: "without BN"}
FIGURE = "val_accuracy"  # test accuracy: what a sweep compares
LEARNED = 0.2  # a lower test accuracy is hardly better than guessing one of ten classes


@dataclass(frozen=True)
class SeedResults:
    """The trials of one configuration with BN, or those without.

    `trials` is their number in the grid, `accuracies` holds the test accuracy of each finished one
    by seed, and `diverged` is the number of those that diverged; they are in no mean. `images` is
    the size of the test set.
    """

    trials: int
    accuracies: Mapping[int, float]
    diverged: int
    images: int

    @property
    def spread(self) -> Spread:
        """Mean and standard deviation of the finished trials."""
        return spread(list(self.accuracies.values()))

    @property
    def mean(self) -> float:
        """The mean of the finished trials; NaN without any."""
        mean = self.spread.mean
        return math.nan if mean is None else mean

    @property
    def band(self) -> tuple[float, float]:
        """One standard deviation below and above the mean, within the range of the seeds."""
        sd, own = self.spread.sd or 0.0, self.accuracies.values()
        return max(self.mean - sd, min(own)), min(self.mean + sd, max(own))

    @property
    def trained(self) -> int:
        """The number of trials that finished or diverged."""
        return len(self.accuracies) + self.diverged

    @property
    def is_sound(self) -> bool:
        """Whether every seed finished, so that the mean may count as the best."""
        return 0 < self.trials == len(self.accuracies)

    @property
    def fails(self) -> bool:
        """Whether the mean is below `LEARNED`, or most seeds diverged."""
        return self.diverged > len(self.accuracies) or self.mean < LEARNED


@dataclass(frozen=True)
class Summary:
    """One configuration, with and without BN."""

    configuration: Configuration
    with_bn: SeedResults
    without_bn: SeedResults

    @property
    def difference(self) -> Difference:
        """With BN minus without, over the seeds that finished both."""
        return difference_of(self.with_bn, self.without_bn)

    def of(self, bn: bool) -> SeedResults:
        """Return the results with BN, or those without."""
        return self.with_bn if bn else self.without_bn


def difference_of(first: SeedResults, second: SeedResults) -> Difference:
    """Return the difference, first minus second, over the seeds that finished both."""
    a, b = first.accuracies, second.accuracies
    seeds = [seed for seed in a if seed in b]
    pairs = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    return paired_difference(*pairs, 1 / first.images)


def summarize(study: StudyData) -> list[Summary]:
    """Return a summary of each configuration, in the order of the grid."""
    summaries = []
    for configuration, trials in groupby(study.trials, lambda trial: trial.configuration):
        some = list(trials)
        kinds = ([trial for trial in some if trial.bn == bn] for bn in KIND_NAMES)
        summaries.append(Summary(configuration, *(_seed_results(study, kind) for kind in kinds)))
    return summaries


def _seed_results(study: StudyData, trials: Sequence[Trial]) -> SeedResults:
    ended = [
        (each.seed, study.outcomes[each.name]) for each in trials if each.name in study.outcomes
    ]
    accuracies = {seed: each.val_accuracy for seed, each in ended if each.val_accuracy is not None}
    diverged = sum(each.status == "diverged" for _, each in ended)
    return SeedResults(len(trials), accuracies, diverged, study.record.data.test)


def best(summaries: Sequence[Summary], bn: bool) -> Summary | None:
    """Return the summary with the highest mean, among those where every seed finished."""
    sound = [each for each in summaries if each.of(bn).is_sound]
    return max(sound, key=lambda each: each.of(bn).mean, default=None)


@dataclass(frozen=True)
class Best:
    """A best mean test accuracy, its standard deviation, and where it is reached."""

    accuracy: float | None
    sd: float | None
    where: str

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"{percent_sd(self.accuracy, self.sd)}{place}"


def as_best(summary: Summary, bn: bool, axes: Sequence[str]) -> Best:
    """Return what `best` found, in figures and words."""
    found = summary.of(bn).spread
    return Best(found.mean, found.sd, describe(summary.configuration, axes))


def describe(configuration: Configuration, axes: Sequence[str]) -> str:
    """Return a configuration in words, such as ``learning rate 0.01, activation relu``."""
    return ", ".join(f"{SETTINGS[axis].label} {short_text(configuration[axis])}" for axis in axes)


def by_other_axes(
    summaries: Sequence[Summary], axes: Sequence[str]
) -> tuple[str, dict[str, list[Summary]]]:
    """Return the axis with the most values, and the summaries by those of the others, in words."""
    longest = max(axes, key=lambda axis: len({each.configuration[axis] for each in summaries}))
    groups: dict[str, list[Summary]] = {}
    for each in summaries:
        place = describe(each.configuration, [axis for axis in axes if axis != longest])
        groups.setdefault(place, []).append(each)
    return longest, groups


def histories_of(study: StudyData, bn: bool, status: str) -> list[History]:
    """Return the histories of the trials with BN, or without, that ended so."""
    trials = [trial for trial in study.with_status(status) if trial.bn == bn]
    return [study.histories[trial.name] for trial in trials if trial.name in study.histories]


def speed_of(study: StudyData) -> tuple[float, int, int] | None:
    """Return how fast BN reaches the best mean accuracy without BN, in a study without axes.

    That accuracy, the first step at which the mean with BN is as high, and the step at which it is
    reached without BN; None if BN does not reach it.
    """
    kinds = [histories_of(study, bn, "finished") for bn in KIND_NAMES]
    if not all(kinds):
        return None
    with_bn, without_bn = (np.mean([each[FIGURE] for each in kind], axis=0) for kind in kinds)
    highest = int(np.argmax(without_bn))
    reached = np.flatnonzero(with_bn >= without_bn[highest])
    if not reached.size:
        return None
    steps = [int(kind[0]["step"][i]) for kind, i in zip(kinds, (reached[0], highest), strict=True)]
    return float(without_bn[highest]), steps[0], steps[1]
