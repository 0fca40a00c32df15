"""Rewrite rules of onnxscript that give each linear layer one node.

A rule is a pattern and a function that returns the replacement; its docstring shows both.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import RewriteRule

Array = NDArray[Any]
Op = Any  # the builders, pattern variables and rules of onnxscript, which have no public types

CONVOLUTIONS = ("Conv", "ConvTranspose")


def rule(
    pattern: Callable[..., Op], constants: Sequence[str] = (), remove_nodes: bool = True
) -> Callable[[Callable[..., Op]], Op]:
    """Return a decorator that makes a rule of a function; the rule does not apply if it gives None.

    The function gets the values named in `constants` as arrays; all must be constant. With
    `remove_nodes=False` the nodes of the pattern may have other readers, and stay for them.
    """

    def of(replacement: Callable[..., Op]) -> Op:
        def replace(op: Op, **values: Op) -> Op:
            arrays = {name: constant(values[name]) for name in constants}
            if any(value is None for value in arrays.values()):
                return None
            return replacement(op, **values | arrays)

        return RewriteRule(pattern, replace, name=replacement.__name__, remove_nodes=remove_nodes)

    return of


def constant(value: ir.Value | None) -> Array | None:
    """Return the array of a constant, or None for any other value."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def dims(value: ir.Value) -> tuple[int | None, ...] | None:
    """Return the shape of a value, with None for each free axis; None if the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def same_axes(one: ir.Value, other: ir.Value, count: int | None = None) -> bool:
    """Return whether the first `count` axes of two values agree, which have equally many elements.

    A single free axis then agrees too; several must bear equal names.
    """
    if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return False
    pairs = list(zip(one.shape, other.shape, strict=True))[:count]
    fixed = [pair for pair in pairs if any(isinstance(size, int) for size in pair)]
    free = [(str(a), str(b)) for a, b in pairs if (a, b) not in fixed]
    return all(a == b for a, b in fixed) and (
        len(free) < 2 or all(a == b != "None" for a, b in free)
    )


def is_only_use(value: ir.Value) -> bool:
    """Return whether a value has a single reader and is no output of the graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def array(op: Op, value: Array | Sequence[int]) -> Op:
    """Return a constant for a replacement."""
    return op.Constant(value=ir.tensor(np.array(value, order="C")))


@rule(lambda op, x, shape: op.Reshape(x, shape), ["shape"])
def flatten(op: Op, x: ir.Value, shape: Array) -> Op:
    """``Reshape(x, [-1, n])`` -> ``Flatten(x)`` where every example of x has n elements."""
    sizes = dims(x)
    if shape.size != 2 or sizes is None or len(sizes) < 2:
        return None
    count = prod(size or 0 for size in sizes[1:]) if None not in sizes[1:] else None
    keeps_examples = shape[0] in (-1, 0) and shape[1] == count
    return op.Flatten(x, axis=1) if keeps_examples or shape.tolist() == [0, -1] else None


@rule(lambda op, x, shape: op.Reshape(x, shape, _outputs=["out"]))
def idle_reshape(op: Op, x: ir.Value, out: ir.Value, **_: Op) -> Op:
    """``Reshape(x)`` -> ``x`` where the shape stays; onnxscript's need a fixed batch size."""
    return op.Identity(x) if same_axes(x, out) else None


@rule(lambda op, x, widths: op.Pad(x, widths, _allow_other_inputs=True), ["widths"])
def idle_pad(op: Op, x: ir.Value, widths: Array) -> Op:
    """``Pad(x, 0)`` -> ``x``, which onnxscript does only ahead of a convolution."""
    return None if widths.any() else op.Identity(x)


@rule(lambda op, x, w: op.MatMul(x, w))
def matmul_to_gemm(op: Op, x: ir.Value, w: ir.Value) -> Op:
    """``MatMul(x, W)`` -> ``Gemm(x, W)`` where x is a matrix and W a constant one."""
    weight = constant(w)
    is_matrix = len(dims(x) or ()) == 2 and weight is not None and weight.ndim == 2
    return op.Gemm(x, w) if is_matrix else None


