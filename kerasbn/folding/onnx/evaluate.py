"""Evaluate ONNX nodes in float64 with NumPy.

onnxruntime has no float64 kernels for convolutions, pools, recurrent layers and much else on a CPU.
The reference evaluator of `onnx` has. Below are the operators that it computes slowly, wrongly, or
in a fixed dtype.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_resize as reference

from kerasbn.folding.onnx.constants import constant, in_float64, is_constant
from kerasbn.folding.onnx.nodes import captured

Array = NDArray[Any]
Attribute = Any  # of a node: a number, a text or a list of them
Pair = tuple[int, int]


class CannotEvaluate(Exception):  # noqa: N818 - a reason to check by other means, not shown
    """The reference evaluator has no such operator, or not with these attributes."""


def evaluate(
    nodes: Sequence[ir.Node],
    feeds: Mapping[str, Array],
    outputs: Iterable[str],
    opsets: Mapping[str, int],
) -> dict[str, Array]:
    """Return tensors that nodes compute, by name.

    All floats are float64: those fed, those in constants, and what a Cast makes.

    Args:
        nodes: in topological order.
        feeds: all tensors that the nodes read from elsewhere, except constants.
        outputs: the names of the tensors to return.
        opsets: the version of each domain.

    Raises:
        CannotEvaluate: if an operator is not known, or the arrays do not fit.
    """
    known = {name: as_double(array) for name, array in feeds.items()}
    left = []
    for node in nodes:
        for value in (*node.inputs, *captured(node)):
            if value is not None and value.name not in known and is_constant(value):
                known[str(value.name)] = as_double(constant(value))
        if node.op_type != "Constant":
            try:
                left.append(ir.to_proto(node))
            except ir.serde.SerdeError as error:  # its type says what no message can hold
                raise CannotEvaluate(str(error)) from error
    return run_nodes(left, known, list(outputs), opsets)


def run_nodes(
    nodes: Sequence[onnx.NodeProto],
    known: Mapping[str, Array],
    outputs: Sequence[str],
    opsets: Mapping[str, int],
) -> dict[str, Array]:
    """Evaluate like `evaluate`, given all constants as arrays. Floats have to be float64."""
    helper = onnx.helper
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in known.items()
    ]
    made = [onnx.ValueInfoProto(name=name) for name in outputs]
    for node in nodes:
        _check_node(node)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            graph = helper.make_graph(nodes, "part", given, made)
            evaluator = ReferenceEvaluator(graph, dict(opsets), new_ops=_OWN)
            arrays = evaluator.run(outputs, dict(known))
    except Exception as error:  # its errors have no common class
        raise CannotEvaluate(f"{type(error).__name__}: {error}") from error
    return dict(zip(outputs, map(np.asarray, arrays), strict=True))


def as_double(array: Array) -> Array:
    """Return an array with floats of any kind, bfloat16 included, as float64."""
    return in_float64(array) if is_float(array.dtype) else array


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is a float; those of ml_dtypes have kinds of their own."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _check_node(node: onnx.NodeProto) -> None:
    """Raise `CannotEvaluate` where the reference evaluator would ignore an attribute or input."""
    if node.op_type not in ("LSTM", "GRU", "RNN"):
        return
    default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
    names = default[node.op_type]
    assumed: dict[str, list[Any]] = {
        "activations": [names, names * 2],
        "clip": [],
        "input_forget": [0],
    }
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        value = [each.decode() for each in value] if attribute.name == "activations" else value
        if attribute.name in assumed and value not in assumed[attribute.name]:
            raise CannotEvaluate(f"{node.op_type} with {attribute.name}={value}")
    if len(node.input) > 4 and node.input[4]:
        raise CannotEvaluate(f"{node.op_type} with sequence_lens")


def _paddings(
    auto_pad: str, pads: Sequence[int] | None, size: Sequence[int], window: Sequence[int],
    strides: Sequence[int],
) -> list[Pair]:  # fmt: skip
    """Return what a convolution or pool pads each axis with, before and after."""
    n = len(size)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-d // s) - 1) * s + w - d)
            for d, w, s in zip(size, window, strides, strict=True)
        ]
        small = [(t // 2, t - t // 2) for t in total]
        return small if auto_pad == "SAME_UPPER" else [(after, before) for before, after in small]
    if auto_pad == "VALID" or not pads:
        return [(0, 0)] * n
    return list(zip(pads[:n], pads[n:], strict=True))


def _windows(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """Return the windows of a padded x, of shape (N, C, *outputs, *kernel)."""
    n = len(kernel)
    window = _extents(kernel, dilations)
    views = sliding_window_view(x, window, axis=tuple(range(2, 2 + n)))
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    return views[(slice(None), slice(None), *steps)]


def _extents(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def _ones(values: Sequence[int] | None, n: int) -> list[int]:
    return list(values or [1] * n)


def _per_channel(values: Array, rank: int) -> Array:
    return values.reshape(-1, *(1,) * (rank - 2))


def conv(x: Array, w: Array, b: Array | None = None, *, group: int = 1, **how: Attribute) -> Array:
    """Return the sum over windows; the reference is slow."""
    n, kernel = x.ndim - 2, w.shape[2:]
    strides, dilations = _ones(how["strides"], n), _ones(how["dilations"], n)
    window = _extents(kernel, dilations)
    around = _paddings(how["auto_pad"], how["pads"], x.shape[2:], window, strides)
    views = _windows(np.pad(x, [(0, 0), (0, 0), *around]), kernel, strides, dilations)
    views = np.moveaxis(views, 1, 1 + n)
    places = views.shape[: 1 + n]
    parts = [
        columns.reshape(np.prod(places), -1) @ kernel_of.reshape(len(kernel_of), -1).T
        for columns, kernel_of in zip(
            np.split(views, group, 1 + n), np.split(w, group), strict=True
        )
    ]
    y = _channels_second([part.reshape(*places, -1) for part in parts])
    return y if b is None else y + _per_channel(b, x.ndim)


def conv_transpose(
    x: Array, w: Array, b: Array | None = None, *, group: int = 1, **how: Attribute
) -> Array:
    """Return the sum over taps; the reference is wrong with several channels in a group."""
    n, kernel, size = x.ndim - 2, w.shape[2:], x.shape[2:]
    strides, dilations = _ones(how["strides"], n), _ones(how["dilations"], n)
    extra = how["output_padding"] or [0] * n
    window = _extents(kernel, dilations)
    spans = [(d - 1) * s + 1 for d, s in zip(size, strides, strict=True)]
    full = [span + w + more - 1 for span, w, more in zip(spans, window, extra, strict=True)]
    y = np.zeros((x.shape[0], w.shape[1] * group, *full))
    pairs = list(zip(np.split(x, group, 1), np.split(w, group), strict=True))
    for tap in itertools.product(*map(range, kernel)):
        at = [
            slice(k * d, k * d + span, s)
            for k, d, span, s in zip(tap, dilations, spans, strides, strict=True)
        ]
        every: list[Any] = [slice(None), slice(None)]
        y[tuple(every + at)] += _channels_second(
            [np.tensordot(x_of, w_of[tuple(every + list(tap))], ([1], [0])) for x_of, w_of in pairs]
        )
    shape, same = how["output_shape"], how["auto_pad"] in ("SAME_UPPER", "SAME_LOWER")
    if shape is None and same:
        shape = [d * s for d, s in zip(size, strides, strict=True)]
    if shape is None:
        before, after = zip(*_paddings("NOTSET", how["pads"], full, full, strides), strict=True)
    else:
        total = [d - wanted for d, wanted in zip(full, shape[-n:], strict=True)]
        half = tuple(t // 2 for t in total)
        rest = tuple(t - h for t, h in zip(total, half, strict=True))
        before, after = (half, rest) if how["auto_pad"] == "SAME_UPPER" else (rest, half)
    if min(*before, *after) < 0:
        raise CannotEvaluate("ConvTranspose with negative padding")
    ends = [d - end for d, end in zip(full, after, strict=True)]
    kept: list[Any] = [..., *itertools.starmap(slice, zip(before, ends, strict=True))]
    y = y[tuple(kept)]
    return y if b is None else np.asarray(y + _per_channel(b, x.ndim))


def _channels_second(parts: Sequence[Array]) -> Array:
    """Return the groups of a convolution, whose channels are last, as one."""
    return np.moveaxis(np.concatenate(parts, -1), -1, 1)


def average_pool(x: Array, *, count_include_pad: int = 0, **how: Attribute) -> Array:
    """Return the mean over windows; the reference is wrong with `ceil_mode`, and slow."""
    views, place = _pool(x, 0.0, **how)
    axes = tuple(range(x.ndim, 2 * x.ndim - 2))
    counted = (place != 2) if count_include_pad else (place == 1)
    return np.asarray(views.sum(axes) / counted.sum(axes))


def max_pool(x: Array, **how: Attribute) -> Array:
    """Return the maximum over windows; the reference is slow."""
    views, _ = _pool(x, -np.inf, **{name: how[name] for name in how if name != "storage_order"})
    return np.asarray(views.max(tuple(range(x.ndim, 2 * x.ndim - 2))))


def global_max_pool(x: Array) -> Array:
    """Return the maximum over all axes but the first two; the reference is wrong with one."""
    return np.asarray(x.max(tuple(range(2, x.ndim)), keepdims=True))


def _pool(
    x: Array, fill: float, *, auto_pad: str, kernel_shape: Sequence[int],
    pads: Sequence[int] | None, strides: Sequence[int] | None, ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the windows of a pool, and for each value 1, or 0 in the padding and 2 beyond it."""
    n = len(kernel_shape)
    strides, dilations = _ones(strides, n), _ones(dilations, n)
    window = _extents(kernel_shape, dilations)
    around = _paddings(auto_pad, pads, x.shape[2:], window, strides)
    beyond = [(0, 0)] * n
    if ceil_mode:  # a last window may reach beyond the padding, but not begin there
        for axis, (before, after) in enumerate(around):
            d, s = x.shape[2 + axis], strides[axis]
            count = ceil((d + before + after - window[axis]) / s) + 1
            count -= (count - 1) * s >= d + before
            beyond[axis] = (0, max(0, (count - 1) * s + window[axis] - d - before - after))
    inside = np.pad(np.ones((1, 1, *x.shape[2:]), int), [(0, 0), (0, 0), *around])
    inside = np.pad(inside, [(0, 0), (0, 0), *beyond], constant_values=2)
    both = [(a + c, b + d) for (a, b), (c, d) in zip(around, beyond, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *both], constant_values=fill)
    return (
        _windows(padded, kernel_shape, strides, dilations),
        _windows(inside, kernel_shape, strides, dilations),
    )


