"""The whole: folded, checked, taken back; and what a folded model is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasbn
from kerasbn.common.errors import CheckFailedError, InputError
from kerasbn.folding.fold import fold_plan, fold_with_plan
from kerasbn.folding.keras import verification
from kerasbn.folding.keras.randomize import random_inputs, randomize_parameters
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.running import predict
from kerasbn.folding.linear import LinearMap
from kerasbn.folding.plan import Plan
from kerasbn.folding.rounding import relative_difference

L = keras.layers
BN = L.BatchNormalization
Chain = Callable[..., keras.Model]
Judged = Callable[..., Plan]


def numbers(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v).copy() for v in model.variables]


def two_towers() -> keras.Model:
    x, tokens = keras.Input((6, 5, 3), name="x"), keras.Input((7,), dtype="int32", name="tokens")
    a = L.ReLU()(BN()(L.Conv2D(4, 3, use_bias=False)(x)))
    a = L.GlobalAveragePooling2D()(L.Conv2D(4, 2)(BN()(L.Activation("tanh")(a))))
    b = L.LSTM(4)(BN()(L.Embedding(11, 3)(tokens)))
    c = BN()(L.Add()([a, L.Dense(4)(b)]))
    model = keras.Model({"x": x, "tokens": tokens}, {"sum": c, "own": L.Dense(2)(b)})
    randomize_parameters(model, 1)
    return model


def test_the_given_model_stays_untouched() -> None:
    model = two_towers()
    before, nodes = numbers(model), [len(layer._inbound_nodes) for layer in model.layers]
    config = model.get_config()
    kerasbn.fold(model)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert model.get_config() == config
    for a, b in zip(numbers(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_result_keeps_names_structure_and_kind(tmp_path: Path) -> None:
    model = two_towers()
    folded, plan = (result := fold_with_plan(model)).model, result.plan
    assert folded.name == model.name
    assert set(folded.output) == {"sum", "own"}
    assert [tensor.name for tensor in folded.inputs] == [tensor.name for tensor in model.inputs]
    assert [tensor.dtype for tensor in folded.inputs] == [tensor.dtype for tensor in model.inputs]
    assert len(folded.layers) == len(model.layers) - len(plan.folds())
    assert {layer.name for layer in folded.layers} < {layer.name for layer in model.layers}
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    arrays = random_inputs(model)
    assert relative_difference(predict(loaded, arrays), predict(folded, arrays)) == 0
    assert relative_difference(predict(folded, arrays), predict(model, arrays)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_in_any_float_dtype(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = two_towers()
    finally:
        keras.config.set_dtype_policy("float32")
    result = fold_with_plan(model)
    assert len(result.plan.kept()) == 0
    for layer in result.model.layers:
        if isinstance(layer, L.InputLayer):
            continue  # its policy plays no part, the dtype of its tensor does
        assert layer.dtype_policy.name == model.get_layer(layer.name).dtype_policy.name


def test_pixels_of_uint8_are_cast_where_they_were_rescaled(tmp_path: Path) -> None:
    image = keras.Input((8, 8), dtype="uint8", name="image")
    y = L.Flatten()(L.Rescaling(1 / 255)(image))
    y = L.ReLU()(BN()(L.Dense(5, name="dense")(y)))
    model = keras.Model(image, L.Dense(3)(y))
    randomize_parameters(model, 1)
    result = fold_with_plan(model)
    assert not result.plan.kept()
    assert [type(layer).__name__ for layer in result.model.layers] == [
        "InputLayer",
        "Flatten",
        "Dense",
        "ReLU",
        "Dense",
    ]
    result.model.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    arrays = random_inputs(model)
    assert arrays[0].dtype == np.uint8
    assert arrays[0].max() > 200
    assert relative_difference(predict(loaded, arrays), predict(model, arrays)) < 1e-5
    sequential = keras.Sequential([keras.Input((8, 8), dtype="uint8"), *model.layers[1:]])
    assert not fold_with_plan(sequential).plan.kept()


# -- the check ----------------------------------------------------------------------------------


@pytest.fixture
def wrong_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense forgets to scale its bias; everything else is right."""
    right = LinearMap.after

    def wrong(part: Any, k: Any, b: Any, a: Any) -> Any:
        k, b = right(part, k, b, a)
        return (k, b * 1.001) if isinstance(part.owner, L.Dense) else (k, b)

    monkeypatch.setattr(LinearMap, "after", wrong)


@pytest.mark.usefixtures("wrong_law")
def test_a_fold_that_fails_is_undone_and_reported(chain: Chain) -> None:
    model = chain(
        (6, 6, 3), L.Conv2D(4, 3), BN(name="good"), L.Flatten(), L.Dense(5), BN(name="bad"),
        L.Activation("tanh"), L.EinsumDense("ab,bc->ac", 3, bias_axes="c"), BN(name="fine"),
    )  # fmt: skip
    result = fold_with_plan(model)
    assert [fold.layer for fold in result.plan.folds()] == ["good", "fine"]
    (kept,) = result.plan.kept()
    assert kept.layer == "bad"
    assert "in float64 they differ by" in kept.reason
    arrays = random_inputs(model)
    assert relative_difference(predict(result.model, arrays), predict(model, arrays)) < 1e-5
    unchecked = kerasbn.fold(model, check=False)
    assert relative_difference(predict(unchecked, arrays), predict(model, arrays)) > 1e-5


