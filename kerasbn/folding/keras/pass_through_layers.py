"""Keras layers that an affine map passes through: which law of `kerasbn.folding.pass_through`."""

from collections.abc import Callable, Collection

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from kerasbn.common.keras_internals import operation_class
from kerasbn.folding import pass_through as laws
from kerasbn.folding.affine import Affine, CannotFold, join, split
from kerasbn.folding.graph import Call
from kerasbn.folding.keras.activations import name_of, passes_function
from kerasbn.folding.keras.affine_layers import QUOTIENTS, values_of
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
            raise CannotFold(f"has the activation '{name}', which this map does not pass through")
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


def _resizing(call: Call) -> PassThrough:
    """The weights of every interpolation sum to 1. Padding does not interpolate."""
    axes, layer = _positions(call), call.layer
    lengths = [call.seen(call.inputs[0])[axis] for axis in axes]
    if layer.pad_to_aspect_ratio and _pads(lengths, [layer.height, layer.width]):
        return laws.padding(axes, layer.fill_value)
    return _average(call)


def _pads(lengths: list[int | None], wanted: list[int]) -> bool:
    """Whether padding to an aspect ratio adds anything, which Keras rounds down on each side."""
    if None in lengths:
        return True
    (height, width), (to_height, to_width) = np.array(lengths), np.array(wanted)
    new = [width * to_height / to_width, height * to_width / to_height]
    added = np.array(new, np.float32).astype(int) - lengths  # float32 as in Keras
    return bool((added >= 2).any())


def _cropping(call: Call) -> PassThrough:
    cropping = call.layer.cropping
    pairs = [cropping] if isinstance(cropping[0], int) else cropping
    ends = zip(_positions(call), pairs, strict=True)
    parts = {axis: slice(left, -right or None) for axis, (left, right) in ends}
    return _selection(call, parts)


def _selection(call: Call, parts: dict[int, slice]) -> PassThrough:
    """Slicing some axes of an example."""
    shape = call.seen(call.inputs[0])

    def taken(axis: int) -> NDArray[np.int64] | None:
        return None if (n := shape[axis]) is None else np.arange(n)[parts[axis]]

    return laws.selection(call, {axis: taken(axis) for axis in parts})


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


# -- operations, such as those behind `x[:, 0]` ----------------------------------------------------


def _reshaped(call: Call) -> PassThrough:
    """Reshaping, which may move values from one example to another, unlike a Reshape layer."""
    old, new = call.seen(call.inputs[0]), call.seen(call.outputs[0])
    if None in (*old, *new):
        inside = range(len(old) - 1) if type(call.layer) is RESHAPE else ()
        return laws.average(inside).then(laws.reshape(old, new))
    if np.prod([n or 1 for n in old]) != np.prod([n or 1 for n in new]):
        raise CannotFold("moves values from one example to another")
    return laws.reshape(old, new)


def _transposed(call: Call) -> PassThrough:
    lengths = list(range(2, len(call.seen(call.inputs[0])) + 3))  # tell the axes apart
    made = call.layer.compute_output_spec(keras.KerasTensor(lengths))
    first, *order = (lengths.index(n) for n in made.shape)
    if first != 0:
        raise CannotFold("moves the batch axis")
    return laws.permutation([axis - 1 for axis in order])


def _reduced(pool: Callable[[Collection[int]], PassThrough]) -> Law:
    def law(call: Call) -> PassThrough:
        axes = _axes(call)
        if getattr(call.layer, "initial", None) is not None:
            raise CannotFold("compares it to a number")
        return pool(axes).then(laws.without_axes(() if call.layer.keepdims else axes))

    return law


def _flipped(call: Call) -> PassThrough:
    return _selection(call, {axis: slice(None, None, -1) for axis in _axes(call)})


