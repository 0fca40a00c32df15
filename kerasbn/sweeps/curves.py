"""The networks of a study over their steps: means, bands, and who is faster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import FIGURE


@dataclass(frozen=True)
class Lines:
    """The accuracies of the networks of one kind over training.

    Attributes:
        steps: where they were measured, the same for all.
        members: by seed, an accuracy for each of these steps, of those that finished.
        diverged: by seed, those of the others, as far as they came.
    """

    steps: Sequence[float]
    members: Mapping[int, Sequence[float]]
    diverged: Mapping[int, tuple[Sequence[float], Sequence[float]]]

    @property
    def mean(self) -> list[float]:
        """The mean at each step."""
        return [float(each) for each in np.mean(list(self.members.values()), axis=0)]

    @property
    def sd(self) -> list[float] | None:
        """The standard deviation at each step; None for fewer than two members."""
        if len(self.members) < 2:
            return None
        return [float(each) for each in np.std(list(self.members.values()), axis=0, ddof=1)]


@dataclass(frozen=True)
class Reached:
    """When the network with normalization first is as good as the other ever gets."""

    accuracy: float
    steps_with: int
    steps_without: int


def lines_of(study: Study, bn: bool) -> Lines:
    """The accuracies on the test digits over the steps, of all networks of a kind.

    They belong together only where nothing but the seed differs, that is in a study without axes.
    """
    members, diverged = {}, {}
    steps: Sequence[float] = []
    for each in study.configurations:
        history = study.histories.get(each.name)
        if each.bn != bn or history is None:
            continue
        if study.status(each) == "finished":
            steps = history["step"]
            members[each.training.seed] = history[FIGURE]
        elif study.status(each) == "diverged":
            diverged[each.training.seed] = (history["step"], history[FIGURE])
    return Lines(steps, members, diverged)


def steps_to_reach(study: Study) -> Reached | None:
    """When the mean with normalization first has the highest mean without; None if it never has."""
    with_bn, without = lines_of(study, True), lines_of(study, False)
    if not with_bn.members or not without.members:
        return None
    highest = int(np.argmax(without.mean))
    accuracy = without.mean[highest]
    reached = [
        step for step, mean in zip(with_bn.steps, with_bn.mean, strict=True) if mean >= accuracy
    ]
    return Reached(accuracy, int(reached[0]), int(without.steps[highest])) if reached else None
