"""Keras activations: which ones a map passes through, which are clips, and how to build a clip."""

from collections.abc import Callable

import keras
import numpy as np

from kerasbn.common.keras_internals import operation_class
from kerasbn.folding.affine import Affine
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Layer

_RELU, _RELU6 = (Clip(np.asarray(0.0), np.asarray(top)) for top in (np.inf, 6.0))
_HARD_SIGMOID = Clip(np.asarray(0.0), np.asarray(1.0), (1 / 6, 0.5))  # clip(y/6 + 1/2, 0, 1)
_CLIPS: list[tuple[object, Clip]] = [  # by function and by class of operation
    (keras.activations.relu, _RELU),
    (keras.activations.relu6, _RELU6),
    (keras.activations.hard_sigmoid, _HARD_SIGMOID),
    (operation_class(keras.ops.relu), _RELU),
    (operation_class(keras.ops.relu6), _RELU6),
    (operation_class(keras.ops.hard_sigmoid), _HARD_SIGMOID),
]
_RELU_LAYERS = (keras.layers.ReLU, operation_class(keras.activations.relu))
_MAXIMUM = operation_class(lambda x: keras.ops.maximum(x, x))
_MINIMUM = operation_class(lambda x: keras.ops.minimum(x, x))
_CLIP = operation_class(lambda x: keras.ops.clip(x, 0.0, 1.0))


def passes_function(function: object, a: Affine) -> bool:
    """Return whether a map passes unchanged through an activation function."""
    if function is keras.activations.linear:
        return True
    rectifiers = (keras.activations.relu, keras.activations.leaky_relu)
    return function in rectifiers and a.only_scales() and a.keeps_order()


def name_of(function: object) -> str:
    """Return the name of an activation: a function or a layer."""
    return str(getattr(function, "__name__", type(function).__name__))


def clip_of(layer: Layer) -> Clip | None:
    """Return the clip that an activation is, None if it is none."""
    if type(layer) in _RELU_LAYERS:
        if layer.threshold != 0 or layer.negative_slope != 0:
            return None
        top = np.inf if layer.max_value is None else float(layer.max_value)
        return Clip(np.asarray(0.0), np.asarray(top))
    key = layer.activation if type(layer) is keras.layers.Activation else type(layer)
    return next((clip for known, clip in _CLIPS if known is key), None)


def build_clip(
    x: keras.KerasTensor, clip: Clip, name: str, free_name: Callable[[str], str]
) -> keras.KerasTensor:
    """Return ``min(max(x, lower), upper)``, without bounds that are infinite everywhere.

    The bounds become arrays of the tensor's dtype, because another dtype would change that of the
    result. `name` is that of the activation, and `free_name` makes a name unique within the model.
    """
    lower, upper = (
        bound.astype(np.dtype(keras.backend.standardize_dtype(x.dtype)))
        for bound in (clip.lower, clip.upper)
    )
    has_lower, has_upper = np.isfinite(lower).any(), np.isfinite(upper).any()
    if has_lower and has_upper and all((each == each.flat[0]).all() for each in (lower, upper)):
        ends = float(lower.flat[0]), float(upper.flat[0])
        return _CLIP(*ends, name=free_name(f"{name}_clip"))(x)
    if has_lower:
        x = _MAXIMUM(name=free_name(f"{name}_max"))(x, lower)
    if has_upper:
        x = _MINIMUM(name=free_name(f"{name}_min"))(x, upper)
    return x
