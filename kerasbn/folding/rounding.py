"""How far two results may differ, and how far they do."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np

EXACT = 1e-9  # in float64
ROUNDING = 4.0  # times the original model's own error in its own dtype
UNITS = 8.0  # rounding units that are always allowed: the original's error may be 0 by luck


def unit_of(dtype: str | np.dtype) -> float:
    """Return the rounding unit of a float dtype, 0 of any other."""
    try:
        return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call] # ml_dtypes ships no types
    except (TypeError, ValueError):
        return 0.0


def relative_difference(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], least: float = 0.0
) -> float:
    """Return the largest difference, relative to the largest value of each output of `want`.

    Outputs smaller than `least` are compared as if they were as large. The difference is infinite
    if the values that are not finite are not the same in both.
    """
    worst = 0.0
    for one, other in zip(got, want, strict=True):
        a, b = one.astype(np.float64), other.astype(np.float64)
        finite = np.isfinite(b)
        finite_alike = np.array_equal(np.isfinite(a), finite)
        if not (finite_alike and np.array_equal(a[~finite], b[~finite], equal_nan=True)):
            return float("inf")
        if finite.any():
            scale = max(float(np.abs(b[finite]).max()), least) or 1.0
            worst = max(worst, float(np.abs(a[finite] - b[finite]).max()) / scale)
    return worst
