from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn.folding.affine import Affine, CannotFold
from kerasbn.folding.fold import fold_plan, fold_with_plan
from kerasbn.folding.keras.affine_layers import kind_of
from kerasbn.folding.keras.graph import read_model
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


def affine_of(model: keras.Model) -> Affine:
    """The map of the only call in a model."""
    (call,) = read_model(model).calls
    assert call.kind
    return call.affine()


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", NORMS)
def test_the_affine_is_what_the_layer_does(name: str) -> None:
    layer = NORMS[name]()
    x = np.random.default_rng(0).normal(size=(6, *SHAPE))
    model = keras.Sequential([keras.Input(SHAPE), layer])
    randomize_parameters(model, 1)
    assert (kind_of(layer) == "BN layer") == isinstance(layer, L.BatchNormalization)
    a = affine_of(model)
    assert len(a.shape) == len(SHAPE)
    np.testing.assert_allclose(a.s * x + a.t, layer(x), rtol=1e-12, atol=1e-12)


ROW = np.array([0.5, -2.0, 3.0, 0.1, 4.0])
ARITHMETIC: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: 0.1 + x,
    "difference": lambda x: x - ROW,
    "difference from it": lambda x: keras.ops.subtract(ROW, x),
    "product": lambda x: x * ROW[None, None, None],
    "quotient": lambda x: x / keras.Variable(ROW[:4, None]),
    "quotient by a tensor": lambda x: keras.ops.divide(x, keras.ops.convert_to_tensor(0.1)),
    "opposite": lambda x: -x,
    "along all axes": lambda x: x * np.arange(1.0, 61.0).reshape(SHAPE),
    "of another dtype": lambda x: x * ROW.astype("float16"),
    "column": lambda x: x + ROW[:3, None, None],
}


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_with_a_constant_is_affine(name: str) -> None:
    x, given = keras.Input(SHAPE), np.random.default_rng(0).normal(size=(6, *SHAPE))
    model = keras.Model(x, ARITHMETIC[name](x))
    a = affine_of(model)
    np.testing.assert_allclose(a.s * given + a.t, model(given), rtol=1e-12, atol=1e-12)
    for axis in range(3):
        assert a.varies_along(axis) == (np.ptp(a.s, axis).any() or np.ptp(a.t, axis).any())


@pytest.mark.usefixtures("in_float64")
def test_a_column_is_the_bias_of_the_last_axis_where_keras_takes_it_for_one() -> None:
    x = keras.Input((5, 4, 5))
    assert affine_of(keras.Model(x, x + ROW[:, None, None])).shape == (1, 1, 5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2.0 / x,
        lambda x: keras.ops.cast(x, "int32") * 2,
        lambda x: keras.ops.floor_divide(x, 2.0),
        lambda x: x * x,
    ],
)
def test_other_arithmetic_is_no_affine_map(function: Callable[[Any], Any]) -> None:
    x = keras.Input(SHAPE)
    assert not any(call.kind for call in read_model(keras.Model(x, function(x))).calls)


@pytest.mark.usefixtures("in_float64")
def test_a_constant_that_comes_first_is_dropped_with_its_operation() -> None:
    x = keras.Input(SHAPE)
    folded, plan = fold_with_plan(keras.Model(x, L.Dense(2)(keras.ops.subtract(ROW, x))))
    assert not plan.kept()
    assert [type(each).__name__ for each in folded.operations] == ["InputLayer", "Dense"]


@pytest.mark.usefixtures("in_float64")
def test_a_constant_that_broadcasts_is_kept() -> None:
    for length in (1, None):
        x = keras.Input((length, 3))
        (kept,) = fold_plan(keras.Model(x, L.Dense(2)(x * np.ones((4, 1)))))
        assert str(kept).endswith("its constant broadcasts its input to another shape")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_the_preprocessing_of_keras_folds_into_a_convolution(mode: str, dtype: str) -> None:
    image = keras.Input((9, 8, 3), dtype=dtype)
    x = image if dtype == "float32" else keras.ops.cast(image, "float32")
    x = keras.applications.imagenet_utils.preprocess_input(x, mode=mode)
    folded, plan = fold_with_plan(keras.Model(image, L.Conv2D(4, 3)(x)))
    assert not plan.kept()
    assert {type(each).__name__ for each in folded.operations} <= {
        "InputLayer", "Cast", "GetItem", "Stack", "Conv2D",
    }  # fmt: skip


def test_pixels_are_scaled_by_operations_too() -> None:
    image = keras.Input((4, 5, 3), dtype="uint8")
    folded, plan = fold_with_plan(keras.Model(image, L.Conv2D(2, 3)(image / 127.5 - 1.0)))
    assert not plan.kept()
    assert [type(each).__name__ for each in folded.operations] == ["InputLayer", "Cast", "Conv2D"]


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16"])
def test_in_any_float_dtype(policy: str) -> None:
    layer = L.BatchNormalization(dtype=policy)
    model = keras.Sequential([keras.Input(SHAPE, dtype="float32"), layer])
    randomize_parameters(model, 1)
    x = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
    a = affine_of(model)
    got = keras.ops.convert_to_numpy(layer(x)).astype(np.float64)
    np.testing.assert_allclose(a.s * x + a.t, got, atol=0.05)


def test_frozen_it_is_affine_even_if_called_with_training() -> None:
    layer, x = L.BatchNormalization(), keras.Input((4,))
    model = keras.Model(x, layer(x, training=True))
    with pytest.raises(CannotFold, match="uses batch statistics"):
        affine_of(model)
    layer.trainable = False
    affine_of(model)


def test_statistics_that_are_not_numbers_are_refused() -> None:
    layer = L.BatchNormalization(epsilon=1e-3)
    model = keras.Sequential([keras.Input((2,)), layer])
    for bad in ([1.0, np.nan], [1.0, -0.5], [np.inf, np.inf]):
        layer.moving_variance.assign(bad)
        if np.isinf(bad).all():
            layer.gamma.assign([np.inf, 1.0])
        with pytest.raises(CannotFold, match="not finite"):
            affine_of(model)


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
