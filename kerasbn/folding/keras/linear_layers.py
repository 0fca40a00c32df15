"""Keras layers that an affine map can be folded into, and how.

A linear layer has one or two parts, each a kernel with named axes and a bias (see
`kerasbn.folding.linear`). `LINEAR_LAYERS` gives, for each class of layer, its parts and the
conditions under which the equations hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasbn.common.keras_internals import attention_projections
from kerasbn.folding.affine import Array, CannotFold, Shape, affine
from kerasbn.folding.keras.activations import name_of, passes_function
from kerasbn.folding.linear import Edit, LinearMap

Layer = Any  # Keras ships no types


@dataclass(frozen=True)
class Part(LinearMap):
    """The kernel and bias of a layer, and the names of their axes.

    Attributes:
        owner: what holds the variables: the layer, or a cell or projection inside it.
        kernel, bias: the attributes of `owner`. A missing kernel counts as ones, a missing bias as
            zeros.
        view: the shape that separates kernel axes which the variable stores as one.
        row: the row of the bias that is added to K x, where the bias has several.
        loose: whether the bias may vary along unnamed axes too.
    """

    owner: Layer
    kernel: str = "kernel"
    bias: str | None = "bias"
    view: tuple[int, ...] | None = None
    row: int | None = None
    loose: bool = False

    @property
    def kernel_variable(self) -> Any:  # noqa: ANN401 - a variable
        """The variable of the kernel, None if there is none."""
        return getattr(self.owner, self.kernel)

    @property
    def bias_variable(self) -> Any:  # noqa: ANN401 - a variable
        """The variable of the bias, None if there is none."""
        return getattr(self.owner, self.bias) if self.bias else None

    def read(self) -> tuple[Array, Array]:
        """Return K in named axes, and b in the axes of an outgoing example, in float64."""
        kernel, bias = self.kernel_variable, self.bias_variable
        k = np.ones(self.view or ()) if kernel is None else _array(kernel)
        k = k.reshape(self.view or k.shape)
        if bias is None:
            return k, np.zeros((1,) * len(self.outputs))
        b: Array = _array(bias) if self.row is None else _array(bias)[self.row]
        if self.loose:
            return k, b.reshape((1,) * (len(self.outputs) - b.ndim) + b.shape)
        return k, b.reshape(self.lengths(k, self.outputs))

    def write(self, k: Array, b: Array) -> None:
        """Assign K and b to the variables, rounded to their dtype."""
        kernel, bias = self.kernel_variable, self.bias_variable
        if kernel is not None:
            kernel.assign(k.reshape(kernel.shape))
        if bias is None:
            return
        shape = tuple(bias.shape if self.row is None else bias.shape[1:])
        if self.loose:
            b = b.reshape(b.shape[b.ndim - len(shape) :])
        else:
            b = np.broadcast_to(b, self.lengths(k, self.outputs)).reshape(shape)
        if self.row is not None:
            rows = _array(bias)
            rows[self.row] = b
            b = rows
        bias.assign(np.broadcast_to(b, bias.shape))


def _array(variable: Any) -> Array:  # noqa: ANN401 - a variable
    array: Array = keras.ops.convert_to_numpy(variable).astype(np.float64)
    return array


# -- the parts of each class -------------------------------------------------------------------
# Each function takes the layer, the shape of an incoming example, and the argument in question.


def _last(example: Shape, name: str) -> tuple[str, ...]:
    """Name the last axis of an example."""
    return ("",) * (len(example) - 1) + (name,)


def _channels(layer: Layer, names: str) -> tuple[str, ...]:
    """Name the channel axis of an image, a sequence or a volume."""
    spatial = ("",) * layer.rank
    return (names, *spatial) if layer.data_format == "channels_first" else (*spatial, names)


def _taps(layer: Layer) -> str:
    return "xyz"[: layer.rank]


def _dense(layer: Layer, example: Shape, _: str) -> list[Part]:
    return [Part("io", _last(example, "i"), _last(example, "o"), layer)]


def _embedding(layer: Layer, example: Shape, _: str) -> list[Part]:
    outputs = ("",) * len(example) + ("o",)
    return [Part("vo", (), outputs, layer, kernel="embeddings", bias=None, one_hot=True)]


def _conv(layer: Layer, _: Shape, __: str) -> list[Part]:
    # The outputs gp read the inputs gj of their own group g. Without groups, g has length 1.
    *taps, inputs, outputs = layer.kernel.shape
    view = (*taps, inputs, layer.groups, outputs // layer.groups)
    axes = _taps(layer) + "jgp"
    return [Part(axes, _channels(layer, "gj"), _channels(layer, "gp"), layer, view=view)]


def _depthwise(layer: Layer, _: Shape, __: str) -> list[Part]:
    return [Part(_taps(layer) + "im", _channels(layer, "i"), _channels(layer, "im"), layer)]


def _separable(layer: Layer, _: Shape, __: str) -> list[Part]:
    *taps, inputs, multiplier = layer.depthwise_kernel.shape
    view = (*(1 for _ in taps), inputs, multiplier, layer.pointwise_kernel.shape[-1])
    first, middle, last = (_channels(layer, names) for names in ("i", "im", "o"))
    axes = _taps(layer) + "im"
    return [
        Part(axes, first, middle, layer, kernel="depthwise_kernel", bias=None),
        Part(axes + "o", middle, last, layer, kernel="pointwise_kernel", view=view),
    ]


def _transposed(layer: Layer, _: Shape, __: str) -> list[Part]:
    return [Part(_taps(layer) + "oi", _channels(layer, "i"), _channels(layer, "o"), layer)]


def _einsum(layer: Layer, example: Shape, _: str) -> list[Part]:
    incoming, axes, outgoing = _equation(layer)
    if incoming.startswith("..."):  # the batch axis and the axes that the kernel ignores
        free = ("",) * (len(example) - len(incoming[3:]))
        inputs, outputs = incoming[3:], outgoing[3:]
    else:
        free, inputs, outputs = (), incoming[1:], outgoing[1:]
    plain = incoming[:1] == outgoing[:1] and incoming[0] not in axes and "." not in inputs + outputs
    if not plain or any(len(set(names)) < len(names) for names in (inputs, axes, outputs)):
        raise CannotFold(f"computes '{layer.equation}', which does not keep the batch axis apart")
    named = [(*free, *(c if c in axes else "" for c in names)) for names in (inputs, outputs)]
    return [Part(axes, named[0], named[1], layer, loose=True)]


def _equation(layer: Layer) -> tuple[str, str, str]:
    incoming, rest = layer.equation.replace(" ", "").split(",")
    axes, outgoing = rest.split("->")
    return incoming, axes, outgoing


def _own_scale(layer: Layer, example: Shape, _: str) -> list[Part]:
    """LayerNormalization and the like: gamma is a kernel without inputs, beta a bias."""
    listed = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    owned = [axis % (len(example) + 1) - 1 for axis in listed]
    names = tuple("abcdef"[axis] if axis in owned else "" for axis in range(len(example)))
    view = tuple(n or 1 for n, name in zip(example, names, strict=True) if name)
    is_rms = isinstance(layer, keras.layers.RMSNormalization)
    kernel, bias = ("scale", None) if is_rms else ("gamma", "beta")
    return [Part("".join(names), (), names, layer, kernel=kernel, bias=bias, view=view)]


def _recurrent(layer: Layer, _: Shape, __: str) -> list[Part]:
    # A GRU with reset_after has two rows of bias, of which the first is added to K x.
    row = 0 if isinstance(layer, keras.layers.GRU) and layer.reset_after else None
    return [Part("io", ("", "i"), ("", "o"), layer.cell, row=row)]


def _bidirectional(layer: Layer, example: Shape, _: str) -> list[Part]:
    both = _directions(layer)
    if any(LINEAR_LAYERS.get(type(one)) is not _RECURRENT for one in both):
        raise CannotFold("wraps a custom recurrent layer")
    return [part for one in both for part in _recurrent(one, example, "")]


def _attention(layer: Layer, example: Shape, argument: str) -> list[Part]:
    projections = attention_projections(layer)
    if argument not in projections:
        raise CannotFold("reads it as an argument other than query, key or value")
    return [part for dense in projections[argument] for part in _einsum(dense, example, "")]


# -- where t cannot be folded before a layer ----------------------------------------------------
# Each function returns why some outputs of the layer would see another t than others, or None. It
# takes the layer, the shape of an incoming example, and whether the layer runs with training=True.


def _uniform(layer: Layer, example: Shape, training: bool) -> str | None:  # noqa: ARG001 - one signature for all
    return None


def _pads(layer: Layer, example: Shape, training: bool) -> str | None:  # noqa: ARG001 - one signature for all
    """At the edge, a kernel sees padded zeros, which do not contain t."""
    reason = "pads its input with zeros, which would miss the offset t"
    if layer.padding == "valid":
        return None
    if layer.padding == "causal":
        return reason if any(k > 1 for k in layer.kernel_size) else None
    spatial = example[1:] if layer.data_format == "channels_first" else example[:-1]
    for n, k, stride, dilation in zip(
        spatial, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = (k - 1) * dilation
        if reach and (n is None or (-(-n // stride) - 1) * stride + reach + 1 > n):
            return reason
    return None


def _overlaps(layer: Layer, example: Shape, training: bool) -> str | None:  # noqa: ARG001 - one signature for all
    """The outputs of a transposed convolution see different taps of its kernel."""
    if all(n == 1 for n in (*layer.kernel_size, *layer.strides)):
        return None
    return "applies other kernel taps at each position, so t would not be the same everywhere"


def _sums_free_axis(layer: Layer, example: Shape, training: bool) -> str | None:  # noqa: ARG001 - one signature for all
    incoming, axes, outgoing = _equation(layer)
    if all(c in axes + outgoing for c in incoming):
        return None
    return "sums over an axis that its kernel does not have"


def _drops_input(layer: Layer, example: Shape, training: bool) -> str | None:  # noqa: ARG001 - one signature for all
    if training and any(one.dropout > 0 for one in _directions(layer)):
        return "drops part of its input, because it is called with training=True"
    return None


def _directions(layer: Layer) -> tuple[Layer, ...]:
    if isinstance(layer, keras.layers.Bidirectional):
        return layer.forward_layer, layer.backward_layer
    return (layer,)


# -- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearLayer:
    """How maps are folded into layers of one class.

    Attributes:
        parts: returns the parts of a layer, given the shape of an incoming example and the argument
            in question ("" for the output).
        folds_after: whether a map after the layer can be folded, into its last part.
        folds_before: whether a map before the layer can be folded.
        arguments: the arguments whose maps can be folded, if not just the first one.
        uneven: returns why some outputs would see another t than others.
        chained: whether the second part reads the output of the first; otherwise all read the
            input.
        settings: the configuration that creates missing weights.
    """

    parts: Callable[[Layer, Shape, str], list[Part]]
    folds_after: bool = True
    folds_before: bool = True
    arguments: tuple[str, ...] = ()
    uneven: Callable[[Layer, Shape, bool], str | None] = _uniform
    chained: bool = False
    settings: tuple[tuple[str, Any], ...] = (("use_bias", True), ("bias_initializer", "zeros"))


_CONVOLUTION = LinearLayer(_conv, uneven=_pads)
_DEPTHWISE = LinearLayer(_depthwise, uneven=_pads)
_SEPARABLE = LinearLayer(_separable, uneven=_pads, chained=True)
_TRANSPOSED = LinearLayer(_transposed, uneven=_overlaps)
_RECURRENT = LinearLayer(_recurrent, folds_after=False, uneven=_drops_input)
_BIDIRECTIONAL = LinearLayer(_bidirectional, folds_after=False, uneven=_drops_input)
_NORMALIZED = LinearLayer(
    _own_scale, folds_before=False, settings=(("center", True), ("scale", True))
)

# By exact class: a subclass may compute anything.
LINEAR_LAYERS: dict[type, LinearLayer] = {
    keras.layers.Dense: LinearLayer(_dense),
    keras.layers.EinsumDense: LinearLayer(_einsum, uneven=_sums_free_axis, settings=()),
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
    keras.layers.Embedding: LinearLayer(_embedding, folds_before=False, settings=()),
    keras.layers.LayerNormalization: _NORMALIZED,
    keras.layers.GroupNormalization: _NORMALIZED,
    keras.layers.RMSNormalization: LinearLayer(_own_scale, folds_before=False, settings=()),
    keras.layers.LSTM: _RECURRENT,
    keras.layers.GRU: _RECURRENT,
    keras.layers.SimpleRNN: _RECURRENT,
    keras.layers.Bidirectional: _BIDIRECTIONAL,
    keras.layers.MultiHeadAttention: LinearLayer(_attention, arguments=("query", "key", "value")),
}


# -- folding into a layer -----------------------------------------------------------------------


def check(layer: Layer, edit: Edit) -> None:
    """Raise `CannotFold` if an edit cannot be made. The reason begins with a verb."""
    law = LINEAR_LAYERS[type(layer)]
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        raise CannotFold("is quantized or has LoRA enabled")
    if not (law.folds_after if edit.side == "after" else law.folds_before):
        where = "follows" if edit.side == "after" else "precedes"
        raise CannotFold(f"cannot fold a map that {where} it")
    parts = law.parts(layer, edit.example, edit.argument)
    if edit.side == "after":
        activation = getattr(layer, "activation", None)
        if activation is not None and not passes_function(activation, edit.affine):
            raise CannotFold(f"has the activation '{name_of(activation)}'")
        last = parts[-1]
        last.check(edit.affine, last.outputs)
        if last.bias is None and not last.one_hot and not edit.affine.only_scales():
            raise CannotFold("has no bias for the offset t")
        return
    for part in parts[:1] if law.chained else parts:
        part.check(edit.affine, part.inputs)
    if not edit.affine.only_scales():
        reason = law.uneven(layer, edit.example, edit.training)
        if reason:
            raise CannotFold(reason)


@dataclass(frozen=True, eq=False)
class FoldedWeights:
    """Kernel and bias of the parts of a layer that one argument's maps are folded into."""

    edit: Edit
    arrays: list[tuple[Array, Array]]

    def parts(self, layer: Layer) -> list[Part]:
        """Return the parts of the layer, or of its copy, that the arrays belong to."""
        return LINEAR_LAYERS[type(layer)].parts(layer, self.edit.example, self.edit.argument)

    def assign(self, layer: Layer) -> None:
        """Write the arrays into a layer that has the variables for them."""
        for part, (k, b) in zip(self.parts(layer), self.arrays, strict=True):
            part.write(k, b)

    def settings(self, layer: Layer) -> dict[str, Any]:
        """Return the changes of a layer's configuration that create missing variables."""
        changes: dict[str, Any] = {}
        for part, (_, b) in zip(self.parts(layer), self.arrays, strict=True):
            needs_bias = part.bias is not None and part.bias_variable is None and b.any()
            if isinstance(layer, keras.layers.EinsumDense):
                changes |= _bias_axes(layer, b)
            elif needs_bias or part.kernel_variable is None:
                changes |= dict(LINEAR_LAYERS[type(layer)].settings)
        return changes


