"""Each pass does its one thing, says whether it did, and leaves the answers as they are."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from kerasbn.inference.onnx_graph import Graph, Node, Port, infer_shapes, read_graph, write_graph
from kerasbn.onnx_export import fuse, simplify

F, I64 = np.float32, np.int64
X = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(F)


def graph(*nodes: Node, out: str, kind: int = TensorProto.FLOAT, **constants: Any) -> Graph:
    """A graph from `x`, [batch, 2, 3], to `out`."""
    made = Graph(
        list(nodes), {name: np.asarray(value) for name, value in constants.items()},
        [Port("x", "x", TensorProto.FLOAT, ("batch", 2, 3))], [Port("y", out, kind, None)], 18,
    )  # fmt: skip
    infer_shapes(made)
    return made


def node(op: str, inputs: str, out: str, **attributes: Any) -> Node:
    return Node(op, inputs.split(), [out], attributes, f"node {out}")


def answer(made: Graph) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(
        write_graph(made, "g").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": X})[0])


def operations(made: Graph) -> list[str]:
    return [n.op for n in made.nodes]


CASES: dict[str, tuple[Any, Graph, list[str]]] = {
    "identity": (
        simplify.drop_idle,
        graph(
            node("Identity", "x", "a"), node("Relu", "a", "b"), node("Identity", "b", "c"), out="c"
        ),
        ["Relu"],
    ),
    "cast to its own type": (
        simplify.drop_idle,
        graph(node("Cast", "x", "a", to=TensorProto.FLOAT), node("Relu", "a", "b"), out="b"),
        ["Relu"],
    ),
    "transpose that changes nothing": (
        simplify.drop_idle,
        graph(node("Transpose", "x", "a", perm=[0, 1, 2]), node("Relu", "a", "b"), out="b"),
        ["Relu"],
    ),
    "two casts, the first exact": (
        simplify.merge_casts,
        graph(
            node("Cast", "x", "a", to=TensorProto.DOUBLE),
            node("Cast", "a", "b", to=TensorProto.FLOAT16),
            out="b", kind=TensorProto.FLOAT16,
        ),
        ["Cast", "Cast"],
    ),
    "two transposes": (
        simplify.merge_transposes,
        graph(
            node("Transpose", "x", "a", perm=[1, 2, 0]),
            node("Transpose", "a", "b", perm=[2, 1, 0]),
            out="b",
        ),
        ["Transpose", "Transpose"],
    ),
    "constants": (
        simplify.fold_constants,
        graph(node("Add", "c d", "a"), node("Mul", "x a", "b"), out="b", c=F(2), d=F(3)),
        ["Mul"],
    ),
    "equal nodes": (
        simplify.merge_equal,
        graph(
            node("Relu", "x", "a"), node("Relu", "x", "b"), node("Add", "a b", "c"), out="c"
        ),
        ["Relu", "Add"],
    ),
    "unused": (
        simplify.drop_unused,
        graph(node("Exp", "x", "a"), node("Relu", "x", "b"), out="b", c=F(2)),
        ["Relu"],
    ),
    "flatten": (
        fuse.flatten,
        graph(node("Reshape", "x s", "a"), out="a", s=np.array([-1, 6], I64)),
        ["Flatten"],
    ),
    "gemm": (
        fuse.gemm,
        graph(
            node("Flatten", "x", "a", axis=1), node("MatMul", "a w", "b"), out="b",
            w=np.ones((6, 4), F),
        ),
        ["Flatten", "Gemm"],
    ),
    "bias of a gemm": (
        fuse.bias,
        graph(
            node("Flatten", "x", "a", axis=1), node("Gemm", "a w", "b"), node("Add", "t b", "c"),
            out="c", w=np.ones((6, 4), F), t=np.arange(4, dtype=F),
        ),
        ["Flatten", "Gemm"],
    ),
    "bias of a convolution": (
        fuse.bias,
        graph(
            node("Conv", "x w", "b"), node("Add", "b t", "c"),
            out="c", w=np.ones((4, 2, 1), F), t=np.arange(4, dtype=F).reshape(1, 4, 1),
        ),
        ["Conv"],
    ),
    "bias behind a change of layout": (
        fuse.kernel_ahead_of_layout,
        graph(
            node("Conv", "x w", "b"), node("Transpose", "b", "c", perm=[0, 2, 1]),
            node("Add", "c t", "d"), out="d", w=np.ones((4, 2, 1), F), t=np.arange(4, dtype=F),
        ),
        ["Conv", "Add", "Transpose"],
    ),
    "a computed shape": (
        simplify.settle_shapes,
        graph(
            node("Shape", "x", "s"), node("Gather", "s zero", "n"),
            node("Concat", "n six", "to", axis=0), node("Reshape", "x to", "a"), out="a",
            zero=np.array([0], I64), six=np.array([6], I64),
        ),
        ["Shape", "Gather", "Concat", "Reshape"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pass(name: str) -> None:
    step, made, wanted = CASES[name]
    made = read_graph(write_graph(made, "g"))  # a copy: the cases are used twice
    before = answer(made)
    assert step(made)
    assert operations(made) == wanted
    np.testing.assert_allclose(answer(made), before, rtol=1e-6)
    infer_shapes(made)
    simplify.drop_unused(made)
    assert not step(made), "a pass that has nothing left to do says so"


@pytest.mark.parametrize(
    ("step", "made"),
    [
        (  # the first cast rounds
            simplify.merge_casts,
            graph(
                node("Cast", "x", "a", to=TensorProto.FLOAT16),
                node("Cast", "a", "b", to=TensorProto.DOUBLE), out="b", kind=TensorProto.DOUBLE,
            ),
        ),
        (  # another number of elements per sample
            fuse.flatten,
            graph(node("Reshape", "x s", "a"), out="a", s=np.array([-1, 3], I64)),
        ),
        (  # not per channel
            fuse.bias,
            graph(
                node("Conv", "x w", "b"), node("Add", "b t", "c"),
                out="c", w=np.ones((4, 2, 1), F), t=np.ones((1, 4, 3), F),
            ),
        ),
        (  # read twice: the other reader would get the bias too
            fuse.bias,
            graph(
                node("Conv", "x w", "b"), node("Add", "b t", "c"), node("Mul", "b c", "d"),
                out="d", w=np.ones((4, 2, 1), F), t=np.arange(4, dtype=F).reshape(1, 4, 1),
            ),
        ),
        (  # random numbers are no constants
            simplify.merge_equal,
            graph(
                node("RandomNormalLike", "x", "a"), node("RandomNormalLike", "x", "b"),
                node("Add", "a b", "c"), out="c",
            ),
        ),
    ],
)  # fmt: skip
def test_what_a_pass_may_not_touch(step: Any, made: Graph) -> None:
    before = operations(made)
    assert not step(made)
    assert operations(made) == before


def test_a_settled_shape_has_the_free_axis_left_free() -> None:
    made = read_graph(write_graph(CASES["a computed shape"][1], "g"))
    simplify.settle_shapes(made)
    (reshape,) = [n for n in made.nodes if n.op == "Reshape"]
    assert made.constants[reshape.inputs[1]].tolist() == [-1, 6]
