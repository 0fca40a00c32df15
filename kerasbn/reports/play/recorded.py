"""Models too large for a page start at a later layer there, from values recorded for test images.

The values are those of the model's predictions, so BN layers ahead use their moving statistics.
Where a layer is so wide that even then only a few images would fit, the page has some of its units,
and the answers are recorded as well.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict, astuple, replace
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from kerasbn.data.datasets import Split
from kerasbn.reports.play.weights import (
    TOO_LARGE,
    Activation,
    BatchNormalization,
    Dense,
    Layer,
    NotPlayableError,
    Rescaling,
    floats,
)

COUNTS = (64, 32, 16)  # of test images: fewer would hardly show every class
SIZES = (1, 2, 4, 8, 16, 32, 64)  # of the batches whose answers are recorded
UNITS = 32  # of a layer that is too wide

Values = NDArray[np.float64]  # [examples, units]

# As Keras defines them, with the defaults of Keras.
ACTIVATIONS: dict[str, Callable[[Values], Values]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": expit,
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * ndtr(x),
    "silu": lambda x: x * expit(x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
}


class Answers(Struct):
    """Recorded logits. Each `Dense` layer reads a number one-hot: that of an image, or of a batch.

    `batches` answers for the first image of a batch. There is one for each image, each filling of
    the rest of its batch (all images, those of each class, copies of itself) and each size.
    """

    moving: Dense
    folded: Dense
    batches: Dense
    sizes: Sequence[int] = SIZES


class Model(Struct):
    """One model, in the order of its layers; if these have some units only, with its answers."""

    layers: Sequence[Layer]
    answers: Answers | None = None


def size_of(*models: Sequence[Layer]) -> int:
    """Return the bytes of all arrays of models."""
    values = [value for layers in models for layer in layers for value in astuple(layer)]
    return sum(len(value) for value in values if isinstance(value, bytes))


def record(
    bn: Sequence[Layer], plain: Sequence[Layer], test: Split, room: int
) -> tuple[Model, Model]:
    """Return models that read the number of an image, one-hot.

    The one with BN starts as early as possible, for as many images as possible. Without BN, an
    image's answer never depends on other images: that model starts at its last layer. The arrays of
    both and the images have at most `room` bytes; with recorded answers, they never have 300,000.

    Raises:
        NotPlayableError: If no Dense layer comes before the last BN layer.
    """
    starts = [i for i in _denses(bn) if i < _last_bn(bn)]
    if not starts:
        raise NotPlayableError(TOO_LARGE)

    def pair(start: int, count: int) -> tuple[list[Layer], list[Layer]]:
        images = test.images[:count]
        return _start_at(bn, start, images), _start_at(plain, _denses(plain)[-1], images)

    for count, start in product(COUNTS, starts):
        later, without = pair(start, count)
        if size_of(later, without) + test.images[:count].nbytes <= room:
            return Model(later), Model(without)
    later, without = pair(starts[-1], COUNTS[0])
    answers = _answers(later, test.labels[: COUNTS[0]])
    return Model(_first_units(later), answers), Model(without)


def _denses(layers: Sequence[Layer]) -> list[int]:
    return [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]


def _last_bn(layers: Sequence[Layer]) -> int:
    return max(i for i, layer in enumerate(layers) if isinstance(layer, BatchNormalization))


def _start_at(layers: Sequence[Layer], start: int, images: NDArray[np.uint8]) -> list[Layer]:
    """Return the layers from a Dense layer on, whose kernel becomes its product for each image."""
    dense = layers[start]
    assert isinstance(dense, Dense)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    products = reduce(_apply, layers[:start], pixels) @ _matrix(dense)
    taken = replace(dense, inputs=len(images), kernel=_array(products))
    return [taken, *layers[start + 1 :]]


def _first_units(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers up to the next Dense layer, with the first units of the first one."""
    dense, *between, last = layers[: _denses(layers)[1] + 1]
    assert isinstance(dense, Dense)
    assert isinstance(last, Dense)
    kernel, end = _matrix(dense)[:, :UNITS], 4 * UNITS  # bytes
    units, bias = kernel.shape[1], dense.bias and dense.bias[:end]
    found: list[Layer] = [replace(dense, units=units, kernel=_array(kernel), bias=bias)]
    for layer in between:
        arrays = {k: v[:end] for k, v in asdict(layer).items() if isinstance(v, bytes)}
        found.append(replace(layer, **arrays))
    return [*found, replace(last, inputs=units, kernel=last.kernel[: end * last.units])]


