"""Keras layers that are affine maps at inference, and their s and t."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasbn.common.keras_internals import normalization_statistics
from kerasbn.folding.affine import Affine, CannotFold, affine
from kerasbn.folding.graph import Kind

Layer = Any  # Keras ships no types


def is_affine(layer: Layer) -> bool:
    """Return whether a layer is a BN layer or a scaling, by its exact class."""
    return type(layer) in AFFINE_LAYERS


def kind_of(layer: Layer) -> Kind:
    """Return "scaling" for Rescaling and Normalization layers, "BN layer" for the others."""
    scaling = isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)
    return "scaling" if scaling else "BN layer"


def affine_of(layer: Layer, rank: int, training: bool) -> Affine:
    """Return the map of a layer on an example.

    Args:
        layer: a layer of one of the classes in `AFFINE_LAYERS`.
        rank: the number of axes of its input without the batch axis.
        training: whether it is called with training=True.

    Raises:
        CannotFold: if it is no affine map, such as a BN layer that uses batch statistics.
    """
    return AFFINE_LAYERS[type(layer)](layer, rank, training)


def check_merge(layer: Layer, a: Affine) -> None:
    """Raise `CannotFold` if `layer` cannot represent its own map composed with `a`."""
    if type(layer) is keras.layers.BatchNormalization:
        axis = layer.axis - 1 if layer.axis > 0 else layer.axis
        others = set(range(len(a.shape))) - {axis % len(a.shape)}
        if any(a.varies_along(other) for other in others):
            raise CannotFold("has one s and t per channel")
    elif type(layer) is keras.layers.Rescaling:
        if a.s.size > 1 and keras.config.image_data_format() == "channels_first":
            raise CannotFold("has one scale for all channels")
    else:
        raise CannotFold("has statistics of its data as weights, which no map can be merged into")


def merged(layer: Layer, a: Affine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the variables with which a layer of that class maps by `a`.

    For a BN layer, gamma = s*sqrt(var + eps) and beta = t + s*mean.
    """
    if type(layer) is keras.layers.Rescaling:
        # As arrays, because Keras rounds numbers to float32.
        pair = [values.reshape(1) if values.size == 1 else values for values in (a.s, a.t)]
        scale, offset = map(keras.saving.serialize_keras_object, pair)
        return {"scale": scale, "offset": offset}, {}
    s, t = (np.broadcast_to(values.ravel(), layer.moving_mean.shape) for values in (a.s, a.t))
    gamma = s * np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    beta = t + s * _array(layer.moving_mean)
    return {"scale": True, "center": True}, {"gamma": gamma, "beta": beta}


def _batch_normalization(layer: Layer, rank: int, training: bool) -> Affine:
    """S = gamma / sqrt(var + eps), t = beta - s*mean (Ioffe and Szegedy 2015, section 3.1)."""
    if training and layer.trainable:
        raise CannotFold(
            "it uses batch statistics at inference: it is trainable, and it or a layer before it "
            "is called with training=True"
        )
    axis = layer.axis if layer.axis >= 0 else layer.axis + rank + 1
    if axis == 0:
        raise CannotFold("it normalizes along the batch axis")
    gamma = _array(layer.gamma) if layer.scale else 1.0
    beta = _array(layer.beta) if layer.center else 0.0
    with np.errstate(all="ignore"):  # `affine` refuses what is not finite
        s = gamma / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
        t = beta - s * _array(layer.moving_mean)
    along = [1] * rank
    along[axis - 1] = -1
    return affine(s, t).map(lambda values: values.reshape(along))


def _normalization(layer: Layer, rank: int, training: bool) -> Affine:  # noqa: ARG001 - one signature for all
    """S = 1 / max(sqrt(var), epsilon), t = -s*mean; with invert=True the inverse map."""
    adapted = normalization_statistics(layer)
    given = (layer.input_mean, layer.input_variance)
    mean, variance = map(_array, adapted) if adapted else map(_constant, given)
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


def _rescaling(layer: Layer, rank: int, training: bool) -> Affine:  # noqa: ARG001 - one signature for all
    """S = scale, t = offset; each a number, or an array for the last axes."""
    s, t = _constant(layer.scale), _constant(layer.offset)
    if s.ndim and keras.config.image_data_format() == "channels_first":
        s = s.reshape(s.shape + (1,) * (3 - s.ndim))  # as the layer itself does
    if max(s.ndim, t.ndim) > rank:
        raise CannotFold("its scale or offset has more axes than its input")
    return _with_rank(affine(s, t), rank)


def _with_rank(a: Affine, rank: int) -> Affine:
    return a.map(lambda values: values.reshape((1,) * (rank - values.ndim) + values.shape))


def _constant(number: Any) -> Any:  # noqa: ANN401 - a number, list or array
    """Return a constant of a layer's configuration as Keras reads it.

    Keras converts a number or a list to float32, whatever the layer's dtype, and keeps an array.
    """
    return _array(keras.ops.convert_to_tensor(number))


def _array(variable: Any) -> Any:  # noqa: ANN401 - a variable or tensor
    return keras.ops.convert_to_numpy(variable).astype(np.float64)


# By exact class: a subclass may compute anything.
AFFINE_LAYERS: dict[type, Callable[[Layer, int, bool], Affine]] = {
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Normalization: _normalization,
    keras.layers.Rescaling: _rescaling,
}