def fold_into(layer: Layer, edits: Sequence[Edit]) -> list[FoldedWeights]:
    """Return the weights of a layer after all edits, in float64. The layer is not changed."""
    law = LINEAR_LAYERS[type(layer)]
    arrays: dict[tuple[int, str], tuple[Array, Array]] = {}
    first: dict[str, Edit] = {}  # for each argument

    def key(part: Part) -> tuple[int, str]:
        return id(part.owner), part.kernel

    for edit in edits:
        first.setdefault(edit.argument, edit)
        parts = law.parts(layer, edit.example, edit.argument)
        for part in parts:
            arrays.setdefault(key(part), part.read())
        a = edit.affine
        if edit.side == "after":
            arrays[key(parts[-1])] = parts[-1].after(*arrays[key(parts[-1])], a)
            continue
        for part in parts:
            k, b = arrays[key(part)]
            arrays[key(part)] = k, moved = part.before(k, b, a)
            if law.chained and part.bias is None:  # the offset goes on to the next part
                arrays[key(part)] = k, b
                a = affine(np.ones_like(moved), moved)
    weights = [FoldedWeights(edit, []) for edit in first.values()]
    for one in weights:
        one.arrays.extend(arrays[key(part)] for part in one.parts(layer))
    return weights


def _bias_axes(layer: Layer, b: Array) -> dict[str, Any]:
    """Return the configuration that gives an EinsumDense a bias along the axes where b varies."""
    if layer.bias is None and not b.any():
        return {}
    outgoing = layer.equation.replace(" ", "").replace(".", "").split("->")[1]
    labels = outgoing[max(0, len(outgoing) - b.ndim) :]
    along = {c for c, n in zip(labels[::-1], b.shape[::-1], strict=False) if n > 1}
    along |= set(layer.bias_axes or labels[-1])
    return {"bias_axes": "".join(c for c in labels if c in along), "bias_initializer": "zeros"}