def test_a_fold_that_overflows_is_undone() -> None:
    x = keras.Input((4,), dtype="float16")
    bn = BN(dtype="mixed_float16", epsilon=1e-6)
    model = keras.Model(x, L.Activation("tanh")(bn(L.Dense(3, dtype="float16")(x))))
    randomize_parameters(model, 1)
    bn.moving_variance.assign([0.0, 1.0, 1.0])
    bn.gamma.assign([500.0, 1.0, 1.0])
    assert [type(each).__name__ for each in fold_with_plan(model).plan] == ["Kept"]


@pytest.mark.usefixtures("wrong_law")
def test_the_callers_inputs_are_compared_too(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain((4,), L.Dense(3), BN(name="bad"), L.ReLU())
    monkeypatch.setattr(
        verification, "random_inputs", lambda *_, **__: [np.zeros((2, 4))]
    )  # where a wrong bias shows, a wrong kernel would not
    x = np.random.default_rng(0).normal(size=(5, 4))
    assert fold_with_plan(model, inputs=x).plan.kept()
    with pytest.raises(InputError, match=r"arrays of shape \[\(5, 3\)\]"):
        kerasbn.fold(model, inputs=x[:, :3])


def channels_first(*layers: Any) -> keras.Model:
    """A model of images in that order, which TensorFlow has few kernels for on a CPU."""
    first = {"data_format": "channels_first"}
    x = keras.Input((3, 8, 8))
    y = BN(axis=1, name="inner")(L.Conv2D(4, 3, use_bias=False, **first)(x))
    y = L.MaxPooling2D(2, **first)(L.ReLU()(y))
    y = L.ReLU(name="act")(BN(axis=1, name="clipped")(y))
    # Not 3 channels: Keras 3.15 adds a bias along the width where that has as many places.
    y = L.GlobalAveragePooling2D(**first)(L.Conv2D(5, 1, **first)(y))
    for layer in layers:
        y = layer(y)
    model = keras.Model(x, BN(name="last")(L.Dense(4)(y)))
    randomize_parameters(model, 1)
    return model


@pytest.mark.slow
def test_channels_first_is_judged_too() -> None:
    model = channels_first()
    result = fold_with_plan(model)
    assert not result.plan.kept()
    arrays = random_inputs(model)
    assert relative_difference(predict(result.model, arrays), predict(model, arrays)) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("wrong_law")
def test_a_wrong_fold_is_found_in_channels_first() -> None:
    (kept,) = fold_with_plan(channels_first()).plan.kept()
    assert kept.layer == "last"
    assert "in float64 they differ by" in kept.reason


@pytest.mark.parametrize("pool", [L.AveragePooling3D, L.MaxPooling3D])
def test_volumes_are_judged_though_tensorflow_pools_none_in_float64(
    chain: Chain, pool: Callable[..., Any]
) -> None:
    model = chain((5, 5, 4, 2), BN(), pool(2, padding="same"), L.Conv3D(3, 1), BN())
    first = model.layers[1].gamma
    first.assign(np.abs(first) + 0.1)  # so that it crosses a pool that takes the largest
    result = fold_with_plan(model)
    assert not result.plan.kept()
    arrays = random_inputs(model)
    assert relative_difference(predict(result.model, arrays), predict(model, arrays)) < 1e-5


@pytest.mark.usefixtures("wrong_law")
def test_a_wrong_fold_is_found_in_volumes(chain: Chain) -> None:
    (kept,) = fold_with_plan(chain((4, 4, 4, 2), L.MaxPooling3D(2), L.Dense(3), BN())).plan.kept()
    assert "in float64 they differ by" in kept.reason


@pytest.mark.slow
def test_a_transposed_convolution_of_channels_first_is_judged(chain: Chain) -> None:
    layer = L.Conv2DTranspose(4, 3, data_format="channels_first")
    assert not fold_with_plan(chain((3, 5, 6), layer, BN(axis=1))).plan.kept()


def test_whole_numbers_are_normalized_in_float32_whatever_the_dtype(chain: Chain) -> None:
    model = chain((6,), BN(), L.ReLU(), L.Dense(3), dtype="uint8")
    assert not fold_with_plan(model).plan.kept()


class OnlyInSteps(keras.layers.Layer):
    """Has a convolution that TensorFlow lacks on a CPU, behind a function that XLA refuses."""

    def call(self, x: Any) -> Any:
        y = tf.numpy_function(np.tanh, [x], x.dtype)
        y = keras.ops.cast(keras.ops.reshape(y, (-1, 1, 2, 2)), "float64")
        y = keras.ops.conv(y, np.ones((1, 1, 1, 1)), data_format="channels_first")
        return keras.ops.reshape(y, keras.ops.shape(x))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def test_what_cannot_be_judged_is_said_and_not_passed_over() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, BN()(L.Dense(2)(OnlyInSteps()(x))))
    with pytest.raises(InputError, match=r"cannot compute it .* so it cannot be checked") as caught:
        fold_with_plan(model)
    assert not {"\n", "\x1b"} & set(str(caught.value))
    assert kerasbn.fold(model, check=False).name == model.name


