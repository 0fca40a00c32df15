"""Rewrite rules that move changes of layout to where they are no longer needed.

TensorFlow has channels last and one-dimensional convolutions as two-dimensional ones of height 1;
ONNX has channels first and convolutions of any dimension.
"""

import onnx_ir as ir

from kerasbn.onnx_export.linear import Array, Op, array, constant, dims, rule

REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd")
# Convolution attributes with one entry per spatial axis; `pads` has two.
_PER_AXIS = ("kernel_shape", "strides", "dilations", "output_padding", "output_shape", "pads")


@rule(lambda op, x, axes, perm: op.Transpose(op.Unsqueeze(x, axes), perm=perm), ["axes"])
def unsqueeze_behind_transpose(op: Op, x: ir.Value, axes: Array, perm: ir.Attr) -> Op:
    """``Transpose(Unsqueeze(x, a), p)`` -> ``Unsqueeze(Transpose(x, p'), a')`` for one axis a."""
    if axes.size != 1:
        return None
    order = list(perm.as_ints())
    axis = axes.item() % len(order)
    narrow = [a - (a > axis) for a in order if a != axis]
    return op.Unsqueeze(op.Transpose(x, perm=narrow), array(op, [order.index(axis)]))


@rule(lambda op, x, axes, perm: op.Squeeze(op.Transpose(x, perm=perm), axes), ["axes"])
def squeeze_ahead_of_transpose(op: Op, x: ir.Value, axes: Array, perm: ir.Attr) -> Op:
    """``Squeeze(Transpose(x, p), a)`` -> ``Transpose(Squeeze(x, a'), p')`` for one axis a."""
    if axes.size != 1:
        return None
    order = list(perm.as_ints())
    gone = order[axes.item()]
    narrow = [a - (a > gone) for a in order if a != gone]
    return op.Transpose(op.Squeeze(x, array(op, [gone])), perm=narrow)


def squeeze_ahead_of_convolution(kind: str) -> Op:
    """``Squeeze(Conv(x, W), a)`` -> ``Conv(Squeeze(x, a), W')`` along an axis of size 1."""

    def pattern(op: Op, x: Op, w: Op, axes: Op) -> Op:
        made = getattr(op, kind)(x, w, _allow_other_inputs=True, _outputs=["made"])
        return op.Squeeze(made, axes)

    @rule(pattern, ["w", "axes"])
    def squeeze_first(op: Op, x: ir.Value, w: Array, axes: Array, made: Op) -> Op:
        shape, convolution = dims(x), made.producer()
        if shape is None or axes.size != 1:
            return None
        axis, count = axes.item() % len(shape), len(shape) - 2
        at, attributes = axis - 2, convolution.attributes.copy()
        if at < 0 or shape[axis] != 1 or w.shape[axis] != 1:
            return None
        if any(attributes.get_ints("pads", [])[at::count]):
            return None
        for key in attributes.keys() & _PER_AXIS:
            kept = [n for i, n in enumerate(attributes[key].as_ints()) if i % count != at]
            attributes.add(ir.AttrInt64s(key, kept))
        thin = op.Squeeze(x, array(op, [axis]))
        return op.op(kind, thin, array(op, w.squeeze(axis)), *convolution.inputs[2:], **attributes)

    return squeeze_first


def _slice_of_conv_transpose(op: Op, x: Op, w: Op, starts: Op, ends: Op, axes: Op) -> Op:
    made = op.ConvTranspose(x, w, _allow_other_inputs=True, _outputs=["made"])
    return op.Slice(made, starts, ends, axes, _allow_other_inputs=True, _outputs=["cut"])


@rule(_slice_of_conv_transpose, ["starts", "ends", "axes"])
def slice_of_conv_transpose(
    op: Op, starts: Array, ends: Array, axes: Array, made: Op, cut: Op, **_: Op
) -> Op:
    """``Slice(ConvTranspose(x, W))`` of spatial axes -> ``ConvTranspose(x, W)`` with more padding.

    The padding of a transposed convolution is what is cut off its result.
    """
    shape, convolution = dims(made), made.producer()
    attributes = convolution.attributes.copy()
    steps = [constant(value) for value in cut.producer().inputs[4:]]
    if shape is None or {"auto_pad", "output_shape"} & attributes.keys():
        return None
    if any(each is None or (each != 1).any() for each in steps):
        return None
    count = len(shape) - 2
    pads = list(attributes.get_ints("pads", [0] * (2 * count)))
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
        length = shape[axis]
        if axis < 2 or length is None:
            return None
        front, back = slice(start, end).indices(length)[:2]
        pads[axis - 2] += front
        pads[axis - 2 + count] += length - back
    attributes.add(ir.AttrInt64s("pads", pads))
    return op.op("ConvTranspose", *convolution.inputs, **attributes)


@rule(lambda op, x, one, other: op.Squeeze(op.Unsqueeze(x, one), other), ["one", "other"])
def squeeze_of_unsqueeze(op: Op, x: ir.Value, one: Array, other: Array) -> Op:
    """``Squeeze(Unsqueeze(x, a), a)`` -> ``x``."""
    return op.Identity(x) if one.tolist() == other.tolist() else None


def reduction_ahead_of_transpose(kind: str) -> Op:
    """``Reduce(Transpose(x, p), axes)`` -> ``Reduce(x, axes')`` if the others keep their order."""

    def pattern(op: Op, x: Op, perm: Op) -> Op:
        turned = op.Transpose(x, perm=perm)
        return getattr(op, kind)(turned, _allow_other_inputs=True, _outputs=["out"])

    @rule(pattern, remove_nodes=False)
    def reduce_first(op: Op, x: ir.Value, perm: ir.Attr, out: Op) -> Op:
        _, *given = out.producer().inputs  # none before opset 18, which has an attribute instead
        order, attributes = list(perm.as_ints()), out.producer().attributes.copy()
        values = constant(given[0]) if given else None
        axes = attributes.get_ints("axes") if values is None else values.tolist()
        if axes is None or attributes.get_int("keepdims", 1):
            return None
        gone = {order[axis] for axis in axes}
        left = [axis for axis in order if axis not in gone]
        if left != sorted(left):
            return None
        if given:
            return op.op(kind, x, array(op, sorted(gone)), **attributes)
        attributes.add(ir.AttrInt64s("axes", sorted(gone)))
        return op.op(kind, x, **attributes)

    return reduce_first
