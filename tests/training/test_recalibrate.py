"""Recalibrated statistics equal those of NumPy in float64, and improve a model that needs them."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Dataset
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.training.ensembles import compile_model
from kerasbn.training.models import mlp
from kerasbn.training.recalibrate import accuracy, recalibrate_model
from kerasbn.training.settings import TrainingSettings

L = keras.layers


def randomized(*layers: Any, shape: tuple[int | None, ...], seed: int = 1) -> keras.Model:
    """A model with random statistics and weights."""
    model = keras.Sequential([keras.Input(shape), *layers])
    randomize_parameters(model, seed)
    return model


def normalized(x: np.ndarray, layer: Any) -> np.ndarray:
    """Apply a BN layer along the last axis."""
    mean, variance, gamma, beta = (
        np.asarray(each)
        for each in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
    )
    result: np.ndarray = (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta
    return result


def data(x: Any, *others: np.ndarray, size: int = 7) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((x, *others) if others else x).batch(size)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unbiased", [True, False])
def test_statistics_equal_numpy(few_digits: Dataset, unbiased: bool) -> None:
    images = few_digits.train.images[:100]
    model = mlp(hidden=(12, 9), activation="tanh", seed=3)
    randomize_parameters(model, 5)
    before = [np.array(weight) for weight in model.get_weights()]
    new = recalibrate_model(model, data(images), unbiased=unbiased).model
    x = images.reshape(100, 784) * np.float64(np.float32(1 / 255))  # Keras keeps it in float32
    for k in (1, 2):
        x = x @ np.asarray(new.get_layer(f"dense_{k}").kernel)
        layer = new.get_layer(f"bn_{k}")
        np.testing.assert_allclose(layer.moving_mean, x.mean(0), rtol=1e-9, atol=1e-12)
        variance = x.var(0, ddof=1 if unbiased else 0)
        np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-9)
        x = np.tanh(normalized(x, layer))  # with the new statistics
    for weight, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)  # the given model does not change


def convolved(x: np.ndarray, layer: Any) -> np.ndarray:
    """Apply a convolution without padding, one image and one tap of the kernel after the other."""
    kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
    height, width, _, filters = kernel.shape
    made: np.ndarray = (
        np.zeros((len(x), x.shape[1] - height + 1, x.shape[2] - width + 1, filters)) + bias
    )
    for i, row, column in np.ndindex(len(x), height, width):
        piece = x[i, row : row + made.shape[1], column : column + made.shape[2]]
        made[i] += piece @ kernel[row, column]
    return made


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unbiased", [True, False])
def test_convolutions_equal_numpy(unbiased: bool) -> None:
    """Five BN layers, some before and some after the ReLU; the last batch is smaller."""
    names = ("bn_1", "bn_2", "bn_3", "bn_4", "bn_5")
    first, second, third, fourth, fifth = (L.BatchNormalization(name=name) for name in names)
    model = randomized(
        L.Conv2D(4, 3), first, L.ReLU(), L.Conv2D(5, (2, 3)), L.ReLU(), second, third,
        L.GlobalAveragePooling2D(), L.Dense(6), fourth, L.ReLU(), L.Dense(3), fifth,
        shape=(8, 9, 2),
    )  # fmt: skip
    assert (np.concatenate([model.get_layer(name).gamma for name in names]) < 0).any()
    x = np.random.default_rng(7).normal(0.5, 2, (37, 8, 9, 2))
    found = recalibrate_model(model, data(x, size=10), unbiased=unbiased)
    assert [shift.layer for shift in found.shifts] == list(names)
    for layer in found.model.layers:
        if isinstance(layer, L.Conv2D):
            x = convolved(x, layer)
        elif isinstance(layer, L.Dense):
            x = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
        elif isinstance(layer, L.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, L.GlobalAveragePooling2D):
            x = x.mean((1, 2))
        else:
            axes = tuple(range(x.ndim - 1))
            np.testing.assert_allclose(layer.moving_mean, x.mean(axes), rtol=1e-9, atol=1e-12)
            variance = x.var(axes, ddof=1 if unbiased else 0)
            np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-9)
            x = normalized(x, layer)


@pytest.mark.slow
def test_a_model_is_traced_once() -> None:
    """However many BN layers there are, and though the last batch is smaller."""
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            calls.append(type(x).__name__)
            return x

    counts = []
    for size in (1, 20):
        model = randomized(Counted(), *(L.BatchNormalization() for _ in range(size)), shape=(4,))
        x = np.random.default_rng(3).normal(size=(10, 4)).astype("float32")
        calls.clear()
        assert len(recalibrate_model(model, data(x)).shifts) == size
        assert "EagerTensor" not in calls
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_the_batch_size_does_not_matter() -> None:
    model = randomized(L.Dense(6), L.BatchNormalization(), shape=(5,))
    x = np.random.default_rng(1).normal(1000, 1, (101, 5)).astype("float32")
    one, other = (recalibrate_model(model, data(x, size=size)).model for size in (101, 8))
    for weight, same in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, same, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_bn_layers_anywhere_in_a_model() -> None:
    """In an inner model and a wrapper, called twice, and with channels first."""
    rng = np.random.default_rng(2)
    x = rng.normal(2, 3, (40, 6, 4))
    inner = keras.Sequential([keras.Input((6, 4)), L.BatchNormalization(name="inside")])
    shared = L.BatchNormalization(name="shared")
    first_axis = L.BatchNormalization(axis=1, name="first_axis")
    wrapped = L.TimeDistributed(L.BatchNormalization(name="wrapped"))
    given = keras.Input((6, 4))
    twice = shared(given), shared(L.Rescaling(2.0, offset=1.0)(given))
    model = keras.Model(given, [inner(given), *twice, first_axis(given), wrapped(given)])
    randomize_parameters(model, 3)
    found = recalibrate_model(model, data(x), unbiased=False)
    assert {shift.layer for shift in found.shifts} == {"inside", "shared", "first_axis", "wrapped"}
    both = np.concatenate([x, 2 * x + 1])
    for layer, values, axes in (
        (found.model.layers[-1].layer, x, (0, 1)),
        (found.model.get_layer("shared"), both, (0, 1)),
        (found.model.get_layer("first_axis"), x, (0, 2)),
        (found.model.get_layer(inner.name).layers[-1], x, (0, 1)),
    ):
        np.testing.assert_allclose(layer.moving_mean, values.mean(axes), rtol=1e-9)
        np.testing.assert_allclose(layer.moving_variance, values.var(axes), rtol=1e-9)


def test_adapted_layers_are_copied() -> None:
    """A Normalization layer has constants besides its variables, a lookup layer only a table."""
    rng = np.random.default_rng(5)
    x = rng.normal([1, -20, 300], [2, 0.1, 50], (90, 3)).astype("float32")
    words = np.array([[["bird"], ["cat"], ["dog"]][i] for i in rng.integers(0, 3, 90)])
    scaling = L.Normalization(name="scaling")
    scaling.adapt(x)
    lookup = L.StringLookup(output_mode="one_hot", name="lookup")
    lookup.adapt(words)
    given, word = keras.Input((3,)), keras.Input((1,), dtype="string")
    inner = keras.Sequential([keras.Input((3,)), scaling])
    both = L.Concatenate()([inner(given), lookup(word)])
    model = keras.Model([given, word], L.BatchNormalization(name="bn")(both))
    randomize_parameters(model.get_layer("bn"), 4)
    new = recalibrate_model(
        model, data((x, words)).map(lambda *both: (both,)), unbiased=False
    ).model
    one_hot = (words == np.array(lookup.get_vocabulary())).astype("float64")
    reaching = np.concatenate([(x - x.mean(0)) / x.std(0), one_hot], 1)
    layer = new.get_layer("bn")
    np.testing.assert_allclose(layer.moving_mean, reaching.mean(0), atol=2e-5)
    np.testing.assert_allclose(layer.moving_variance, reaching.var(0), rtol=1e-4)


class Scaled(keras.layers.Layer):
    """A custom layer that contains a BN layer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norm = L.BatchNormalization()

    def call(self, x: Any) -> Any:
        return self.norm(2 * x)


