"""What a node of an ONNX graph reads, shares, hides or has as constants."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_chains import (
    as_model,
    batch_norm,
    chain,
    folded,
    judge,
    node,
    only_fold,
    only_reason,
    random,
    written,
)

from kerasbn.folding.onnx.fold import fold_plan, fold_with_plan

X = "x"
R = random
TANH = node("Tanh")


def decisions(model: onnx.ModelProto) -> list[str]:
    return [str(each) for each in judge(model)[1]]


def test_constants_may_be_cast_and_rearranged() -> None:
    model = written(
        """g (float[2, 4] x) => (float[2, 3] y) {
            k = Transpose <perm = [1, 0]> (w)
            t = MatMul (x, k)
            c = Constant <value_floats = [0.5, -2.0, 3.0]> ()
            s = Identity (c)
            y = Mul (t, s)
        }""",
        w=R(3, 4),
    )
    made, plan = judge(model)
    assert [str(each) for each in plan] == ["n4: folded backward into n1"]
    assert [each.op_type for each in made.graph.node] == ["MatMul"]


def test_a_constant_that_a_model_input_overrides_is_none() -> None:
    model = written(
        """g (float[2, 4] x, float[4, 3] w, float[3] s) => (float[2, 3] y, float[2, 3] z) {
            t = Gemm (x, w)
            y = BatchNormalization (t, s, b, b, v)
            u = Gemm (x, k)
            r = Gemm (u, l)
            z = Mul (r, b)
        }""",
        w=R(4, 3), s=R(3), b=R(3), v=np.abs(R(3)), k=R(4, 4), l=R(4, 3),
    )  # fmt: skip
    first, second = decisions(model)
    assert (
        first
        == "n1: kept because it has a scale, offset or statistic that a model input may override"
    )
    assert second == "n4: folded backward into n3"
    model.graph.node[1].CopyFrom(helper.make_node("Mul", ["t", "b"], ["y"], "n1"))
    assert "a kernel that a model input may override" in decisions(model)[0]


def test_quantized_parts_are_refused_alone() -> None:
    model = written(
        """g (float[2, 4] x) => (float[2, 3] y) {
            k = DequantizeLinear (q, s)
            t = MatMul (x, k)
            u = Mul (t, c)
            r = Tanh (u)
            v = Gemm (r, w)
            y = Mul (v, c)
        }""",
        q=np.arange(12, dtype=np.int8).reshape(4, 3), s=np.array(0.1, "f4"), c=R(3), w=R(3, 3),
    )  # fmt: skip
    first, second = decisions(model)
    assert "`n1` before it has a kernel that is quantized" in first
    assert second == "n5: folded backward into n4"


def test_subgraphs_stay_and_what_they_read_counts_as_read() -> None:
    model = written(
        """g (float[2, 4] x, bool p) => (float[2, 3] y, float[2, 3] z) {
            t = Gemm (x, w)
            z = Mul (t, c)
            y = If (p) <then_branch = a () => (float[2, 3] i) { i = Mul (t, c) },
                        else_branch = b () => (float[2, 3] j) { j = Neg (t) }>
        }""",
        w=R(4, 3), c=R(3),
    )  # fmt: skip
    first, second = decisions(model)
    assert "its input is also read by `n2`" in first
    assert second.endswith("kept because it is inside the If node `n2`")


def test_functions_stay() -> None:
    model = written(
        """g (float[2, 4] x) => (float[2, 4] y) { y = own.f (x) }
        <domain: "own", opset_import: ["": 21]> f (x) => (y) {
            c = Constant <value_floats = [2.0]> ()
            y = Mul (x, c)
        }""".replace("y = own.f", "y = own.f"),
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    (only,) = decisions(model)
    assert only.endswith("kept because it is inside the f node `n0`")


def test_a_map_passes_each_part_of_a_split() -> None:
    model = written(
        """g (float[2, 4, 5] x) => (float[2, 3, 5] y, float[2, 3, 5] z) {
            t = Tanh (x)
            u = Mul (t, c)
            a, b = Split <axis = 1> (u, n)
            y = Conv (a, v)
            z = Conv (b, w)
        }""",
        c=R(4, 1), n=np.array([1, 3]), v=R(3, 1, 1), w=R(3, 3, 1),
    )  # fmt: skip
    assert decisions(model) == ["n1: folded forward into n3, n4 through n2"]


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mean", "Concat"])
def test_a_map_reaches_every_branch(op: str) -> None:
    axis = " <axis = 1>" if op == "Concat" else ""
    n = 6 if op == "Concat" else 3
    model = written(
        f"""g (float[2, 4] x) => (float[2, {n}] y) {{
            a = Gemm (x, v)
            b = Gemm (x, w)
            t = {op}{axis} (a, b)
            y = BatchNormalization (t, s, o, o, r)
        }}""",
        v=R(4, 3), w=R(4, 3, seed=1), s=R(n), o=R(n), r=np.abs(R(n)),
    )  # fmt: skip
    (only,) = decisions(model)
    assert only in (f"n3: folded backward into n{i}, n{1 - i} through n2" for i in (0, 1))


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_a_scale_passes_a_product(op: str) -> None:
    model = written(
        f"""g (float[2, 4] x) => (float[2, 3] y) {{
            a = Tanh (x)
            b = Exp (x)
            s = Mul (a, c)
            r = Div (b, d)
            t = {op} (s, r)
            y = Gemm (t, w)
        }}""",
        c=R(4), d=R(4, seed=1), w=R(4, 3),
    )  # fmt: skip
    assert decisions(model) == [f"n{n}: folded forward into n5 through n4" for n in (2, 3)]


def test_a_constant_part_takes_a_map() -> None:
    model = written(
        """g (float[2, 4] x) => (float[2, 5] y) {
            a = Gemm (x, v)
            t = Concat <axis = 1> (a, k)
            y = BatchNormalization (t, s, o, o, r)
        }""",
        v=R(4, 3), k=R(2, 2), s=R(5), o=R(5), r=np.abs(R(5)),
    )  # fmt: skip
    assert decisions(model) == ["n2: folded backward into n0, k through n1"]


def test_unknown_ranks_are_refused() -> None:
    model = chain((2, 4), TANH, batch_norm(4), TANH)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    _, plan = folded(model)
    assert [each.reason for each in plan.kept()] == ["it has an input or output of unknown rank"]


@pytest.mark.parametrize("target", ["int64[2, 1] target", "int64[1] target, int64[1] more"])
def test_an_impossible_reshape_is_no_obstacle_to_a_plan(target: str) -> None:
    model = written(
        f"""g (float[2, 3] x, {target}) => (float[2, 3] y) {{
            r = Reshape ({"target" if "more" in target else "x, target"})
            t = MatMul (x, w)
            y = Mul (t, s)
        }}""",
        w=R(3, 3),
        s=R(3),
    )
    assert [decision.layer for decision in fold_plan(model, clip=True)] == ["n2"]


def test_a_model_without_outputs_is_folded() -> None:
    model = written(
        """g (float[2, 3] x) => (float[2, 3] y) {
            t = MatMul (x, w)
            y = Mul (t, s)
        }""",
        w=R(3, 3),
        s=R(3),
    )
    del model.graph.output[:]
    _, plan = fold_with_plan(model, clip=True, check=True, inputs=None)
    assert len(plan.folds()) == 1


def test_free_axes_are_allowed() -> None:
    conv = node("Conv", X, R(4, 3, 3, 3), pads=[1, 1, 1, 1])
    assert only_fold(chain(("N", 3, "H", "W"), conv, batch_norm(4), TANH)).direction == "backward"
    model = chain(("N", "C"), node("Mul", X, R(2)), TANH)
    assert "broadcasts its input" in only_reason(model)


def test_nodes_without_names_of_their_own_are_named_by_their_outputs() -> None:
    model = chain((2, 4), TANH, batch_norm(4), TANH, batch_norm(4), TANH)
    for each in model.graph.node:
        each.name = ""
    assert [each.layer for each in judge(model)[1]] == ["t1", "t3"]


def test_other_types_pass_by() -> None:
    inputs = [helper.make_tensor_value_info("in", TensorProto.FLOAT, [2, 4])]
    nodes = [
        helper.make_node("SequenceConstruct", ["in", "in"], ["s"], "n0"),
        helper.make_node("ConcatFromSequence", ["s"], ["c"], "n1", axis=1),
        helper.make_node("Gemm", ["c", "w"], ["g"], "n2"),
        helper.make_node("Mul", ["g", "k"], ["out"], "n3"),
    ]
    arrays = [numpy_helper.from_array(a, n) for a, n in ((R(8, 3), "w"), (R(3), "k"))]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2, 3])]
    model = as_model(helper.make_graph(nodes, "g", inputs, outputs, arrays))
    assert decisions(model) == ["n3: folded backward into n2"]


@pytest.mark.parametrize("s", [R(2), R(1)])
def test_what_reads_another_part_of_a_tensor_does_not_keep_a_node(s: np.ndarray) -> None:
    model = written(
        """g (float[2, 4] x) => (float[2, 2] y, float[2, 2] z, float[2, 2] u) {
            t = MatMul (x, w)
            a, b = Split <axis = 1> (t, n)
            c = Mul (a, s)
            y = Tanh (c)
            z = Tanh (b)
            e = Slice (t, two, four, one)
            u = Tanh (e)
        }""",
        w=R(4, 4), n=np.array([2, 2]), s=s, one=np.array([1]), two=np.array([2]),
        four=np.array([4]),
    )  # fmt: skip
    made, plan = judge(model)
    assert [str(each) for each in plan] == ["n2: folded backward into n0 through n1"]
    assert "Mul" not in [each.op_type for each in made.graph.node]


@pytest.mark.parametrize(
    ("op", "scale", "folded"),
    [
        ("Add", R(4), True),
        ("Mul", R(4), True),
        ("Max", np.abs(R(4)), True),
        ("Add", R(2, 1, 1), False),
        ("Mul", R(2, 1, 1), False),
    ],
)
def test_a_term_of_lower_rank_takes_what_is_even_along_further_axes(
    op: str, scale: np.ndarray, *, folded: bool
) -> None:
    model = written(
        f"""g (float[2, 3, 4] x, float[3, 4] z) => (float[2, 3, 4] y) {{
            a = MatMul (x, w)
            b = MatMul (z, v)
            c = {op} (a, b)
            d = Mul (c, s)
            y = Tanh (d)
        }}""",
        w=R(4, 4), v=R(4, 4, seed=1), s=scale,
    )  # fmt: skip
    _, plan = judge(model)
    assert bool(plan.folds()) == folded
