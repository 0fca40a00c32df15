"""Passes that clean up a converted graph and give each linear layer one node.

Generic clean-up comes from onnx_ir and onnxscript. The rules below are those that neither has. Each
is a rewrite rule of onnxscript: a pattern, a check, and a replacement, which its docstring shows.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter.pattern import RewriteRuleClassBase

Array = NDArray[Any]
Dims = tuple[int | None, ...]
Op = Any  # the builders and pattern variables of onnxscript, which have no public types

CONVOLUTIONS = ("Conv", "ConvTranspose")


def constant(value: ir.Value | None) -> Array | None:
    """Return the array of a constant, or None for any other value."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def dims(value: ir.Value) -> Dims | None:
    """Return the shape of a value, with None for each free axis; None if the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def elements(sizes: Dims) -> int | None:
    """Return the number of elements of a shape, None if it has a free axis."""
    return prod(size or 0 for size in sizes) if None not in sizes else None


def is_only_use(value: ir.Value) -> bool:
    """Return whether a value has a single reader and is no output of the graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def axes_of(node: ir.Node) -> list[int] | None:
    """Return the axes of a Squeeze, Unsqueeze or reduction, None if they are not constant."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    value = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if value is None else [int(axis) for axis in value.ravel()]


def ints(op: Op, *numbers: int) -> ir.Value:
    """Return a constant vector of int64 for a replacement."""
    return array(op, np.array(numbers, np.int64))


def array(op: Op, value: Array) -> ir.Value:
    """Return a constant for a replacement."""
    made: ir.Value = op.Constant(value=ir.tensor(np.array(value, order="C")))
    return made


class FlattenReshape(RewriteRuleClassBase):
    """``Reshape(x, [-1, n])`` -> ``Flatten(x)`` where every example of x has n elements."""

    def pattern(self, op: Op, x: Op, shape: Op) -> Op:
        return op.Reshape(x, shape)

    def check(self, context: Op, x: ir.Value, shape: ir.Value) -> bool:
        target, sizes = constant(shape), dims(x)
        if target is None or target.size != 2 or sizes is None or len(sizes) < 2:
            return False
        if target.tolist() == [0, -1]:
            return True
        return target[0] in (-1, 0) and elements(sizes[1:]) == target[1]

    def rewrite(self, op: Op, x: ir.Value, shape: ir.Value) -> Op:
        return op.Flatten(x, axis=1)


class IdleReshape(RewriteRuleClassBase):
    """``Reshape(x)`` -> ``x`` where the shape stays the same.

    The rules of onnxscript for this need a fixed batch size.
    """

    def pattern(self, op: Op, x: Op, shape: Op) -> Op:
        return op.Reshape(x, shape, _outputs=["out"])

    def check(self, context: Op, x: ir.Value, out: Op, **_: Op) -> bool:
        sizes = dims(x)
        return sizes is not None and sizes == dims(out) and same_free_axes(x, out)

    def rewrite(self, op: Op, x: ir.Value, **_: Op) -> Op:
        return op.Identity(x)


class IdlePad(RewriteRuleClassBase):
    """``Pad(x, 0)`` -> ``x``, which onnxscript does only ahead of a convolution."""

    def pattern(self, op: Op, x: Op, widths: Op) -> Op:
        return op.Pad(x, widths, _allow_other_inputs=True)

    def check(self, context: Op, x: ir.Value, widths: ir.Value) -> bool:
        value = constant(widths)
        return value is not None and not value.any()

    def rewrite(self, op: Op, x: ir.Value, widths: ir.Value) -> Op:
        return op.Identity(x)


class MatMulToGemm(RewriteRuleClassBase):
    """``MatMul(x, W)`` -> ``Gemm(x, W)`` where x is a matrix and W a constant one."""

    def pattern(self, op: Op, x: Op, w: Op) -> Op:
        return op.MatMul(x, w)

    def check(self, context: Op, x: ir.Value, w: ir.Value) -> bool:
        weight = constant(w)
        return len(dims(x) or ()) == 2 and weight is not None and weight.ndim == 2

    def rewrite(self, op: Op, x: ir.Value, w: ir.Value) -> Op:
        return op.Gemm(x, w)


class MatMulOfReshape(RewriteRuleClassBase):
    """``Reshape(MatMul(Reshape(x), W))`` -> ``MatMul(x, W)`` where only the last axis changes.

    A Keras layer multiplies tensors of rank 3 and more by a matrix with `tf.tensordot`, which goes
    by way of a matrix. The rules of onnxscript for this need a fixed batch size.
    """

    def pattern(self, op: Op, x: Op, w: Op, rows: Op, shape: Op) -> Op:
        return op.Reshape(op.MatMul(op.Reshape(x, rows), w), shape, _outputs=["out"])

    def check(self, context: Op, x: ir.Value, w: ir.Value, out: Op, **_: Op) -> bool:
        before, after, weight = dims(x), dims(out), constant(w)
        if before is None or after is None or weight is None or weight.ndim != 2:
            return False
        return (
            len(before) == len(after)
            and (before[-1], after[-1]) == weight.shape
            and before[:-1] == after[:-1]
            and same_free_axes(x, out)
        )

    def rewrite(self, op: Op, x: ir.Value, w: ir.Value, **_: Op) -> Op:
        return op.MatMul(x, w)


def same_free_axes(one: ir.Value, other: ir.Value) -> bool:
    """Return whether the free axes of two values of equal size and rank must agree.

    A single free axis must, since the number of elements agrees; several must bear equal names.
    """
    assert one.shape is not None
    assert other.shape is not None
    free = [(a, b) for a, b in zip(one.shape, other.shape, strict=True) if not isinstance(a, int)]
    return len(free) < 2 or all(str(a) == str(b) != "None" for a, b in free)


class Bias(RewriteRuleClassBase):
    """``Add(f(L(x, W)), b)`` -> ``f(L(x, W, b))`` for a linear L that has no bias yet.

    L is a Gemm, Conv or ConvTranspose; or a MatMul, which an Add with one number per column follows
    then. f is nothing, or a change of layout behind it: a Transpose or Squeeze of a convolution, or
    the Reshape by which an attention tells its heads apart.
    """

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)  # f and L are in no pattern, so they go as unused

    def pattern(self, op: Op, y: Op, b: Op) -> Op:
        return op.Add(y, b)

    def check(self, context: Op, y: Op, b: ir.Value) -> bool:
        value = addend = constant(b)
        linear, self.layout = y.producer(), None
        if linear is None or addend is None or not is_only_use(y):
            return False
        if linear.op_type in ("Transpose", "Squeeze", "Reshape"):
            self.layout, inner = linear, linear.inputs[0]
            linear, value = inner.producer(), undo_layout(linear, addend)
            if linear is None or not is_only_use(inner):
                return False
        if linear.op_type not in (*CONVOLUTIONS, "Gemm", "MatMul") or value is None:
            return False
        if len([each for each in linear.inputs if each is not None]) > 2:
            return False
        bias = per_channel(linear, value)
        if bias is None:
            return False
        self.linear, self.bias = linear, bias
        settled = context.root.inputs[1] is b and (self.layout, bias.shape) == (None, addend.shape)
        return linear.op_type != "MatMul" or not settled

    def rewrite(self, op: Op, y: Op, b: ir.Value) -> Op:
        linear, layout = self.linear, self.layout
        x, w = linear.inputs[:2]
        if linear.op_type == "MatMul":
            made = op.Add(op.MatMul(x, w), array(op, self.bias))
        else:
            made = op.op(linear.op_type, x, w, array(op, self.bias), **linear.attributes.copy())
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
        axes = axes_of(layout)
        return None if axes is None else np.expand_dims(value, [a % len(before) for a in axes])
    last = [size or 0 for size in after[len(before) - 1 :]]  # what the last axis was split into
    if len(after) < len(before) or prod(last) != before[-1]:
        return None
    if before[1:-1] != after[1 : len(before) - 1] or prod(value.shape[: -len(last)]) != 1:
        return None
    return np.broadcast_to(value.reshape(value.shape[-len(last) :]), last).reshape(-1)


def per_channel(linear: ir.Node, value: Array) -> Array | None:
    """Return an addend as one number per output channel, None if it is not that."""
    weight, made = constant(linear.inputs[1]), dims(linear.outputs[0])
    if weight is None or made is None or value.ndim > len(made):
        return None
    at = 1 if linear.op_type in CONVOLUTIONS else len(made) - 1
    channels = made[at]
    if channels is None:
        return None
    shape = [channels if axis == at else 1 for axis in range(len(made))]
    value = value.reshape((1,) * (len(made) - value.ndim) + value.shape)
    if any(size not in (1, wanted) for size, wanted in zip(value.shape, shape, strict=True)):
        return None
    return np.broadcast_to(value, shape).reshape(channels)


class OneBound(RewriteRuleClassBase):
    """``Max(x, a)`` or ``Min(x, a)`` with one number for all elements -> ``Clip``.

    The rules of onnxscript need both bounds, and name constants after the tensor that is clipped,
    so that a tensor clipped twice gets the wrong ones.
    """

    def __init__(self, op_type: str) -> None:
        super().__init__(f"{op_type}ToClip")
        self.op_type = op_type

    def pattern(self, op: Op, x: Op, bound: Op) -> Op:
        return getattr(op, self.op_type)(x, bound)

    def check(self, context: Op, x: ir.Value, bound: ir.Value) -> bool:
        value, shape = constant(bound), dims(x)
        if value is None or shape is None or value.size == 0 or value.ndim > len(shape):
            return False
        self.bound = value.flat[0].reshape(())
        pairs = zip(value.shape[::-1], shape[::-1], strict=False)
        return bool((value == self.bound).all()) and all(n in (1, own) for n, own in pairs)

    def rewrite(self, op: Op, x: ir.Value, bound: ir.Value) -> Op:
        end = array(op, self.bound)
        return op.Clip(x, end) if self.op_type == "Max" else op.Clip(x, None, end)


class BothBounds(RewriteRuleClassBase):
    """``Clip(Clip(x, a), max=b)`` -> ``Clip(x, a, b)``, and so in the other order where a <= b."""

    def pattern(self, op: Op, x: Op) -> Op:
        inner = op.Clip(x, _allow_other_inputs=True, _outputs=["first"])
        return op.Clip(inner, _allow_other_inputs=True, _outputs=["then"])

    def check(self, context: Op, first: Op, then: Op, **_: Op) -> bool:
        low, high = [*first.producer().inputs[1:], None, None][:2]
        lower, upper = [*then.producer().inputs[1:], None, None][:2]
        if high is None and lower is None:
            self.bounds = (low, upper)  # as ONNX computes it: the lower bound first
            return low is not None and upper is not None
        least, most = constant(lower), constant(high)
        self.bounds = (lower, high)
        if low is not None or upper is not None or least is None or most is None:
            return False
        return bool(least <= most)

    def rewrite(self, op: Op, x: ir.Value, **_: Op) -> Op:
        return op.Clip(x, *self.bounds)


class EinsumToMatMul(RewriteRuleClassBase):
    """``Einsum(x, y)`` -> ``MatMul(x, y)``, with Transpose and Reshape around it as needed.

    With a constant y, x is transposed so that the axes to sum over come last, and flattened where
    they are several; the axes that only y has are one axis then, and split after. With a computed
    y, as in an attention, both are transposed so that MatMul sums over the right axis. An Einsum
    that is no such product, as with a kernel for each of several experts, stays.
    """

    def pattern(self, op: Op, x: Op, y: Op, equation: Op) -> Op:
        return op.Einsum(x, y, equation=equation)

    def check(self, context: Op, x: ir.Value, y: Op, equation: ir.Attr) -> bool:
        given, _, self.out = equation.as_string().replace(" ", "").partition("->")
        of_x, of_y = given.split(",")
        if "." in given or any(len(set(each)) < len(each) for each in (of_x, of_y, self.out)):
            return False
        if constant(x) is not None:
            (x, of_x), (y, of_y) = (y, of_y), (x, of_x)
        self.x, self.y, self.of_x, self.of_y = x, y, of_x, of_y
        self.only_x = [a for a in of_x if a not in of_y]
        self.only_y = [a for a in self.out if a in of_y and a not in of_x]
        shared = [a for a in of_x if a in of_y]
        self.batch, self.summed = (
            [a for a in self.out if a in shared],
            [a for a in shared if a not in self.out],
        )
        if not self.summed or not self.only_x:
            return False
        if sorted(self.batch + self.only_x + self.only_y) != sorted(self.out):
            return False
        if set(of_y) != {*self.batch, *self.summed, *self.only_y}:
            return False
        if constant(y) is not None:
            return not self.batch
        return len(self.summed) == len(self.only_x) == len(self.only_y) == 1

    def rewrite(self, op: Op, x: ir.Value, y: Op, equation: ir.Attr) -> Op:
        weight = constant(self.y)
        rows = self.batch + self.only_x
        left = transposed(op, self.x, self.of_x, rows + self.summed)
        if weight is None:
            right = transposed(op, self.y, self.of_y, self.batch + self.summed + self.only_y)
            made = op.MatMul(left, right)
            return transposed(op, made, rows + self.only_y, self.out)
        matrix = weight.transpose([self.of_y.index(a) for a in self.summed + self.only_y])
        sizes = matrix.shape[len(self.summed) :]
        matrix = matrix.reshape(prod(matrix.shape[: len(self.summed)]), -1)
        same = [0] * len(rows)  # a Reshape keeps an axis where its shape says 0
        if len(self.summed) > 1:
            left = op.Reshape(left, ints(op, *same, len(matrix)))
        made = op.MatMul(left, array(op, matrix))
        if len(self.only_y) != 1:
            made = op.Reshape(made, ints(op, *same, *sizes))
        return transposed(op, made, rows + self.only_y, self.out)


def transposed(op: Op, value: Op, have: Sequence[str], want: Sequence[str]) -> Op:
    """Return a value with its axes in another order."""
    if list(have) == list(want):
        return value
    return op.Transpose(value, perm=[list(have).index(axis) for axis in want])
