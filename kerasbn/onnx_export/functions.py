"""Rewrite rules for functions of several operations that ONNX or onnxruntime has as one node."""

from math import prod

import numpy as np
import onnx_ir as ir

from kerasbn.onnx_export.linear import Array, Op, array, dims, rule

# The first opset with LayerNormalization.
LAYER_NORMALIZATION_OPSET = 17


def _normalized(
    op: Op, x: Op, axes: Op, epsilon: Op, gamma: Op | None = None, beta: Op | None = None
) -> Op:
    """``x * s + (beta - mean * s)`` with ``s = gamma / sqrt(variance + epsilon)``."""
    mean = op.ReduceMean(x, axes)
    centered = op.Sub(x, mean)
    variance = op.ReduceMean(op.Mul(centered, centered), axes)
    s = op.Reciprocal(op.Sqrt(op.Add(variance, epsilon)))
    s = s if gamma is None else op.Mul(s, gamma)
    t = op.Mul(op.Neg(mean), s)
    return op.Add(op.Mul(x, s), t if beta is None else op.Add(t, beta))


def _normalize(
    op: Op, x: ir.Value, axes: Array, epsilon: Array,
    gamma: Array | None = None, beta: Array | None = None,
) -> Op:  # fmt: skip
    """Write what `_normalized` computes as one LayerNormalization, which is over the last axes."""
    shape = dims(x)
    if shape is None or x.dtype != ir.DataType.FLOAT or epsilon.size != 1:
        return None
    first = len(shape) - axes.size
    sizes = [size or 0 for size in shape[first:]]
    if sorted(axes % len(shape)) != list(range(first, len(shape))) or 0 in sizes:
        return None
    size = prod(sizes)
    weights = [np.ones(sizes, np.float32) if gamma is None else gamma]
    weights += [] if beta is None else [beta]
    if any(each.size != size for each in weights):
        return None
    arrays = (array(op, each.reshape(sizes)) for each in weights)
    return op.LayerNormalization(x, *arrays, axis=-axes.size, epsilon=epsilon.item())


# With gamma and beta, with one of them, and with neither.
layer_normalization = (
    rule(
        lambda op, x, axes, epsilon, gamma, beta: _normalized(op, x, axes, epsilon, gamma, beta),
        ["axes", "epsilon", "gamma", "beta"],
    )(_normalize),
    rule(
        lambda op, x, axes, epsilon, gamma: _normalized(op, x, axes, epsilon, gamma),
        ["axes", "epsilon", "gamma"],
    )(_normalize),
    rule(
        lambda op, x, axes, epsilon, beta: _normalized(op, x, axes, epsilon, beta=beta),
        ["axes", "epsilon", "beta"],
    )(_normalize),
    rule(lambda op, x, axes, epsilon: _normalized(op, x, axes, epsilon), ["axes", "epsilon"])(
        _normalize
    ),
)


@rule(
    lambda op, x, half, one, root: op.Mul(
        op.Mul(half, x), op.Sub(one, op.Erf(op.Mul(op.Neg(x), root)))
    ),
    ["half", "one", "root"],
)
def exact_gelu(op: Op, x: ir.Value, half: Array, one: Array, root: Array) -> Op:
    """``0.5x (1 - erf(-x / sqrt(2)))`` -> ``0.5 (x (erf(x / sqrt(2)) + 1))``.

    The latter is the form that onnxruntime computes in one node.
    """
    known = half == 0.5 and one == 1 and np.allclose(root, 0.5**0.5, rtol=1e-2)
    if x.dtype is None or not known:
        return None
    half, one, root = (np.array(each, x.dtype.numpy()) for each in (0.5, 1, 2**0.5))
    erf = op.Erf(op.Div(x, array(op, root)))
    return op.Mul(op.Mul(x, op.Add(erf, array(op, one))), array(op, half))