def batch_normalization(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float,
    training_mode: int = 0, **_: Attribute,
) -> Array:  # fmt: skip
    """Return the result of moving statistics; the reference takes the batch's below opset 14."""
    if training_mode:
        raise CannotEvaluate("BatchNormalization in training mode")
    a, b, m, v = (_per_channel(each, x.ndim) for each in (gamma, beta, mean, variance))
    return np.asarray(a * (x - m) / np.sqrt(v + epsilon) + b)


def group_normalization(
    x: Array, gamma: Array, beta: Array, *, epsilon: float, num_groups: int, **_: Attribute
) -> Array:
    """Return it with gamma and beta per channel, below opset 21 per group; the reference casts."""
    grouped = x.reshape(x.shape[0], num_groups, -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    y = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
    repeats = x.shape[1] // len(gamma)
    a, b = (_per_channel(np.repeat(each, repeats), x.ndim) for each in (gamma, beta))
    return np.asarray(a * y + b)


class Resize(reference.Resize):
    """With cubic weights in float64; the reference computes them in float32, the attribute's."""

    op_domain = ""

    def _run(  # type: ignore[override] # operators take the arguments that they have
        self, *arrays: Array, cubic_coeff_a: float = -0.75, **how: Attribute
    ) -> tuple[Array]:
        compute: Callable[..., tuple[Array]] = super()._run
        return compute(*arrays, cubic_coeff_a=float(cubic_coeff_a), **how)


def cast(x: Array, *, to: int, **_: Attribute) -> Array:
    """Return x in another dtype, but in float64 instead of any other float."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    return x.astype(np.float64 if is_float(dtype) else dtype)


def _operator(name: str, compute: Callable[..., Array]) -> type[OpRun]:
    """Return an operator of the reference evaluator that has one output."""

    def run(self: OpRun, *arrays: Array, **attributes: Attribute) -> tuple[Array]:
        if len(self.onnx_node.output) > 1:
            raise CannotEvaluate(f"{name} with several outputs")
        return (compute(*arrays, **attributes),)

    return type(name, (OpRun,), {"op_domain": "", "_run": run})


_OWN: list[type[OpRun]] = [
    Resize,
    _operator("Conv", conv),
    _operator("ConvTranspose", conv_transpose),
    _operator("AveragePool", average_pool),
    _operator("MaxPool", max_pool),
    _operator("GlobalMaxPool", global_max_pool),
    _operator("BatchNormalization", batch_normalization),
    _operator("GroupNormalization", group_normalization),
    _operator("Cast", cast),
]
