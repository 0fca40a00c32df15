"""ONNX files: what is read, what is refused, and how they are written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_chains import X, batch_norm, chain, feeds_of, node, random, run

import kerasbn
from kerasbn.common.errors import InputError
from kerasbn.folding.onnx import files
from kerasbn.folding.onnx.files import load_model, save_model
from kerasbn.folding.onnx.fold import fold_model


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


def many_axes(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension()] * 70)


def rearranged_otherwise(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0].name
    model.graph.node.insert(0, helper.make_node("Transpose", [weights], ["turned"], perm=[0, 1, 2]))


@pytest.mark.parametrize(
    "damage",
    [
        dangling, too_few_bytes, twice, unnamed, attribute_of_another_type, no_opset,
        negative_axis, large_axis, many_axes, rearranged_otherwise,
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


MODEL = chain((2, 20), node("Gemm", X, random(20, 30)), batch_norm(30))


def save_apart(path: Path) -> None:
    """Save the model with its weights in w.bin."""
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)  # since saving changes it
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)


def outputs(path: Path) -> np.ndarray:
    onnx.checker.check_model(path, full_check=True)
    loaded = onnx.load(path)  # with its external data
    return run(loaded, feeds_of(MODEL))[0]


def test_weights_in_a_file_of_their_own_stay_there(tmp_path: Path) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    save_apart(source)
    # The second time, the file replaces one that its own weights are read from.
    for given, at in ((source, out), (out, out)):
        original = load_model(given)
        save_model(fold_model(original, check=False).model, at, original)
        assert {path.name for path in tmp_path.iterdir()} == {
            "model.onnx", "w.bin", "folded.onnx", "folded.onnx.data",
        }  # fmt: skip
        want = run(MODEL, feeds_of(MODEL))[0]
        np.testing.assert_allclose(outputs(at), want, rtol=1e-4, atol=1e-5)
    in_memory = kerasbn.fold(source, check=False)
    assert [each.op_type for each in in_memory.graph.node] == ["Gemm"]
    assert not any(each.external_data for each in in_memory.graph.initializer)


def test_a_model_too_large_for_one_file_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = ir.from_proto(MODEL), tmp_path / "folded.onnx"
    save_model(model, out, model)
    assert [path.name for path in tmp_path.iterdir()] == ["folded.onnx"]
    monkeypatch.setattr(files, "LARGEST_FILE", 2000)
    save_model(model, out, model)
    assert (tmp_path / "folded.onnx.data").stat().st_size >= 20 * 30 * 4
    np.testing.assert_array_equal(outputs(out), run(MODEL, feeds_of(MODEL))[0])


def test_axes_of_length_minus_1_are_free() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    (shape,) = (value.shape for value in load_model(model).graph.inputs)
    assert shape is not None
    assert [n if isinstance(n, int) else None for n in shape] == [None, 20]
    assert len(kerasbn.fold_plan(model)) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"no model", "cannot read"), (b"", "cannot read")],
)
def test_what_is_no_model_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        kerasbn.fold_plan(path)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_apart(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match=r"cannot read"):
        kerasbn.fold(path)
