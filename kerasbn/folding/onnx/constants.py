"""The constants of an ONNX model, as arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_AXES = 64  # of a NumPy array


def constant(value: ir.Value) -> Array:
    """Return the array of a value for which `is_constant` is true."""
    node = value.producer()
    if node is None or node.op_type == "Constant":
        tensor = ir.convenience.get_const_tensor(value)
        assert tensor is not None
        return np.asarray(tensor.numpy())
    return _REARRANGE[node.op_type](node, *(constant(each) for each in node.inputs if each))


def is_constant(value: ir.Value | None) -> bool:
    """Return whether a value is equal in each run: a constant, perhaps cast or rearranged.

    An initializer that is also an input of the graph may be overridden, so it is no constant.
    """
    if value is None or value.is_graph_input():
        return False
    node = value.producer()
    if node is None:
        return value.const_value is not None
    if node.domain:
        return False
    if node.op_type == "Constant":
        return "sparse_value" not in node.attributes
    return node.op_type in _REARRANGE and all(map(is_constant, node.inputs))


@np.errstate(invalid="ignore")  # the conversion of a signaling NaN
def in_float64(array: object) -> Array:
    """Return an array in float64."""
    return np.asarray(array, np.float64)


def _axes(node: ir.Node, axes: Array | None) -> tuple[int, ...] | None:
    given = node.attributes.get_ints("axes") if axes is None else axes.tolist()
    return None if given is None else tuple(given)


def _reshape(node: ir.Node, x: Array, shape: Array) -> Array:
    copied = not node.attributes.get_int("allowzero", 0)
    return x.reshape([x.shape[i] if n == 0 and copied else n for i, n in enumerate(shape.tolist())])


@np.errstate(invalid="ignore")  # NaN as an integer
def _cast(node: ir.Node, x: Array) -> Array:
    return x.astype(ir.DataType(node.attributes.get_int("to", 1)).numpy())


# The operations that only cast or rearrange, given the node and its inputs.
_REARRANGE: dict[str, Callable[..., Array]] = {
    "Identity": lambda _, x: x,
    "Cast": _cast,
    "Reshape": _reshape,
    "Transpose": lambda node, x: x.transpose(node.attributes.get_ints("perm")),
    "Unsqueeze": lambda node, x, axes=None: np.expand_dims(x, _axes(node, axes) or ()),
    "Squeeze": lambda node, x, axes=None: np.squeeze(x, _axes(node, axes)),
}
