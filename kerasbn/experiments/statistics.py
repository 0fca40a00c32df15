"""Statistics over seeds: means, standard deviations, and paired differences with an interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import stdtrit

from kerasbn.runs import METRICS, History

CONFIDENCE = 0.95
MIN_PAIRS = 3  # with two pairs the interval is 12.7 standard errors to each side
METHOD = (
    "± is the standard deviation over seeds; the interval is from a paired t-test over seeds and "
    "assumes roughly normal differences. If they are strongly skewed, fewer than 95% of intervals "
    "cover the true mean."
)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (with n - 1) of a metric; None for too few models."""

    mean: float | None
    sd: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of a metric; the ends of its 95% interval need `MIN_PAIRS` pairs."""

    mean: float | None
    low: float | None
    high: float | None
    pairs: int


@dataclass(frozen=True)
class Row:
    """One metric after one epoch (from 1), over all seeds; accuracies are from 0 to 1."""

    epoch: int
    with_bn: Spread
    without_bn: Spread
    difference: Difference


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of some values."""
    size = len(values)
    with np.errstate(over="ignore"):  # of values near the largest there are, it is infinite
        sd = float(np.std(values, ddof=1)) if size > 1 else None
    return Spread(float(np.mean(values)) if size else None, sd, size)


def paired_difference(
    first: Sequence[float], second: Sequence[float], resolution: float = 0.0
) -> Difference:
    """Return the mean of `first - second`, pair by pair, with its interval by Student's t.

    The two models of a pair share their initial kernels and batches, so that effects of the seed on
    both cancel. The interval covers the true mean in 95% of studies if differences are normally
    distributed, whatever the variances, and nearly so if error rates are moderately skewed. If one
    side is strongly skewed, such as log-normal with sigma 1, it covers it in 80 to 92%.

    `resolution` is the distance between possible values, 1/n for an accuracy on n images. The
    variance of rounding, resolution**2/12 for each of the two, is added to that over seeds: if few
    seeds happen to give equal differences, these are not exact.
    """
    each = spread([a - b for a, b in zip(first, second, strict=True)])
    if each.mean is None or each.sd is None or each.count < MIN_PAIRS:
        return Difference(each.mean, None, None, each.count)
    quantile = float(stdtrit(each.count - 1, (1 + CONFIDENCE) / 2))
    half = quantile * math.sqrt((each.sd**2 + resolution**2 / 6) / each.count)
    return Difference(each.mean, each.mean - half, each.mean + half, each.count)


def by_epoch(
    with_bn: Mapping[int, History],
    without_bn: Mapping[int, History],
    resolutions: Mapping[str, float],
) -> dict[str, list[Row]]:
    """Return for each of `METRICS` one row per epoch that every model reached.

    Both sides are histories by seed; a seed in both is a pair. Each interval is for its epoch
    alone. `resolutions` are those of `paired_difference` by metric, 0 for a metric without one.
    """
    kinds = (with_bn, without_bn)
    pairs = [seed for seed in with_bn if seed in without_bn]
    epochs = min((len(history["epoch"]) for kind in kinds for history in kind.values()), default=0)

    def row(metric: str, i: int) -> Row:
        a, b = ({seed: kind[seed][metric][i] for seed in kind} for kind in kinds)
        values = [a[seed] for seed in pairs], [b[seed] for seed in pairs]
        difference = paired_difference(*values, resolutions.get(metric, 0.0))
        return Row(i + 1, spread(list(a.values())), spread(list(b.values())), difference)

    return {metric: [row(metric, i) for i in range(epochs)] for metric in METRICS}


def columns(rows: Sequence[Row]) -> dict[str, dict[str, list[Any]]]:
    """Return the rows of one metric as columns: side, then name, then a value per epoch."""
    kinds = {"with_bn": Spread, "without_bn": Spread, "difference": Difference}
    return {
        kind: {
            each.name: [getattr(getattr(row, kind), each.name) for row in rows]
            for each in fields(of)
        }
        for kind, of in kinds.items()
    }
