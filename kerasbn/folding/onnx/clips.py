"""ONNX nodes that clip their input between constants."""

from collections.abc import Callable

import numpy as np

from kerasbn.folding.affine import Array
from kerasbn.folding.clips import Clip
from kerasbn.folding.onnx.constants import constant, in_float64, is_constant
from kerasbn.folding.onnx.nodes import NodeCall

_INFINITY = np.asarray(np.inf)


def _bound(call: NodeCall, name: str, slot: int, default: Array) -> Array | None:
    """Return a bound that is an attribute, a constant input, or left out. None if it is free."""
    if name in call.layer.attributes:
        return np.asarray(call.layer.attributes[name].as_float())
    value = call.input(slot)
    if value is None:
        return default
    return in_float64(constant(value)) if is_constant(value) else None


def _clip(call: NodeCall) -> Clip | None:
    lower = _bound(call, "min", 1, -_INFINITY)
    upper = _bound(call, "max", 2, _INFINITY)
    if lower is None or upper is None or (lower > upper).any():
        return None
    return Clip(lower, upper)


def _hard_sigmoid(call: NodeCall) -> Clip:
    get = call.layer.attributes.get_float
    slope = get("alpha", float(np.float32(0.2)))  # attributes are float32
    return Clip(np.asarray(0.0), np.asarray(1.0), (slope, get("beta", 0.5)))


# Each function takes the call of a node, and returns None if it is no clip.
CLIPS: dict[str, Callable[[NodeCall], Clip | None]] = {
    "Relu": lambda _: Clip(np.asarray(0.0), _INFINITY),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
}
