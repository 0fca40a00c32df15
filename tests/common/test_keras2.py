"""Layers of Keras 2 that Keras 3 lacks, one by one: what is refused, and why."""

from typing import Any

import keras
import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.common.keras2 import build, decode, unknown_classes

X = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")


def layer(kind: str, *calls: Any, name: str = "", **config: Any) -> dict[str, Any]:
    name = name or kind.lower()
    return {"class_name": kind, "name": name, "config": {"name": name, **config},
            "inbound_nodes": list(calls)}  # fmt: skip


def graph(*layers: dict[str, Any], inputs: Any = None) -> dict[str, Any]:
    first = layer("InputLayer", name="x", batch_input_shape=[None, 4, 6], **(inputs or {}))
    output = [[layers[-1]["name"], 0, 0]]
    config = {"name": "model", "layers": [first, *layers], "input_layers": [["x", 0, 0]],
              "output_layers": output}  # fmt: skip
    return {"class_name": "Functional", "config": config}


def on_x(kind: str, **config: Any) -> dict[str, Any]:
    return graph(layer(kind, [["x", 0, 0, {}]], **config))


def operation(function: str, node: Any) -> dict[str, Any]:
    return graph(layer("TFOpLambda", node, name="op", function=function))


@pytest.mark.parametrize(
    ("saved", "reason"),
    [
        (on_x("LSTM", units=2, time_major=True), r"layer 'lstm' \(LSTM of Keras 2\).*time_major"),
        (on_x("Conv1D", filters=4, kernel_size=1, nonsense=1), "'conv1d'.*nonsense"),
        (on_x("LocallyConnected1D", filters=2, kernel_size=1), "a layer that Keras 3 does not hav"),
        (
            on_x("GRU", units=2, activation="hard_sigmoid", recurrent_activation="tanh"),
            "in Keras 2 it was 0.2x",
        ),
        (on_x("SimpleRNN", units=2, activation="hard_sigmoid"), "in Keras 2 it was 0.2x"),
        (on_x("Permute", dims=[1, 2, 3]), "'permute'.*a call that Keras 3 refuses"),
        (operation("einsum", ["_CONSTANT_VALUE", -1, "bij->bji", {}]), "the function tf.einsum"),
        (operation("norm", ["x", 0, 0, {"ord": 1}]), "tf.norm with arguments.*ord=1"),
        (operation("math.reduce_sum", ["x", 0, 0, {"reduction_indices": 1}]), "tf.math.reduce_sum"),
        (operation("nn.relu", ["op", 0, 0, {}]), "a graph without cycles"),
        (graph(layer("ReLU", [["x", 0, 0, {}]]), inputs={"ragged": True}), "received ragged=True"),
    ],
)
def test_what_keras_3_cannot_compute_is_refused(saved: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        build(saved)
    assert "\n" not in str(caught.value)


def test_settings_without_effect_are_dropped() -> None:
    part = build(on_x("LSTM", units=2, time_major=False, implementation=1, dtype="float32"))
    assert part.layer.output_shape == (None, 2)
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    part = build(on_x("Dense", units=2, dtype=policy, name="a/b"))
    assert (part.layer.layers[1].name, part.layer.layers[1].compute_dtype) == ("a_b", "float16")


def test_several_calls_keep_their_order() -> None:
    shared = layer("Dense", [["relu", 0, 0, {}]], [["x", 0, 0, {}]], name="dense", units=6)
    relu = layer("ReLU", [["x", 0, 0, {}]], name="relu")
    after = layer("Subtract", [["dense", 0, 0, {}], ["dense", 1, 0, {}]], name="last")
    model = build(graph(shared, relu, after)).layer
    dense = model.get_layer("dense")
    np.testing.assert_allclose(model(X), dense(np.maximum(X, 0)) - dense(X), rtol=1e-5, atol=1e-6)


def test_names_of_operations_do_not_depend_on_the_process() -> None:
    def names() -> list[str]:
        saved = operation("math.l2_normalize", ["x", 0, 0, {"axis": 1}])
        return [each.name for each in build(saved).layer.operations]

    assert names() == names()
    assert names()[-1] == "op"


def test_bn_over_several_axes_stays_shared() -> None:
    calls = [["x", 0, 0, {}]], [["bn", 0, 0, {}]]
    model = build(graph(layer("BatchNormalization", *calls, name="bn", axis=[1, 2]))).layer
    assert [each.name for each in model.layers] == ["x", "bn_join", "bn", "bn_part"]
    assert model.get_layer("bn").gamma.shape == (24,)


def test_classes_that_nothing_knows_are_named() -> None:
    wrapped = {"class_name": "Strange", "config": {}}
    saved = graph(layer("TimeDistributed", layer=wrapped), layer("Odd>Other"), layer("Dense"))
    assert unknown_classes(saved) == ["Odd>Other", "Strange"]

    class Other(keras.layers.Layer):
        pass

    with keras.saving.custom_object_scope({"Odd>Other": Other, "Strange": Other}):
        assert unknown_classes(saved) == []


def test_values_that_json_cannot_hold() -> None:
    array = {"class_name": "__numpy__", "config": {"value": [1, 2], "dtype": "float32"}}
    saved = {"a": {"class_name": "__tuple__", "items": [1, {"class_name": "__ellipsis__"}]}}
    assert decode(saved) == {"a": (1, ...)}
    assert decode([array])[0].dtype == np.float32
