"""What a grid comes to: every network to train, and which of them train together."""

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise, product
from math import ceil
from typing import Any

from kerasbn.errors import InputError
from kerasbn.sweeps.grid import KINDS, NETWORK, TRAINING, Grid, Range, Value
from kerasbn.training.settings import ModelSettings, TrainingSettings, seed_settings

GROUP = 8  # pairs trained together at most, as in `kerasbn compare --seeds`
LONGEST = 90  # characters of a run's name
DIGITS = 3  # significant ones of a number that was drawn

Point = Mapping[str, Value]


@dataclass(frozen=True)
class Configuration:
    """One network of a sweep.

    Attributes:
        name: the name of its run.
        point: its value on each axis of the grid.
        network: what network it is.
        training: how it is trained, its seed among it.
    """

    name: str
    point: Point
    network: ModelSettings
    training: TrainingSettings

    @property
    def bn(self) -> bool:
        """Whether it has normalization."""
        return self.network.bn


@dataclass(frozen=True)
class Group:
    """Configurations that are trained together, the unit of a sweep's work.

    They differ in seed, learning rate and normalization only. A group is trained as a whole or not
    at all, since the members of another group would come out with other rounding; so what is in it
    depends on the grid alone, neither on what is missing nor on who trains it.

    Attributes:
        number: its place among the groups of the grid, from 0.
        members: what is trained.
    """

    number: int
    members: tuple[Configuration, ...]

    @property
    def cost(self) -> float:
        """How much work it is, in multiplications, to compare groups of one sweep by.

        A step costs what its products do and, however small, about as much as half a million.
        """
        first = self.members[0]
        sizes = [784, *first.network.hidden, 10]
        products = sum(a * b for a, b in pairwise(sizes))
        step = first.training.batch_size * products + 500_000
        steps = first.training.steps or first.training.epochs * 60_000 / first.training.batch_size
        return len(self.members) * step * steps

    def __str__(self) -> str:
        first, last = self.members[0], self.members[-1]
        more = len(self.members) - 2
        return f"{first.name} to {last.name}" if more > 0 else f"{first.name}, {last.name}"


def points(grid: Grid) -> Iterator[dict[str, Value]]:
    """The combinations of the axes' values, the last axis running fastest, or a sample of them.

    A sample depends on `sample_seed` alone: it is drawn by `random.random`, whose sequence Python
    promises to keep. A number drawn is rounded to three digits, so that it can be said.
    """
    if grid.sample is None:
        lists = [axis for axis in grid.axes.values() if not isinstance(axis, Range)]
        for values in product(*lists):
            yield dict(zip(grid.axes, values, strict=True))
        return
    source = random.Random(grid.sample_seed)  # noqa: S311 - a sample of settings, no secret
    for _ in range(grid.sample):
        yield {key: _drawn(key, axis, source.random()) for key, axis in grid.axes.items()}


def configurations(grid: Grid) -> list[Configuration]:
    """Every network of the grid.

    Raises:
        InputError: if one of them cannot be, such as a learning rate below 0.
    """
    found, taken = [], set()
    for point in points(grid):
        options = {**grid.options, **point}
        network = {key: value for key, value in options.items() if key in NETWORK}
        training: dict[str, Any] = {key: options[key] for key in TRAINING if key in options}
        for own in seed_settings(TrainingSettings(**training), grid.seeds):
            for bn in grid.kinds:
                name = _name(point, bn, own.seed)
                if name in taken:  # a sample may draw a combination twice
                    continue
                taken.add(name)
                kind = ModelSettings(**network | {"bn": bn})  # type: ignore[arg-type] # by field
                found.append(Configuration(name, point, kind, own))
    return found


def groups(listed: list[Configuration]) -> list[Group]:
    """The configurations, those that may train together in groups of nearly equal size."""
    pairs = [
        list(pair) for _, pair in groupby(listed, lambda each: (each.training, each.point))
    ]  # of one point and seed, with and without
    alike: dict[Any, list[list[Configuration]]] = {}
    for pair in pairs:
        first = pair[0]
        shape = (replace(first.network, bn=True), replace(first.training, lr=1.0, seed=0))
        alike.setdefault(shape, []).append(pair)
    parts = []
    for same in alike.values():
        count = ceil(len(same) / GROUP)
        for i in range(count):
            part = same[i * len(same) // count : (i + 1) * len(same) // count]
            parts.append(tuple(each for pair in part for each in pair))
    return [Group(number, members) for number, members in enumerate(parts)]


def check(listed: list[Configuration], digits: int) -> None:
    """Raise `InputError` if one of them cannot be trained on so many digits; the line names it."""
    for each in listed:
        try:
            each.training.check([each.network], digits)
        except InputError as error:
            raise InputError(f"{each.name}: {error}") from error


def text_of(value: Value) -> str:
    """A value as options have it, exactly: ``0.01``, ``32,32``, ``true``."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def _name(point: Point, bn: bool, seed: int) -> str:
    """Such as ``lr-0.1_hidden-3x32_bn_seed-0``: what differs, in letters that any disk takes."""
    parts = [f"{key}-{_short(value)}" for key, value in point.items()]
    ending = f"{'bn' if bn else 'plain'}_seed-{seed}"
    name = re.sub(r"[^\w.-]+", "-", "_".join([*parts, ending]), flags=re.ASCII)
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256("_".join(parts).encode()).hexdigest()[:12]
    return f"{name[: LONGEST - len(ending) - 14]}_{digest}_{ending}"


def _short(value: Value) -> str:
    if isinstance(value, tuple) and len(set(value)) == 1:
        return f"{len(value)}x{value[0]}"
    return repr(value) if isinstance(value, float) else text_of(value)


def _drawn(key: str, axis: tuple[Value, ...] | Range, share: float) -> Value:
    if not isinstance(axis, Range):
        return axis[int(share * len(axis))]
    number = axis.at(share)
    return float(f"{number:.{DIGITS}g}") if KINDS[key] is float else round(number)
