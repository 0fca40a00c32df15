"""What counts as a normalization that is left: told on graphs of a few nodes."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from kerasbn.inference.onnx_graph import Graph, Node, Port, infer_shapes
from kerasbn.inference.remaining import Residual, residuals

F = np.float32


def graph(*nodes: Node, **constants: Any) -> Graph:
    """A graph from `x`, [batch, 4], to the last node's output."""
    arrays = {name: np.asarray(value, F) for name, value in constants.items()}
    arrays |= {"w": np.ones((4, 4), F), "s": np.arange(4, dtype=F), "t": np.arange(4, dtype=F)}
    made = Graph(
        list(nodes), arrays, [Port("x", "x", TensorProto.FLOAT, ("batch", 4))],
        [Port("y", nodes[-1].output, TensorProto.FLOAT, None)], 18,
    )  # fmt: skip
    infer_shapes(made)
    return made


def node(op: str, *inputs: str, name: str = "", **attributes: Any) -> Node:
    return Node(op, list(inputs), [f"{name or op} out"], attributes, name or op)


DENSE = node("MatMul", "x", "w", name="dense")


@pytest.mark.parametrize("op", ["Mul", "Div", "Sub", "Add"])
def test_an_affine_step_per_channel_is_one(op: str) -> None:
    own_bias = node("Add", "dense out", "t", name="bias")
    made = graph(DENSE, own_bias, node(op, "bias out", "s", name="norm"))
    assert residuals(made) == (Residual("normalization", ("norm",)),)


def test_several_in_a_row_are_one() -> None:
    made = graph(
        DENSE, node("Mul", "dense out", "s", name="bn/Mul"),
        node("Identity", "bn/Mul out", name="between"),
        node("Add", "between out", "t", name="bn/Add"),
    )  # fmt: skip
    assert residuals(made) == (Residual("normalization", ("bn/Mul", "bn/Add")),)


def test_a_linear_layers_own_bias_is_none() -> None:
    assert residuals(graph(DENSE, node("Add", "dense out", "t"))) == ()
    with_bias = node("Gemm", "x", "w", "t", name="dense")
    assert len(residuals(graph(with_bias, node("Add", "dense out", "t")))) == 1


def test_a_batch_normalization_node_is_one_wherever_it_stands() -> None:
    made = graph(node("BatchNormalization", "x", "s", "s", "s", "s", name="bn"))
    assert residuals(made) == (Residual("normalization", ("bn",)),)


def test_before_the_first_weights_it_is_a_scaling_even_by_one_number() -> None:
    made = graph(node("Mul", "x", "c", name="early"), node("MatMul", "early out", "w"), c=0.5)
    assert residuals(made) == (Residual("scaling", ("early",)),)
    late = graph(DENSE, node("Mul", "dense out", "c", name="late"), c=0.5)
    assert residuals(late) == ()


def test_the_metadata_overrules_the_place() -> None:
    made = graph(node("Mul", "x", "s", name="bn/Mul"), node("MatMul", "bn/Mul out", "w"))
    assert residuals(made)[0].kind == "scaling"
    assert residuals(made, scalings=["rescale"])[0].kind == "normalization"
    assert residuals(made, scalings=["bn"])[0].kind == "scaling"


def test_what_is_no_affine_step_by_a_constant_is_none() -> None:
    reciprocal = node("Div", "s", "dense out")
    two_tensors = node("Mul", "dense out", "dense out")
    table = node("Add", "dense out", "table")
    for last in (reciprocal, two_tensors, table):
        assert residuals(graph(DENSE, last, table=np.ones((3, 4)))) == ()


def test_a_layer_with_statistics_or_an_activation_owns_its_factors() -> None:
    made = graph(
        DENSE, node("ReduceMean", "dense out", name="ln/Mean"),
        node("Sub", "dense out", "ln/Mean out", name="ln/Sub"),
        node("Mul", "ln/Sub out", "s", name="ln/Mul"),
    )  # fmt: skip
    assert residuals(made) == ()
