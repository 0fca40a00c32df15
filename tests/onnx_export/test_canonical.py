"""A model comes to the same bytes whatever a converter named its nodes and how it ordered them."""

import onnx
import onnx_ir as ir
import pytest

from kerasbn.onnx_export.canonical import LAYER, canonicalize, reads

HEADER = '<ir_version: 8, opset_import: ["" : 18], producer_name: "converter">'


def canonical(text: str, layers: dict[str, str] | None = None) -> onnx.ModelProto:
    model = ir.from_proto(
        onnx.parser.parse_model(f"{HEADER} g (float[N] x) => (float[N] y) {text}")
    )
    for node in model.graph:
        node.metadata_props[LAYER] = (layers or {}).get(node.name or "", "")
    canonicalize(model)
    return ir.to_proto(model)


def test_nodes_are_named_after_layers_and_values_after_nodes() -> None:
    text = "<float b = {1.0}> { [n1] p = Relu(x) [n2] q = Mul(p, p) [n3] y = Add(q, b) }"
    proto = canonical(text, {"n1": "block/relu", "n2": "bn", "n3": "bn"})
    assert [node.name for node in proto.graph.node] == ["block/relu", "bn/Mul", "bn/Add"]
    assert [list(node.output) for node in proto.graph.node] == [["block/relu"], ["bn/Mul"], ["y"]]
    assert [tensor.name for tensor in proto.graph.initializer] == ["bn/Add.constant_1"]
    assert proto.producer_name == "kerasbn"
    assert not proto.graph.value_info
    assert not any(node.metadata_props for node in proto.graph.node)


def test_order_follows_from_the_outputs() -> None:
    one = canonical("{ [a] p = Relu(x) [b] q = Neg(x) [c] y = Add(q, p) }")
    other = canonical("{ [k] m = Neg(x) [l] n = Relu(x) [z] y = Add(m, n) }")
    assert [node.op_type for node in one.graph.node] == ["Neg", "Relu", "Add"]
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


LOOP = """
<int64 times = {{3}}, bool go = {{1}}, float c = {{2.0}}> {{
    {outer} = Relu(x)
    y = Loop (times, go, {outer}) <body = {body} (
        int64 {p}i, bool {p}go, float[{axis}] {p}s
    ) => (bool {p}on, float[{axis}] {p}out) {{ {nodes} }}>
}}
"""


@pytest.mark.parametrize("swap", [False, True])
def test_a_subgraph_has_one_form(swap: bool) -> None:
    texts = []
    for p, outer in (("", "first"), ("while7_", "second")):
        nodes = [f"{p}on = Identity({p}go)", f"{p}m = Mul({outer}, c)"]
        if swap and p:
            nodes.reverse()
        names = {"p": p, "outer": outer, "axis": f"{p}unk", "body": f"{p}body"}
        texts.append(LOOP.format(nodes=" ".join([*nodes, f"{p}out = Add({p}s, {p}m)"]), **names))
    first, second = map(canonical, texts)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    (loop,) = [node for node in first.graph.node if node.op_type == "Loop"]
    (body,) = [attribute.g for attribute in loop.attribute]
    assert body.name == "Loop/body"
    assert [node.name for node in body.node] == [
        "Loop/body/Identity_0", "Loop/body/Mul_1", "Loop/body/Add_2",
    ]  # fmt: skip
    onnx.checker.check_model(first)


def test_no_two_nodes_share_a_name() -> None:
    names = {"p": "", "outer": "first", "axis": "unk", "body": "body"}
    text = LOOP.format(nodes="on = Identity(go) m = Mul(first, c) out = Add(s, m)", **names)
    parsed = onnx.parser.parse_model(f"{HEADER} g (float[N] x) => (float[N] y) {text}")
    model = ir.from_proto(parsed)
    for node, layer in zip(model.graph, ("loop/body/Mul_1", "loop"), strict=True):
        node.metadata_props[LAYER] = layer
    canonicalize(model)
    found = [node.name for node in model.graph.all_nodes()]
    assert "loop/body/Mul_1" in found
    assert len(set(found)) == len(found)
    values = [value.name for node in model.graph.all_nodes() for value in node.outputs]
    assert len(set(values)) == len(values)


def test_a_node_reads_what_its_subgraph_takes_from_outside() -> None:
    names = {"p": "", "outer": "first", "axis": "unk", "body": "body"}
    text = LOOP.format(nodes="on = Identity(go) m = Mul(first, c) out = Add(s, m)", **names)
    parsed = onnx.parser.parse_model(f"{HEADER} g (float[N] x) => (float[N] y) {text}")
    loop = ir.from_proto(parsed).graph[1]
    assert [value.name for value in reads(loop)] == ["times", "go", "first", "first", "c"]
