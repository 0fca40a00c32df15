"""Which layers absorb an affine before or after them, and how.

A linear layer is seen as one or two parts, each a kernel K whose axes have names, and a bias b:

    y[outputs] = sum over the other axes of K of K * x[inputs], + b[outputs]

An affine that follows it scales the kernel along its outputs, one that precedes it along its
inputs (`after` and `before` below are all there is to it):

    s*(K x + b) + t = (s*K) x + (s*b + t)
    K (s*x + t) + b = (K*s) x + (b + K t)

`LAWS` says for each class of layer what its parts are, and when the laws hold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasbn.folding.affine import Affine, Array, CannotFold

Layer = Any  # Keras ships no types
Example = tuple[int | None, ...]  # a shape without the batch axis


@dataclass(frozen=True)
class Part:
    """A kernel and a bias, their axes named by letters.

    Attributes:
        owner: what holds the variables: the layer, or a cell or projection within it.
        axes: the names of the kernel's axes, once it has the shape `view`.
        inputs: for each axis of an example that comes in, the names of the kernel's axes that it
            runs along; "" if the kernel is the same everywhere along it.
        outputs: likewise for what goes out.
        kernel, bias: the attributes of `owner`; a missing kernel counts as ones, a missing bias
            as zeros.
        view: the shape that separates axes which the variable holds as one.
        row: the row of the bias that is added to K x, where it has several.
        one_hot: whether x picks one row of the kernel, so that (K + t) x = K x + t.
        loose: whether the bias may differ along unnamed axes too.
    """

    owner: Layer
    axes: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: str = "kernel"
    bias: str | None = "bias"
    view: tuple[int, ...] | None = None
    row: int | None = None
    one_hot: bool = False
    loose: bool = False

    def read(self) -> tuple[Array, Array]:
        """K in named axes, and b in the axes of an outgoing example, in float64."""
        kernel = getattr(self.owner, self.kernel)
        k = np.ones(self.view or ()) if kernel is None else _array(kernel)
        k = k.reshape(self.view or k.shape)
        bias = getattr(self.owner, self.bias) if self.bias else None
        if bias is None:
            return k, np.zeros((1,) * len(self.outputs))
        b: Array = _array(bias) if self.row is None else _array(bias)[self.row]
        if self.loose:
            return k, b.reshape((1,) * (len(self.outputs) - b.ndim) + b.shape)
        b = b.reshape(self._lengths(k, self.outputs))
        return k, b

    def write(self, k: Array, b: Array) -> None:
        """Put K and b into the variables, rounded to their dtype."""
        kernel = getattr(self.owner, self.kernel)
        if kernel is not None:
            kernel.assign(k.reshape(kernel.shape))
        bias = getattr(self.owner, self.bias) if self.bias else None
        if bias is None:
            return
        shape = tuple(bias.shape if self.row is None else bias.shape[1:])
        if self.loose:
            b = b.reshape(b.shape[b.ndim - len(shape) :])
        else:
            b = np.broadcast_to(b, self._lengths(k, self.outputs)).reshape(shape)
        if self.row is not None:
            rows = _array(bias)
            rows[self.row] = b
            b = rows
        bias.assign(np.broadcast_to(b, bias.shape))

    def lacks_bias(self) -> bool:
        """Whether it could have a bias and has none."""
        return self.bias is not None and getattr(self.owner, self.bias) is None

    def lacks_kernel(self) -> bool:
        """Whether its kernel is left out and counts as ones."""
        return getattr(self.owner, self.kernel) is None

    def along(self, k: Array, values: Array, tensor: tuple[str, ...]) -> Array:
        """Values on the axes of a tensor as values on the axes of the kernel."""
        sizes = dict(zip(self.axes, k.shape, strict=True))
        shape: list[int] = []
        for names, n in zip(tensor, values.shape, strict=True):
            shape += [sizes[c] if n > 1 else 1 for c in names]
        order = "".join(tensor)
        values = values.reshape(shape).transpose([order.index(c) for c in self.axes if c in order])
        return np.expand_dims(values, tuple(i for i, c in enumerate(self.axes) if c not in order))

    def total(self, k: Array, t: Array) -> Array:
        """K t: the product summed over everything but the outputs, on the axes of an output."""
        if not t.any():
            return np.zeros((1,) * len(self.outputs))
        out = "".join(self.outputs)
        product = k * self.along(k, t, self.inputs)
        left = [c for c in self.axes if c in out]
        summed = product.sum(axis=tuple(i for i, c in enumerate(self.axes) if c not in out))
        summed = summed.transpose([left.index(c) for c in out])
        return np.asarray(summed.reshape(self._lengths(k, self.outputs)))

    def _lengths(self, k: Array, tensor: tuple[str, ...]) -> list[int]:
        """The lengths of a tensor's axes as the kernel has them; 1 for unnamed ones."""
        sizes = dict(zip(self.axes, k.shape, strict=True))
        return [math.prod(sizes[c] for c in names) for names in tensor]