@rule(
    lambda op, x, w, rows, shape: op.Reshape(
        op.MatMul(op.Reshape(x, rows), w), shape, _outputs=["out"]
    )
)
def matmul_of_reshape(op: Op, x: Op, w: ir.Value, out: Op, **_: Op) -> Op:
    """``Reshape(MatMul(Reshape(x), W))`` -> ``MatMul(x, W)`` where only the last axis changes.

    A Keras layer multiplies tensors of rank 3 and more by a matrix with `tf.tensordot`, which goes
    by way of a matrix. The rules of onnxscript for this need a fixed batch size.
    """
    weight = constant(w)
    if weight is None or not same_axes(x, out, count=-1):
        return None
    return op.MatMul(x, w) if (x.shape[-1], out.shape[-1]) == weight.shape else None


@rule(lambda op, y, b: op.Add(y, b, _outputs=["sum_"]), ["b"], remove_nodes=False)
def bias(op: Op, y: Op, b: Array, sum_: Op) -> Op:
    """``Add(f(L(x, W)), b)`` -> ``f(L(x, W, b))`` for a linear L that has no bias yet.

    L is a Gemm, Conv or ConvTranspose; or a MatMul, which an Add with one number per column follows
    then. f is nothing, or a change of layout behind it: a Transpose or Squeeze of a convolution, or
    the Reshape by which an attention tells its heads apart. f and L go as unused nodes.
    """
    linear, layout = y.producer(), None
    addend: Array | None = b
    if linear is None or not is_only_use(y):
        return None
    if linear.op_type in ("Transpose", "Squeeze", "Reshape"):
        layout, inner = linear, linear.inputs[0]
        linear, addend = inner.producer(), undo_layout(layout, b)
        if linear is None or not is_only_use(inner):
            return None
    if linear.op_type not in (*CONVOLUTIONS, "Gemm", "MatMul") or addend is None:
        return None
    x, w, *others = linear.inputs
    addend = per_channel(linear, addend)
    if addend is None or any(other is not None for other in others):
        return None
    if linear.op_type == "MatMul":
        if (layout, addend.shape) == (None, b.shape) and sum_.producer().inputs[0] is y:
            return None  # it is done
        made = op.Add(op.MatMul(x, w), array(op, addend))
    else:
        made = op.op(linear.op_type, x, w, array(op, addend), **linear.attributes.copy())
    if layout is None:
        return made
    return op.op(layout.op_type, made, *layout.inputs[1:], **layout.attributes.copy())


def undo_layout(layout: ir.Node, value: Array) -> Array | None:
    """Return the constant that, added before a change of layout, does what `value` does after."""
    source, made = layout.inputs[0], layout.outputs[0]
    assert source is not None
    before, after = dims(source), dims(made)
    if before is None or after is None or value.ndim > len(after):
        return None
    value = value.reshape((1,) * (len(after) - value.ndim) + value.shape)
    if layout.op_type == "Transpose":
        order = layout.attributes.get_ints("perm")
        return None if order is None else value.transpose(np.argsort(order))
    if layout.op_type == "Squeeze":
        axes = constant(layout.inputs[1]) if len(layout.inputs) > 1 else None
        return None if axes is None else np.expand_dims(value, tuple(axes % len(before)))
    last = [size or 0 for size in after[len(before) - 1 :]]  # what the last axis was split into
    if len(after) < len(before) or prod(last) != before[-1]:
        return None
    if before[1:-1] != after[1 : len(before) - 1] or prod(value.shape[: -len(last)]) != 1:
        return None
    return np.broadcast_to(value.reshape(value.shape[-len(last) :]), last).reshape(-1)


def per_channel(linear: ir.Node, value: Array) -> Array | None:
    """Return an addend as one number per output channel, None if it is not that."""
    made = dims(linear.outputs[0])
    at = 1 if linear.op_type in CONVOLUTIONS else -1
    channels = None if made is None else made[at]
    if constant(linear.inputs[1]) is None or made is None or channels is None:
        return None
    shape = [1] * len(made)
    shape[at] = channels
    try:
        return np.broadcast_to(value, shape).reshape(-1)
    except ValueError:  # it has other axes
        return None


