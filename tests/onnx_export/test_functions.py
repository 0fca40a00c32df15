"""Functions of several operations become the one node that ONNX, or onnxruntime, has for them."""

from collections.abc import Callable
from pathlib import Path

import keras
import onnx
import onnxruntime
import pytest

from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.onnx_export.export import export

Build = Callable[[keras.KerasTensor], keras.KerasTensor]


def exported(build: Build, path: Path, *, opset: int = 18) -> list[str]:
    """The operations of a model on sequences of vectors, with random parameters."""
    x = keras.Input((6, 8), name="x")
    model = keras.Model(x, build(x))
    randomize_parameters(model, 1)
    export(model, path, opset=opset)
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_layer_normalization_is_one_node(tmp_path: Path, scale: bool, center: bool) -> None:
    layer = keras.layers.LayerNormalization(scale=scale, center=center, epsilon=1e-4, name="norm")
    assert exported(layer, tmp_path / "a.onnx") == ["LayerNormalization"]
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert graph.node[0].name == "norm"
    assert [each.name for each in graph.initializer] == ["norm.weight", "norm.bias"][: 1 + center]


@pytest.mark.parametrize("axis", [[1, 2], 1])
def test_layer_normalization_over_other_axes(tmp_path: Path, axis: int | list[int]) -> None:
    found = exported(keras.layers.LayerNormalization(axis=axis), tmp_path / "a.onnx")
    assert (found == ["LayerNormalization"]) == (axis == [1, 2])  # ONNX has it over the last axes


def test_opset_16_has_no_layer_normalization(tmp_path: Path) -> None:
    found = exported(keras.layers.LayerNormalization(), tmp_path / "a.onnx", opset=16)
    assert len(found) == 13
    assert "LayerNormalization" not in found


@pytest.mark.parametrize(
    "build",
    [keras.layers.Dense(3, activation="gelu"), lambda x: keras.ops.gelu(x, approximate=False)],
    ids=["activation", "operation"],
)
def test_onnxruntime_fuses_the_exact_gelu(tmp_path: Path, build: Build) -> None:
    found = exported(build, tmp_path / "a.onnx")
    assert found[-5:] == ["Div", "Erf", "Add", "Mul", "Mul"]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(tmp_path / "a.onnx", options, providers=["CPUExecutionProvider"])
    fused = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert {"Gelu", "BiasGelu"} & set(fused)
    assert "Erf" not in fused


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_an_argmax_is_one_node(tmp_path: Path, name: str, keepdims: bool) -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        return getattr(keras.ops, name)(x, axis=-1, keepdims=keepdims)

    found = exported(build, tmp_path / "a.onnx")
    assert sum(operation.lower() == name for operation in found) == 1
    assert {each.lower() for each in found} <= {name, "cast", "unsqueeze"}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["argmax", "argmin", "max", "sum"])
def test_all_numbers_of_a_batch_become_one(tmp_path: Path, name: str, keepdims: bool) -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        return getattr(keras.ops, name)(x, keepdims=keepdims)

    exported(build, tmp_path / "a.onnx")  # which compares the answers
    (output,) = onnx.load(tmp_path / "a.onnx").graph.output
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 1, 1] * keepdims


def test_a_fixed_batch_size_is_written(tmp_path: Path) -> None:
    x = keras.Input(batch_shape=(1, 4), name="x")
    export(keras.Model(x, keras.layers.Dense(2, name="y")(x)), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    sizes = [
        [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)
    ]
    assert sizes == [[1, 4], [1, 2]]
