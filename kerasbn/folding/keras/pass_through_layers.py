"""Keras layers that an affine map passes through, and how it changes on the way.

A map passes through a layer P where there are maps a (incoming) and b (outgoing) with

    P(a(x)) = b(P(x))

`forward` returns b for a, given an a for each input. `backward` returns choices of a for b: each
choice has an a for each input, and any choice will do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasbn.common.keras_internals import operation_class
from kerasbn.folding.affine import (
    Affine,
    CannotFold,
    Shape,
    affine,
    compress,
    expand,
    join,
    same,
    split,
)
from kerasbn.folding.keras.activations import name_of, passes_function

Layer = Any  # Keras ships no types
Choices = list[list[Affine]]


@dataclass(frozen=True)
class LayerCall:
    """One call of a pass-through layer, with shapes as the layer sees them, without the batch axis.

    Attributes:
        layer: the layer or operation.
        inputs, output: the example shapes.
        training: whether it runs with training=True.
        twins: for each input, the position of the first input that is the same tensor.
        tensors_only: whether its arguments are tensors, without constants.
    """

    layer: Layer
    inputs: list[Shape]
    output: Shape
    training: bool
    twins: list[int]
    tensors_only: bool = True


@dataclass(frozen=True)
class PassThrough:
    """How a map changes on its way through a layer. Both functions may raise `CannotFold`."""

    forward: Callable[[LayerCall, list[Affine]], Affine]
    backward: Callable[[LayerCall, Affine], Choices]


def forward(call: LayerCall, incoming: list[Affine]) -> Affine:
    """Return the outgoing map for the incoming ones.

    Raises:
        CannotFold: if there is none. The reason begins with a verb.
    """
    return _law(call).forward(call, incoming)


def backward(call: LayerCall, outgoing: Affine) -> Choices:
    """Return the choices of incoming maps for the outgoing one.

    Raises:
        CannotFold: if there is none. The reason begins with a verb.
    """
    return _law(call).backward(call, outgoing)


def _law(call: LayerCall) -> PassThrough:
    if not call.tensors_only:
        raise CannotFold("combines it with a constant")
    if type(call.layer) not in PASS_THROUGH_LAYERS:
        raise CannotFold("lets no map pass unchanged")
    return PASS_THROUGH_LAYERS[type(call.layer)]


# -- one input, the map stays as it is ----------------------------------------------------------
# Each function returns why a map cannot pass, or None.


def _unchanged(obstacle: Callable[[LayerCall, Affine], str | None]) -> PassThrough:
    def checked(call: LayerCall, a: Affine) -> Affine:
        if reason := obstacle(call, a):
            raise CannotFold(reason)
        return a

    return PassThrough(
        lambda call, incoming: checked(call, incoming[0]), lambda call, b: [[checked(call, b)]]
    )


def _anything_passes(call: LayerCall, a: Affine) -> str | None:  # noqa: ARG001 - one signature for all
    return None


def _passes_if_inactive(call: LayerCall, a: Affine) -> str | None:  # noqa: ARG001 - one signature for all
    return "is active: it is called with training=True" if call.training else None


def _mixes_positions(call: LayerCall, a: Affine) -> str | None:
    """A layer that mixes positions lets a map pass that is the same at all of them."""
    if any(a.varies_along(axis) for axis in _spatial_axes(call.layer, len(a.shape))):
        return "mixes positions between which s and t vary"
    return None


def _takes_maximum(call: LayerCall, a: Affine) -> str | None:
    if not a.keeps_order():
        return "takes the maximum, which a negative s would turn into the minimum"
    return _mixes_positions(call, a)


def _pads_zeros(call: LayerCall, a: Affine) -> str | None:
    if not a.only_scales():
        return "pads with zeros, which would miss the offset t"
    return _mixes_positions(call, a)


def _rectifies(call: LayerCall, a: Affine) -> str | None:
    """A rectifier has f(s*x) = s*f(x) for s >= 0, and no more."""
    layer = call.layer
    if getattr(layer, "max_value", None) is not None or getattr(layer, "threshold", None):
        return "has a kink away from 0"
    if a.only_scales() and a.keeps_order():
        return None
    return "has a kink at 0, so only a map with s >= 0 and t = 0 passes through it"


def _activates(call: LayerCall, a: Affine) -> str | None:
    function = call.layer.activation
    if passes_function(function, a):
        return None
    return f"is the activation '{name_of(function)}', which this map does not pass through"


def _spatial_axes(layer: Layer, rank: int) -> list[int]:
    """Return the axes of an example that hold positions, not channels."""
    if rank < 2:
        return []
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return list(range(1, rank)) if first else list(range(rank - 1))


# -- one input, the axes change -----------------------------------------------------------------


def _global_pooling(obstacle: Callable[[LayerCall, Affine], str | None]) -> PassThrough:
    """Global pooling removes the spatial axes, or keeps them with length 1."""
    unchanged = _unchanged(obstacle)

    def forward(call: LayerCall, incoming: list[Affine]) -> Affine:
        a = unchanged.forward(call, incoming)
        if call.layer.keepdims:
            return a
        return a.map(lambda values: values.squeeze(tuple(_spatial_axes(call.layer, values.ndim))))

    def backward(call: LayerCall, b: Affine) -> Choices:
        if not call.layer.keepdims:
            axes = tuple(_spatial_axes(call.layer, len(call.inputs[0])))
            b = b.map(lambda values: np.expand_dims(values, axes))
        return unchanged.backward(call, b)

    return PassThrough(forward, backward)


def _reshape(a: Affine, old: Shape, new: Shape) -> Affine:
    """Return the map of a reshaped tensor.

    A map that varies along the last axis only stays compact if that axis stays. Otherwise its
    values are written out in full.
    """
    if not any(map(a.varies_along, range(len(a.shape)))):
        return a.map(lambda values: values.reshape((1,) * len(new)))
    only_last = not any(map(a.varies_along, range(len(a.shape) - 1)))
    if only_last and old[-1] is not None and old[-1] == new[-1]:
        return a.map(lambda values: values.reshape((1,) * (len(new) - 1) + (-1,)))
    if None in new:
        raise CannotFold("reshapes axes of unknown length")
    return compress(expand(a, old).map(lambda values: values.reshape([n or 1 for n in new])))


def _moves_channels_last(call: LayerCall) -> bool:
    """Return whether Flatten moves the channels last before it flattens."""
    first = getattr(call.layer, "data_format", None) == "channels_first"
    return first and len(call.inputs[0]) >= 2


def _reshape_forward(call: LayerCall, incoming: list[Affine]) -> Affine:
    (a,), old = incoming, call.inputs[0]
    if _moves_channels_last(call):
        a, old = a.map(lambda values: np.moveaxis(values, 0, -1)), (*old[1:], old[0])
    return _reshape(a, old, call.output)


def _reshape_backward(call: LayerCall, b: Affine) -> Choices:
    old = call.inputs[0]
    if not _moves_channels_last(call):
        return [[_reshape(b, call.output, old)]]
    a = _reshape(b, call.output, (*old[1:], old[0]))
    return [[a.map(lambda values: np.moveaxis(values, -1, 0))]]


def _permutation(call: LayerCall) -> list[int]:
    return [axis - 1 for axis in call.layer.dims]


def _repeat_backward(call: LayerCall, b: Affine) -> Choices:  # noqa: ARG001 - one signature for all
    if b.varies_along(0):
        raise CannotFold("repeats one vector, while s and t vary between the copies")
    return [[b.map(lambda values: values[0])]]


# -- several inputs -----------------------------------------------------------------------------


def _concatenation_axis(call: LayerCall) -> int:
    axis = int(call.layer.axis) % (len(call.output) + 1) - 1
    if axis < 0:
        raise CannotFold("concatenates along the batch axis")
    return axis


def _lengths(call: LayerCall) -> list[int | None]:
    return [example[_concatenation_axis(call)] for example in call.inputs]


def _weighted_sum(weights: Callable[[int], Sequence[float]]) -> PassThrough:
    """A sum over inputs: sum of w*(s*x + t) = s * (sum of w*x) + t * (sum of w).

    `weights` returns the w for a number of inputs.
    """

    def forward(call: LayerCall, incoming: list[Affine]) -> Affine:
        _check_ranks(call)
        if not all(np.all(a.s == incoming[0].s) for a in incoming):
            raise CannotFold("adds it to a tensor with another scale")
        s = np.broadcast_arrays(*[a.s for a in incoming])[0]
        pairs = zip(weights(len(incoming)), incoming, strict=True)
        return affine(s, sum(w * a.t for w, a in pairs))

    def backward(call: LayerCall, b: Affine) -> Choices:
        """Every input takes `s`. One takes `t`, and so do the inputs that are the same tensor."""
        _check_ranks(call)
        n = len(call.inputs)
        choices = []
        for taker in dict.fromkeys(call.twins):
            takes_t = [twin == taker for twin in call.twins]
            w = sum(w for w, takes in zip(weights(n), takes_t, strict=True) if takes)
            if w == 0:
                continue
            choices.append([affine(b.s, b.t / w if takes else 0.0) for takes in takes_t])
            if b.only_scales():
                break
        if not choices:
            raise CannotFold("cancels the offset t")
        return choices

    return PassThrough(forward, backward)


def _extreme() -> PassThrough:
    """The maximum or minimum of several inputs lets the same map with s >= 0 pass on all."""

    def checked(call: LayerCall, a: Affine) -> Affine:
        _check_ranks(call)
        if not a.keeps_order():
            raise CannotFold("compares its inputs, whose order a negative s would reverse")
        return a

    def forward(call: LayerCall, incoming: list[Affine]) -> Affine:
        if not all(same(a, incoming[0]) for a in incoming):
            raise CannotFold("compares it to a tensor with another scale")
        return checked(call, incoming[0])

    return PassThrough(forward, lambda call, b: [[checked(call, b) for _ in call.inputs]])


def _check_ranks(call: LayerCall) -> None:
    if any(len(example) != len(call.output) for example in call.inputs):
        raise CannotFold("combines tensors of different rank")


# -- the table ----------------------------------------------------------------------------------

_ANY, _DROPOUT = _unchanged(_anything_passes), _unchanged(_passes_if_inactive)
_AVERAGE, _MAXIMUM = _unchanged(_mixes_positions), _unchanged(_takes_maximum)
_PADDING, _RECTIFIER = _unchanged(_pads_zeros), _unchanged(_rectifies)
_GLOBAL_AVERAGE, _GLOBAL_MAXIMUM = (
    _global_pooling(_mixes_positions),
    _global_pooling(_takes_maximum),
)
_RESHAPE = PassThrough(_reshape_forward, _reshape_backward)
_SUM = _weighted_sum(lambda n: [1.0] * n)
_DIFFERENCE = _weighted_sum(lambda n: [1.0] + [-1.0] * (n - 1))
_MEAN = _weighted_sum(lambda n: [1.0 / n] * n)
_CONCATENATION = PassThrough(
    lambda call, incoming: join(incoming, _lengths(call), _concatenation_axis(call)),
    lambda call, b: [split(b, _lengths(call), _concatenation_axis(call))],
)

# By exact class: a subclass may compute anything.
PASS_THROUGH_LAYERS: dict[type, PassThrough] = {
    keras.layers.Identity: _ANY,
    keras.layers.ActivityRegularization: _ANY,
    keras.layers.Dropout: _DROPOUT,
    keras.layers.SpatialDropout1D: _DROPOUT,
    keras.layers.SpatialDropout2D: _DROPOUT,
    keras.layers.SpatialDropout3D: _DROPOUT,
    keras.layers.AlphaDropout: _DROPOUT,
    keras.layers.GaussianDropout: _DROPOUT,
    keras.layers.GaussianNoise: _DROPOUT,
    keras.layers.AveragePooling1D: _AVERAGE,
    keras.layers.AveragePooling2D: _AVERAGE,
    keras.layers.AveragePooling3D: _AVERAGE,
    keras.layers.MaxPooling1D: _MAXIMUM,
    keras.layers.MaxPooling2D: _MAXIMUM,
    keras.layers.MaxPooling3D: _MAXIMUM,
    keras.layers.GlobalAveragePooling1D: _GLOBAL_AVERAGE,
    keras.layers.GlobalAveragePooling2D: _GLOBAL_AVERAGE,
    keras.layers.GlobalAveragePooling3D: _GLOBAL_AVERAGE,
    keras.layers.GlobalMaxPooling1D: _GLOBAL_MAXIMUM,
    keras.layers.GlobalMaxPooling2D: _GLOBAL_MAXIMUM,
    keras.layers.GlobalMaxPooling3D: _GLOBAL_MAXIMUM,
    keras.layers.UpSampling1D: _AVERAGE,
    keras.layers.UpSampling2D: _AVERAGE,
    keras.layers.UpSampling3D: _AVERAGE,
    keras.layers.Cropping1D: _AVERAGE,
    keras.layers.Cropping2D: _AVERAGE,
    keras.layers.Cropping3D: _AVERAGE,
    keras.layers.ZeroPadding1D: _PADDING,
    keras.layers.ZeroPadding2D: _PADDING,
    keras.layers.ZeroPadding3D: _PADDING,
    keras.layers.Flatten: _RESHAPE,
    keras.layers.Reshape: _RESHAPE,
    keras.layers.Permute: PassThrough(
        lambda call, incoming: incoming[0].map(lambda values: values.transpose(_permutation(call))),
        lambda call, b: [[b.map(lambda values: values.transpose(np.argsort(_permutation(call))))]],
    ),
    keras.layers.RepeatVector: PassThrough(
        lambda _, incoming: incoming[0].map(lambda values: values[None]), _repeat_backward
    ),
    keras.layers.ReLU: _RECTIFIER,
    keras.layers.LeakyReLU: _RECTIFIER,
    keras.layers.PReLU: _RECTIFIER,
    keras.layers.Activation: _unchanged(_activates),
    keras.layers.Add: _SUM,
    keras.layers.Subtract: _DIFFERENCE,
    keras.layers.Average: _MEAN,
    keras.layers.Maximum: _extreme(),
    keras.layers.Minimum: _extreme(),
    keras.layers.Concatenate: _CONCATENATION,
    # The operations behind `x + y`, `keras.ops.relu(x)` and the like.
    operation_class(lambda x: keras.ops.add(x, x)): _SUM,
    operation_class(lambda x: keras.ops.subtract(x, x)): _DIFFERENCE,
    operation_class(lambda x: keras.ops.maximum(x, x)): _extreme(),
    operation_class(lambda x: keras.ops.minimum(x, x)): _extreme(),
    operation_class(lambda x: keras.ops.concatenate([x, x])): _CONCATENATION,
    operation_class(keras.ops.relu): _RECTIFIER,
    operation_class(keras.ops.leaky_relu): _RECTIFIER,
    operation_class(keras.activations.relu): _RECTIFIER,
}
