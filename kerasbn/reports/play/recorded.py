"""Models too large for a page start at a later layer there, from values recorded for test images.

The values are those of the model's predictions, so BN layers ahead use their moving statistics.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray
from scipy.special import expit, ndtr

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

COUNTS = (64, 32, 16, 8, 4)  # of test images

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


def size_of(*models: Sequence[Layer]) -> int:
    """Return the bytes of all arrays of models."""
    values = [value for layers in models for layer in layers for value in astuple(layer)]
    return sum(len(value) for value in values if isinstance(value, bytes))


def start_later(
    bn: Sequence[Layer], plain: Sequence[Layer], images: NDArray[np.uint8], room: int
) -> tuple[list[Layer], list[Layer]]:
    """Return models that read the number of an image, one-hot.

    The one with BN starts as early as possible, for as many images as possible. Without BN, an
    image's answer never depends on other images: that model starts at its last layer. The arrays of
    both and the images have at most `room` bytes.

    Raises:
        NotPlayableError: If even the last BN layer and a few images do not fit.
    """
    last_bn = max(i for i, layer in enumerate(bn) if isinstance(layer, BatchNormalization))
    starts = [i for i in _denses(bn) if i < last_bn]
    for count in COUNTS:
        without = _start_at(plain, _denses(plain)[-1], images[:count])
        for start in starts:
            pair = _start_at(bn, start, images[:count]), without
            if size_of(*pair) + images[:count].nbytes <= room:
                return pair
    raise NotPlayableError(TOO_LARGE)


def _denses(layers: Sequence[Layer]) -> list[int]:
    return [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]


def _start_at(layers: Sequence[Layer], start: int, images: NDArray[np.uint8]) -> list[Layer]:
    """Return the layers from a Dense layer on, whose kernel becomes its product for each image."""
    dense = layers[start]
    assert isinstance(dense, Dense)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    products = _product(reduce(_apply, layers[:start], pixels), dense).astype("<f4")
    taken = Dense(dense.name, len(images), dense.units, products.tobytes(), dense.bias)
    return [taken, *layers[start + 1 :]]


def _apply(values: Values, layer: Layer) -> Values:
    """Return the output of a layer, with moving statistics."""
    match layer:
        case Rescaling(scale, offset):
            return values * scale + offset
        case Dense(bias=bias):
            return _product(values, layer) + (0 if bias is None else floats(bias))
        case BatchNormalization():
            gamma, beta, mean, variance = map(
                floats, (layer.gamma, layer.beta, layer.mean, layer.variance)
            )
            return gamma * (values - mean) / np.sqrt(variance + layer.epsilon) + beta
        case Activation(function=function):
            return ACTIVATIONS[function](values)


def _product(values: Values, dense: Dense) -> Values:
    return values @ floats(dense.kernel).reshape(-1, dense.units)