def _padded(call: Call) -> PassThrough:
    """Padding by an operation; with another mode than "constant" it repeats values."""
    rank, pairs = 1 + len(call.seen(call.inputs[0])), list(call.layer.pad_width)
    pairs = pairs * rank if len(pairs) == 1 else pairs
    axes = [axis - 1 for axis, pair in enumerate(pairs) if any(pair)]
    if -1 in axes:
        raise CannotFold("works along the batch axis")
    if call.layer.mode != "constant" or not axes:
        return laws.average(axes)
    arguments = call.node.arguments
    given = [None, *arguments.args[1:], *arguments.kwargs.values()][-1]
    if isinstance(given, keras.KerasTensor):
        raise CannotFold("pads with a value that it reads")
    return laws.padding(axes, 0.0 if given is None else values_of(given).item())


def _cast(call: Call) -> PassThrough:
    if "float" not in call.outputs[0].dtype:
        raise CannotFold("rounds to whole numbers")
    return laws.UNCHANGED


def _axes(call: Call) -> list[int]:
    """Return the axes of an example that an operation names. None means all axes."""
    rank, given = 1 + len(call.seen(call.inputs[0])), call.layer.axis
    listed = range(rank) if given is None else [given] if isinstance(given, int) else given
    axes = [axis % rank - 1 for axis in listed]
    if -1 in axes:
        raise CannotFold("works along the batch axis")
    return axes


def _item(call: Call) -> PassThrough:
    """Indexing with numbers, slices and an ellipsis."""
    key = call.node.arguments.args[1]
    parts = list(key) if isinstance(key, tuple) else [key]
    if not all(part is ... or isinstance(part, int | slice) for part in parts):
        raise CannotFold("is indexed by something other than numbers and slices")
    full = [slice(None)] * (1 + len(call.seen(call.inputs[0])) - len(parts))
    if ... in parts:
        at = parts.index(...)
        parts[at : at + 1] = [slice(None), *full]
    else:
        parts += full
    if parts[0] != slice(None):
        raise CannotFold("takes a part of the batch")
    gone = [axis for axis, part in enumerate(parts[1:]) if isinstance(part, int)]
    slices = {
        axis: slice(part, part + 1 or None) if isinstance(part, int) else part
        for axis, part in enumerate(parts[1:])
        if part != slice(None)
    }
    return _selection(call, slices).then(laws.without_axes(gone))


# -- several inputs --------------------------------------------------------------------------------


def _concatenation(call: Call) -> PassThrough:
    axis = int(call.layer.axis) % (len(call.seen(call.outputs[0])) + 1) - 1
    if axis < 0:
        raise CannotFold("concatenates along the batch axis")
    return laws.concatenation(call, axis)


def _stack(call: Call) -> PassThrough:
    axis = int(call.layer.axis) % (len(call.seen(call.outputs[0])) + 1) - 1
    if axis < 0:
        raise CannotFold("stacks along the batch axis")
    new, lengths = laws.with_axes([axis]), [1] * len(call.data)
    return PassThrough(
        lambda incoming: join([new.forward([a]) for a in incoming], lengths, axis),
        lambda b: [[new.backward(part)[0][0] for part in split(b, lengths, axis)]],
    )


def _combined(law: Law) -> Law:
    """A layer adds axes behind the batch axis to inputs of lower rank, an operation ahead of it."""

    def checked(call: Call) -> PassThrough:
        ranks = {len(value.example) for value in (*call.data, *call.outputs)}
        if len(ranks) > 1 and not isinstance(call.layer, layers.Layer):
            raise CannotFold("combines tensors of different rank")
        return law(call)

    return checked


def _weighted_sum(weights: Callable[[int], list[float]]) -> Law:
    """A sum whose weights depend on the number of inputs."""
    return _combined(lambda call: laws.weighted_sum(call, weights(len(call.data))))


# -- the table ----------------------------------------------------------------------------------


def _for_all_ranks(*names: str) -> tuple[type, ...]:
    """Return the layers with these names for sequences, images and volumes: 1D, 2D and 3D."""
    return tuple(getattr(layers, f"{name}{rank}D") for name in names for rank in (1, 2, 3))


