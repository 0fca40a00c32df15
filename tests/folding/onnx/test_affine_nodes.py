"""Each affine node, in every broadcast layout, alone and in a row."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_chains import (
    Node,
    X,
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

from kerasbn.folding.onnx.fold import fold_plan

R = random
TANH = node("Tanh")
CONV = node("Conv", X, R(4, 4, 1), R(4))
LAYOUTS = {
    "scalar": (),
    "one": (1,),
    "all ones": (1, 1, 1),
    "channel": (4, 1),
    "full rank": (1, 4, 1),
}
PAIR = node("Mul", X, R(4, 1)), node("Add", X, R(4, 1, seed=1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ["Mul", "Add", "Sub", "Div"])
@pytest.mark.parametrize("is_first", [True, False])
def test_arithmetic_folds_both_ways(op: str, layout: str, *, is_first: bool) -> None:
    c = R(*LAYOUTS[layout])
    made = node(op, c, X) if is_first else node(op, X, c)
    models = chain((2, 4, 5), TANH, CONV, made, TANH), chain((2, 4, 5), TANH, made, CONV, TANH)
    if op == "Div" and is_first:  # c / x is no affine map
        assert not any(judge(model)[1] for model in models)
    else:
        assert [only_fold(model).direction for model in models] == ["backward", "forward"]


def test_a_constant_that_broadcasts_its_input_is_no_map_of_it() -> None:
    model = chain((2, 4, 1), TANH, CONV, node("Mul", X, R(4, 3)), TANH)
    assert "broadcasts its input to another shape" in only_reason(model)
    model = chain((4, 2), TANH, node("Add", X, R(1, 4, 2)), TANH)
    assert "broadcasts its input to another shape" in only_reason(model)


def test_a_scale_and_the_offset_behind_it_are_one_map() -> None:
    pair = node("Div", X, R(4, 1)), node("Sub", R(1, 4, 1), X)
    made, plan = judge(chain((2, 4, 5), TANH, CONV, *pair, TANH))
    assert [(fold.layer, fold.into) for fold in plan.folds()] == [("n2 + n3", ("n1",))]
    assert [each.op_type for each in made.graph.node] == ["Tanh", "Conv", "Tanh"]


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ((node("Mul", X, R(4, 1)), node("Div", X, R(4, 1, seed=1))), ["Mul"]),
        ((node("Add", R(4, 1), X), node("Sub", X, R())), ["Add"]),
        ((batch_norm(4), node("Mul", X, R(4, 1))), ["BatchNormalization"]),
        ((node("Sub", X, R(4, 1)), batch_norm(4)), ["BatchNormalization"]),
        ((batch_norm(4), batch_norm(4, seed=5)), ["BatchNormalization"]),
        ((*PAIR, batch_norm(4)), ["BatchNormalization"]),
        ((node("Sub", X, R()), node("Div", X, R()), *PAIR), ["Mul", "Add"]),
    ],
)  # fmt: skip
def test_nodes_in_a_row_that_fold_nowhere_are_merged(
    nodes: tuple[Node, ...], left: list[str]
) -> None:
    made, plan = judge(chain((2, 4, 5), TANH, *nodes, TANH))
    assert {fold.direction for fold in plan.folds()} == {"merge"}
    assert [each.op_type for each in made.graph.node[1:-1]] == left


def test_a_map_that_a_node_cannot_represent_is_not_merged() -> None:
    for nodes in (
        (node("Add", X, R(4, 1)), node("Mul", X, R(4, 1))),
        (batch_norm(4), node("Mul", X, R(5))),
        (node("Sub", R(4, 1), X), node("Add", X, R(5))),
    ):
        _, plan = judge(chain((2, 4, 5), TANH, *nodes, TANH))
        assert len(plan.kept()) == 2


def test_what_changes_nothing_is_removed() -> None:
    one = np.ones((1,), np.float32)
    made, plan = judge(chain((2, 4), TANH, node("Mul", X, one), TANH))
    assert [str(each) for each in plan] == ["n1: removed, because it changes nothing"]
    assert len(made.graph.node) == 2
    for start in ([], [TANH]):  # the names of inputs and outputs stay
        made, _ = judge(chain((2, 4), *start, node("Mul", X, one)))
        assert [each.op_type for each in made.graph.node] == (["Tanh"] if start else ["Identity"])


MODES: list[tuple[int, dict[str, Any]]] = [(15, {"training_mode": 1}), (9, {})]


def test_batch_normalization_in_training_is_no_map() -> None:
    for opset, more in MODES:
        before = batch_norm(4)
        names = [f"n1.{slot}" for slot in range(1, 5)]
        outputs = ["out", "m", "v"] if opset == 15 else ["out", "m", "v", "sm", "sv"]
        nodes = [
            helper.make_node("Conv", ["in", "w"], ["t"], "n0"),
            helper.make_node("BatchNormalization", ["t", *names], outputs, "n1", **more),
        ]
        arrays = [("w", R(4, 3, 1)), *zip(names, before.inputs[1:], strict=True)]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("in", 1, [2, 3, 5])],
            [helper.make_tensor_value_info("out", 1, [2, 4, 5])],
            [numpy_helper.from_array(array, name) for name, array in arrays],
        )  # fmt: skip
        _, plan = folded(as_model(graph, opset))
        assert [str(each) for each in plan] == [
            "n1: kept because it uses batch statistics: it is in training mode"
        ]


def test_integers_are_no_scalings() -> None:
    two = np.array([2], np.int64)
    model = chain(
        (2, 3), node("Mul", X, two), node("Gather", R(9, 4), X), input_type=TensorProto.INT64
    )
    assert not judge(model)[1]


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_keep_their_type(dtype: int) -> None:
    gemm = node("Gemm", X, R(4, 3), R(3))
    model = chain((2, 4), gemm, batch_norm(3), dtype=dtype)
    made, plan = judge(model, tolerance=5e-3 if dtype == TensorProto.FLOAT16 else 1e-12)
    assert len(plan.folds()) == 1
    assert {each.data_type for each in made.graph.initializer} == {dtype}


@pytest.mark.parametrize("activation", ["Erf", "Tanh"])
@pytest.mark.parametrize("is_last", [True, False])
def test_a_gelu_stays_whole(activation: str, *, is_last: bool) -> None:
    first, second = ("a", "half") if is_last else ("half", "a")
    text = f"""g (float[2, 4] x) => (float[2, 3] z) {{
        s = {activation} (x)
        a = Add (s, one)
        t = Mul (x, {first})
        y = Mul (t, {second})
        z = Gemm (y, w)
    }}"""
    half, one = np.array(0.5, "f4"), np.array(1, "f4")
    _, plan = judge(written(text, half=half, one=one, w=R(4, 3)))
    assert [each.layer for each in plan.kept()] == ["n1", "n3" if is_last else "n2"]
    assert "as part of a LayerNormalization or GELU" in plan.kept()[1].reason


def test_a_layer_normalization_of_many_nodes_stays_whole() -> None:
    model = written(
        """g (float[2, 4] x) => (float[2, 3] z) {
            m = ReduceMean <keepdims = 1> (x, axes)
            d = Sub (x, m)
            p = Pow (d, two)
            v = ReduceMean <keepdims = 1> (p, axes)
            e = Add (v, eps)
            r = Sqrt (e)
            n = Div (d, r)
            s = Mul (n, gamma)
            y = Add (s, beta)
            z = Gemm (y, w)
        }""",
        axes=np.array([-1]), two=np.array(2, "f4"), eps=np.array(1e-5, "f4"), gamma=R(4),
        beta=R(4, seed=1), w=R(4, 3),
    )  # fmt: skip
    _, plan = judge(model)
    assert [each.layer for each in plan.kept()] == ["n4", "n7 + n8"]
    assert "as part of a LayerNormalization or GELU" in plan.kept()[1].reason


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_signaling_nan_folds_nowhere_and_warns_of_nothing() -> None:
    scale = np.array(0x7F800001, np.uint32).view(np.float32)
    plan = fold_plan(chain((2, 4, 5), TANH, CONV, node("Mul", X, scale), TANH), clip=False)
    assert "are not finite" in repr(plan)
