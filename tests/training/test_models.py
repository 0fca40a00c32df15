"""Models have the layers and initial weights that their settings say."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.training.models import mlp
from kerasbn.training.settings import ACTIVATIONS


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def denses(model: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def test_the_default_model() -> None:
    model = mlp()
    assert kinds(model) == [
        "InputLayer", "Rescaling", "Flatten",
        "Dense", "BatchNormalization", "ReLU",
        "Dense", "BatchNormalization", "ReLU",
        "Dense",
    ]  # fmt: skip
    assert [each.name for each in model.inputs] == ["image"]
    assert model.output_names == ["logits"]
    assert model.inputs[0].dtype == "uint8"
    assert model.inputs[0].shape == (None, 28, 28)
    assert model.output_shape == (None, 10)
    assert [layer.units for layer in denses(model)] == [32, 32, 10]
    bn = model.get_layer("bn_1")
    assert (bn.momentum, bn.epsilon) == (0.9, 1e-5)


def test_pixels_are_scaled_to_1() -> None:
    scaling = mlp().get_layer("rescaling")
    assert float(np.max(scaling(np.full((1, 28, 28), 255, np.uint8)))) == pytest.approx(1.0)


@pytest.mark.parametrize("init", ["glorot_uniform", "he_normal", "torch", "normal:0.05"])
def test_models_with_and_without_bn_start_from_the_same_kernels(init: str) -> None:
    pairs = zip(
        denses(mlp(bn=True, init=init, seed=4)),
        denses(mlp(bn=False, init=init, seed=4)),
        strict=True,
    )
    kernels = []
    for with_bn, without in pairs:
        np.testing.assert_array_equal(with_bn.kernel, without.kernel)
        kernels.append(np.asarray(without.kernel))
    other = [np.asarray(layer.kernel) for layer in denses(mlp(bn=False, init=init, seed=5))]
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(kernels, other, strict=True))
    same_shape = [np.asarray(layer.kernel) for layer in denses(mlp(hidden=(784, 784), init=init))]
    assert np.abs(same_shape[0] - same_shape[1]).max() > 0.01


def test_initializers_have_the_right_standard_deviation() -> None:
    def deviation(init: str) -> float:
        return float(np.std(denses(mlp(hidden=(500,), init=init))[0].kernel))

    assert deviation("glorot_uniform") == pytest.approx((2 / (784 + 500)) ** 0.5, rel=0.02)
    assert deviation("he_normal") == pytest.approx((2 / 784) ** 0.5, rel=0.02)
    assert deviation("normal:0.7") == pytest.approx(0.7, rel=0.02)
    assert deviation("torch") == pytest.approx((1 / 784 / 3) ** 0.5, rel=0.02)


def test_torch_initializes_biases_too() -> None:
    layer = denses(mlp(bn=False, hidden=(500,), init="torch"))[0]
    for values in (np.asarray(layer.kernel), np.asarray(layer.bias)):
        assert 0.95 / 28 < np.abs(values).max() <= 1 / 28


def test_a_layer_followed_by_bn_has_no_bias_by_default() -> None:
    assert [layer.use_bias for layer in denses(mlp())] == [False, False, True]
    assert [layer.use_bias for layer in denses(mlp(bias_before_bn=True))] == [True] * 3
    assert [layer.use_bias for layer in denses(mlp(bn=False))] == [True] * 3
    assert [layer.use_bias for layer in denses(mlp(bn_position="after"))] == [True] * 3
    linear = mlp(bn_position="after", activation="linear")
    assert [layer.use_bias for layer in denses(linear)] == [False, False, True]


def test_bn_after_the_activation() -> None:
    after = kinds(mlp(hidden=(8,), bn_position="after"))
    assert after[3:] == ["Dense", "ReLU", "BatchNormalization", "Dense"]


@pytest.mark.parametrize(
    ("activation", "bn"), [*((each, True) for each in ACTIVATIONS), ("relu", False)]
)
def test_every_model_loads_in_plain_keras(activation: str, bn: bool, tmp_path: Path) -> None:
    model = mlp(bn=bn, hidden=(6, 5), activation=activation)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_an_invalid_setting_is_an_error() -> None:
    with pytest.raises(InputError, match="activation='mish': received"):
        mlp(activation="mish")
