"""Numbers as training leaves them, for networks that were never trained.

A fresh network hides every mistake of folding: its normalizations have mean 0, variance 1, gamma 1
and beta 0, its biases are 0, so a forgotten bias or a wrong order changes nothing. It also lets
affines cross where a trained one would not. This is in the package, and not with its tests, for
whoever wants to see what would be folded in a network without its weights.
"""

from typing import Any

import keras
import numpy as np

SHARE_NEGATIVE = 0.25
SHARE_ZERO = 0.05


def wear_in(model: keras.Model, seed: int = 0) -> None:
    """Set the statistics, gammas, betas and biases of all layers of `model`, in place.

    A quarter of the gammas is negative, one in twenty is zero; kernels stay as they are. The same
    model and seed give the same numbers, whatever the names of the layers.
    """
    dice = np.random.default_rng(seed)
    for layer in model._flatten_layers():  # Keras has no public way to the layers of a layer
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            values = _values(layer, variable.name, tuple(variable.shape), dice)
            if values is not None:
                variable.assign(values)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it keeps its variables in a second form


def _values(
    layer: Any,  # noqa: ANN401 - Keras ships no types
    name: str,
    shape: tuple[int, ...],
    dice: np.random.Generator,
) -> np.ndarray | None:
    """Worn-in values for a variable of that name; None if it stays as it is."""
    if name == "gamma":
        gamma = dice.uniform(0.4, 1.6, shape)
        gamma *= np.where(dice.random(shape) < SHARE_NEGATIVE, -1, 1)
        return gamma * (dice.random(shape) >= SHARE_ZERO)
    if name in ("beta", "bias"):
        return dice.normal(0, 0.3, shape)
    if name in ("moving_mean", "mean"):
        return dice.normal(0, 0.5, shape)
    if name in ("moving_variance", "variance"):
        return dice.uniform(0.3, 2.0, shape)
    if name == "scale" and isinstance(layer, keras.layers.RMSNormalization):
        return dice.uniform(0.4, 1.6, shape)
    if name == "alpha":  # PReLU
        return dice.uniform(0.0, 0.4, shape)
    return None
