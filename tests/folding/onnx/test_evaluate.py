"""The float64 evaluator against onnxruntime in float32, on the same nodes."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper
from random_onnx import random_graph

from kerasbn.folding.onnx.evaluate import CannotEvaluate, run_nodes

Array = NDArray[Any]


def by_onnxruntime(
    model: onnx.ModelProto, names: list[str], feeds: dict[str, Array]
) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    kind = onnx.TensorProto.FLOAT
    copy.graph.output.extend([helper.make_tensor_value_info(name, kind, None) for name in names])
    given = {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in feeds.items()
    }
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(names, given))


@pytest.mark.parametrize("first", range(700000, 700060, 15))
def test_random_graphs_agree_with_onnxruntime(first: int) -> None:
    for seed in range(first, first + 15):
        random = random_graph(seed, "float32")
        onnx.checker.check_model(random.model, full_check=True)
        made = [
            name
            for node in random.model.graph.node
            for name in node.output
            if name in random.values and random.values[name].dtype.kind == "f"
        ]
        made = [name for name in made if random.values[name].size]
        for name, got in zip(made, by_onnxruntime(random.model, made, random.feeds), strict=True):
            want = random.values[name]
            assert got.shape == want.shape, (seed, name)
            scale = max(1.0, np.abs(want).max())
            assert np.abs(got - want).max() <= 1e-3 * scale, (seed, name)


@pytest.mark.parametrize(
    ("op", "shapes", "how"),
    [
        ("Conv", [(2, 6, 7, 8), (9, 2, 3, 2), (9,)], {"group": 3, "pads": [1, 0, 2, 1]}),
        ("Conv", [(1, 4, 9), (4, 1, 3)], {"group": 4, "dilations": [2], "strides": [2]}),
        ("Conv", [(1, 3, 7, 6), (4, 3, 2, 3)], {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
        ("Conv", [(1, 2, 4, 4, 5), (3, 2, 2, 2, 2)], {"auto_pad": "SAME_UPPER"}),
        ("ConvTranspose", [(2, 6, 4, 5), (6, 3, 3, 2), (6,)], {"group": 2, "strides": [2, 1]}),
        ("ConvTranspose", [(1, 2, 4), (2, 3, 3)], {"dilations": [2], "pads": [1, 2]}),
        (
            "ConvTranspose",
            [(1, 2, 4, 4), (2, 3, 3, 3)],
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        ),
        (
            "ConvTranspose",
            [(1, 2, 4, 4), (2, 3, 3, 3)],
            {"strides": [2, 2], "output_padding": [1, 0]},
        ),
        (
            "ConvTranspose",
            [(1, 2, 4, 4), (2, 3, 3, 3)],
            {"strides": [2, 2], "output_shape": [8, 7], "auto_pad": "SAME_LOWER"},
        ),
        (
            "AveragePool",
            [(1, 2, 6, 7)],
            {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        ),
        ("AveragePool", [(1, 2, 6, 7)], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", [(1, 2, 6)], {"kernel_shape": [2], "dilations": [2]}),
        (
            "AveragePool",
            [(1, 2, 6, 7)],
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        ),
        ("MaxPool", [(1, 2, 6, 7)], {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1}),
        ("MaxPool", [(1, 2, 9)], {"kernel_shape": [2], "dilations": [3], "pads": [1, 1]}),
        ("GlobalMaxPool", [(2, 3, 4)], {}),
        ("GroupNormalization", [(2, 6, 3, 4), (6,), (6,)], {"num_groups": 2}),
    ],
)
def test_operators_agree_with_onnxruntime(
    op: str, shapes: list[tuple[int, ...]], how: dict[str, Any]
) -> None:
    random = np.random.default_rng(0)
    feeds = {f"x{k}": random.normal(size=shape) for k, shape in enumerate(shapes)}
    node = helper.make_node(op, list(feeds), ["y"], **how)
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
        for name, array in feeds.items()
    ]
    graph = helper.make_graph([node], "g", ports, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (want,) = by_onnxruntime(model, ["y"], feeds)
    got = run_nodes([node], feeds, ["y"], {"": 21})["y"]
    assert got.dtype == np.float64
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("opset", [9, 13])
def test_old_batch_normalization_uses_moving_statistics(opset: int) -> None:
    x, one = np.random.default_rng(0).normal(3, 2, (4, 2)), np.ones(2)
    node = helper.make_node("BatchNormalization", ["x", "a", "b", "m", "v"], ["y"], epsilon=0.0)
    feeds = {"x": x, "a": one, "b": 0 * one, "m": one, "v": 4 * one}
    assert np.allclose(run_nodes([node], feeds, ["y"], {"": opset})["y"], (x - 1) / 2)


def test_a_cast_to_float32_does_not_round() -> None:
    x = np.array([1 / 3])
    node = helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT)
    assert run_nodes([node], {"x": x}, ["y"], {"": 18})["y"] == x


@pytest.mark.parametrize(
    "how", [{"activations": ["Relu"]}, {"clip": 1.0}], ids=["activations", "clip"]
)
def test_what_the_reference_ignores_is_refused(how: dict[str, Any]) -> None:
    node = helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=1, **how)
    feeds = {"x": np.ones((2, 1, 1)), "w": np.ones((1, 1, 1)), "r": np.ones((1, 1, 1))}
    with pytest.raises(CannotEvaluate, match="RNN"):
        run_nodes([node], feeds, ["y"], {"": 18})


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(CannotEvaluate, match="Unheard"):
        run_nodes([helper.make_node("Unheard", ["x"], ["y"])], {"x": np.ones(2)}, ["y"], {"": 18})
