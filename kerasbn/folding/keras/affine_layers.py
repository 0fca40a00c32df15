"""Keras layers that are affine maps at inference, and their s and t."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from kerasbn.common.keras_internals import normalization_statistics
from kerasbn.folding.affine import Affine, Array, CannotFold, affine
from kerasbn.folding.graph import Kind, Layer


def kind_of(layer: Layer) -> Kind | None:
    """Return the kind of an affine layer or of a subclass of one, None for other layers."""
    if isinstance(layer, layers.Rescaling | layers.Normalization):
        return "scaling"
    return "BN layer" if isinstance(layer, layers.BatchNormalization) else None


def affine_of(layer: Layer, rank: int, training: bool) -> Affine:
    """Return the map of an affine layer on an example with `rank` axes. Raises `CannotFold`."""
    return AFFINE_LAYERS[type(layer)](layer, rank, training)


def check_merge(layer: Layer, a: Affine) -> None:
    """Raise `CannotFold` if `layer` cannot represent its own map composed with `a`."""
    if type(layer) is layers.BatchNormalization:
        rank = len(a.shape)
        others = set(range(rank)) - {layer.axis % (rank + 1) - 1}
        if any(map(a.varies_along, others)):
            raise CannotFold("has one s and t per channel")
    elif type(layer) is layers.Rescaling:
        if a.s.size > 1 and keras.config.image_data_format() == "channels_first":
            raise CannotFold("has one scale for all channels")
    else:
        raise CannotFold("has statistics of its data as weights, which no map can be merged into")


def merged(layer: Layer, a: Affine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the variables with which a layer of that class maps by `a`.

    For a BN layer, gamma = s*sqrt(var + eps) and beta = t + s*mean.
    """
    if type(layer) is layers.Rescaling:
        # As arrays, because Keras rounds numbers to float32.
        pair = [values.reshape(1) if values.size == 1 else values for values in (a.s, a.t)]
        scale, offset = map(keras.saving.serialize_keras_object, pair)
        return {"scale": scale, "offset": offset}, {}
    s, t = (np.broadcast_to(values.ravel(), layer.moving_mean.shape) for values in (a.s, a.t))
    gamma = s * np.sqrt(values_of(layer.moving_variance) + layer.epsilon)
    beta = t + s * values_of(layer.moving_mean)
    return {"scale": True, "center": True}, {"gamma": gamma, "beta": beta}


def _batch_normalization(layer: Layer, rank: int, training: bool) -> Affine:
    """S = gamma / sqrt(var + eps), t = beta - s*mean (Ioffe and Szegedy 2015, section 3.1)."""
    if training and layer.trainable:
        raise CannotFold(
            "it uses batch statistics at inference: it is trainable, and it or a layer before it "
            "is called with training=True"
        )
    axis = layer.axis % (rank + 1)
    if axis == 0:
        raise CannotFold("it normalizes along the batch axis")
    gamma = values_of(layer.gamma) if layer.scale else 1.0
    beta = values_of(layer.beta) if layer.center else 0.0
    with np.errstate(all="ignore"):  # `affine` refuses what is not finite
        s = gamma / np.sqrt(values_of(layer.moving_variance) + layer.epsilon)
        t = beta - s * values_of(layer.moving_mean)
    along = [1] * rank
    along[axis - 1] = -1
    return affine(s, t).map(lambda values: values.reshape(along))


def _normalization(layer: Layer, rank: int, _: bool) -> Affine:
    """S = 1 / max(sqrt(var), epsilon), t = -s*mean; with invert=True the inverse map."""
    given = (layer.input_mean, layer.input_variance)
    mean, variance = map(values_of, normalization_statistics(layer) or given)
    full = [1 if n is None else int(n) for n in keras.ops.shape(layer.mean)]
    if full[0] != 1:
        raise CannotFold("it normalizes along the batch axis")
    with np.errstate(all="ignore"):
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        s = deviation if layer.invert else 1 / deviation
        t = mean + 0 * s if layer.invert else -s * mean
    if s.size != 1:
        s, t = s.reshape(full[1:]), t.reshape(full[1:])
    return _with_rank(affine(s, t), rank)


def _rescaling(layer: Layer, rank: int, _: bool) -> Affine:
    """S = scale, t = offset; each a number, or an array for the last axes."""
    s, t = values_of(layer.scale), values_of(layer.offset)
    if s.ndim and keras.config.image_data_format() == "channels_first":
        s = s.reshape(s.shape + (1,) * (3 - s.ndim))  # as the layer itself does
    if max(s.ndim, t.ndim) > rank:
        raise CannotFold("its scale or offset has more axes than its input")
    return _with_rank(affine(s, t), rank)


def _with_rank(a: Affine, rank: int) -> Affine:
    return a.map(lambda values: values.reshape((1,) * (rank - values.ndim) + values.shape))


def values_of(variable: Any) -> Array:  # noqa: ANN401 - a variable, number, list or array
    """Return a copy of the values of a variable, or of a constant as Keras reads it, in float64.

    Keras converts a number or a list to float32, whatever the layer's dtype, and keeps an array.
    """
    tensor = keras.ops.convert_to_tensor(variable)
    values: Array = keras.ops.convert_to_numpy(tensor).astype(np.float64)
    return values


# By exact class: a subclass may compute anything.
AFFINE_LAYERS: dict[type, Callable[[Layer, int, bool], Affine]] = {
    layers.BatchNormalization: _batch_normalization,
    layers.Normalization: _normalization,
    layers.Rescaling: _rescaling,
}
