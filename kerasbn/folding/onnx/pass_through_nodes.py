"""ONNX nodes that an affine map passes through: which law of `kerasbn.folding.pass_through`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from kerasbn.folding import pass_through as laws
from kerasbn.folding.affine import CannotFold
from kerasbn.folding.onnx.nodes import NodeCall
from kerasbn.folding.pass_through import Indices, PassThrough


def _rank(call: NodeCall) -> int:
    return len(call.inputs[0].example)


# -- one input, the axes stay --------------------------------------------------------------------


def _dropout(call: NodeCall) -> PassThrough:
    training = call.constant(2, "a training mode")
    if training is not None and training.any():
        raise CannotFold("is active: it is in training mode")
    return laws.UNCHANGED


def _cast(call: NodeCall) -> PassThrough:
    """A cast to a wider type changes no value."""
    old, new = call.inputs[0].dtype, call.outputs[0].dtype
    if old != new and new not in _WIDER.get(old, ()):
        raise CannotFold(f"casts {old or 'another type'} to {new or 'another type'}, and rounds")
    return laws.UNCHANGED


_WIDER = {
    "float16": ("float32", "float64"), "bfloat16": ("float32", "float64"), "float32": ("float64",),
}  # fmt: skip


def _spatial(call: NodeCall) -> range:
    return range(2, _rank(call))


def _average_pool(call: NodeCall) -> PassThrough:
    get = call.layer.attributes
    pads = any(get.get_ints("pads", ())) or get.get_string("auto_pad", "NOTSET")[:4] == "SAME"
    if get.get_int("count_include_pad", 0) and (pads or get.get_int("ceil_mode", 0)):
        return laws.padding(_spatial(call))
    return laws.average(_spatial(call))


def _pad(call: NodeCall) -> PassThrough:
    rank, mode = _rank(call), call.layer.attributes.get_string("mode", "constant")
    try:
        axes = call.axes("axes", 3, rank) or list(range(rank))
        pads = call.integers("pads", 1) or [0] * 2 * len(axes)
        both = zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
        padded = [axis for axis, before, after in both if before or after]
    except CannotFold:
        padded = list(range(rank))
    if mode != "constant":
        return laws.average(padded)
    value = call.constant(2, "a value")
    default = call.layer.attributes.get_float("value", 0.0)
    return laws.padding(padded, default if value is None else float(value.ravel()[0]))


def _resize(call: NodeCall) -> PassThrough:
    if call.layer.attributes.get_string("coordinate_transformation_mode", "")[:7] == "tf_crop":
        raise CannotFold("may extrapolate with a constant")
    return laws.average(_changed_axes(call))


def _changed_axes(call: NodeCall) -> list[int]:
    """Return the axes whose length changes, or may change."""
    both = zip(call.inputs[0].example, call.outputs[0].example, strict=True)
    return [axis for axis, (m, n) in enumerate(both) if m is None or m != n]


def _slice(call: NodeCall) -> PassThrough:
    shape = call.inputs[0].example
    indices: dict[int, Indices | None] = {}
    try:
        starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
        axes = call.axes("axes", 3, len(shape)) or list(range(len(starts)))
        steps = call.integers("steps", 4) or [1] * len(axes)
        for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
            n = shape[axis]
            indices[axis] = None if n is None else np.arange(n)[slice(*bounds)]
    except CannotFold:  # a bound that is not constant
        axes = call.axes("axes", 3, len(shape)) or list(range(len(shape)))
        indices = dict.fromkeys(axes)
    return laws.selection(call, indices)


def _split(call: NodeCall) -> PassThrough:
    axis = call.layer.attributes.get_int("axis", 0) % _rank(call)
    lengths = [call.shape(value)[axis] for value in call.layer.outputs[: call.output + 1]]
    known = [n for n in lengths if n is not None]
    if len(known) < len(lengths):
        return laws.selection(call, {axis: None})
    return laws.selection(call, {axis: np.arange(sum(known[:-1]), sum(known))})


# -- one input, the axes change ------------------------------------------------------------------


def _reduce(mix: Callable[[NodeCall, Collection[int]], PassThrough]) -> "Law":
    def law(call: NodeCall) -> PassThrough:
        get = call.layer.attributes
        axes = call.axes("axes", 1, _rank(call))
        if not axes:
            axes = [] if get.get_int("noop_with_empty_axes", 0) else list(range(_rank(call)))
        kept = get.get_int("keepdims", 1)
        return mix(call, axes).then(laws.without_axes(() if kept else axes))

    return law


def _squeeze(call: NodeCall) -> PassThrough:
    shape = call.inputs[0].example
    axes = call.axes("axes", 1, len(shape))
    return laws.without_axes([i for i, n in enumerate(shape) if n == 1] if axes is None else axes)


def _unsqueeze(call: NodeCall) -> PassThrough:
    return laws.with_axes(call.axes("axes", 1, len(call.outputs[0].example)) or [])


def _expand(call: NodeCall) -> PassThrough:
    return laws.with_axes(range(len(call.outputs[0].example) - _rank(call)))


def _reshape(call: NodeCall) -> PassThrough:
    return laws.reshape(call.named_shape(call.layer.inputs[0]), call.named_shape(call.result))


def _transpose(call: NodeCall) -> PassThrough:
    axes = range(_rank(call))
    order = call.layer.attributes.get_ints("perm", axes[::-1])
    if sorted(order) != [*axes]:
        raise CannotFold(f"has the order {list(order)} for {len(axes)} axes")
    return laws.permutation(order)


def _depth_to_space(call: NodeCall) -> PassThrough:
    n, c, h, w = (m or name for m, name in zip(call.inputs[0].example, "nchw", strict=True))
    b = call.layer.attributes["blocksize"].as_int()
    if not isinstance(c, int):
        raise CannotFold("has an unknown number of channels")
    blocks: list[int | str | None] = [n, b, b, c // b**2, h, w]
    order = [0, 3, 4, 1, 5, 2]
    if call.layer.attributes.get_string("mode", "DCR") == "CRD":
        blocks, order = [n, c // b**2, b, b, h, w], [0, 1, 4, 2, 5, 3]
    split = laws.reshape([n, c, h, w], blocks).then(laws.permutation(order))
    larger = [m * b if isinstance(m, int) else None for m in (h, w)]
    return split.then(laws.reshape([blocks[i] for i in order], [n, c // b**2, *larger]))


def _space_to_depth(call: NodeCall) -> PassThrough:
    n, c, h, w = (m or name for m, name in zip(call.inputs[0].example, "nchw", strict=True))
    b = call.layer.attributes["blocksize"].as_int()
    _, channels, *below = call.shape(call.result)
    if not isinstance(c, int):
        raise CannotFold("has an unknown number of channels")
    high, wide = (m or name for m, name in zip(below, ("high", "wide"), strict=True))
    order = [0, 3, 5, 1, 2, 4]
    blocks: list[int | str | None] = [n, c, high, b, wide, b]
    split = laws.reshape([n, c, h, w], blocks).then(laws.permutation(order))
    return split.then(laws.reshape([blocks[i] for i in order], [n, channels, high, wide]))


# -- several inputs ------------------------------------------------------------------------------


def _concat(call: NodeCall) -> PassThrough:
    axis = call.layer.attributes["axis"].as_int()
    return laws.concatenation(call, axis % len(call.outputs[0].example))


def _extreme(call: NodeCall) -> PassThrough:
    if len(call.data) < len(call.layer.inputs):
        raise CannotFold("compares it to a constant")
    return laws.extreme(call)


def _sum(weights: Callable[[int], list[float]]) -> "Law":
    """A sum whose weights depend on the number of inputs."""
    return lambda call: laws.weighted_sum(call, weights(len(call.data)))


# -- the table -----------------------------------------------------------------------------------

Law = Callable[[NodeCall], PassThrough]


@dataclass(frozen=True)
class PassThroughNode:
    """The law of an operation, and whether all its inputs are data, not only the first."""

    law: Law
    several: bool = False


_LAWS: list[tuple[Law, tuple[str, ...]]] = [
    (lambda _: laws.UNCHANGED, ("Identity",)),
    (_dropout, ("Dropout",)),
    (_cast, ("Cast",)),
    (_average_pool, ("AveragePool",)),
    (lambda call: laws.average(_spatial(call)), ("GlobalAveragePool",)),
    (lambda call: laws.maximum(_spatial(call)), ("MaxPool", "GlobalMaxPool")),
    (_pad, ("Pad",)),
    (_resize, ("Resize", "Upsample")),
    (lambda call: laws.average(_changed_axes(call)), ("Tile",)),
    (_slice, ("Slice",)),
    (_split, ("Split",)),
    (_reduce(lambda _, axes: laws.average(axes)), ("ReduceMean",)),
    (_reduce(lambda _, axes: laws.maximum(axes)), ("ReduceMax", "ReduceMin")),
    (_reduce(lambda call, axes: laws.total(axes, call.inputs[0].example)), ("ReduceSum",)),
    (_squeeze, ("Squeeze",)),
    (_unsqueeze, ("Unsqueeze",)),
    (_expand, ("Expand",)),
    (_reshape, ("Reshape", "Flatten")),
    (_transpose, ("Transpose",)),
    (_depth_to_space, ("DepthToSpace",)),
    (_space_to_depth, ("SpaceToDepth",)),
    (lambda _: laws.RECTIFIER, ("Relu", "LeakyRelu", "PRelu")),
]
_OF_SEVERAL: list[tuple[Law, tuple[str, ...]]] = [
    (_sum(lambda n: [1.0] * n), ("Add", "Sum")),
    (_sum(lambda n: [1.0] + [-1.0] * (n - 1)), ("Sub",)),
    (_sum(lambda n: [1.0 / n] * n), ("Mean",)),
    (lambda call: laws.product(call, [1, 1]), ("Mul",)),
    (lambda call: laws.product(call, [1, -1]), ("Div",)),
    (_extreme, ("Max", "Min")),
    (_concat, ("Concat",)),
]
PASS_THROUGH_NODES = {
    name: PassThroughNode(law, several)
    for several, table in ((False, _LAWS), (True, _OF_SEVERAL))
    for law, names in table
    for name in names
}
