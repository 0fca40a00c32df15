"""What counts as a remaining BN layer or scaling, on graphs of a few nodes.

Graphs are written in ONNX's textual form, with nodes named in brackets (``__`` for a
slash). Each has the input ``x``,
of shape [N, 4], and the constants ``w``, ``s``, ``t`` (per channel), ``c`` (one number) and
``table``.
"""

import numpy as np
import onnx
import pytest

from kerasbn.inference.remaining import Remaining, count_remaining, remaining_nodes

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
    assert found == (Remaining("BN layer", ("norm",)),)


def test_several_in_a_row_are_one() -> None:
    text = f"{DENSE} [bn__Mul] b = Mul(a, s) [between] d = Identity(b) [bn__Add] y = Add(d, t)"
    assert remaining_nodes(model(text)) == (Remaining("BN layer", ("bn/Mul", "bn/Add")),)


def test_the_bias_of_a_linear_layer_is_none() -> None:
    assert remaining_nodes(model(f"{DENSE} [bias] y = Add(a, t)")) == ()
    with_bias = "[dense] a = Gemm(x, w, t) [norm] y = Add(a, t)"
    assert len(remaining_nodes(model(with_bias))) == 1


def test_a_batch_normalization_node_is_a_bn_layer_anywhere() -> None:
    found = remaining_nodes(model("[bn] y = BatchNormalization(x, s, s, s, s)"))
    assert found == (Remaining("BN layer", ("bn",)),)


def test_ahead_of_the_first_weights_it_is_a_scaling_even_with_one_number() -> None:
    early = model("[early] a = Mul(x, c) [dense] y = MatMul(a, w)")
    assert remaining_nodes(early) == (Remaining("scaling", ("early",)),)
    assert remaining_nodes(model(f"{DENSE} [late] y = Mul(a, c)")) == ()


def test_given_scalings_decide_instead_of_the_position() -> None:
    made = model("[bn__Mul] a = Mul(x, s) [dense] y = MatMul(a, w)")
    assert remaining_nodes(made)[0].kind == "scaling"
    assert remaining_nodes(made, scalings=["rescale"])[0].kind == "BN layer"
    assert remaining_nodes(made, scalings=["bn"])[0].kind == "scaling"


@pytest.mark.parametrize("last", ["Div(s, a)", "Mul(a, a)", "Add(a, table)"])
def test_a_node_that_is_not_affine_per_channel_is_none(last: str) -> None:
    assert remaining_nodes(model(f"{DENSE} [last] y = {last}")) == ()


def test_a_layer_with_statistics_or_an_activation_owns_its_factors() -> None:
    text = f"{DENSE} [ln__Mean] m = ReduceMean(a) [ln__Sub] d = Sub(a, m) [ln__Mul] y = Mul(d, s)"
    assert remaining_nodes(model(text)) == ()


def test_counts_in_words() -> None:
    layer, scaling = Remaining("BN layer", ("a",)), Remaining("scaling", ("b",))
    assert count_remaining([]) == "nothing"
    assert count_remaining([layer, layer, scaling]) == "2 BN layers and 1 scaling"
