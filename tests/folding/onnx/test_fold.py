"""Whole ONNX files: what folds, what stays, and that names and the opset do."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_chains import X, batch_norm, chain, judge, node, only_fold, random, run

from kerasbn.folding.onnx.fold import fold_model

CASES = sorted((Path(__file__).parent / "cases").glob("*.onnx"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_small_exports_keep_no_affine_node(path: Path) -> None:
    model = ir.load(path)
    folded, plan = fold_model(model, check=False)
    assert not plan.kept()
    assert bool(plan.folds()) == (path.stem != "unet-dynamo")  # which has none to fold
    proto, original = ir.to_proto(folded), onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [each.version for each in proto.opset_import] == [original.opset_import[0].version]
    for name in ("input", "output"):
        old, new = (getattr(each.graph, name) for each in (original, proto))
        assert [value.name for value in new] == [value.name for value in old]
    names = {node.name for node in original.graph.node}
    left = [node.name for node in proto.graph.node if node.name not in names]
    assert all(name.endswith("_max") for name in left)  # of clips with both bounds
    arrays = np.load(path.with_name(f"{path.stem.partition('-')[0]}.npz"))
    feeds = {value.name: arrays[f"x{at}"] for at, value in enumerate(proto.graph.input)}
    for at, got in enumerate(run(proto, feeds)):
        want = arrays[f"y{at}"]
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_shared_kernels_are_copied_where_nodes_need_others() -> None:
    path = next(path for path in CASES if path.stem == "heads-torchscript")
    folded, plan = fold_model(ir.load(path), check=False)
    kernel = ir.load(path).graph.initializers["c.weight"].const_value
    assert kernel is not None
    assert plan.added_bytes == 2 * kernel.nbytes
    assert f"{2 * kernel.nbytes:,} bytes" in plan.summary()
    weights = [each for each in folded.graph.initializers if each.startswith("c.weight")]
    assert len(weights) == 3
    assert "o.weight" in folded.graph.initializers  # is still shared


def parsed(nodes: str) -> ir.Model:
    """A model of nodes that read x, a kernel w and a vector t, and make z."""
    header = '<ir_version: 8, opset_import: ["" : 18]>'
    text = f"{header} g (float[N, 4] x) => (float[N, 4] z) {{ {nodes} }}"
    proto = onnx.parser.parse_model(text)
    for name, array in (("w", random(4, 4)), ("t", random(4))):
        tensor = onnx.numpy_helper.from_array(np.asarray(array, np.float32), name)
        proto.graph.initializer.append(tensor)
    return ir.from_proto(proto)


def test_a_shared_kernel_that_stays_the_same_is_not_copied() -> None:
    folded, plan = fold_model(
        parsed("[one] a = Gemm(x, w) [shift] y = Add(a, t) [two] z = Gemm(y, w)")
    )
    assert [fold.into for fold in plan.folds()] == [("one",)]
    assert plan.added_bytes == 0
    assert sorted(folded.graph.initializers) == ["one.bias", "w"]


def test_added_nodes_have_the_metadata_of_those_they_belong_to() -> None:
    model = parsed("[dense] a = MatMul(x, w) [flat] b = Flatten(a) [shift] z = Add(b, t)")
    model.graph[0].metadata_props["layer"] = "first"
    folded, _ = fold_model(model)
    added = [dict(n.metadata_props) for n in folded.graph if n.op_type == "Add"]
    assert added == [{"layer": "first"}]


def test_a_constant_part_of_a_concatenation_takes_its_share() -> None:
    part = np.broadcast_to(random(1, 2, 1, 1), (2, 2, 4, 4)).copy()
    fold = only_fold(
        chain([2, 3, 4, 4], node("Conv", X, random(4, 3, 1, 1)), node("Concat", X, part, axis=1),
              batch_norm(6)),
    )  # fmt: skip
    assert fold.direction == "backward"
    assert fold.into[0] == "n0"
    assert len(fold.into) == 2


def test_what_is_added_to_nodes_without_names_is_named_after_their_outputs() -> None:
    bounds = np.array(0, np.float32), np.array(6, np.float32)
    model = chain(
        (2, 4),
        node("Tanh"),
        batch_norm(4),
        node("Clip", X, *bounds),
        node("MatMul", X, random(4, 3)),
    )
    for each in model.graph.node:
        each.name = ""
    made, plan = judge(model)
    assert plan.folds()[0].clips
    former = {value.name for value in (*model.graph.initializer, *model.graph.node)}
    added = {each.name for each in (*made.graph.initializer, *made.graph.node)} - former
    outputs = tuple(name for each in model.graph.node for name in each.output)
    assert added
    assert all(name.startswith(outputs) for name in added), added
