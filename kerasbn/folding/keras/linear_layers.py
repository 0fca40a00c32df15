"""Keras layers that an affine map can be folded into, and how.

A linear layer has one or two parts, each a kernel with named axes and a bias (see
`kerasbn.folding.linear`). `LINEAR_LAYERS` gives, for each class of layer, its parts and the
conditions under which the equations hold.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import layers

from kerasbn.common.keras_internals import attention_projections
from kerasbn.folding.affine import Array, CannotFold, Shape, affine
from kerasbn.folding.graph import Layer
from kerasbn.folding.keras.affine_layers import values_of
from kerasbn.folding.linear import Edit, LinearMap, Side
from kerasbn.folding.windows import Steps, Window, convolution, transposed


@dataclass(frozen=True)
class Part(LinearMap):
    """The kernel and bias of a layer, and the names of their axes.

    `kernel` and `bias` are attributes of `owner`: the layer, or a cell or projection inside it. A
    missing kernel counts as ones, a missing bias as zeros.
    """

    owner: Layer
    kernel: str = "kernel"
    bias: str | None = "bias"
    view: tuple[int, ...] | None = None  # separates kernel axes which the variable stores as one
    row: int | None = None  # the row of the bias that is added to K x, where there are several

    @property
    def variables(self) -> tuple[Any, Any]:
        """The variables of kernel and bias, each None if there is none."""
        return getattr(self.owner, self.kernel), self.bias and getattr(self.owner, self.bias)

    def read(self) -> tuple[Array, Array]:
        """Return K in named axes, and b in the axes of an outgoing example, in float64."""
        kernel, bias = self.variables
        k: Array = np.ones(self.view or ()) if kernel is None else values_of(kernel)
        k = k.reshape(self.view or k.shape)
        if bias is None:
            return k, np.zeros((1,) * len(self.outputs))
        b = values_of(bias) if self.row is None else values_of(bias)[self.row]
        if self.loose:
            return k, b.reshape((1,) * (len(self.outputs) - b.ndim) + b.shape)
        return k, b.reshape(self.lengths(k.shape, self.outputs))

    def stored(self, k: Array, b: Array) -> dict[str, Array]:
        """Return K and b as the attributes `kernel` and `bias` store them, if the owner has both.

        A bias that the owner lacks is there if it is not zero, in one axis.
        """
        kernel, bias = self.variables
        found = {self.kernel: k if kernel is None else k.reshape(kernel.shape)}
        if self.bias is None or (bias is None and not b.any()):
            return found
        lengths = self.lengths(k.shape, self.outputs)
        values = np.zeros(lengths).ravel() if bias is None else values_of(bias)
        changed = values if self.row is None else values[self.row]
        if self.loose:
            changed[...] = b.reshape(b.shape[b.ndim - changed.ndim :])
        else:
            full = np.broadcast_to(b, lengths)
            changed[...] = full.reshape(changed.shape)
        return {**found, self.bias: values}

    def write(self, k: Array, b: Array) -> None:
        """Assign K and b to the variables, rounded to their dtype."""
        for name, values in self.stored(k, b).items():
            variable = getattr(self.owner, name)
            if variable is not None:
                variable.assign(values)


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


def _conv(layer: Layer, example: Shape, _: str) -> list[Part]:
    # The outputs gp read the inputs gj of their own group g. Without groups, g has length 1.
    *taps, inputs, outputs = layer.kernel.shape
    view = (*taps, inputs, layer.groups, outputs // layer.groups)
    names = _channels(layer, "gj"), _channels(layer, "gp")
    windows = _windows(layer, example)
    return [Part(_taps(layer) + "jgp", *names, layer, view=view, windows=windows)]


def _depthwise(layer: Layer, example: Shape, _: str) -> list[Part]:
    names = _channels(layer, "i"), _channels(layer, "im")
    return [Part(_taps(layer) + "im", *names, layer, windows=_windows(layer, example))]


def _separable(layer: Layer, example: Shape, _: str) -> list[Part]:
    *taps, inputs, multiplier = layer.depthwise_kernel.shape
    view = (*(1 for _ in taps), inputs, multiplier, layer.pointwise_kernel.shape[-1])
    first, middle, last = (_channels(layer, names) for names in ("i", "im", "o"))
    axes, windows = _taps(layer) + "im", _windows(layer, example)
    return [
        Part(axes, first, middle, layer, kernel="depthwise_kernel", bias=None, windows=windows),
        Part(axes + "o", middle, last, layer, kernel="pointwise_kernel", view=view),
    ]


def _transposed(layer: Layer, example: Shape, _: str) -> list[Part]:
    names, windows = (_channels(layer, "i"), _channels(layer, "o")), _windows(layer, example)
    return [Part(_taps(layer) + "oi", *names, layer, windows=windows)]


def _windows(layer: Layer, example: Shape) -> dict[int, Window]:
    """Return what the kernel of a convolution sees along each axis."""
    first = int(layer.data_format == "channels_first")
    _, *made = layer.compute_output_shape((None, *example))
    see = transposed if "Transpose" in type(layer).__name__ else convolution
    moves = zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    windows = {}
    for axis, (letter, move) in enumerate(zip(_taps(layer), moves, strict=True), first):
        pads = {"same": None, "causal": ((move[0] - 1) * move[2], 0), "valid": (0, 0)}
        steps = Steps(*move, pads[layer.padding])
        windows[axis] = see(letter, (example[axis], made[axis]), steps)
    return windows


def _einsum(layer: Layer, example: Shape, _: str) -> list[Part]:
    incoming, axes, outgoing = _equation(layer)
    lead = 3 if incoming.startswith("...") else 1  # the batch axis, or any that the kernel ignores
    inputs, outputs = incoming[lead:], outgoing[lead:]
    plain = incoming[:1] == outgoing[:1] and incoming[0] not in axes and "." not in inputs + outputs
    if not plain or any(len(set(names)) < len(names) for names in (inputs, axes, outputs)):
        raise CannotFold(f"computes '{layer.equation}', which does not keep the batch axis apart")
    free = ("",) * (len(example) - len(inputs))
    lengths = zip(inputs[::-1], example[::-1], strict=False)
    summed = {c: n for c, n in lengths if c not in axes + outputs}
    return [Part(axes, (*free, *inputs), (*free, *outputs), layer, loose=True, summed=summed)]


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
    is_rms = isinstance(layer, layers.RMSNormalization)
    kernel, bias = ("scale", None) if is_rms else ("gamma", "beta")
    return [Part("".join(names), (), names, layer, kernel=kernel, bias=bias, view=view)]


def _recurrent(layer: Layer, _: Shape, __: str) -> list[Part]:
    parts = []
    for cell in _cells(layer):
        # A GRU with reset_after has two rows of bias, of which the first is added to K x.
        row = 0 if isinstance(cell, layers.GRUCell) and cell.reset_after else None
        parts.append(Part("io", ("", "i"), ("", "o"), cell, row=row))
    return parts


def _cells(layer: Layer) -> list[Layer]:
    """Return the cells that read the input of a recurrent layer, one for each direction."""
    both = isinstance(layer, layers.Bidirectional)
    found = []
    for one in (layer.forward_layer, layer.backward_layer) if both else (layer,):
        cell: Any = one.cell if type(one) in _RECURRENT else None
        while type(cell) is layers.StackedRNNCells:
            cell = cell.cells[0]
        if type(cell) not in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell):
            raise CannotFold("has a custom cell")
        found.append(cell)
    return found


def _attention(layer: Layer, example: Shape, argument: str) -> list[Part]:
    projections = attention_projections(layer)[argument]
    parts = [part for dense in projections for part in _einsum(dense, example, "")]
    return [replace(part, loose=False) for part in parts]  # as the layer builds their biases


# -- where t cannot be folded before a layer ----------------------------------------------------
# Each function raises `CannotFold` if some outputs of the layer would see another t than others.


def _drops_input(layer: Layer, edit: Edit) -> None:
    if edit.training and any(cell.dropout > 0 for cell in _cells(layer)):
        raise CannotFold("drops part of its input, because it is called with training=True")


# -- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearLayer:
    """How maps are folded into layers of one class.

    A map after the layer is folded into its last part. A map before it is folded into all parts, or
    where they are `chained`, into the first, whose output the second reads.
    """

    parts: Callable[[Layer, Shape, str], list[Part]]
    sides: tuple[Side, ...] = ("after", "before")  # of the maps that can be folded
    uneven: Callable[[Layer, Edit], None] | None = None
    chained: bool = False


_RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN)
_LAWS: list[tuple[LinearLayer, tuple[type, ...]]] = [
    (LinearLayer(_dense), (layers.Dense,)),
    (LinearLayer(_einsum), (layers.EinsumDense,)),
    (LinearLayer(_conv), (layers.Conv1D, layers.Conv2D, layers.Conv3D)),
    (LinearLayer(_depthwise), (layers.DepthwiseConv1D, layers.DepthwiseConv2D)),
    (LinearLayer(_separable, chained=True), (
        layers.SeparableConv1D, layers.SeparableConv2D,
    )),
    (LinearLayer(_transposed), (
        layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose,
    )),
    (LinearLayer(_embedding, ("after",)), (layers.Embedding,)),
    (LinearLayer(_own_scale, ("after",)), (
        layers.LayerNormalization, layers.GroupNormalization, layers.RMSNormalization,
    )),
    (LinearLayer(_recurrent, ("before",), uneven=_drops_input), (
        *_RECURRENT, layers.Bidirectional,
    )),
    (LinearLayer(_attention), (layers.MultiHeadAttention,)),
]  # fmt: skip
# By exact class: a subclass may compute anything.
LINEAR_LAYERS = {kind: law for law, kinds in _LAWS for kind in kinds}


# -- folding into a layer -----------------------------------------------------------------------
# For each argument, the shape of an example, and K and b of each part.
LayerWeights = dict[str, tuple[Shape, list[tuple[Array, Array]]]]


def check(layer: Layer, edit: Edit) -> None:
    """Raise `CannotFold` if an edit cannot be made. The reason begins with a verb."""
    law = LINEAR_LAYERS[type(layer)]
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        raise CannotFold("is quantized or has LoRA enabled")
    if edit.side not in law.sides:
        where = "follows" if edit.side == "after" else "precedes"
        raise CannotFold(f"cannot fold a map that {where} it")
    parts = law.parts(layer, edit.example, edit.argument)
    if edit.side == "after":
        last = parts[-1]
        last.check(edit.affine, "after")
        if last.bias is None and not last.one_hot and not edit.affine.only_scales():
            raise CannotFold("has no bias for the offset t")
        return
    for part in parts[:1] if law.chained else parts:
        part.check(edit.affine, "before")
    if law.uneven and not edit.affine.only_scales():
        law.uneven(layer, edit)


def fold_into(layer: Layer, edits: Sequence[Edit]) -> LayerWeights:
    """Return the weights of a layer after all edits, in float64. The layer is not changed."""
    law = LINEAR_LAYERS[type(layer)]
    weights: LayerWeights = {}
    for edit in edits:
        parts = law.parts(layer, edit.example, edit.argument)
        if edit.argument not in weights:
            weights[edit.argument] = edit.example, [part.read() for part in parts]
        a, (_, arrays) = edit.affine, weights[edit.argument]
        if edit.side == "after":
            arrays[-1] = parts[-1].after(*arrays[-1], a)
            continue
        for place, part in enumerate(parts):
            k, b = part.before(*arrays[place], a)
            if law.chained and part.bias is None:  # the offset goes on to the next part
                a, b = affine(np.ones_like(b), b), arrays[place][1]
            arrays[place] = k, b
    return weights


def settings_for(layer: Layer, weights: LayerWeights) -> dict[str, Any]:
    """Return the changes of a layer's configuration that create missing variables."""
    changes: dict[str, Any] = {}
    for part, _, b in _parts_with(layer, weights):
        kernel, bias = part.variables
        needs_bias = part.bias is not None and bias is None and b.any()
        if isinstance(layer, layers.EinsumDense):
            changes |= _bias_axes(layer, b)
        elif kernel is None or (needs_bias and part.bias == "beta"):
            changes |= {"center": True, "scale": True}
        elif needs_bias:
            changes |= {"use_bias": True, "bias_initializer": "zeros"}
    return changes