def _answers(layers: Sequence[Layer], labels: NDArray[np.integer]) -> Answers:
    """Return the answers of layers that read the number of an image, one-hot."""
    count = len(labels)
    logits = [reduce(_apply, each, np.eye(count)) for each in (layers, _fold(layers))]
    logits.append(_answers_in_batches(layers, labels))
    moving, folded, batches = (
        Dense("logits", len(each), each.shape[1], _array(each), None) for each in logits
    )
    return Answers(moving, folded, batches)


def _answers_in_batches(layers: Sequence[Layer], labels: NDArray[np.integer]) -> Values:
    """Return the logits of the first image of each batch, in the order of `Answers.batches`."""
    at, count = _last_bn(layers), len(labels)
    bn = layers[at]
    assert isinstance(bn, BatchNormalization)
    values = reduce(_apply, layers[:at], np.eye(count))
    values -= values.mean(0)  # changes nothing but the rounding errors of the variance
    squares = values**2
    groups = [np.arange(count), *(np.flatnonzero(labels == each) for each in np.unique(labels))]
    found = []
    for i in range(count):
        fillings = [np.resize(group, SIZES[-1]) for group in (*groups, np.array([i]))]
        batches = [[i, *filling[: size - 1]] for filling in fillings for size in SIZES]
        shares = np.stack([np.bincount(each, minlength=count) / len(each) for each in batches])
        mean = shares @ values
        s, t = _affine(bn, mean, np.maximum(shares @ squares - mean**2, 0))
        found.append(reduce(_apply, layers[at + 1 :], s * values[i] + t))
    return np.concatenate(found)


def _fold(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with the last BN layer folded, as the page does it (engine.js)."""
    at = _last_bn(layers)
    bn, is_after = layers[at], isinstance(layers[at - 1], Dense)
    taker = at - 1 if is_after else at + 1
    dense = layers[taker]
    assert isinstance(bn, BatchNormalization)
    assert isinstance(dense, Dense)
    s, t = _affine(bn, floats(bn.mean), floats(bn.variance))
    kernel, bias = _matrix(dense), _bias(dense)
    if is_after:
        kernel, bias = kernel * s, bias * s + t
    else:
        kernel, bias = s[:, None] * kernel, bias + t @ kernel
    joined = replace(dense, kernel=_array(kernel), bias=_array(bias))
    return [joined if i == taker else each for i, each in enumerate(layers) if i != at]


def _apply(values: Values, layer: Layer) -> Values:
    """Return the output of a layer, with moving statistics."""
    match layer:
        case Rescaling(scale, offset):
            return values * scale + offset
        case Dense():
            return values @ _matrix(layer) + _bias(layer)
        case BatchNormalization():
            s, t = _affine(layer, floats(layer.mean), floats(layer.variance))
            return s * values + t
        case Activation(function=function):
            return ACTIVATIONS[function](values)


def _affine(layer: BatchNormalization, mean: Values, variance: Values) -> tuple[Values, Values]:
    """Return the scale and the shift that BN applies to each unit: s * x + t."""
    s = floats(layer.gamma) / np.sqrt(variance + layer.epsilon)
    return s, floats(layer.beta) - s * mean


def _matrix(dense: Dense) -> Values:
    return floats(dense.kernel).reshape(-1, dense.units)


def _bias(dense: Dense) -> Values:
    return np.zeros(dense.units) if dense.bias is None else floats(dense.bias)


def _array(values: Values) -> bytes:
    return values.astype("<f4").tobytes()