def after(part: Part, k: Array, b: Array, a: Affine) -> tuple[Array, Array]:
    """s*(K x + b) + t = (s*K) x + (s*b + t)."""
    scaled = k * part.along(k, a.s, part.outputs)
    if part.one_hot:
        return scaled + part.along(k, a.t, part.outputs), b
    return scaled, a.s * b + a.t


def before(part: Part, k: Array, b: Array, a: Affine) -> tuple[Array, Array]:
    """K (s*x + t) + b = (K*s) x + (b + K t)."""
    return k * part.along(k, a.s, part.inputs), b + part.total(k, a.t)


def _array(variable: Layer) -> Array:
    array: Array = keras.ops.convert_to_numpy(variable).astype(np.float64)
    return array


# -- the parts of each class -------------------------------------------------------------------
# Each takes the layer, the example shape that comes in, and the argument that is asked about.


def _free(example: Example, last: str) -> tuple[str, ...]:
    """Axes of an example of which only the last is named."""
    return ("",) * (len(example) - 1) + (last,)


def _channels(layer: Layer, names: str) -> tuple[str, ...]:
    """Axes of a picture (or sequence, or volume) whose channels have these names."""
    free = ("",) * layer.rank
    return (names, *free) if layer.data_format == "channels_first" else (*free, names)


def _taps(layer: Layer) -> str:
    return "xyz"[: layer.rank]


def _dense(layer: Layer, example: Example, _: str) -> list[Part]:
    return [Part(layer, "io", _free(example, "i"), _free(example, "o"))]


def _embedding(layer: Layer, example: Example, _: str) -> list[Part]:
    outputs = ("",) * len(example) + ("o",)
    return [Part(layer, "vo", (), outputs, kernel="embeddings", bias=None, one_hot=True)]


