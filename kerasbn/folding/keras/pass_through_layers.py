"""Keras layers that an affine map passes through: which law of `kerasbn.folding.pass_through`."""

from collections.abc import Callable

import keras
from keras import layers

from kerasbn.common.keras_internals import operation_class
from kerasbn.folding import pass_through as laws
from kerasbn.folding.affine import Affine, CannotFold
from kerasbn.folding.graph import Call
from kerasbn.folding.keras.activations import name_of, passes_function
from kerasbn.folding.pass_through import PassThrough

Law = Callable[[Call], PassThrough]


def _dropout(call: Call) -> PassThrough:
    if call.training:
        raise CannotFold("is active: it is called with training=True")
    return laws.UNCHANGED


def _rectifier(call: Call) -> PassThrough:
    if getattr(call.layer, "max_value", None) is not None or getattr(call.layer, "threshold", None):
        raise CannotFold("has a kink away from 0")
    return laws.RECTIFIER


def _activation(call: Call) -> PassThrough:
    def change(a: Affine) -> Affine:
        if not passes_function(call.layer.activation, a):
            name = name_of(call.layer.activation)
            raise CannotFold(f"is the activation '{name}', which this map does not pass through")
        return a

    return laws.one_input(change)


def _positions(call: Call) -> tuple[int, ...]:
    """Return the axes of an example that hold positions, not channels."""
    rank = len(call.seen(call.inputs[0]))
    first = getattr(call.layer, "data_format", "channels_last") == "channels_first"
    return tuple(range(rank))[1:] if first else tuple(range(rank - 1))


def _average(call: Call) -> PassThrough:
    return laws.average(_positions(call))


def _maximum(call: Call) -> PassThrough:
    return laws.maximum(_positions(call))


def _padding(call: Call) -> PassThrough:
    return laws.padding(_positions(call))


def _globally(pool: Law) -> Law:
    """Global pooling removes the spatial axes, or keeps them with length 1."""

    def law(call: Call) -> PassThrough:
        gone = () if call.layer.keepdims else _positions(call)
        return pool(call).then(laws.without_axes(gone))

    return law


def _reshape(call: Call) -> PassThrough:
    old, new = call.seen(call.inputs[0]), call.seen(call.outputs[0])
    if getattr(call.layer, "data_format", None) != "channels_first" or len(old) < 2:
        return laws.reshape(old, new)
    # Flatten moves the channels last before it flattens.
    order = [*range(1, len(old)), 0]
    return laws.permutation(order).then(laws.reshape([old[axis] for axis in order], new))


def _permutation(call: Call) -> PassThrough:
    return laws.permutation([axis - 1 for axis in call.layer.dims])


def _concatenation(call: Call) -> PassThrough:
    axis = int(call.layer.axis) % (len(call.seen(call.outputs[0])) + 1) - 1
    if axis < 0:
        raise CannotFold("concatenates along the batch axis")
    return laws.concatenation(call, axis)


def _weighted_sum(weights: Callable[[int], list[float]]) -> Law:
    """A sum whose weights depend on the number of inputs."""
    return lambda call: laws.weighted_sum(call, weights(len(call.data)))


# -- the table ----------------------------------------------------------------------------------


def _for_all_ranks(*names: str) -> tuple[type, ...]:
    """Return the layers with these names for sequences, images and volumes: 1D, 2D and 3D."""
    return tuple(getattr(layers, f"{name}{rank}D") for name in names for rank in (1, 2, 3))


_LAWS: list[tuple[Law, tuple[type, ...]]] = [
    (lambda _: laws.UNCHANGED, (layers.Identity, layers.ActivityRegularization)),
    (_dropout, (
        layers.Dropout, layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise,
        *_for_all_ranks("SpatialDropout"),
    )),
    (_average, _for_all_ranks("AveragePooling", "UpSampling", "Cropping")),
    (_maximum, _for_all_ranks("MaxPooling")),
    (_globally(_average), _for_all_ranks("GlobalAveragePooling")),
    (_globally(_maximum), _for_all_ranks("GlobalMaxPooling")),
    (_padding, _for_all_ranks("ZeroPadding")),
    (_reshape, (layers.Flatten, layers.Reshape)),
    (_permutation, (layers.Permute,)),
    (lambda _: laws.with_axes([0]), (layers.RepeatVector,)),
    (_rectifier, (
        layers.ReLU, layers.LeakyReLU, layers.PReLU, operation_class(keras.ops.relu),
        operation_class(keras.ops.leaky_relu), operation_class(keras.activations.relu),
    )),
    (_activation, (layers.Activation,)),
    # The operations are those behind `x + y` and the like.
    (_weighted_sum(lambda n: [1.0] * n), (
        layers.Add, operation_class(lambda x: keras.ops.add(x, x)),
    )),
    (_weighted_sum(lambda n: [1.0] + [-1.0] * (n - 1)), (
        layers.Subtract, operation_class(lambda x: keras.ops.subtract(x, x)),
    )),
    (_weighted_sum(lambda n: [1.0 / n] * n), (layers.Average,)),
    (laws.extreme, (
        layers.Maximum, layers.Minimum, operation_class(lambda x: keras.ops.maximum(x, x)),
        operation_class(lambda x: keras.ops.minimum(x, x)),
    )),
    (_concatenation, (
        layers.Concatenate, operation_class(lambda x: keras.ops.concatenate([x, x])),
    )),
]  # fmt: skip
# By exact class: a subclass may compute anything.
PASS_THROUGH_LAYERS = {kind: law for law, kinds in _LAWS for kind in kinds}
