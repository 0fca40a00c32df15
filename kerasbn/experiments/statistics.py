"""What many seeds say together: means, deviations, and paired differences with an interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.special import stdtrit

from kerasbn.runs import FIGURES

CONFIDENCE = 0.95
# The interval of two pairs is 12.7 standard errors to each side: it says only that they are two.
MIN_PAIRS = 3
METHOD = (
    "± is the standard deviation over seeds; the interval is Student's t on the differences of "
    "pairs of one seed (paired t)"
)

History = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Spread:
    """A figure over several members: None where there are too few (1 for a mean, 2 for `sd`).

    Attributes:
        mean: their mean.
        sd: their standard deviation, with n - 1.
        members: how many.
    """

    mean: float | None
    sd: float | None
    members: int


@dataclass(frozen=True)
class Difference:
    """A figure with normalization less the same without it, over pairs of one seed.

    Attributes:
        mean: the mean difference; None without a pair.
        low: lower end of the 95 % interval of the mean; None for fewer than `MIN_PAIRS` pairs.
        high: its upper end.
        pairs: how many.
    """

    mean: float | None
    low: float | None
    high: float | None
    pairs: int


@dataclass(frozen=True)
class Row:
    """What all seeds say of one figure after one epoch (from 1); accuracies are from 0 to 1."""

    epoch: int
    with_bn: Spread
    without_bn: Spread
    difference: Difference


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation."""
    size = len(values)
    sd = float(np.std(values, ddof=1)) if size > 1 else None
    return Spread(float(np.mean(values)) if size else None, sd, size)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean of `first - second`, pair by pair, with its interval by Student's t.

    Pairs share their kernels and batches, so what a seed does to both alike drops out.
    """
    each = spread([a - b for a, b in zip(first, second, strict=True)])
    if each.mean is None or each.sd is None or each.members < MIN_PAIRS:
        return Difference(each.mean, None, None, each.members)
    quantile = float(stdtrit(each.members - 1, (1 + CONFIDENCE) / 2))
    half = quantile * each.sd / math.sqrt(each.members)
    return Difference(each.mean, each.mean - half, each.mean + half, each.members)


def by_epoch(
    with_bn: Mapping[int, History], without_bn: Mapping[int, History]
) -> dict[str, list[Row]]:
    """For each of `FIGURES` a row per epoch, as far as every member comes.

    Args:
        with_bn: histories by seed, of members that did not diverge.
        without_bn: the same without normalization; seeds in both are pairs.
    """
    kinds = (with_bn, without_bn)
    pairs = [seed for seed in with_bn if seed in without_bn]
    epochs = min((len(history["epoch"]) for kind in kinds for history in kind.values()), default=0)
    table: dict[str, list[Row]] = {}
    for figure in FIGURES:
        table[figure] = []
        for i in range(epochs):
            a, b = ({seed: kind[seed][figure][i] for seed in kind} for kind in kinds)
            difference = paired_difference([a[seed] for seed in pairs], [b[seed] for seed in pairs])
            spreads = spread(list(a.values())), spread(list(b.values()))
            table[figure].append(Row(i + 1, *spreads, difference))
    return table


def columns(rows: Sequence[Row]) -> dict[str, dict[str, list[Any]]]:
    """The rows of one figure as columns, for JSON: kind, then name, then a value per epoch."""
    dicts = [asdict(row) for row in rows]
    kinds = {"with_bn": Spread, "without_bn": Spread, "difference": Difference}
    return {
        kind: {each.name: [row[kind][each.name] for row in dicts] for each in fields(of)}
        for kind, of in kinds.items()
    }


def sentence(row: Row | None, diverged: Mapping[str, Sequence[int]], seeds: int) -> str:
    """The answer in one sentence, accuracies in percent and differences in percentage points.

    Args:
        row: the last row of an accuracy; None if no member has one.
        diverged: under `with_bn` and `without_bn`, the seeds of the members that diverged.
        seeds: how many pairs were begun.
    """
    parts = []
    for kind, words in (("with_bn", "with BN"), ("without_bn", "without")):
        sick = list(diverged[kind])
        found: Spread = getattr(row, kind) if row else Spread(None, None, 0)
        figure = _percent(found) if found.mean is not None else "no figures"
        if sick:
            named = f"{len(sick)} of {seeds} diverged, seed{'s' * (len(sick) > 1)} {_list(sick)}"
            note = f"{named}, left out" if found.mean is not None else named
            figure += f" ({note})"
        parts.append(f"{words} {figure}")
    line = ", ".join(parts)
    return f"{line}: {_points(row.difference)}" if row and row.difference.pairs else line


def _percent(found: Spread) -> str:
    assert found.mean is not None
    deviation = "" if found.sd is None else f" ± {100 * found.sd:.2f}"
    return f"{100 * found.mean:.2f}{deviation}"


def _points(difference: Difference) -> str:
    assert difference.mean is not None
    pairs = f"{difference.pairs} pair{'s' * (difference.pairs > 1)}"
    if difference.low is None or difference.high is None:
        too_few = f"{pairs}: too few for an interval, which takes {MIN_PAIRS}"
        return f"{100 * difference.mean:+.1f} points ({too_few})"
    # As many decimals as the interval is sure of.
    places = 1 if 100 * (difference.high - difference.low) >= 0.2 else 2
    low, high = (f"{100 * end:.{places}f}" for end in (difference.low, difference.high))
    points = f"{100 * difference.mean:+.{places}f} points"
    return f"{points} ({CONFIDENCE:.0%} interval {low} to {high}, {pairs})".replace("%", " %")


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
