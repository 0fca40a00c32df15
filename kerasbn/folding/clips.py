"""Let an affine map pass a ReLU by turning the ReLU into a clip.

For an activation ``f(y) = min(max(y, lower), upper)``, such as a ReLU with the bounds 0
and infinity,

    f(s*x + t) = s * min(max(x, (lower - t)/s), (upper - t)/s) + t      for s > 0
    f(s*x + t) = s * min(max(x, (upper - t)/s), (lower - t)/s) + t      for s < 0
    f(s*x + t) = f(t)                                                   for s = 0

The input of the activation is clipped between two constants per channel, and the map goes on behind
the clip. In the other direction, a map behind the activation goes on ahead of the clip:

    s*f(y) + t = min(max(s*y + t, s*lower + t), s*upper + t)            for s > 0
    s*f(y) + t = min(max(s*y + t, s*upper + t), s*lower + t)            for s < 0
    s*f(y) + t = min(max(s*y + t, t), t)                                for s = 0
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbn.folding.affine import Affine, Array, CannotFold, affine, compose

LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "float64": 1.79e308}
# A smaller s times a weight underflows in a kernel, while its bound, divided by s, is large.
SMALLEST = {"float16": 6e-5, "bfloat16": 1e-35, "float32": 1e-31, "float64": 1e-292}


@dataclass(frozen=True, eq=False)
class Clip:
    """``x -> min(max(inner(x), lower), upper)``.

    The bounds have the axes of an example, like an affine map, and may be infinite. `inner` is a
    number for s and a number for t.
    """

    lower: Array
    upper: Array
    inner: tuple[float, float] = (1.0, 0.0)

    def same(self, other: "Clip") -> bool:
        """Return whether two clips have equal bounds."""
        return np.array_equal(self.lower, other.lower) and np.array_equal(self.upper, other.upper)


def pass_clip(clip: Clip, a: Affine, dtype: str) -> tuple[Clip, Affine]:
    """Return the clip that replaces ``clip(a(x))``, and the affine map that follows it.

    Raises:
        CannotFold: if a bound is too large for the dtype of x, or some s too small for a kernel.
    """
    s, t = clip.inner
    a = compose(affine(np.full((1,) * len(a.shape), s), t), a)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ends = (clip.lower - a.t) / a.s, (clip.upper - a.t) / a.s
    constant = a.s == 0
    lower = np.where(constant, -np.inf, np.minimum(*ends))
    upper = np.where(constant, np.inf, np.maximum(*ends))
    _check_bound(lower, np.where(a.s > 0, clip.lower, clip.upper), constant, dtype)
    _check_bound(upper, np.where(a.s > 0, clip.upper, clip.lower), constant, dtype)
    if not (constant | (np.abs(a.s) >= SMALLEST[dtype])).all():
        raise CannotFold(f"would need a kernel too small for {dtype}, because some s is tiny")
    held = np.minimum(np.maximum(a.t, clip.lower), clip.upper)
    return Clip(lower, upper), affine(a.s, np.where(constant, held, a.t))


def pass_clip_backward(clip: Clip, a: Affine, dtype: str) -> tuple[Clip, Affine]:
    """Return the clip that replaces ``a(clip(y))``, and the affine map that precedes it.

    Raises:
        CannotFold: if a bound is too large for the dtype of y.
    """
    with np.errstate(invalid="ignore"):
        ends = a.s * clip.lower + a.t, a.s * clip.upper + a.t
    constant = a.s == 0
    lower, upper = (np.where(constant, a.t, f(*ends)) for f in (np.minimum, np.maximum))
    for bound in (lower, upper):
        _check_bound(bound, bound, constant, dtype)
    s, t = clip.inner
    return Clip(lower, upper), compose(a, affine(np.full((1,) * len(a.shape), s), t))


def _check_bound(bound: Array, former: Array, constant: NDArray[np.bool_], dtype: str) -> None:
    """Raise `CannotFold` if a bound that was finite is too large now."""
    fits = constant | ~np.isfinite(former) | (np.abs(bound) <= LARGEST[dtype])
    if not fits.all():
        raise CannotFold(f"would need a bound too large for {dtype}, because some s is tiny")