def _conv(layer: Layer, _: Example, __: str) -> list[Part]:
    # The outputs gp read the inputs gj: those of their own group g. Ungrouped, g has length 1.
    *taps, inputs, outputs = layer.kernel.shape
    view = (*taps, inputs, layer.groups, outputs // layer.groups)
    axes = _taps(layer) + "jgp"
    return [Part(layer, axes, _channels(layer, "gj"), _channels(layer, "gp"), view=view)]


def _depthwise(layer: Layer, _: Example, __: str) -> list[Part]:
    axes = _taps(layer) + "im"
    return [Part(layer, axes, _channels(layer, "i"), _channels(layer, "im"))]


def _separable(layer: Layer, _: Example, __: str) -> list[Part]:
    *taps, inputs, multiplier = layer.depthwise_kernel.shape
    view = (*(1 for _ in taps), inputs, multiplier, layer.pointwise_kernel.shape[-1])
    first, middle, last = (_channels(layer, names) for names in ("i", "im", "o"))
    axes = _taps(layer) + "im"
    return [
        Part(layer, axes, first, middle, kernel="depthwise_kernel", bias=None),
        Part(layer, axes + "o", middle, last, kernel="pointwise_kernel", view=view),
    ]


def _transposed(layer: Layer, _: Example, __: str) -> list[Part]:
    axes = _taps(layer) + "oi"
    return [Part(layer, axes, _channels(layer, "i"), _channels(layer, "o"))]


def _einsum(layer: Layer, example: Example, _: str) -> list[Part]:
    incoming, axes, outgoing = _equation(layer)
    if incoming.startswith("..."):  # stands for the batch and the axes that the kernel ignores
        free = ("",) * (len(example) - len(incoming[3:]))
        inputs, outputs = incoming[3:], outgoing[3:]
    else:
        free, inputs, outputs = (), incoming[1:], outgoing[1:]
    plain = incoming[:1] == outgoing[:1] and incoming[0] not in axes and "." not in inputs + outputs
    if not plain or any(len(set(names)) < len(names) for names in (inputs, axes, outputs)):
        raise CannotFold(f"computes '{layer.equation}', whose batch axis is not plain")
    named = [(*free, *(c if c in axes else "" for c in names)) for names in (inputs, outputs)]
    return [Part(layer, axes, named[0], named[1], loose=True)]


def _equation(layer: Layer) -> tuple[str, str, str]:
    incoming, rest = layer.equation.replace(" ", "").split(",")
    axes, outgoing = rest.split("->")
    return incoming, axes, outgoing


def _own_scale(layer: Layer, example: Example, _: str) -> list[Part]:
    """LayerNormalization and GroupNormalization: gamma is a kernel without inputs, beta a bias."""
    listed = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    owned = [axis % (len(example) + 1) - 1 for axis in listed]
    names = tuple("abcdef"[axis] if axis in owned else "" for axis in range(len(example)))
    view = tuple(n or 1 for n, name in zip(example, names, strict=True) if name)
    kernel, bias = ("scale", None) if _is_rms(layer) else ("gamma", "beta")
    return [Part(layer, "".join(names), (), names, kernel=kernel, bias=bias, view=view)]


def _is_rms(layer: Layer) -> bool:
    return isinstance(layer, keras.layers.RMSNormalization)


def _recurrent(layer: Layer, _: Example, __: str) -> list[Part]:
    # Of the two rows of bias of a GRU that resets after, the first is added to K x.
    row = 0 if isinstance(layer, keras.layers.GRU) and layer.reset_after else None
    return [Part(layer.cell, "io", ("", "i"), ("", "o"), row=row)]


def _bidirectional(layer: Layer, example: Example, _: str) -> list[Part]:
    both = _directions(layer)
    if any(LAWS.get(type(one)) is not _RECURRENT for one in both):
        raise CannotFold("wraps a layer whose weights are not known")
    return [part for one in both for part in _recurrent(one, example, "")]


def _attention(layer: Layer, example: Example, argument: str) -> list[Part]:
    projections = {
        "": [layer.output_dense],
        "query": [layer.query_dense] + ([layer._gate_dense] if layer._use_gate else []),
        "key": [layer.key_dense],
        "value": [layer.value_dense],
    }
    if argument not in projections:
        raise CannotFold("reads it as another argument than query, key or value")
    return [part for dense in projections[argument] for part in _einsum(dense, example, "")]


# -- when the laws hold ------------------------------------------------------------------------


def _never(layer: Layer, example: Example, training: bool) -> bool:  # noqa: ARG001 - one signature for all
    return False


def _pads(layer: Layer, example: Example, training: bool) -> bool:  # noqa: ARG001 - one signature for all
    """Whether zeros are added around the input: then its edge does not see `t`."""
    if layer.padding == "valid":
        return False
    if layer.padding == "causal":
        return any(k > 1 for k in layer.kernel_size)
    spatial = example[1:] if layer.data_format == "channels_first" else example[:-1]
    for n, k, stride, dilation in zip(
        spatial, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = (k - 1) * dilation
        if reach and (n is None or (-(-n // stride) - 1) * stride + reach + 1 > n):
            return True
    return False


def _overlaps(layer: Layer, example: Example, training: bool) -> bool:  # noqa: ARG001 - one signature for all
    """Whether the outputs of a transposed convolution see different taps of its kernel."""
    return any(k > 1 for k in layer.kernel_size) or any(stride > 1 for stride in layer.strides)


def _sums_unseen(layer: Layer, example: Example, training: bool) -> bool:  # noqa: ARG001 - one signature for all
    """Whether an equation sums over an axis that its kernel doesn't have."""
    incoming, axes, outgoing = _equation(layer)
    return any(c not in axes + outgoing for c in incoming)


def _drops(layer: Layer, example: Example, training: bool) -> bool:  # noqa: ARG001 - one signature for all
    """Whether a recurrent layer drops some of its input before its kernel sees it."""
    return training and any(one.dropout > 0 for one in _directions(layer))


def _directions(layer: Layer) -> tuple[Layer, ...]:
    if isinstance(layer, keras.layers.Bidirectional):
        return layer.forward_layer, layer.backward_layer
    return (layer,)


# -- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """What one class of layers absorbs.

    Attributes:
        parts: its parts, given the example shape that comes in and the argument asked about ("" for
            what goes out).
        follows: whether it absorbs what follows it (by its last part).
        arguments: those whose affine it absorbs, if not just the first one.
        precedes: whether it absorbs what precedes it.
        uneven: whether some of its outputs would see another `t` than others, given what comes in
            and whether it is called with training=True; `how` says why.
        chained: whether the parts follow upon each other; otherwise each reads the input.
        settings: the configuration that gives it the weights it lacks.
    """

    parts: Callable[[Layer, Example, str], list[Part]]
    follows: bool = True
    precedes: bool = True
    arguments: tuple[str, ...] = ()
    uneven: Callable[[Layer, Example, bool], bool] = _never
    how: str = ""
    chained: bool = False
    settings: tuple[tuple[str, Any], ...] = (("use_bias", True), ("bias_initializer", "zeros"))


_PADDED = "pads its input with zeros, which the offset t would miss"
_OTHER_TAPS = "sees other taps of its kernel at each place, so t would not be the same everywhere"
_DROPPED = "drops some of what it reads, since it is called with training=True"
_UNSEEN = "sums over an axis that its kernel does not have"
_OWN = (("center", True), ("scale", True))
_CONVOLUTION = Law(_conv, uneven=_pads, how=_PADDED)
_DEPTHWISE = Law(_depthwise, uneven=_pads, how=_PADDED)
_SEPARABLE = Law(_separable, uneven=_pads, how=_PADDED, chained=True)
_TRANSPOSED = Law(_transposed, uneven=_overlaps, how=_OTHER_TAPS)
_RECURRENT = Law(_recurrent, follows=False, uneven=_drops, how=_DROPPED)
_NORMALIZED = Law(_own_scale, precedes=False, settings=_OWN)

# By exact class: a subclass may compute anything, and is left alone.
LAWS: dict[type, Law] = {
    keras.layers.Dense: Law(_dense),
    keras.layers.EinsumDense: Law(_einsum, uneven=_sums_unseen, how=_UNSEEN, settings=()),
    keras.layers.Conv1D: _CONVOLUTION,
    keras.layers.Conv2D: _CONVOLUTION,
    keras.layers.Conv3D: _CONVOLUTION,
    keras.layers.DepthwiseConv1D: _DEPTHWISE,
    keras.layers.DepthwiseConv2D: _DEPTHWISE,
    keras.layers.SeparableConv1D: _SEPARABLE,
    keras.layers.SeparableConv2D: _SEPARABLE,
    keras.layers.Conv1DTranspose: _TRANSPOSED,
    keras.layers.Conv2DTranspose: _TRANSPOSED,
    keras.layers.Conv3DTranspose: _TRANSPOSED,
    keras.layers.Embedding: Law(_embedding, precedes=False, settings=()),
    keras.layers.LayerNormalization: _NORMALIZED,
    keras.layers.GroupNormalization: _NORMALIZED,
    keras.layers.RMSNormalization: Law(_own_scale, precedes=False, settings=()),
    keras.layers.LSTM: _RECURRENT,
    keras.layers.GRU: _RECURRENT,
    keras.layers.SimpleRNN: _RECURRENT,
    keras.layers.Bidirectional: Law(_bidirectional, follows=False, uneven=_drops, how=_DROPPED),
    keras.layers.MultiHeadAttention: Law(_attention, arguments=("query", "key", "value")),
}
