"""Which layers are affine at inference, and with which s and t."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasbn.folding.affine import Affine, CannotFold, affine


def affine_of(layer: keras.layers.Layer, rank: int, training: bool) -> Affine:
    """The s and t with which `layer` maps an example of `rank` axes at inference.

    Args:
        layer: one of the classes in `NORMS`.
        rank: number of axes of its input without the batch.
        training: whether it is called with training=True.

    Raises:
        CannotFold: if it is no affine map, as when it normalizes by the batch.
    """
    return NORMS[type(layer)](layer, rank, training)


def is_norm(layer: keras.layers.Layer) -> bool:
    """Whether it is a normalization or a scaling."""
    return type(layer) in NORMS


def is_scaling(layer: keras.layers.Layer) -> bool:
    """Whether it is a Rescaling or a Normalization layer (no BatchNormalization)."""
    return isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)


def check_merge(layer: keras.layers.Layer, a: Affine) -> None:
    """Raise `CannotFold` if `layer` cannot become itself together with `a`."""
    if type(layer) is keras.layers.BatchNormalization:
        axis = layer.axis - 1 if layer.axis > 0 else layer.axis
        others = set(range(len(a.shape))) - {axis % len(a.shape)}
        if any(a.varies_along(other) for other in others):
            raise CannotFold("has one s and t for each channel")
    elif type(layer) is keras.layers.Rescaling:
        if a.s.size > 1 and keras.config.image_data_format() == "channels_first":
            raise CannotFold("has one scale for everything")
    else:
        raise CannotFold("normalizes by statistics of its data, into which it takes no other map")


def merged(layer: keras.layers.Layer, a: Affine) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and the variables with which a layer of that class maps by `a`.

    For a BatchNormalization gamma = s*sqrt(var + eps), beta = t + s*mean.
    """
    if type(layer) is keras.layers.Rescaling:
        # Arrays, since Keras would round numbers to float32.
        pair = [values.reshape(1) if values.size == 1 else values for values in (a.s, a.t)]
        scale, offset = map(keras.saving.serialize_keras_object, pair)
        return {"scale": scale, "offset": offset}, {}
    s, t = (np.broadcast_to(values.ravel(), layer.moving_mean.shape) for values in (a.s, a.t))
    gamma = s * np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    beta = t + s * _array(layer.moving_mean)
    return {"scale": True, "center": True}, {"gamma": gamma, "beta": beta}


def _batch_normalization(layer: Any, rank: int, training: bool) -> Affine:  # noqa: ANN401 - Keras ships no types
    """S = gamma / sqrt(var + eps), t = beta - s*mean (Ioffe and Szegedy 2015, section 3.1)."""
    if training and layer.trainable:
        raise CannotFold(
            "it trains while it predicts: it is called with training=True, or after a layer that "
            "is, and is trainable, so it normalizes by the batch; call them without it to fold it"
        )
    axis = layer.axis if layer.axis >= 0 else layer.axis + rank + 1
    if axis == 0:
        raise CannotFold("it normalizes along the batch axis")
    gamma = _array(layer.gamma) if layer.scale else 1.0
    beta = _array(layer.beta) if layer.center else 0.0
    with np.errstate(all="ignore"):  # what is not finite is refused by `affine`
        s = gamma / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
        t = beta - s * _array(layer.moving_mean)
    along = [1] * rank
    along[axis - 1] = -1
    return affine(s, t).map(lambda values: values.reshape(along))


def _normalization(layer: Any, rank: int, training: bool) -> Affine:  # noqa: ANN401, ARG001 - Keras ships no types; one signature for all
    """S = 1 / max(sqrt(var), epsilon), t = -s*mean; with invert=True the inverse map."""
    given = layer.input_mean is not None
    # Not layer.mean, which is rounded to the layer's dtype.
    mean = _given(layer.input_mean) if given else _array(layer.adapt_mean)
    variance = _given(layer.input_variance) if given else _array(layer.adapt_variance)
    full = [1 if n is None else int(n) for n in keras.ops.shape(layer.mean)]
    if full[0] != 1:
        raise CannotFold("it normalizes along the batch axis")
    with np.errstate(all="ignore"):
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        s = deviation if layer.invert else 1 / deviation
        t = mean + 0 * s if layer.invert else -s * mean
    if s.size != 1:
        s, t = s.reshape(full[1:]), t.reshape(full[1:])
    return affine(s, t).map(
        lambda values: values.reshape((1,) * (rank - values.ndim) + values.shape)
    )


def _rescaling(layer: Any, rank: int, training: bool) -> Affine:  # noqa: ANN401, ARG001 - Keras ships no types; one signature for all
    """S = scale, t = offset; given as numbers or as arrays for the last axes."""
    s, t = _given(layer.scale), _given(layer.offset)
    if s.ndim and keras.config.image_data_format() == "channels_first":
        s = s.reshape(s.shape + (1,) * (3 - s.ndim))  # as the layer itself does
    if max(s.ndim, t.ndim) > rank:
        raise CannotFold("its scale or offset has more axes than its input")
    return affine(s, t).map(
        lambda values: values.reshape((1,) * (rank - values.ndim) + values.shape)
    )


def _given(number: Any) -> Any:  # noqa: ANN401 - Keras ships no types
    """A constant of a layer's configuration as Keras itself reads it.

    A number or a list goes through float32 whatever the layer's dtype; an array keeps its own.
    """
    return _array(keras.ops.convert_to_tensor(number))


def _array(variable: Any) -> Any:  # noqa: ANN401 - Keras ships no types
    return keras.ops.convert_to_numpy(variable).astype(np.float64)


# By exact class: a subclass may compute anything, and is left alone.
NORMS: dict[type, Callable[[Any, int, bool], Affine]] = {
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Normalization: _normalization,
    keras.layers.Rescaling: _rescaling,
}
