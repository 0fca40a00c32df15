from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn.folding.affine import CannotFold
from kerasbn.folding.fold import fold_with_plan
from kerasbn.folding.keras.affine_layers import affine_of, kind_of
from kerasbn.folding.keras.randomize import SHARE_NEGATIVE, randomize_parameters

L = keras.layers
SHAPE = (3, 4, 5)
NORMS: dict[str, Callable[[], Any]] = {
    "last axis": L.BatchNormalization,
    "first axis": lambda: L.BatchNormalization(axis=1),
    "middle axis": lambda: L.BatchNormalization(axis=-2),
    "no center": lambda: L.BatchNormalization(center=False),
    "no scale": lambda: L.BatchNormalization(scale=False, epsilon=0.1),
    "neither": lambda: L.BatchNormalization(center=False, scale=False),
    "renormalized": lambda: L.BatchNormalization(renorm=True),
    "rescaling": lambda: L.Rescaling(1 / 255, offset=-0.5),
    "rescaling by arrays": lambda: L.Rescaling(np.arange(1.0, 6.0), offset=[1.0, 0, 2, 3, -1]),
    "normalization": L.Normalization,
    "normalization, two axes": lambda: L.Normalization(axis=(1, 3)),
    "normalization, no axis": lambda: L.Normalization(axis=None),
    "normalization, inverted": lambda: L.Normalization(invert=True),
    "normalization, given": lambda: L.Normalization(mean=[1.0, 2, 3, 4, 5.1], variance=[0.3] * 5),
    "normalization, given one": lambda: L.Normalization(axis=None, mean=0.3, variance=0.0),
}


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", NORMS)
def test_the_affine_is_what_the_layer_does(name: str) -> None:
    layer = NORMS[name]()
    x = np.random.default_rng(0).normal(size=(6, *SHAPE))
    model = keras.Sequential([keras.Input(SHAPE), layer])
    randomize_parameters(model, 1)
    assert (kind_of(layer) == "BN layer") == isinstance(layer, L.BatchNormalization)
    a = affine_of(layer, len(SHAPE), training=False)
    assert len(a.shape) == len(SHAPE)
    np.testing.assert_allclose(a.s * x + a.t, layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16"])
def test_in_any_float_dtype(policy: str) -> None:
    layer = L.BatchNormalization(dtype=policy)
    randomize_parameters(keras.Sequential([keras.Input(SHAPE, dtype="float32"), layer]), 1)
    x = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
    a = affine_of(layer, len(SHAPE), training=False)
    got = keras.ops.convert_to_numpy(layer(x)).astype(np.float64)
    np.testing.assert_allclose(a.s * x + a.t, got, atol=0.05)


def test_frozen_it_is_affine_even_if_called_with_training() -> None:
    layer = L.BatchNormalization()
    layer.build((None, 4))
    with pytest.raises(CannotFold, match="uses batch statistics"):
        affine_of(layer, 1, training=True)
    layer.trainable = False
    affine_of(layer, 1, training=True)


def test_statistics_that_are_not_numbers_are_refused() -> None:
    layer = L.BatchNormalization(epsilon=1e-3)
    layer.build((None, 2))
    for bad in ([1.0, np.nan], [1.0, -0.5], [np.inf, np.inf]):
        layer.moving_variance.assign(bad)
        if np.isinf(bad).all():
            layer.gamma.assign([np.inf, 1.0])
        with pytest.raises(CannotFold, match="not finite"):
            affine_of(layer, 1, training=False)


def test_random_parameters_leave_nothing_fresh_and_repeat() -> None:
    def made(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        layers = [L.Dense(400), L.BatchNormalization(), L.PReLU(), L.Normalization()]
        model = keras.Sequential([keras.Input((3,)), *layers])
        randomize_parameters(model, seed)
        return [keras.ops.convert_to_numpy(v) for v in model.variables]

    first, again, other = made(1), made(1), made(2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    kernel, bias, gamma = first[:3]
    np.testing.assert_array_equal(kernel, other[0])
    assert bias.all()
    assert not np.array_equal(bias, other[1])
    assert abs((gamma < 0).mean() - SHARE_NEGATIVE) < 0.1
    assert 0 < (gamma == 0).mean() < 0.15


@pytest.mark.usefixtures("in_float64")
def test_a_scaling_with_more_axes_than_its_input_is_kept() -> None:
    x = keras.Input((3,))
    scaling = L.Rescaling(np.array([[[0.5], [2.0], [3.0]]]))
    (kept,) = fold_with_plan(keras.Model(x, L.Flatten()(scaling(x)))).plan
    assert str(kept).endswith("its scale or offset has more axes than its input")
