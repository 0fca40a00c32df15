"""Rewrite rules that move changes of layout to where they are no longer needed.

TensorFlow has channels last and one-dimensional convolutions as two-dimensional ones of height 1;
ONNX has channels first and convolutions of any dimension. Each docstring shows the nodes before and
after.
"""

import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRuleClassBase

from kerasbn.onnx_export.linear import Op, array, axes_of, constant, dims, ints

REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd")
# Convolution attributes with one entry per spatial axis; `pads` has two.
_PER_AXIS = ("kernel_shape", "strides", "dilations", "output_padding", "output_shape")


def _single_axis(node: ir.Node, rank: int) -> int:
    """Return the one axis that a Squeeze or Unsqueeze changes, -1 if it changes several."""
    axes = axes_of(node)
    return axes[0] % rank if axes is not None and len(axes) == 1 else -1


class UnsqueezeBehindTranspose(RewriteRuleClassBase):
    """``Transpose(Unsqueeze(x, a), p)`` -> ``Unsqueeze(Transpose(x, p'), a')``."""

    def pattern(self, op: Op, x: Op, axes: Op, perm: Op) -> Op:
        return op.Transpose(op.Unsqueeze(x, axes, _outputs=["wide"]), perm=perm)

    def check(self, context: Op, wide: Op, perm: ir.Attr, **_: Op) -> bool:
        self.axis = _single_axis(wide.producer(), len(perm.as_ints()))
        return self.axis >= 0

    def rewrite(self, op: Op, x: ir.Value, perm: ir.Attr, **_: Op) -> Op:
        order = list(perm.as_ints())
        narrow = [a - (a > self.axis) for a in order if a != self.axis]
        return op.Unsqueeze(op.Transpose(x, perm=narrow), ints(op, order.index(self.axis)))


class SqueezeAheadOfTranspose(RewriteRuleClassBase):
    """``Squeeze(Transpose(x, p), a)`` -> ``Transpose(Squeeze(x, a'), p')``."""

    def pattern(self, op: Op, x: Op, axes: Op, perm: Op) -> Op:
        return op.Squeeze(op.Transpose(x, perm=perm), axes, _outputs=["thin"])

    def check(self, context: Op, thin: Op, perm: ir.Attr, **_: Op) -> bool:
        self.axis = _single_axis(thin.producer(), len(perm.as_ints()))
        return self.axis >= 0

    def rewrite(self, op: Op, x: ir.Value, perm: ir.Attr, **_: Op) -> Op:
        order = list(perm.as_ints())
        gone = order[self.axis]
        narrow = [a - (a > gone) for a in order if a != gone]
        return op.Transpose(op.Squeeze(x, ints(op, gone)), perm=narrow)


class SqueezeAheadOfConvolution(RewriteRuleClassBase):
    """``Squeeze(Conv(x, W), a)`` -> ``Conv(Squeeze(x, a), W')`` along an axis of size 1."""

    def __init__(self, op_type: str) -> None:
        super().__init__(f"SqueezeAheadOf{op_type}")
        self.op_type = op_type

    def pattern(self, op: Op, x: Op, w: Op, axes: Op) -> Op:
        convolution = getattr(op, self.op_type)
        made = convolution(x, w, _allow_other_inputs=True, _outputs=["made"])
        return op.Squeeze(made, axes, _outputs=["thin"])

    def check(self, context: Op, x: ir.Value, w: ir.Value, thin: Op, made: Op, **_: Op) -> bool:
        weight, shape = constant(w), dims(x)
        if weight is None or shape is None:
            return False
        axis = _single_axis(thin.producer(), len(shape))
        if axis < 2 or shape[axis] != 1 or weight.shape[axis] != 1:
            return False
        self.axis, self.weight = axis, weight
        pads = made.producer().attributes.get_ints("pads", [])
        return not any(pads[axis - 2 :: len(shape) - 2])

    def rewrite(self, op: Op, x: ir.Value, w: ir.Value, made: Op, **_: Op) -> Op:
        convolution, weight = made.producer(), self.weight
        attributes = convolution.attributes.copy()
        at, count = self.axis - 2, weight.ndim - 2
        for key in (*_PER_AXIS, "pads"):
            if key in attributes:
                kept = [n for i, n in enumerate(attributes[key].as_ints()) if i % count != at]
                attributes.add(ir.AttrInt64s(key, kept))
        thin = op.Squeeze(x, ints(op, self.axis))
        kernel = array(op, weight.squeeze(self.axis))
        return op.op(self.op_type, thin, kernel, *convolution.inputs[2:], **attributes)


