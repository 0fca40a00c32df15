"""What counts as a remaining BN layer, on graphs of a few nodes and on exported models.

Graphs are written in ONNX's textual form, with nodes named in brackets (``__`` for a
slash). Each has the input ``x``,
of shape [N, 4], and the constants ``w``, ``s``, ``t`` (per channel), ``c`` (one number) and
``table``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers as L  # noqa: N812 - as Keras's own documentation has it
from keras.applications import mobilenet_v2

from kerasbn import export, fold_plan, verify
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.folding.plan import Plan
from kerasbn.inference.remaining import count_remaining, remaining_nodes

CONSTANTS = {
    "w": np.ones((4, 4)), "s": np.arange(4), "t": np.arange(4), "c": np.array(0.5),
    "table": np.ones((3, 4)),
}  # fmt: skip


def model(text: str, y: str = "y") -> onnx.ModelProto:
    header = '<ir_version: 10, opset_import: ["" : 18]>'
    made = onnx.parser.parse_model(f"{header} g (float[N, 4] x) => (float[N, 4] {y}) {{ {text} }}")
    for node in made.graph.node:
        node.name = node.name.replace("__", "/")
    for name, value in CONSTANTS.items():
        tensor = onnx.numpy_helper.from_array(value.astype(np.float32), name)
        made.graph.initializer.append(tensor)
    return made


DENSE = "[dense] a = MatMul(x, w)"


@pytest.mark.parametrize("op", ["Mul", "Div", "Sub", "Add"])
def test_an_affine_node_with_constants_per_channel_is_a_bn_layer(op: str) -> None:
    found = remaining_nodes(model(f"{DENSE} [bias] b = Add(a, t) [norm] y = {op}(b, s)"))
    assert found == ("norm",)


def test_several_in_a_row_are_one() -> None:
    text = f"{DENSE} [bn__Mul] b = Mul(a, s) [between] d = Identity(b) [bn__Add] y = Add(d, t)"
    assert remaining_nodes(model(text)) == ("bn/Mul + bn/Add",)
    read_twice = f"{DENSE} [one] b = Mul(a, s) [two] e = Add(b, t) [sum] y = Add(b, e)"
    assert remaining_nodes(model(read_twice)) == ("one", "two")


def test_the_bias_of_a_linear_layer_is_none() -> None:
    assert remaining_nodes(model(f"{DENSE} [bias] y = Add(a, t)")) == ()
    with_bias = "[dense] a = Gemm(x, w, t) [norm] y = Add(a, t)"
    assert len(remaining_nodes(model(with_bias))) == 1


@pytest.mark.parametrize("bn_layers", [None, []])
def test_a_batch_normalization_node_is_a_bn_layer_anywhere(bn_layers: list[str] | None) -> None:
    made = model("[bn] y = BatchNormalization(x, s, s, s, s)")
    assert remaining_nodes(made, bn_layers) == ("bn",)


@pytest.mark.parametrize("factor", ["s", "c"])
def test_what_is_ahead_of_the_first_weights_scales_the_inputs(factor: str) -> None:
    assert remaining_nodes(model(f"[early] a = Mul(x, {factor}) [dense] y = MatMul(a, w)")) == ()
    assert remaining_nodes(model(f"{DENSE} [late] y = Mul(a, c)")) == ()


def test_the_nodes_of_named_layers_count_wherever_they_are() -> None:
    text = "[block__bn__Mul] a = Mul(x, s) [block__bn__Add] b = Add(a, t)"
    made = model(f"{text} [rescale] d = Mul(b, s) [dense] f = MatMul(d, w) [scale] y = Mul(f, s)")
    assert remaining_nodes(made, ["bn", "folded"]) == ("block/bn/Mul + block/bn/Add",)
    assert remaining_nodes(made, ["rescale", "scale"]) == ("rescale", "scale")
    assert remaining_nodes(made) == ("scale",)


@pytest.mark.parametrize("last", ["Div(s, a)", "Mul(a, a)", "Add(a, table)"])
def test_a_node_that_is_not_affine_per_channel_is_none(last: str) -> None:
    assert remaining_nodes(model(f"{DENSE} [last] y = {last}")) == ()


def test_a_layer_with_statistics_or_an_activation_owns_its_factors() -> None:
    text = f"{DENSE} [ln__Mean] m = ReduceMean(a) [ln__Sub] d = Sub(a, m) [ln__Mul] y = Mul(d, s)"
    assert remaining_nodes(model(text)) == ()


def test_counts_in_words() -> None:
    assert [count_remaining(found) for found in ("", "a", "ab")] == [
        "nothing", "1 BN layer", "2 BN layers",
    ]  # fmt: skip


class ConvAndBatchNormalization(L.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conv = L.Conv2D(4, 3, name="conv")
        self.bn = L.BatchNormalization(name="bn")

    def call(self, x: Any) -> Any:
        return self.bn(self.conv(x))


class Scale(L.Layer):
    def build(self, shape: tuple[int, ...]) -> None:
        self.factor = self.add_weight(shape=shape[-1:], initializer="random_normal", name="factor")

    def call(self, x: Any) -> Any:
        return 0.3 + self.factor * x


def tanh(x: Any) -> Any:
    return L.Activation("tanh")(x)


def convolution(x: Any) -> Any:
    return L.Conv2D(4, 3, padding="same")(x)


# Layers by what they are for, with the number of BN layers, and of those that remain in the file.
MODELS: dict[str, tuple[Callable[[Any], Any], int, int]] = {
    "all folded": (lambda x: L.BatchNormalization()(convolution(x)), 1, 0),
    "preprocess_input": (
        lambda x: L.BatchNormalization()(convolution(mobilenet_v2.preprocess_input(x))), 1, 0
    ),
    "a layer that scales the inputs": (lambda x: convolution(Scale()(x)), 0, 0),
    "a layer that scales activations": (lambda x: Scale()(tanh(convolution(x))), 0, 0),
    "a custom layer with a BN layer": (lambda x: ConvAndBatchNormalization()(x), 1, 0),
    "kept ahead of the first weights": (
        lambda x: convolution(tanh(L.BatchNormalization()(L.Rescaling(1 / 255)(x)))), 1, 1
    ),
    "kept behind them": (lambda x: tanh(L.BatchNormalization()(tanh(convolution(x)))), 1, 1),
    "one kept, one folded": (
        lambda x: tanh(L.BatchNormalization()(tanh(L.BatchNormalization()(convolution(x))))), 2, 1
    ),
    "called with training=True": (
        lambda x: L.BatchNormalization()(convolution(x), training=True), 1, 1
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_fold_export_and_verify_count_alike(name: str, tmp_path: Path) -> None:
    layers, total, remaining = MODELS[name]
    image = keras.Input((6, 6, 3), name="image")
    made = keras.Model(image, layers(image))
    randomize_parameters(made)
    assert len(fold_plan(made).kept("BN layer")) == remaining + ("custom" in name)
    samples = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype(np.float32)
    for fold, left in ((True, remaining), (False, total)):
        exported = export(made, tmp_path / "model.onnx", fold=fold)
        folded = verify(exported.path, inputs=[samples]).folded
        assert len(exported.remaining) == left
        if fold:
            plan = Plan.from_json(exported.plan)
            assert (len(plan.folds("BN layer")), len(plan.kept("BN layer"))) == (total - left, left)
        assert folded.figures["bn_nodes"] == list(exported.remaining)
        assert exported.lines()[2].startswith(f"  remaining: {count_remaining(exported.remaining)}")
        assert folded.status == ("failed" if left else "passed")
