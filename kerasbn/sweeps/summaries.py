"""What the seeds of each point of a grid say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kerasbn.experiments.statistics import Difference, Spread, paired_difference, spread
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.trials import Configuration, Point, text_of

FIGURE = "val_accuracy"  # what a sweep is about: the share of the test digits answered rightly
CHANCE = 0.2  # accuracy under this is hardly more than guessing one of ten

NAMES = {
    "hidden": "hidden layers",
    "activation": "activation",
    "bn_position": "position of the normalization",
    "bn_momentum": "momentum",
    "bn_epsilon": "epsilon",
    "init": "initial weights",
    "bias_before_bn": "bias before the normalization",
    "optimizer": "optimizer",
    "lr": "learning rate",
    "batch_size": "batch size",
    "epochs": "epochs",
    "steps": "steps",
}


@dataclass(frozen=True)
class Side:
    """The networks of one point with normalization, or those without.

    Attributes:
        accuracies: on the test digits, by seed, of those that finished.
        diverged: the seeds of those whose loss became NaN or infinite: in no mean.
        failed: the seeds of those that could not be trained.
        missing: how many have not been trained yet.
    """

    accuracies: Mapping[int, float]
    diverged: Sequence[int]
    failed: Sequence[int]
    missing: int

    @property
    def spread(self) -> Spread:
        """Mean and deviation of those that finished."""
        return spread(list(self.accuracies.values()))

    @property
    def band(self) -> tuple[float, float]:
        """One deviation below and above the mean, but no further than those that finished."""
        found, own = self.spread, self.accuracies.values()
        mean, sd = found.mean or 0.0, found.sd or 0.0
        return max(mean - sd, min(own, default=0.0)), min(mean + sd, max(own, default=0.0))

    @property
    def sound(self) -> bool:
        """Whether all of them were trained and none diverged, so that its mean may be the best."""
        return bool(self.accuracies) and not (self.diverged or self.failed or self.missing)

    @property
    def fails(self) -> bool:
        """Whether the networks learned next to nothing, or diverged, most of them."""
        mean = self.spread.mean
        most = len(self.diverged) > len(self.accuracies)
        return most or (mean is not None and mean < CHANCE)


@dataclass(frozen=True)
class Summary:
    """One point of the grid, with and without normalization; None for what is not trained."""

    point: Point
    with_bn: Side | None
    without_bn: Side | None

    @property
    def difference(self) -> Difference:
        """With less without, over the seeds that both finished."""
        return difference(self.with_bn, self.without_bn)

    def side(self, bn: bool) -> Side | None:
        """One of the two."""
        return self.with_bn if bn else self.without_bn


def difference(first: Side | None, second: Side | None) -> Difference:
    """The first less the second, pair by pair over the seeds that both have."""
    a, b = (side.accuracies if side else {} for side in (first, second))
    seeds = [seed for seed in a if seed in b]
    return paired_difference([a[seed] for seed in seeds], [b[seed] for seed in seeds])


def summaries(study: Study) -> list[Summary]:
    """A summary of each point, in the order of the grid."""
    points: dict[str, dict[bool, list[Configuration]]] = {}
    for each in study.configurations:
        key = "|".join(text_of(value) for value in each.point.values())
        points.setdefault(key, {}).setdefault(each.bn, []).append(each)
    found = []
    for kinds in points.values():
        point = next(iter(kinds.values()))[0].point
        sides = {bn: _side(study, members) for bn, members in kinds.items()}
        found.append(Summary(point, sides.get(True), sides.get(False)))
    return found


def best(listed: Sequence[Summary], bn: bool) -> Summary | None:
    """The point with the highest mean, of those where no network diverged or is missing."""
    sound = [each for each in listed if (side := each.side(bn)) and side.sound]
    return max(sound, key=lambda each: _mean(each, bn), default=None)


def where(point: Point, axes: Sequence[str]) -> str:
    """A point in words, such as ``learning rate 0.01, activation relu``; only on these axes."""
    return ", ".join(f"{NAMES[axis]} {short(point[axis])}" for axis in axes)


def short(value: object) -> str:
    """A value as pictures and sentences have it: ``8x32`` for eight layers of 32 units."""
    if isinstance(value, tuple):
        return f"{len(value)}x{value[0]}" if len(set(value)) == 1 else text_of(value)
    return text_of(value) if isinstance(value, bool | int | float) else str(value)


def _side(study: Study, members: Sequence[Configuration]) -> Side:
    by_status: dict[str, list[Configuration]] = {}
    for each in members:
        by_status.setdefault(study.status(each), []).append(each)
    seeds = {status: [each.training.seed for each in some] for status, some in by_status.items()}
    return Side(
        {
            each.training.seed: study.results[each.name].figures[FIGURE]
            for each in by_status.get("finished", [])
        },
        seeds.get("diverged", []),
        seeds.get("failed", []),
        len(seeds.get("missing", [])),
    )


def _mean(summary: Summary, bn: bool) -> float:
    side = summary.side(bn)
    assert side is not None
    assert side.spread.mean is not None
    return side.spread.mean