class SliceOfConvTranspose(RewriteRuleClassBase):
    """``Slice(ConvTranspose(x, W))`` of spatial axes -> ``ConvTranspose(x, W)`` with more padding.

    The padding of a transposed convolution is what is cut off its result.
    """

    def pattern(self, op: Op, x: Op, w: Op, starts: Op, ends: Op, axes: Op) -> Op:
        made = op.ConvTranspose(x, w, _allow_other_inputs=True, _outputs=["made"])
        return op.Slice(made, starts, ends, axes, _allow_other_inputs=True, _outputs=["cut"])

    def check(self, context: Op, made: Op, cut: Op, **_: Op) -> bool:
        shape, convolution = dims(made), made.producer()
        inputs = cut.producer().inputs[1:]
        values = [
            value.ravel().tolist() for each in inputs if (value := constant(each)) is not None
        ]
        if shape is None or len(values) < len(inputs):
            return False
        if {"auto_pad", "output_shape"} & convolution.attributes.keys():
            return False
        starts, ends, axes, *steps = values
        count = len(shape) - 2
        self.pads = list(convolution.attributes.get_ints("pads", [0] * (2 * count)))
        for start, end, axis in zip(starts, ends, axes, strict=True):
            length = shape[axis]
            if axis < 2 or length is None or any(step != 1 for each in steps for step in each):
                return False
            front, back = slice(start, end).indices(length)[:2]
            self.pads[axis - 2] += front
            self.pads[axis - 2 + count] += length - back
        return True

    def rewrite(self, op: Op, made: Op, **_: Op) -> Op:
        convolution = made.producer()
        attributes = convolution.attributes.copy()
        attributes.add(ir.AttrInt64s("pads", self.pads))
        return op.op("ConvTranspose", *convolution.inputs, **attributes)


class SqueezeOfUnsqueeze(RewriteRuleClassBase):
    """``Squeeze(Unsqueeze(x, a), a)`` -> ``x``."""

    def pattern(self, op: Op, x: Op, one: Op, other: Op) -> Op:
        return op.Squeeze(op.Unsqueeze(x, one), other)

    def check(self, context: Op, one: ir.Value, other: ir.Value, **_: Op) -> bool:
        added, removed = constant(one), constant(other)
        return added is not None and removed is not None and added.tolist() == removed.tolist()

    def rewrite(self, op: Op, x: ir.Value, **_: Op) -> Op:
        return op.Identity(x)


class ReductionAheadOfTranspose(RewriteRuleClassBase):
    """``Reduce(Transpose(x, p), axes)`` -> ``Reduce(x, axes')`` if the others keep their order."""

    def __init__(self, op_type: str) -> None:
        super().__init__(f"{op_type}AheadOfTranspose", remove_nodes=False)
        self.op_type = op_type

    def pattern(self, op: Op, x: Op, perm: Op) -> Op:
        reduction = getattr(op, self.op_type)
        turned = op.Transpose(x, perm=perm)
        return reduction(turned, _allow_other_inputs=True, _outputs=["out"])

    def check(self, context: Op, perm: ir.Attr, out: Op, **_: Op) -> bool:
        node, order = out.producer(), list(perm.as_ints())
        axes = axes_of(node)
        if axes is None or node.attributes.get_int("keepdims", 1):
            return False
        gone = {axis % len(order) for axis in axes}
        left = [order[at] for at in range(len(order)) if at not in gone]
        self.axes = sorted(order[axis] for axis in gone)
        return left == sorted(left)

    def rewrite(self, op: Op, x: ir.Value, out: Op, **_: Op) -> Op:
        node = out.producer()
        attributes = node.attributes.copy()
        if "axes" not in attributes:
            return op.op(self.op_type, x, ints(op, *self.axes), **attributes)
        attributes.add(ir.AttrInt64s("axes", self.axes))
        return op.op(self.op_type, x, **attributes)
