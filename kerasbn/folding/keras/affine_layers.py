"""Keras layers and operations that are affine maps at inference, and their s and t."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from kerasbn.common.keras_internals import normalization_statistics, operation_class
from kerasbn.folding.affine import Affine, Array, CannotFold, affine, compress
from kerasbn.folding.graph import Call, Kind, Layer

SUBTRACT = operation_class(lambda x: x - x)
QUOTIENTS = (operation_class(lambda x: x / x), operation_class(lambda x: keras.ops.divide(x, x)))
SHIFTS = (operation_class(lambda x: x + x), SUBTRACT)
SCALES = (operation_class(lambda x: x * x), operation_class(lambda x: -x), *QUOTIENTS)


def kind_of(layer: Layer) -> Kind | None:
    """Return the kind of an affine layer or of a subclass of one, None for other layers."""
    if isinstance(layer, layers.Rescaling | layers.Normalization):
        return "scaling"
    return "BN layer" if isinstance(layer, layers.BatchNormalization) else None


def kind_of_call(layer: Layer, node: Any) -> Kind | None:  # noqa: ANN401 - a node of Keras's graph
    """Return the kind of a call that is an affine map of one tensor, None for other calls."""
    if type(layer) not in AFFINE_LAYERS:
        return None
    if type(layer) not in SHIFTS + SCALES:
        return kind_of(layer)
    inverts = type(layer) in QUOTIENTS and _constant_first(node)  # c / x
    is_map = len(node.input_tensors) == 1 and "float" in node.outputs[0].dtype and not inverts
    return "scaling" if is_map else None


def affine_of(call: Call) -> Affine:
    """Return the map of an affine layer, in the axes that it sees. Raises `CannotFold`."""
    return AFFINE_LAYERS[type(call.layer)](call)


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
        raise CannotFold("has no weights that a map can be merged into")


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


def _rank(call: Call) -> int:
    return len(call.seen(call.inputs[0]))


def _batch_normalization(call: Call) -> Affine:
    """S = gamma / sqrt(var + eps), t = beta - s*mean (Ioffe and Szegedy 2015, section 3.1)."""
    layer, rank = call.layer, _rank(call)
    if call.training and layer.trainable:
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


def _normalization(call: Call) -> Affine:
    """S = 1 / max(sqrt(var), epsilon), t = -s*mean; with invert=True the inverse map."""
    layer = call.layer
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
    return _with_rank(affine(s, t), _rank(call))


def _rescaling(call: Call) -> Affine:
    """S = scale, t = offset; each a number, or an array for the last axes."""
    layer, rank = call.layer, _rank(call)
    s, t = values_of(layer.scale), values_of(layer.offset)
    if s.ndim and keras.config.image_data_format() == "channels_first":
        s = s.reshape(s.shape + (1,) * (3 - s.ndim))  # as the layer itself does
    if max(s.ndim, t.ndim) > rank:
        raise CannotFold("its scale or offset has more axes than its input")
    return _with_rank(affine(s, t), rank)


def _with_rank(a: Affine, rank: int) -> Affine:
    return a.map(lambda values: values.reshape((1,) * (rank - values.ndim) + values.shape))


def _arithmetic(call: Call) -> Affine:
    """What an operation with a constant makes of ones is its s, and what it makes of zeros its t.

    It is run, because how Keras broadcasts a constant depends on the lengths of all axes.
    """
    scales = type(call.layer) in SCALES
    probe = np.full((1, *(n or 1 for n in call.seen(call.inputs[0]))), float(scales))
    args, kwargs = keras.tree.map_structure(
        lambda leaf: probe if isinstance(leaf, keras.KerasTensor) else leaf,
        (call.node.arguments.args, call.node.arguments.kwargs),
    )
    values = values_of(call.layer(*args, **kwargs))
    if values.shape != probe.shape:
        raise CannotFold("its constant broadcasts its input to another shape")
    if scales:
        return compress(affine(values[0], 0.0))
    negates = type(call.layer) is SUBTRACT and _constant_first(call.node)  # c - x
    return compress(affine(-1.0 if negates else 1.0, values[0]))


def _constant_first(node: Any) -> bool:  # noqa: ANN401 - a node of Keras's graph
    first = [*node.arguments.args, *node.arguments.kwargs.values()][0]
    return not isinstance(first, keras.KerasTensor)


def values_of(variable: Any) -> Array:  # noqa: ANN401 - a variable, number, list or array
    """Return a copy of the values of a variable, or of a constant as Keras reads it, in float64.

    Keras converts a number or a list to float32, whatever the layer's dtype, and keeps an array.
    """
    tensor = keras.ops.convert_to_tensor(variable)
    values: Array = keras.ops.convert_to_numpy(tensor).astype(np.float64)
    return values


# By exact class: a subclass may compute anything.
AFFINE_LAYERS: dict[type, Callable[[Call], Affine]] = {
    layers.BatchNormalization: _batch_normalization,
    layers.Normalization: _normalization,
    layers.Rescaling: _rescaling,
    **dict.fromkeys(SHIFTS + SCALES, _arithmetic),
}