# Image augmentation that returns its input at inference. RandomCrop resizes.
_AUGMENTATION = (
    layers.AugMix, layers.RandAugment, layers.RandomBrightness, layers.RandomColorDegeneration,
    layers.RandomColorJitter, layers.RandomContrast, layers.RandomElasticTransform,
    layers.RandomErasing, layers.RandomFlip, layers.RandomGaussianBlur, layers.RandomGrayscale,
    layers.RandomHue, layers.RandomInvert, layers.RandomPerspective, layers.RandomPosterization,
    layers.RandomRotation, layers.RandomSaturation, layers.RandomSharpness, layers.RandomShear,
    layers.RandomTranslation, layers.RandomZoom,
)  # fmt: skip
RESHAPE = operation_class(lambda x: keras.ops.reshape(x, (-1, 1)))
GET_ITEM = operation_class(lambda x: x[:, 0])
_LAWS: list[tuple[Law, tuple[type, ...]]] = [
    (lambda _: laws.UNCHANGED, (layers.Identity, layers.ActivityRegularization)),
    (_dropout, (
        layers.Dropout, layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise,
        *_for_all_ranks("SpatialDropout"), *_AUGMENTATION,
    )),
    (_average, (*_for_all_ranks("AveragePooling", "UpSampling"), layers.CenterCrop)),
    (_resizing, (layers.Resizing,)),
    (_cropping, _for_all_ranks("Cropping")),
    (_maximum, _for_all_ranks("MaxPooling")),
    (_globally(_average), _for_all_ranks("GlobalAveragePooling")),
    (_globally(_maximum), _for_all_ranks("GlobalMaxPooling")),
    (_padding, _for_all_ranks("ZeroPadding")),
    (_reshape, (layers.Flatten, layers.Reshape)),
    (_permutation, (layers.Permute,)),
    (lambda _: laws.with_axes([0]), (layers.RepeatVector,)),
    # An operation is the class behind a function; the axes that stand here don't matter.
    (_reshaped, (
        RESHAPE,
        operation_class(lambda x: keras.ops.expand_dims(x, 1)),
        operation_class(keras.ops.squeeze),
    )),
    (_transposed, (
        operation_class(keras.ops.transpose),
        operation_class(lambda x: keras.ops.swapaxes(x, 0, 1)),
        operation_class(lambda x: keras.ops.moveaxis(x, 0, 1)),
    )),
    (_item, (GET_ITEM,)),
    (_padded, (operation_class(lambda x: keras.ops.pad(x, 1)),)),
    (_cast, (operation_class(lambda x: keras.ops.cast(x, "int32")),)),
    (_flipped, (operation_class(keras.ops.flip),)),
    (_reduced(laws.average), (operation_class(keras.ops.mean),)),
    (_reduced(laws.maximum), (operation_class(keras.ops.max),)),
    (_rectifier, (
        layers.ReLU, layers.LeakyReLU, layers.PReLU, operation_class(keras.ops.relu),
        operation_class(keras.ops.leaky_relu), operation_class(keras.activations.relu),
    )),
    (_activation, (layers.Activation,)),
    (_weighted_sum(lambda n: [1.0] * n), (
        layers.Add, operation_class(lambda x: keras.ops.add(x, x)),
    )),
    (_weighted_sum(lambda n: [1.0] + [-1.0] * (n - 1)), (
        layers.Subtract, operation_class(lambda x: keras.ops.subtract(x, x)),
    )),
    (_weighted_sum(lambda n: [1.0 / n] * n), (layers.Average,)),
    (_combined(laws.extreme), (
        layers.Maximum, layers.Minimum, operation_class(lambda x: keras.ops.maximum(x, x)),
        operation_class(lambda x: keras.ops.minimum(x, x)),
    )),
    (_combined(lambda call: laws.product(call, [1] * len(call.data))), (
        layers.Multiply, operation_class(lambda x: keras.ops.multiply(x, x)),
    )),
    (_combined(lambda call: laws.product(call, [1, -1])), QUOTIENTS),
    (_stack, (operation_class(lambda x: keras.ops.stack([x, x])),)),
    (_concatenation, (
        layers.Concatenate, operation_class(lambda x: keras.ops.concatenate([x, x])),
    )),
]  # fmt: skip
# By exact class: a subclass may compute anything.
PASS_THROUGH_LAYERS = {kind: law for law, kinds in _LAWS for kind in kinds}