def one_bound(kind: str) -> Op:
    """``Max(x, a)`` or ``Min(x, a)`` with one number for all elements -> ``Clip``.

    The rules of onnxscript need both bounds, and name constants after the tensor that is clipped,
    so that a tensor clipped twice gets the wrong ones.
    """

    @rule(lambda op, x, bound: getattr(op, kind)(x, bound), ["bound"])
    def clip(op: Op, x: ir.Value, bound: Array) -> Op:
        shape = dims(x)
        if shape is None or bound.size == 0 or bound.ndim > len(shape):
            return None
        pairs = zip(bound.shape[::-1], shape[::-1], strict=False)
        if (bound != bound.flat[0]).any() or any(n not in (1, own) for n, own in pairs):
            return None
        end = array(op, bound.flat[0].reshape(()))
        return op.Clip(x, end) if kind == "Max" else op.Clip(x, None, end)

    return clip


@rule(
    lambda op, x: op.Clip(
        op.Clip(x, _allow_other_inputs=True, _outputs=["first"]),
        _allow_other_inputs=True,
        _outputs=["then"],
    )
)
def both_bounds(op: Op, x: ir.Value, first: Op, then: Op) -> Op:
    """``Clip(Clip(x, a), max=b)`` -> ``Clip(x, a, b)``, and so in the other order where a <= b."""
    low, high = [*first.producer().inputs[1:], None, None][:2]
    lower, upper = [*then.producer().inputs[1:], None, None][:2]
    if high is None and lower is None:  # as ONNX computes it: the lower bound first
        return None if low is None or upper is None else op.Clip(x, low, upper)
    least, most = constant(lower), constant(high)
    if low is not None or upper is not None or least is None or most is None:
        return None
    return op.Clip(x, lower, high) if least <= most else None


@rule(lambda op, x, y, equation: op.Einsum(x, y, equation=equation))
def einsum_to_matmul(op: Op, x: ir.Value, y: ir.Value, equation: ir.Attr) -> Op:
    """``Einsum(x, y)`` -> ``MatMul(x, y)``, with Transpose and Reshape around it as needed.

    With a constant y, x is transposed so that the axes to sum over come last, and flattened where
    they are several; the axes that only y has are one axis then, and split after. With a computed
    y, as in an attention, both are transposed so that MatMul sums over the right axis. An Einsum
    that is no such product, as with a kernel for each of several experts, stays.
    """
    given, _, out = equation.as_string().replace(" ", "").partition("->")
    of_x, of_y = given.split(",")
    if "." in given or any(len(set(each)) < len(each) for each in (of_x, of_y, out)):
        return None
    if constant(x) is not None:
        (x, of_x), (y, of_y) = (y, of_y), (x, of_x)
    weight = constant(y)
    only_x = [a for a in of_x if a not in of_y]
    only_y = [a for a in out if a in of_y and a not in of_x]
    batch = [a for a in out if a in of_x and a in of_y]
    summed = [a for a in of_x if a in of_y and a not in out]
    rows = batch + only_x
    if not summed or not only_x or sorted(rows + only_y) != sorted(out):
        return None
    if set(of_y) != {*batch, *summed, *only_y}:
        return None
    if batch if weight is not None else not len(summed) == len(only_x) == len(only_y) == 1:
        return None
    left = transposed(op, x, of_x, rows + summed)
    if weight is None:
        right = transposed(op, y, of_y, batch + summed + only_y)
        return transposed(op, op.MatMul(left, right), rows + only_y, out)
    matrix = weight.transpose([of_y.index(a) for a in summed + only_y])
    sizes = matrix.shape[len(summed) :]
    matrix = matrix.reshape(prod(matrix.shape[: len(summed)]), -1)
    same = [0] * len(rows)  # a Reshape keeps an axis where its shape says 0
    if len(summed) > 1:
        left = op.Reshape(left, array(op, [*same, len(matrix)]))
    made = op.MatMul(left, array(op, matrix))
    if len(only_y) != 1:
        made = op.Reshape(made, array(op, [*same, *sizes]))
    return transposed(op, made, rows + only_y, out)


def transposed(op: Op, value: Op, have: Sequence[str], want: Sequence[str]) -> Op:
    """Return a value with its axes in another order."""
    if list(have) == list(want):
        return value
    return op.Transpose(value, perm=[list(have).index(axis) for axis in want])
