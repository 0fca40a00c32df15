"""A model is loaded only if its inputs fit into the memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from kerasbn.common.errors import InputError
from kerasbn.inference.session import MOST_ELEMENTS, Session


def write_model(path: Path, *shape: int | str) -> Path:
    """A model that returns its input."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "same")
    ]
    node = helper.make_node("Identity", ["image"], ["same"])
    graph = helper.make_graph([node], "large", ports[:1], ports[1:])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize("shape", [(2**40, 28, 28), ("batch", 2**20, 2**20, 3)])
def test_an_input_that_would_fill_the_memory_is_refused(
    shape: tuple[int | str, ...], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"received an input 'image' of [\d,]+ numbers, expected"):
        Session(write_model(tmp_path / "model.onnx", *shape))


def test_an_input_of_more_axes_than_numpy_has_is_refused(tmp_path: Path) -> None:
    Session(write_model(tmp_path / "most.onnx", *[1] * 64))
    with pytest.raises(InputError, match=r"received an input 'image' of 65 axes, expected at most"):
        Session(write_model(tmp_path / "more.onnx", *[1] * 65))


def test_a_constant_of_more_elements_than_can_be_counted_is_refused_in_silence(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.onnx", 1)
    model = onnx.load(path)
    constant = TensorProto(name="shape", dims=[5 << 60], data_type=TensorProto.INT64)
    constant.raw_data = bytes(8)
    model.graph.initializer.append(constant)
    model.graph.node.append(helper.make_node("Reshape", ["same", "shape"], ["there"]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model\.onnx: received a"):
        Session(path)
    assert capfd.readouterr().err == ""


def negate_in_bfloat16(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Neg"
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.BFLOAT16


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 400), "Opset 400 is under development"),
        (negate_in_bfloat16, "Could not find an implementation for Neg"),
        (lambda m: setattr(m, "ir_version", 90), "Unsupported model IR version: 90"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Strange"), "No Op registered for Strange"),
    ],
)
def test_a_model_that_onnxruntime_lacks_something_for_is_not_called_damaged(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    path = write_model(tmp_path / "model.onnx", "batch", 3)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    wanted = "a valid one whose opset, operations and types it supports; kerasbn export"
    with pytest.raises(InputError, match=rf"cannot load \(.*{reason}.*\), expected {wanted}"):
        Session(path)


def test_a_model_without_outputs_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", "batch", 3)
    model = onnx.load(path)
    del model.graph.output[:]
    onnx.save(model, path)
    with pytest.raises(InputError, match="received a model without outputs, expected"):
        Session(path)


def test_an_input_of_any_batch_size_is_accepted(tmp_path: Path) -> None:
    session = Session(write_model(tmp_path / "model.onnx", "batch", MOST_ELEMENTS))
    assert session.inputs[0].shape == (None, MOST_ELEMENTS)
    session = Session(write_model(tmp_path / "model.onnx", "batch", 3))
    np.testing.assert_array_equal(session.run([np.ones((2, 3), np.float32)])[0], np.ones((2, 3)))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_onnxruntime_cannot_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build for GPUs lists its provider wherever it is installed."""
    path = write_model(tmp_path / "model.onnx", "batch", 3)
    with pytest.raises(InputError, match="received an onnxruntime without GPU support, expected"):
        Session(path, "gpu")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with pytest.raises(InputError, match="whose CUDAExecutionProvider does not start, expected"):
        Session(path, "gpu")
