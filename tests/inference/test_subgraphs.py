"""A subgraph comes to the same bytes whatever a converter named it and how it ordered it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kerasbn.inference.subgraphs import rename_inside, rename_outside, taken_from_outside


def body(prefix: str, order: list[int], *, idle: bool, counter: int) -> onnx.GraphProto:
    """``(a + outer) * c`` and ``relu`` of it, under names and in an order of one's own."""

    def p(name: str) -> str:
        return f"{prefix}{name}"

    last = p("idle") if idle else p("product")
    nodes = [
        helper.make_node("Add", [p("a"), "outer"], [p("sum")], name=p("add")),
        helper.make_node("Mul", [p("sum"), p("c")], [p("product")], name=p("mul")),
        helper.make_node("Relu", [p("product")], [p("relu")], name=p("r")),
    ]
    if idle:
        nodes.append(helper.make_node("Identity", [p("product")], [last]))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"unk__{counter}", 3])
        for name in (p("a"), last, p("relu"))
    ]
    unused = numpy_helper.from_array(np.zeros(2, np.float32), p("unused"))
    constant = numpy_helper.from_array(np.full(3, 2, np.float32), p("c"))
    constants = [constant, unused] if idle else [unused, constant]
    return helper.make_graph([nodes[at] for at in order], p("g"), ports[:1], ports[1:], constants)


@pytest.mark.parametrize(
    ("order", "idle"), [([0, 1, 2], False), ([0, 1, 2, 3], True), ([0, 1, 3, 2], True)]
)
def test_one_form(order: list[int], idle: bool) -> None:
    first = body("x", [0, 1, 2], idle=False, counter=1)
    other = body("while__7/", order, idle=idle, counter=99)
    for graph in (first, other):
        rename_inside(graph, "loop/body")
    assert first.SerializeToString(deterministic=True) == other.SerializeToString(
        deterministic=True
    )
    assert [node.op_type for node in first.node] == ["Add", "Mul", "Relu"]
    assert [node.name for node in first.node] == [
        "loop/body/Add_0", "loop/body/Mul_1", "loop/body/Relu_2",
    ]  # fmt: skip
    assert len(first.initializer) == 1


def test_what_comes_from_outside_keeps_its_name_until_it_is_renamed_there() -> None:
    graph = body("x", [0, 1, 2], idle=False, counter=1)
    assert list(taken_from_outside(graph)) == ["outer"]
    rename_inside(graph, "loop/body")
    assert list(taken_from_outside(graph)) == ["outer"]
    rename_outside(graph, {"outer": "dense_1", "loop/body/1": "no such thing outside"})
    assert list(taken_from_outside(graph)) == ["dense_1"]


def test_an_output_given_twice_stays_two() -> None:
    graph = body("x", [0, 1, 2], idle=False, counter=1)
    graph.output[1].name = graph.output[0].name
    rename_inside(graph, "b")
    assert len({port.name for port in graph.output}) == 2
    assert [node.op_type for node in graph.node] == ["Add", "Mul", "Identity"]
