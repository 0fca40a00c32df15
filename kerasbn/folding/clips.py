"""How an affine crosses a rectifier that it cannot cross as it is: the rectifier becomes a clip.

For an activation ``f(y) = min(max(y, lower), upper)``, such as relu with the bounds 0 and infinity,

    f(s*x + t) = s * min(max(x, (lower - t)/s), (upper - t)/s) + t      for s > 0
    f(s*x + t) = s * min(max(x, (upper - t)/s), (lower - t)/s) + t      for s < 0
    f(s*x + t) = f(t)                                                   for s = 0

so what was before the activation is clipped between two constants for each channel, and the affine
goes on behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbn.folding.affine import Affine, Array, CannotFold, affine, compose

Layer = Any  # Keras ships no types
LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "float64": 1.79e308}
# A smaller s times a weight would be lost in a kernel, though the bound, which is large then, makes
# it count.
LEAST = {"float16": 6e-5, "bfloat16": 1e-35, "float32": 1e-31, "float64": 1e-292}


@dataclass(frozen=True, eq=False)
class Clip:
    """``x -> min(max(inner(x), lower), upper)``.

    The bounds have the axes of an example, like an affine, and may be infinite; `inner` is a number
    for s and one for t.
    """

    lower: Array
    upper: Array
    inner: tuple[float, float] = (1.0, 0.0)

    def same(self, other: "Clip") -> bool:
        """Whether both have the same bounds."""
        return np.array_equal(self.lower, other.lower) and np.array_equal(self.upper, other.upper)


def clip_of(layer: Layer) -> Clip | None:
    """The clip that an activation is, if it is one."""
    bounds = _bounds(layer)
    if bounds is None:
        return None
    lower, upper, *inner = bounds
    s, t = inner or (1.0, 0.0)
    return Clip(np.asarray(lower), np.asarray(upper), (s, t))


def crossed(clip: Clip, a: Affine, dtype: str) -> tuple[Clip, Affine]:
    """The clip that takes the place of ``clip(a(x))``, and the affine that goes on behind it.

    Args:
        clip: the activation, or the clip that it already became.
        a: the affine that arrives.
        dtype: of the tensor, which has to hold the bounds.

    Raises:
        CannotFold: if a bound is too large for that, or some s too small to be absorbed with it.
    """
    s, t = clip.inner
    a = compose(affine(np.full((1,) * len(a.shape), s), t), a)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ends = (clip.lower - a.t) / a.s, (clip.upper - a.t) / a.s
    constant = a.s == 0
    lower = np.where(constant, -np.inf, np.minimum(*ends))
    upper = np.where(constant, np.inf, np.maximum(*ends))
    _must_fit(lower, np.where(a.s > 0, clip.lower, clip.upper), constant, dtype)
    _must_fit(upper, np.where(a.s > 0, clip.upper, clip.lower), constant, dtype)
    if not (constant | (np.abs(a.s) >= LEAST[dtype])).all():
        raise CannotFold(
            f"would need a bound that {dtype} cannot make up for, since some s is tiny"
        )
    held = np.minimum(np.maximum(a.t, clip.lower), clip.upper)
    return Clip(lower, upper), affine(a.s, np.where(constant, held, a.t))


def _must_fit(bound: Array, former: Array, constant: NDArray[np.bool_], dtype: str) -> None:
    """Refuse a bound that was finite and is too large now."""
    held = constant | ~np.isfinite(former) | (np.abs(bound) <= LARGEST[dtype])
    if not held.all():
        raise CannotFold(f"would need a bound that {dtype} cannot hold, since some s is tiny")


# -- which activations are clips ----------------------------------------------------------------

_RELU, _RELU6 = (0.0, np.inf), (0.0, 6.0)
_HARD_SIGMOID = (0.0, 1.0, 1 / 6, 0.5)  # clip(y/6 + 1/2, 0, 1)
FUNCTIONS: list[tuple[Callable[..., Any], tuple[float, ...]]] = [
    (keras.activations.relu, _RELU),
    (keras.activations.relu6, _RELU6),
    (keras.activations.hard_sigmoid, _HARD_SIGMOID),
]


def _bounds(layer: Layer) -> tuple[float, ...] | None:
    if type(layer) is keras.layers.Activation:
        return next((b for function, b in FUNCTIONS if layer.activation is function), None)
    if type(layer) is keras.layers.ReLU or type(layer) is _CLASSES["relu"]:
        bent = layer.threshold != 0 or layer.negative_slope != 0
        return (
            None if bent else (0.0, np.inf if layer.max_value is None else float(layer.max_value))
        )
    return OPERATIONS.get(type(layer))


def _class_of(function: Callable[..., Any]) -> type:
    """The class of operation behind a function, which has no public name."""
    return type(function(keras.Input((1,), name="any"))._keras_history.operation)


_CLASSES = {"relu": _class_of(keras.activations.relu)}
MAXIMUM = _class_of(lambda x: keras.ops.maximum(x, x))
MINIMUM = _class_of(lambda x: keras.ops.minimum(x, x))
CLIP = _class_of(lambda x: keras.ops.clip(x, 0.0, 1.0))
OPERATIONS: dict[type, tuple[float, ...]] = {
    _class_of(keras.ops.relu): _RELU,
    _class_of(keras.ops.relu6): _RELU6,
    _class_of(keras.ops.hard_sigmoid): _HARD_SIGMOID,
}
