"""A damaged ONNX file is refused before any of it is folded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kerasbn.common.errors import InputError
from kerasbn.folding.onnx.files import load_model


def dense() -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "dense", alpha=1.0)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((3, 2), np.float32), "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def dangling(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = "gone"


def too_few_bytes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"1234567"


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])


def unnamed(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].name = ""


def attribute_of_another_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("alpha", "one"))


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def negative_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -3


def large_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**40


@pytest.mark.parametrize(
    "damage",
    [
        dangling, too_few_bytes, twice, unnamed, attribute_of_another_type, no_opset,
        negative_axis, large_axis,
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(
    damage: Callable[[onnx.ModelProto], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, model = tmp_path / "model.onnx", dense()
    onnx.save(model, path)
    assert load_model(path).graph.name == "g"
    damage(model)
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"received (a file that onnx cannot read|an input 'x')"):
        load_model(path)
    assert capfd.readouterr() == ("", "")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(dense().SerializeToString().replace(b"dense", b"den\xffe"))
    with pytest.raises(InputError, match="received a file that onnx cannot read"):
        load_model(path)
