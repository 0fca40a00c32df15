"""Keras layers that an affine map passes through, and how it changes on the way.

A map passes through a layer P where there are maps a (incoming) and b (outgoing) with

    P(a(x)) = b(P(x))

`forward` returns b for a, given an a for each input. `backward` returns choices of a for b: each
choice has an a for each input, and any choice will do. Both raise `CannotFold` where there is none,
with a reason that begins with a verb.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from kerasbn.common.keras_internals import operation_class
from kerasbn.folding import affine as algebra
from kerasbn.folding.affine import Affine, CannotFold, Shape, affine, same
from kerasbn.folding.graph import Call
from kerasbn.folding.keras.activations import name_of, passes_function


@dataclass(frozen=True)
class PassThrough:
    """How a map changes on its way through a layer."""

    forward: Callable[[Call, list[Affine]], Affine]
    backward: Callable[[Call, Affine], list[list[Affine]]]


Change = Callable[[Call, Affine], Affine]


def _one_input(forward: Change, backward: Change | None = None) -> PassThrough:
    """How a map changes in layers of one input. By default it changes alike both ways."""
    back = backward or forward
    return PassThrough(lambda call, a: forward(call, a[0]), lambda call, b: [[back(call, b)]])


# -- one input, the map stays as it is ----------------------------------------------------------


def _anything(_: Call, a: Affine) -> Affine:
    return a


def _dropout(call: Call, a: Affine) -> Affine:
    if call.training:
        raise CannotFold("is active: it is called with training=True")
    return a


def _average(call: Call, a: Affine) -> Affine:
    """A layer that mixes positions lets a map pass that is the same at all of them."""
    if any(a.varies_along(axis) for axis in _positions(call, len(a.shape))):
        raise CannotFold("mixes positions between which s and t vary")
    return a


def _maximum(call: Call, a: Affine) -> Affine:
    if not a.keeps_order():
        raise CannotFold("takes the maximum, which a negative s would turn into the minimum")
    return _average(call, a)


def _padding(call: Call, a: Affine) -> Affine:
    if not a.only_scales():
        raise CannotFold("pads with zeros, which would miss the offset t")
    return _average(call, a)


def _rectifier(call: Call, a: Affine) -> Affine:
    """A rectifier has f(s*x) = s*f(x) for s >= 0, and no more."""
    if getattr(call.layer, "max_value", None) is not None or getattr(call.layer, "threshold", None):
        raise CannotFold("has a kink away from 0")
    if not (a.only_scales() and a.keeps_order()):
        raise CannotFold("has a kink at 0, so only a map with s >= 0 and t = 0 passes through it")
    return a


def _activation(call: Call, a: Affine) -> Affine:
    if not passes_function(call.layer.activation, a):
        name = name_of(call.layer.activation)
        raise CannotFold(f"is the activation '{name}', which this map does not pass through")
    return a


def _positions(call: Call, rank: int) -> tuple[int, ...]:
    """Return the axes of an example that hold positions, not channels."""
    first = getattr(call.layer, "data_format", "channels_last") == "channels_first"
    return tuple(range(rank))[1:] if first else tuple(range(rank - 1))


# -- one input, the axes change -----------------------------------------------------------------


def _globally(pool: Change) -> PassThrough:
    """Global pooling removes the spatial axes, or keeps them with length 1."""

    def removed(call: Call) -> tuple[int, ...]:
        return () if call.layer.keepdims else _positions(call, len(call.seen(call.inputs[0])))

    return _one_input(
        lambda call, a: pool(call, a).map(lambda values: values.squeeze(removed(call))),
        lambda call, b: pool(call, b.map(lambda values: np.expand_dims(values, removed(call)))),
    )


def _reshape(a: Affine, old: Shape, new: Shape) -> Affine:
    """Return the map of a reshaped tensor.

    A map that varies along the last axis only stays compact if that axis stays. Otherwise its
    values are written out in full.
    """
    varying = [axis for axis in range(len(a.shape)) if a.varies_along(axis)]
    if not varying:
        return a.map(lambda values: values.reshape((1,) * len(new)))
    if varying == [len(old) - 1] and old[-1] is not None and old[-1] == new[-1]:
        return a.map(lambda values: values.reshape((1,) * (len(new) - 1) + (-1,)))
    if None in new:
        raise CannotFold("reshapes axes of unknown length")
    full = algebra.expand(a, old)
    return algebra.compress(full.map(lambda values: values.reshape([n or 1 for n in new])))


def _reshaped(call: Call, a: Affine) -> Affine:
    old, new = call.seen(call.inputs[0]), call.seen(call.outputs[0])
    if _moves_channels_last(call):
        a, old = a.map(lambda values: np.moveaxis(values, 0, -1)), (*old[1:], old[0])
    return _reshape(a, old, new)


def _reshaped_back(call: Call, b: Affine) -> Affine:
    old, new = call.seen(call.inputs[0]), call.seen(call.outputs[0])
    if not _moves_channels_last(call):
        return _reshape(b, new, old)
    return _reshape(b, new, (*old[1:], old[0])).map(lambda values: np.moveaxis(values, -1, 0))


def _moves_channels_last(call: Call) -> bool:
    """Return whether Flatten moves the channels last before it flattens."""
    first = getattr(call.layer, "data_format", None) == "channels_first"
    return first and len(call.seen(call.inputs[0])) >= 2


def _permutation(call: Call) -> list[int]:
    return [axis - 1 for axis in call.layer.dims]


def _repeated_back(_: Call, b: Affine) -> Affine:
    if b.varies_along(0):
        raise CannotFold("repeats one vector, while s and t vary between the copies")
    return b.map(lambda values: values[0])


# -- several inputs -----------------------------------------------------------------------------


def _parts(call: Call) -> tuple[list[int | None], int]:
    """Return the lengths of the parts of a concatenation, and the axis."""
    axis = int(call.layer.axis) % (len(call.seen(call.outputs[0])) + 1) - 1
    if axis < 0:
        raise CannotFold("concatenates along the batch axis")
    return [call.seen(value)[axis] for value in call.data], axis


def _weighted_sum(weights: Callable[[int], Sequence[float]]) -> PassThrough:
    """A sum over inputs: sum of w*(s*x + t) = s * (sum of w*x) + t * (sum of w).

    `weights` returns the w for a number of inputs.
    """

    def forward(call: Call, incoming: list[Affine]) -> Affine:
        _check_ranks(call)
        if not all(np.all(a.s == incoming[0].s) for a in incoming):
            raise CannotFold("adds it to a tensor with another scale")
        s = np.broadcast_arrays(*[a.s for a in incoming])[0]
        pairs = zip(weights(len(incoming)), incoming, strict=True)
        return affine(s, sum(w * a.t for w, a in pairs))

    def backward(call: Call, b: Affine) -> list[list[Affine]]:
        """Every input takes `s`. One takes `t`, and so do the inputs that are the same tensor."""
        _check_ranks(call)
        terms = list(zip(weights(len(call.data)), call.data, strict=True))
        choices = []
        for taker in dict.fromkeys(call.data):
            w = sum(w for w, value in terms if value is taker)
            if w == 0:
                continue
            choices.append([affine(b.s, b.t / w if value is taker else 0.0) for _, value in terms])
            if b.only_scales():
                break
        if not choices:
            raise CannotFold("cancels the offset t")
        return choices

    return PassThrough(forward, backward)


def _extreme_forward(call: Call, incoming: list[Affine]) -> Affine:
    """The maximum or minimum of several inputs lets the same map with s >= 0 pass on all."""
    if not all(same(a, incoming[0]) for a in incoming):
        raise CannotFold("compares it to a tensor with another scale")
    return _extreme_backward(call, incoming[0])[0][0]


def _extreme_backward(call: Call, b: Affine) -> list[list[Affine]]:
    _check_ranks(call)
    if not b.keeps_order():
        raise CannotFold("compares its inputs, whose order a negative s would reverse")
    return [[b for _ in call.data]]


def _check_ranks(call: Call) -> None:
    if any(len(value.shape) != len(call.outputs[0].shape) for value in call.data):
        raise CannotFold("combines tensors of different rank")


# -- the table ----------------------------------------------------------------------------------

_SUM = _weighted_sum(lambda n: [1.0] * n)
_DIFFERENCE = _weighted_sum(lambda n: [1.0] + [-1.0] * (n - 1))
_EXTREME = PassThrough(_extreme_forward, _extreme_backward)
_CONCATENATION = PassThrough(
    lambda call, incoming: algebra.join(incoming, *_parts(call)),
    lambda call, b: [algebra.split(b, *_parts(call))],
)
_PERMUTATION = _one_input(
    lambda call, a: a.map(lambda values: values.transpose(_permutation(call))),
    lambda call, b: b.map(lambda values: values.transpose(np.argsort(_permutation(call)))),
)


def _for_all_ranks(*names: str) -> tuple[type, ...]:
    """Return the layers with these names for sequences, images and volumes: 1D, 2D and 3D."""
    return tuple(getattr(layers, f"{name}{rank}D") for name in names for rank in (1, 2, 3))


_LAWS: list[tuple[PassThrough, tuple[type, ...]]] = [
    (_one_input(_anything), (layers.Identity, layers.ActivityRegularization)),
    (_one_input(_dropout), (
        layers.Dropout, layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise,
        *_for_all_ranks("SpatialDropout"),
    )),
    (_one_input(_average), _for_all_ranks("AveragePooling", "UpSampling", "Cropping")),
    (_one_input(_maximum), _for_all_ranks("MaxPooling")),
    (_globally(_average), _for_all_ranks("GlobalAveragePooling")),
    (_globally(_maximum), _for_all_ranks("GlobalMaxPooling")),
    (_one_input(_padding), _for_all_ranks("ZeroPadding")),
    (_one_input(_reshaped, _reshaped_back), (layers.Flatten, layers.Reshape)),
    (_PERMUTATION, (layers.Permute,)),
    (_one_input(lambda _, a: a.map(lambda values: values[None]), _repeated_back), (
        layers.RepeatVector,
    )),
    (_one_input(_rectifier), (
        layers.ReLU, layers.LeakyReLU, layers.PReLU, operation_class(keras.ops.relu),
        operation_class(keras.ops.leaky_relu), operation_class(keras.activations.relu),
    )),
    (_one_input(_activation), (layers.Activation,)),
    # The operations are those behind `x + y` and the like.
    (_SUM, (layers.Add, operation_class(lambda x: keras.ops.add(x, x)))),
    (_DIFFERENCE, (layers.Subtract, operation_class(lambda x: keras.ops.subtract(x, x)))),
    (_weighted_sum(lambda n: [1.0 / n] * n), (layers.Average,)),
    (_EXTREME, (
        layers.Maximum, layers.Minimum, operation_class(lambda x: keras.ops.maximum(x, x)),
        operation_class(lambda x: keras.ops.minimum(x, x)),
    )),
    (_CONCATENATION, (
        layers.Concatenate, operation_class(lambda x: keras.ops.concatenate([x, x])),
    )),
]  # fmt: skip
# By exact class: a subclass may compute anything.
PASS_THROUGH_LAYERS = {kind: law for law, kinds in _LAWS for kind in kinds}
