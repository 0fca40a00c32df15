"""ONNX nodes that are affine maps, and their s and t."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from kerasbn.folding.affine import Affine, Array, CannotFold, affine, compose
from kerasbn.folding.graph import Kind
from kerasbn.folding.onnx.constants import constant, in_float64, is_constant
from kerasbn.folding.onnx.nodes import NodeCall

_EPSILON = float(np.float32(1e-5))  # the default, as attributes are float32


def kind_of(node: ir.Node) -> Kind | None:
    """Return the kind of an affine node, None for other nodes."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "BatchNormalization":
        return "BN layer"
    if node.op_type not in _ARITHMETIC or sum(map(is_constant, node.inputs)) != 1:
        return None
    (c,) = (value for value in node.inputs if value is not None and is_constant(value))
    if not ir.DataType.from_numpy(constant(c).dtype).is_floating_point():
        return None
    # c / x is no affine map.
    return None if node.op_type == "Div" and c is node.inputs[0] else "scaling"


def affine_of(call: NodeCall) -> Affine:
    """Return the map of an affine node, with that of its offset. Raises `CannotFold`."""
    if call.layer.op_type == "BatchNormalization":
        return _batch_normalization(call)
    if _is_fused(call.layer):
        raise CannotFold("runtimes compute it as part of a LayerNormalization or GELU")
    if call.shape(call.result) != call.inputs[0].example:
        raise CannotFold("its constant broadcasts its input to another shape")
    rank = len(call.inputs[0].example)
    a = _arithmetic(call.layer, rank)
    return compose(_arithmetic(call.offset, rank), a) if call.offset else a


def check_merge(call: NodeCall, a: Affine) -> None:
    """Raise `CannotFold` if a node cannot represent its own map composed with `a`."""
    if call.layer.op_type == "BatchNormalization":
        if any(a.varies_along(axis) for axis in range(len(a.shape)) if axis != 1):
            raise CannotFold("has one s and t per channel")
    elif call.offset is None and not _only(call.layer, a):
        raise CannotFold(f"is a {call.layer.op_type}, which has a single constant")


def _is_fused(node: ir.Node) -> bool:
    """Return whether a Mul is the scale of a LayerNormalization, or the 1/2 of a GELU.

    Runtimes compute the whole as one node where they find each of its parts.
    """
    if node.op_type != "Mul":
        return False
    before = next((v.producer() for v in node.inputs if v and not is_constant(v)), None)
    if before is not None and before.op_type == "Div":
        return _makers(before.inputs[1]) == ["Sqrt"]
    others = [before, *(use.node for use in node.outputs[0].uses())]
    return any(
        other is not None
        and other.op_type == "Mul"
        and any(_makers(v, "Add") in (["Add", "Erf"], ["Add", "Tanh"]) for v in other.inputs)
        for other in others
    )


def _makers(value: ir.Value | None, through: str = "") -> list[str]:
    """Return the operation that makes a value, and the one before it if that is `through`."""
    node = value.producer() if value else None
    if node is None:
        return []
    found = [node.op_type]
    if node.op_type == through:
        for each in node.inputs:
            found += _makers(each)[:1]
    return found


def merged(call: NodeCall, a: Affine) -> tuple[Array, Array]:
    """Return the gamma and beta with which a BatchNormalization maps by `a`.

    They are gamma = s*sqrt(var + eps) and beta = t + s*mean.
    """
    _, _, mean, variance = _statistics(call)
    s, t = (np.broadcast_to(values.ravel(), mean.shape) for values in (a.s, a.t))
    epsilon = call.layer.attributes.get_float("epsilon", _EPSILON)
    return s * np.sqrt(variance + epsilon), t + s * mean


def _only(node: ir.Node, a: Affine) -> bool:
    """Return whether a map is of the kind of a Mul, or of an Add."""
    if node.op_type in ("Mul", "Div"):
        return a.only_scales()
    return bool((a.s == 1).all()) and not (node.op_type == "Sub" and is_constant(node.inputs[0]))


def _batch_normalization(call: NodeCall) -> Affine:
    """S = gamma / sqrt(var + eps), t = beta - s*mean (Ioffe and Szegedy 2015, section 3.1)."""
    node = call.layer
    trains = call.opset < 14 and len([value for value in node.outputs if value.name]) > 1
    if trains or node.attributes.get_int("training_mode", 0) == 1:
        raise CannotFold("it uses batch statistics: it is in training mode")
    rank = len(call.inputs[0].example)
    if rank < 2 or call.opset < 9:
        raise CannotFold("it has no channel axis, or is from an opset before 9")
    gamma, beta, mean, variance = _statistics(call)
    with np.errstate(all="ignore"):  # `affine` refuses what is not finite
        s = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", _EPSILON))
        t = beta - s * mean
    along = [1] * rank
    along[1] = -1
    return affine(s, t).map(lambda values: values.reshape(along))


def _statistics(call: NodeCall) -> list[Array]:
    """Return gamma, beta, mean and variance in float64."""
    try:
        values = [call.constant(slot, "a scale, offset or statistic") for slot in range(1, 5)]
    except CannotFold as reason:
        raise CannotFold(f"it {reason}") from None
    return [in_float64(value) for value in values]


def _arithmetic(node: ir.Node, rank: int) -> Affine:
    """Return the map of a Mul, Add, Sub or Div with a constant, on a tensor of a rank."""
    x, y = (in_float64(constant(v)) if v and is_constant(v) else None for v in node.inputs)
    first = x is not None  # whether the constant comes first, as in c - x
    c = x if x is not None else y
    assert c is not None
    c = c.reshape((1,) * (rank - c.ndim) + c.shape)
    with np.errstate(all="ignore"):
        s, t = _ARITHMETIC[node.op_type](c, first)
    return affine(s, t)


# Each function returns s and t, given the constant and whether it comes first.
_ARITHMETIC: dict[str, Callable[[Array, bool], tuple[Array | float, Array | float]]] = {
    "Mul": lambda c, _: (c, 0.0),
    "Div": lambda c, _: (1 / c, 0.0),
    "Add": lambda c, _: (1.0, c),
    "Sub": lambda c, first: (-1.0, c) if first else (1.0, -c),
}
