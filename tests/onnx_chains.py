"""Small ONNX models, and what folds them and judges the result by onnxruntime."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, parser

from kerasbn.folding.onnx.fold import fold_model
from kerasbn.folding.plan import Fold, Kept, Plan

Array = np.ndarray
X = "x"  # in the inputs of a node, the tensor before it
# Ten times the rounding errors of float32 in these models; a wrong fold is off by 0.01 or more.
TOLERANCE = 2e-5


@dataclass
class Node:
    """A node of a chain: its inputs are `X`, arrays, or names of tensors."""

    op: str
    inputs: Sequence[Any]
    attributes: dict[str, Any]


def node(op: str, *inputs: Any, **attributes: Any) -> Node:
    return Node(op, inputs or (X,), attributes)


def random(*shape: Any, seed: int = 0) -> Array:
    """Random values of both signs, none of them tiny."""
    rng = np.random.default_rng([seed, *shape])
    values: Array = rng.uniform(0.4, 1.5, shape) * rng.choice([-1, 1], shape)
    return np.asarray(values, np.float32)


def batch_norm(channels: int, *, positive: bool = False, seed: int = 0) -> Node:
    gamma, beta, mean, variance = (random(channels, seed=seed + n) for n in range(4))
    gamma = np.abs(gamma) if positive else gamma
    return node("BatchNormalization", X, gamma, beta, mean, np.abs(variance), epsilon=1e-3)


def chain(
    shape: Sequence[int | str],
    *nodes: Node,
    opset: int = 21,
    dtype: int = TensorProto.FLOAT,
    input_type: int | None = None,
) -> onnx.ModelProto:
    """A model of nodes `n0`, `n1`, ... in a row, from the input "in" to the output "out"."""
    made, constants = [], []
    before = "in"
    for at, each in enumerate(nodes):
        names = []
        for slot, value in enumerate(each.inputs):
            if isinstance(value, np.ndarray):
                name = f"n{at}.{slot}"
                if value.dtype == np.float32:
                    value = value.astype(helper.tensor_dtype_to_np_dtype(dtype))
                constants.append(numpy_helper.from_array(value, name))
            else:
                name = before if value is X else value
            names.append(name)
        after = "out" if at == len(nodes) - 1 else f"t{at}"
        made.append(helper.make_node(each.op, names, [after], f"n{at}", **each.attributes))
        before = after
    graph = helper.make_graph(
        made, "chain", [helper.make_tensor_value_info("in", input_type or dtype, shape)],
        [helper.make_tensor_value_info("out", dtype, None)],
        constants,
    )  # fmt: skip
    model = as_model(graph, opset)
    result = run(model, feeds_of(model))[0].shape
    free = [isinstance(n, str) for n in shape] * len(result)
    for n, is_free in zip(result, free, strict=False):
        axis = model.graph.output[0].type.tensor_type.shape.dim.add()
        if not (is_free and n == 2):
            axis.dim_value = n
    return model


def as_model(graph: onnx.GraphProto, opset: int = 21) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10)


def written(text: str, **constants: np.ndarray) -> onnx.ModelProto:
    """A model in the text form of ONNX, with these constants as initializers."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for at, each in enumerate(model.graph.node):
        each.name = f"n{at}"
    return model


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    arrays: list[Array] = session.run(None, feeds)
    return arrays


def feeds_of(model: onnx.ModelProto) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    feeds = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [axis.dim_value or 2 for axis in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        is_integer = dtype.kind in "iu"
        values = rng.integers(0, 3, shape) if is_integer else rng.normal(size=shape)
        feeds[value.name] = values.astype(dtype)
    return feeds


def folded(model: onnx.ModelProto, *, clip: bool = True) -> tuple[onnx.ModelProto, Plan]:
    made, plan = fold_model(ir.from_proto(model), clip=clip, check=False)
    return ir.to_proto(made), plan


def judge(
    model: onnx.ModelProto, *, clip: bool = True, tolerance: float = TOLERANCE
) -> tuple[onnx.ModelProto, Plan]:
    """Fold a model, check the result against onnx and onnxruntime, and return it with the plan."""
    made, plan = folded(model, clip=clip)
    onnx.checker.check_model(made, full_check=True)
    feeds = feeds_of(model)
    for got, want in zip(run(made, feeds), run(model, feeds), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        a, b = got.astype(np.float64), want.astype(np.float64)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()
    return made, plan


def only_fold(model: onnx.ModelProto, **settings: Any) -> Fold:
    """Judge a model whose only affine node has to go, and return how it went."""
    _, plan = judge(model, **settings)
    (fold,) = plan
    assert isinstance(fold, Fold), fold
    return fold


def only_reason(model: onnx.ModelProto, **settings: Any) -> str:
    """Judge a model whose only affine node has to stay, and return the reason."""
    made, plan = judge(model, **settings)
    (kept,) = plan
    assert isinstance(kept, Kept), kept
    assert list(made.graph.node) == list(model.graph.node)
    assert list(made.graph.initializer) == list(model.graph.initializer)
    return kept.reason
