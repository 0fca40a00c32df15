"""The check finds what is broken by hand, and takes images no larger than needed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn.folding.affine import Affine
from kerasbn.folding.clips import Clip
from kerasbn.folding.fold import fold_plan, fold_with_plan
from kerasbn.folding.graph import Graph
from kerasbn.folding.keras.float64 import InFloat64, predict_in_float64
from kerasbn.folding.keras.graph import read_model, training_at_inference
from kerasbn.folding.keras.randomize import random_inputs, randomize_parameters, small_examples
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.running import predict, run
from kerasbn.folding.keras.verification import SelfCheck
from kerasbn.folding.rounding import relative_difference

L = keras.layers
BN = L.BatchNormalization


def residual_model() -> keras.Model:
    """A small classifier: padded and strided convolutions, a clip, a sum, a model inside."""
    image = keras.Input((64, 48, 3), name="image")
    y = L.ReLU(6.0)(BN()(L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)))
    y = L.Conv2D(8, 1)(L.ReLU()(BN(name="clipped")(L.MaxPooling2D(2)(y))))
    inner = keras.Input((16, 12, 8))
    z = BN()(L.Conv2D(8, 5, padding="same", use_bias=False)(inner))
    y = L.Add()([y, keras.Model(inner, z, name="block")(y)])
    y = L.GlobalAveragePooling2D()(BN()(L.Conv2D(12, 1)(y)))
    model = keras.Model(image, L.Dense(4)(y))
    randomize_parameters(model, 3)
    return model


def one_value(values: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """The values, of which the largest one is changed."""
    changed = values.copy()
    place = np.unravel_index(np.abs(values).argmax(), values.shape)
    changed[place] = change(changed[place])
    return changed


def exchanged(values: np.ndarray) -> np.ndarray:
    axis = int(np.argmax(values.shape))
    order = np.arange(values.shape[axis])
    order[[1, 2]] = order[[2, 1]]
    return np.take(values, order, axis)


MAPS: dict[str, Callable[[Affine], Affine]] = {
    "sign of one gamma": lambda a: Affine(one_value(a.s, lambda s: -s - 0.1), a.t),
    "no offset": lambda a: Affine(a.s, 0 * a.t),
    "offset of one channel": lambda a: Affine(a.s, one_value(a.t, lambda t: t + 1e-6)),
    "two channels exchanged": lambda a: Affine(exchanged(a.s), exchanged(a.t)),
    "no epsilon": lambda a: Affine(a.s * (1 + 1e-7), a.t),
}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return residual_model()


@pytest.fixture(scope="module")
def check(model: keras.Model) -> SelfCheck:
    return SelfCheck(model)


def test_a_right_plan_passes_on_small_images(model: keras.Model, check: SelfCheck) -> None:
    plan = fold_plan(model)
    assert not plan.kept()
    assert [fold.layer for fold in plan.folds() if fold.clips] == ["clipped"]
    assert check.problem(plan, rewrite(model, plan)) is None
    assert check.small is not None
    assert check.small[0].shape[1:] == small_examples(read_model(model))[0] != (64, 48, 3)


@pytest.mark.parametrize("broken", MAPS)
def test_a_map_broken_in_any_layer_is_found(
    model: keras.Model, check: SelfCheck, broken: str
) -> None:
    for place in range(sum(map(bool, fold_plan(model).graph.edits.values()))):
        plan = fold_plan(model)
        edits = [edits for edits in plan.graph.edits.values() if edits][place]
        edits[0] = replace(edits[0], affine=MAPS[broken](edits[0].affine))
        wrong = check.problem(plan, rewrite(model, plan))
        assert wrong is not None, place
        assert "in float64 they differ" in wrong


def test_a_wrong_clip_is_found(model: keras.Model, check: SelfCheck) -> None:
    plan = fold_plan(model)
    ((node, clip),) = plan.graph.clips.items()
    plan.graph.clips[node] = Clip(clip.lower + 1e-5, clip.upper)
    assert "in float64 they differ" in str(check.problem(plan, rewrite(model, plan)))


def test_wrong_weights_of_the_folded_model_itself_are_found(
    model: keras.Model, check: SelfCheck
) -> None:
    plan = fold_plan(model)
    folded = rewrite(model, plan)
    kernel = folded.get_layer("block").layers[1].kernel
    kernel.assign(one_value(keras.ops.convert_to_numpy(kernel), lambda w: w + 0.01))
    assert "in the model's own dtype" in str(check.problem(plan, folded))


@pytest.mark.usefixtures("in_float64")
def test_in_float64_a_model_is_judged_as_in_any_other_dtype() -> None:
    model = residual_model()
    assert not fold_with_plan(model).plan.kept()


def images(height: int, width: int) -> keras.KerasTensor:
    return keras.Input((height, width, 2))


@pytest.mark.parametrize(
    ("layers", "small"),
    [
        ([L.Conv2D(2, 3)], (3, 3)),
        ([L.Conv2D(2, 3), L.Conv2D(2, 2)], (4, 4)),
        # Strides of 4 in all: 61 and 47 lose multiples of 4, and padding stays as it was.
        ([L.Conv2D(2, 3, strides=2, padding="same")] * 2, (5, 7)),
        ([L.MaxPooling2D(4), L.Conv2DTranspose(2, 3, strides=4), L.Conv2D(2, 5)], (13, 15)),
        ([L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(2, 1)], (1, 1)),
        ([L.Dense(3), L.ReLU()], (61, 47)),
    ],
)
def test_images_are_as_small_as_the_windows_and_strides_allow(
    layers: list[Any], small: tuple[int, int]
) -> None:
    x = y = images(61, 47)
    for layer in layers:
        y = type(layer).from_config({**layer.get_config(), "name": None})(y)
    ((*sides, _),) = small_examples(read_model(keras.Model(x, y)))
    assert tuple(sides) == small


class Unsteady(keras.layers.Layer):
    """Adds noise to images smaller than 12 pixels."""

    def call(self, x: Any) -> Any:
        return x if x.shape[1] == 12 else x + keras.random.normal(x.shape, dtype=x.dtype)


@pytest.mark.parametrize(
    "layers",
    [
        [L.Flatten(), L.Dense(2)],
        [L.Conv2D(2, 1, strides=(1, 2)), L.Conv2D(2, 3, padding="same")],
        [Unsteady()],
    ],
)
def test_a_model_that_needs_its_size_is_judged_at_it(layers: list[Any]) -> None:
    x = images(12, 12)
    y = L.ReLU()(BN()(L.Conv2D(3, 1)(x)))
    for layer in layers:
        y = layer(y)
    model = keras.Model(x, y)
    check = SelfCheck(model)
    assert check.small is not None
    plan = fold_plan(model)
    assert check.problem(plan, rewrite(model, plan)) is None
    assert check.small is None
    assert check.full[0].shape == (3, 12, 12, 2)


# -- how models are run -------------------------------------------------------------------------


def masked_and_shared() -> keras.Model:
    """A model inside that is called twice, with a mask and without, and one that trains."""
    tokens, rows = keras.Input((5,), dtype="int32"), keras.Input((5, 4))
    inner = keras.Input((5, 4))
    shared = keras.Model(inner, BN()(L.LSTM(4, return_sequences=True)(inner)))
    a, b = shared(L.Embedding(7, 4, mask_zero=True)(tokens)), shared(rows)
    y = L.Concatenate()([L.GlobalAveragePooling1D()(a), L.GRU(3)(b)])
    trains = keras.Sequential([keras.Input((7,)), L.Dense(3), BN()])
    return keras.Model([tokens, rows], BN()(trains(y, training=True)))


@pytest.mark.parametrize("build", [residual_model, masked_and_shared])
def test_a_model_run_layer_by_layer_predicts_what_it_does_itself(
    build: Callable[[], keras.Model],
) -> None:
    model = build()
    randomize_parameters(model, 4)
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.variables]
    arrays = random_inputs(model)
    got = predict(model, arrays)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable)
    flag = training_at_inference(model)
    given = keras.tree.pack_sequence_as(model.input, arrays)
    want = keras.ops.convert_to_numpy(model(given, training=flag))
    np.testing.assert_array_equal(got[0], want)


def test_what_is_computed_without_a_clone_is_what_a_clone_computes() -> None:
    model = residual_model()
    arrays = random_inputs(model)
    direct = predict_in_float64(model, arrays)

    class ByClones(InFloat64):
        def _stand_in(self, _: Any) -> None:
            return None

    clones = ByClones(model, Graph())
    made = run(model, [keras.ops.convert_to_tensor(a, "float64") for a in arrays], clones.call)
    assert clones.new
    assert relative_difference(direct, [np.asarray(each) for each in made]) == 0


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("kind", [keras.layers.Conv1D, keras.layers.Conv2D])
def test_groups_are_convolved_as_keras_does(kind: type[keras.layers.Layer], layout: str) -> None:
    sizes = (9,) if kind is keras.layers.Conv1D else (9, 8)
    shape = (*sizes, 6) if layout == "channels_last" else (6, *sizes)
    inputs = keras.Input(shape)
    layer = kind(12, 3, strides=2, padding="same", groups=3, data_format=layout)
    model = keras.Model(inputs, layer(inputs))
    randomize_parameters(model, 1)
    arrays = random_inputs(model)
    made = predict_in_float64(model, arrays)
    assert made[0].dtype == np.float64
    assert relative_difference(made, predict(model, arrays)) < 1e-6