def test_a_bn_layer_in_a_custom_layer() -> None:
    x = np.random.default_rng(3).normal(5, 2, (30, 4)).astype("float32")
    model = randomized(Scaled(), L.BatchNormalization(), shape=(4,))
    found = recalibrate_model(model, data(x), unbiased=False)
    assert len(found.shifts) == 2
    inner = found.model.layers[0].norm
    np.testing.assert_allclose(inner.moving_mean, 2 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(inner.moving_variance, 4 * x.var(0), rtol=1e-5)
    assert inner.moving_mean is not model.layers[0].norm.moving_mean


def test_masked_values_are_left_out() -> None:
    x = np.random.default_rng(3).normal(5, 2, (30, 6, 4)).astype("float32")
    x[:, 4:] = 0
    model = randomized(L.Masking(0.0), L.BatchNormalization(), shape=(6, 4))
    layer = recalibrate_model(model, data(x), unbiased=False).model.layers[-1]
    np.testing.assert_allclose(layer.moving_mean, x[:, :4].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x[:, :4].var((0, 1)), rtol=1e-5)


@pytest.mark.slow
def test_it_improves_a_model_whose_momentum_was_too_high(sample_digits: Dataset) -> None:
    """After 60 steps at 0.999, the initial value still has 94% of the weight in the statistics."""
    settings = TrainingSettings()
    model = compile_model(mlp(bn_momentum=0.999, seed=1), settings)
    train, test = sample_digits.train, sample_digits.test
    images, labels = train.images[:1920], train.labels[:1920]
    # Not shuffled, so that the result is always the same.
    model.fit(images, labels, batch_size=32, epochs=1, shuffle=False, verbose=0)
    test_data = data(test.images, test.labels, size=256)
    before = accuracy(model, test_data)
    found = recalibrate_model(model, data(train.images, train.labels, size=256))
    after = accuracy(found.model, test_data)
    assert before is not None
    assert after is not None
    assert before < 0.75, before
    assert after > 0.85, after
    assert [shift.layer for shift in found.shifts] == ["bn_1", "bn_2"]
    assert found.shifts[0].variance > 2
    again = recalibrate_model(found.model, data(train.images, size=100))
    assert all(shift.mean < 1e-3 and shift.variance < 1.001 for shift in again.shifts)
    assert repr(found).startswith("Recalibration of mlp_bn\n  bn_1: mean off by up to ")
    assert len(repr(found).splitlines()) == 3


def test_a_shift_is_the_maximum_over_channels() -> None:
    model = randomized(L.BatchNormalization(epsilon=1e-9), shape=(2,))
    layer = model.layers[0]
    layer.moving_mean.assign([1.0, 5.0])
    layer.moving_variance.assign([4.0, 1.0])
    x = np.array([[1.0, 3.0], [3.0, 5.0]], "float32")  # means 2 and 4, plain variances 1
    (shift,) = recalibrate_model(model, data(x), unbiased=False).shifts
    assert shift.mean == pytest.approx(1)
    assert shift.variance == pytest.approx(4)


def test_accuracy_needs_labels_and_classes() -> None:
    x = np.eye(4, dtype="float32")
    model = randomized(L.BatchNormalization(), shape=(4,))
    model.set_weights([np.ones(4), np.zeros(4), np.zeros(4), np.ones(4)])
    assert accuracy(model, data(x)) is None
    assert accuracy(model, data(x, np.array([0, 1, 2, 0]), size=3)) == 0.75
    assert accuracy(model, data(x, np.array([[0], [1], [2], [3]]))) == 1.0
    assert accuracy(model, data(x, np.eye(4)[[0, 0, 2, 3]])) == 0.75
    single = randomized(L.Dense(1), L.BatchNormalization(), shape=(4,))
    assert accuracy(single, data(x, np.zeros(4))) is None


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (data(np.ones((4, 3), "float32")).repeat(), "an infinite dataset"),
        (data(np.ones((4, 3), "float32")).take(0), "received no batch"),
        (data(np.ones((1, 3), "float32")), "received one value per channel"),
        (data(np.full((4, 3), np.nan, "float32")), "layer 'bn': received NaN or infinite"),
    ],
)
def test_data_without_statistics_is_an_error(batches: tf.data.Dataset, said: str) -> None:
    with pytest.raises(InputError, match=said):
        recalibrate_model(randomized(L.BatchNormalization(name="bn"), shape=(3,)), batches)


def test_a_model_without_bn_is_an_error() -> None:
    with pytest.raises(InputError, match="received a model without BN layers"):
        recalibrate_model(mlp(bn=False), data(np.zeros((4, 28, 28), "uint8")))


def test_a_model_that_cannot_be_cloned_is_an_error() -> None:
    class Own(keras.Model):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(InputError, match="received a Own that Keras cannot clone"):
        recalibrate_model(Own(3), data(np.zeros((4, 3), "float32")))