def attributes_for(layer: Layer, weights: LayerWeights) -> dict[str, Any] | None:
    """Return the attributes that differ in a layer with these weights.

    None if they are not its own, but of a layer inside, or if a bias needs axes of its own.
    """
    changes = settings_for(layer, weights)
    for part, k, b in _parts_with(layer, weights):
        if part.owner is not layer or (part.loose and part.variables[1] is None):
            return None
        changes |= part.stored(k, b)
    return changes


def assign(layer: Layer, weights: LayerWeights) -> None:
    """Write the weights into a layer that has the variables for them."""
    for part, k, b in _parts_with(layer, weights):
        part.write(k, b)


def _parts_with(layer: Layer, weights: LayerWeights) -> Iterator[tuple[Part, Array, Array]]:
    for argument, (example, arrays) in weights.items():
        parts = LINEAR_LAYERS[type(layer)].parts(layer, example, argument)
        for part, (k, b) in zip(parts, arrays, strict=True):
            yield part, k, b


def _bias_axes(layer: Layer, b: Array) -> dict[str, Any]:
    """Return the configuration that gives an EinsumDense a bias along the axes where b varies."""
    if layer.bias is None and not b.any():
        return {}
    outgoing = _equation(layer)[2].replace(".", "")
    labels = outgoing[max(0, len(outgoing) - b.ndim) :]
    along = {c for c, n in zip(labels[::-1], b.shape[::-1], strict=False) if n > 1}
    along |= set(layer.bias_axes or labels[-1])
    return {"bias_axes": "".join(c for c in labels if c in along), "bias_initializer": "zeros"}