class Noise(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x + keras.random.normal(keras.ops.shape(x))  # in float32, whatever its dtype


def test_a_model_that_cannot_be_judged_is_never_returned(chain: Chain) -> None:
    model = chain((4,), L.Dense(3), BN(), Noise())
    with pytest.raises(CheckFailedError, match="not repeatable"):
        kerasbn.fold(model)


def test_a_layer_that_cannot_be_built_anew_is_named(chain: Chain) -> None:
    class Stubborn(keras.layers.Layer):
        def __init__(self, function: Any) -> None:
            super().__init__(name="stubborn")
            self.function = function

        def call(self, x: Any) -> Any:
            return self.function(x)

    with pytest.raises(InputError, match="'stubborn': class Stubborn cannot be rebuilt"):
        kerasbn.fold(chain((4,), L.Dense(3), BN(), Stubborn(keras.ops.tanh)))


def test_functions_and_lambdas_of_ones_own_are_kept(chain: Chain) -> None:
    def own(x: Any) -> Any:
        return keras.ops.tanh(x) * 2

    model = chain((4,), L.Dense(3, activation=own), BN(), L.Lambda(lambda x: x * 3), L.Dense(2))
    arrays = random_inputs(model)
    folded = kerasbn.fold(model)
    assert relative_difference(predict(folded, arrays), predict(model, arrays)) < 1e-5


def test_a_bn_layer_that_trains_keeps_its_statistics_while_it_is_judged() -> None:
    x = keras.Input((4,))
    bn = BN(name="bn")
    model = keras.Model(x, L.Dense(2)(BN()(L.Dense(3)(bn(L.Dense(4)(x), training=True)))))
    randomize_parameters(model, 1)
    before = [keras.ops.convert_to_numpy(v).copy() for v in bn.variables]
    after = kerasbn.fold(model).get_layer("bn").variables
    for values, own, new in zip(before, bn.variables, after, strict=True):
        np.testing.assert_array_equal(values, own)
        np.testing.assert_array_equal(values, new)


def test_image_preprocessing_trains_by_default_but_not_at_inference(chain: Chain) -> None:
    shape = (8, 8, 3)
    model = chain(shape, L.RandomFlip(), L.Resizing(6, 6), BN(), L.Conv2D(4, 3), BN(), L.ReLU())
    result = fold_with_plan(model)
    assert len(result.plan.folds()) == 2
    images = random_inputs(model)
    want = [model.predict(images[0], verbose=0)]
    assert relative_difference(predict(model, images), want) < 1e-6
    assert relative_difference([result.model.predict(images[0], verbose=0)], want) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer", [lambda: L.LSTM(3, stateful=True), lambda: L.Bidirectional(L.GRU(3, stateful=True))]
)
def test_what_a_stateful_layer_remembers_is_copied_and_not_changed(
    layer: Callable[[], Any],
) -> None:
    x = keras.Input(batch_shape=(3, 5, 4))
    model = keras.Model(x, BN()(L.Dense(2)(layer()(BN()(x)))))
    randomize_parameters(model, 1)
    arrays = random_inputs(model)
    forgetful = predict(model, arrays)
    model(arrays[0])
    want = predict(model, arrays)
    assert relative_difference(want, forgetful) > 1e-3  # it remembers something now
    folded = kerasbn.fold(model)
    assert relative_difference(predict(model, arrays), want) == 0
    assert relative_difference(predict(folded, arrays), want) < 1e-6


def test_an_empty_plan_gives_a_plain_copy() -> None:
    model = two_towers()
    copy = rewrite(model, Plan(()))
    arrays = random_inputs(model)
    assert relative_difference(predict(copy, arrays), predict(model, arrays)) == 0
    for a, b in zip(numbers(copy), numbers(model), strict=True):
        np.testing.assert_array_equal(a, b)


# -- models of keras.applications ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    ("name", "bn_layers", "plain"),
    [("MobileNetV2", 52, 52), ("ResNet50V2", 49, 32), ("DenseNet121", 121, 59)],
)
def test_classifiers(judged: Judged, name: str, bn_layers: int, plain: int) -> None:
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), include_top=False, pooling="avg"
    )
    model = keras.Model(model.inputs, L.Dense(10)(model.outputs[0]))
    randomize_parameters(model, 1)
    assert len(fold_plan(model, clip=False).folds()) == plain
    plan = judged(model)
    assert (len(plan.folds()), len(plan.kept())) == (bn_layers, 0)
