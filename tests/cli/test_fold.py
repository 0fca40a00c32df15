import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from kerasbn.folding.keras.randomize import randomize_parameters

Kerasbn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    x = keras.Input((6,), name="x")
    y = keras.layers.BatchNormalization(name="bn_1")(keras.layers.Dense(5, name="dense_1")(x))
    y = keras.layers.Activation("tanh", name="act")(y)
    z = keras.layers.BatchNormalization(name="bn_2")(y)
    model = keras.Model(x, [z, keras.layers.Dense(2, name="dense_2")(y)])
    randomize_parameters(model, 3)
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_the_plan_is_printed_line_by_line(kerasbn: Kerasbn, saved: Path) -> None:
    code, out, err = kerasbn("fold", saved)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "bn_1: folded backward into dense_1",
        "bn_2: kept because its input is also read by `dense_2`, and its output is a model output",
        "1 of 2 BN layers folded.",
    ]


def test_the_folded_network_answers_as_the_saved_one(kerasbn: Kerasbn, saved: Path) -> None:
    out = saved.with_name("folded.keras")
    code, printed, _ = kerasbn("fold", saved, "-o", out, "--json")
    answer = json.loads(printed)
    assert (code, answer["out"]) == (0, str(out))
    assert [each["decision"] for each in answer["plan"]] == ["fold", "keep"]
    folded, model = keras.saving.load_model(out), keras.saving.load_model(saved)
    assert {layer.name for layer in model.layers} - {layer.name for layer in folded.layers} == {
        "bn_1"
    }
    x = np.random.default_rng(0).normal(size=(7, 6))
    for got, want in zip(folded(x), model(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_answers_are_compared_on_given_samples(kerasbn: Kerasbn, saved: Path) -> None:
    inputs = saved.with_name("inputs.npz")
    np.savez(inputs, x=np.random.default_rng(0).normal(size=(90, 6)))
    code, out, err = kerasbn("fold", saved, "--inputs", inputs)
    assert (code, err) == (0, "")
    *_, last = out.splitlines()
    assert last.startswith("difference from the original on 90 given samples: at most ")
    assert last.endswith("; 180 of 180 predictions are equal (100.00%)")
    found = json.loads(kerasbn("fold", saved, "--inputs", inputs, "--json")[1])["difference"]
    assert (found["samples"], found["changed"]) == (90, 0)
    assert 0 < found["relative"] < 1e-6
    np.savez(inputs, x=np.ones((9, 5)))
    code, out, err = kerasbn("fold", saved, "--inputs", inputs)
    assert (code, out) == (2, "")
    assert f"{inputs}, array 'x': received the shape (9, 5), expected (any, 6)" in err
    code, out, err = kerasbn("fold", saved, "--inputs", inputs, "--no-check")
    assert (code, out) == (2, "")
    assert "received --inputs and --no-check, expected one of the two" in err


def test_a_fixed_batch_takes_any_number_of_samples(kerasbn: Kerasbn, tmp_path: Path) -> None:
    x = keras.Input(batch_shape=(4, 3), name="x")
    y = keras.layers.BatchNormalization()(keras.layers.Dense(2)(x))
    keras.Model(x, y).save(tmp_path / "model.keras")
    for count in (3, 10):
        np.savez(tmp_path / "inputs.npz", x=np.random.default_rng(0).normal(size=(count, 3)))
        code, out, err = kerasbn(
            "fold", tmp_path / "model.keras", "--inputs", tmp_path / "inputs.npz"
        )
        assert (code, err) == (0, "")
        assert f"{count} of {count} predictions are equal" in out


def test_an_onnx_file_is_compared_on_given_samples(kerasbn: Kerasbn, tmp_path: Path) -> None:
    cases = Path(__file__).parent.parent / "folding/onnx/cases"
    model, arrays = cases / "tabular-torchscript.onnx", np.load(cases / "tabular.npz")
    ports = onnx.load(model).graph.input
    samples = {port.name: arrays[f"x{at}"] for at, port in enumerate(ports)}
    np.savez(tmp_path / "inputs.npz", **samples)
    code, out, _ = kerasbn("fold", model, "--inputs", tmp_path / "inputs.npz", "--json")
    found = json.loads(out)["difference"]
    assert (code, found["samples"]) == (0, len(arrays["x0"]))
    assert 0 < found["relative"] < 1e-5


@pytest.mark.slow
def test_an_onnx_file_is_folded_without_keras(tmp_path: Path) -> None:
    model = Path(__file__).parent.parent / "folding/onnx/cases/heads-torchscript.onnx"
    out = tmp_path / "folded.onnx"
    code = """
import sys
from kerasbn.cli.main import cli
cli.main(sys.argv[1:], standalone_mode=False)
assert not {"tensorflow", "keras", "matplotlib"} & set(sys.modules)
"""
    command = [sys.executable, "-c", code, "fold", str(model), "-o", str(out), "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [each["decision"] for each in printed["plan"]] == ["fold"] * 3
    assert (printed["out"], printed["added_bytes"]) == (str(out), 4608)
    assert "BatchNormalization" not in {each.op_type for each in onnx.load(out).graph.node}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.onnx"], "received no such file, expected an ONNX model"),
        (["none.onnx", "-o", "{folder}/out.keras"], "expected one ending in .onnx"),
        (["none.keras"], "received no such file"),
        (["{model}", "-o", "{folder}/missing/out.keras"], "received a folder that does not exist"),
        (["{model}", "-o", "{folder}/out.onnx"], "expected one ending in .keras"),
        (["{folder}/damaged.keras"], "received a file that is truncated or damaged"),
        (["{folder}/unbuilt.keras"], "received a model that is not built yet"),
    ],
)
def test_what_cannot_be_folded_is_one_line(
    kerasbn: Kerasbn, saved: Path, arguments: list[str], line: str
) -> None:
    folder = saved.parent
    (folder / "damaged.keras").write_bytes(saved.read_bytes()[:500])
    keras.Sequential([keras.layers.Dense(3)]).save(folder / "unbuilt.keras")
    before = set(folder.iterdir())
    code, out, err = kerasbn("fold", *[a.format(model=saved, folder=folder) for a in arguments])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err
    assert set(folder.iterdir()) == before
