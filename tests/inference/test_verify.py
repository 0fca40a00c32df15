"""Each defect fails exactly the check that is meant for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from kerasbn import export, verify
from kerasbn.common.errors import CheckFailedError, InputError
from kerasbn.inference.metadata import CHECKSUM
from kerasbn.inference.verify import FAILED, NOT_CHECKED, PASSED

Make = Callable[..., keras.Model]


ALL_PASSED = dict.fromkeys(("intact", "folded", "parity", "determinism"), PASSED)
EDITED = ALL_PASSED | {"intact": NOT_CHECKED}


def statuses(found: Any) -> dict[str, str]:
    return {check.name: check.status for check in found.checks}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def model(make_network: Make) -> keras.Model:
    return make_network("mnist")


@pytest.fixture(scope="module")
def good(folder: Path, model: keras.Model) -> Path:
    export(model, folder / "good.onnx")
    return folder / "good.onnx"


def edited(path: Path, name: str, edit: Callable[[onnx.ModelProto], None]) -> Path:
    """Change a file like another program, which keeps no checksum."""
    model = onnx.load(path)
    edit(model)
    kept = [entry for entry in model.metadata_props if entry.key != CHECKSUM]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, path.with_name(name))
    return path.with_name(name)


def test_good_file_passes_all_checks(
    good: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with a new process
    found = verify(good, model)
    assert statuses(found) == ALL_PASSED
    assert found.passed
    assert found.determinism.figures["batch_sizes"] == tuple(range(1, 257))
    names = [d["condition"] for d in found.determinism.figures["deviations"]]
    assert names == [
        "batch sizes", "reversed order", "repeated run", "new session", "2 threads", "new process",
        "batch composition",
    ]  # fmt: skip
    assert 0 < found.parity.figures["file_in_float64"] < 3e-7
    json.dumps(found.as_dict())


@pytest.mark.slow
def test_unfolded_bn_fails_folded_and_is_named(folder: Path, model: keras.Model) -> None:
    export(model, folder / "unfolded.onnx", fold=False)
    found = verify(folder / "unfolded.onnx", model)
    assert statuses(found) == ALL_PASSED | {"folded": FAILED}
    assert found.folded.figures["bn_nodes"] == ["bn_1/Mul + bn_1/Add", "bn_2/Mul + bn_2/Add"]
    assert "bn_1/Mul" in found.folded.reason


def test_batch_normalization_node_fails_folded(good: Path) -> None:
    def insert(model: onnx.ModelProto) -> None:
        ones = np.full(32, 0.9, np.float32)
        for name in ("s", "b", "m", "v"):
            model.graph.initializer.append(numpy_helper.from_array(ones, name))
        node = helper.make_node(
            "BatchNormalization", ["dense_1", "s", "b", "m", "v"], ["normal"], name="late"
        )
        relu = next(node for node in model.graph.node if node.name == "relu_1")
        relu.input[0] = "normal"
        model.graph.node.insert(list(model.graph.node).index(relu), node)

    found = verify(edited(good, "with_node.onnx", insert))
    assert statuses(found)["folded"] == FAILED
    assert found.folded.figures["bn_nodes"] == ["late"]


@pytest.mark.parametrize("layer", ["dense_1", "dense_2", "logits"])
def test_changed_weight_fails_parity(layer: str, good: Path, model: keras.Model) -> None:
    images = np.random.default_rng(0).integers(0, 256, (99, 28, 28)).astype(np.uint8)
    before = keras.Model(model.inputs, model.get_layer(layer).input)(images)
    awake = int(np.asarray(before).mean(axis=0).argmax())

    def nudge(model: onnx.ModelProto) -> None:
        (tensor,) = [t for t in model.graph.initializer if t.name == f"{layer}.weight"]
        weight = numpy_helper.to_array(tensor).copy()
        weight[awake, np.abs(weight[awake]).argmax()] += np.float32(1e-3)
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))

    found = verify(edited(good, f"nudged_{layer}.onnx", nudge), model)
    assert statuses(found) == EDITED | {"parity": FAILED}


@pytest.mark.slow
def test_wrong_epsilon_fails_parity(folder: Path, model: keras.Model, make_network: Make) -> None:
    wrong = make_network("mnist")
    wrong.get_layer("bn_2").epsilon *= 1.5
    export(wrong, folder / "epsilon.onnx")
    found = verify(folder / "epsilon.onnx", model)
    assert statuses(found) == ALL_PASSED | {"parity": FAILED}


def test_outputs_that_are_not_finite_match_nothing(folder: Path, make_network: Make) -> None:
    diverged = make_network("mnist")
    diverged.get_layer("logits").bias.assign(np.full(10, np.nan))
    with pytest.raises(CheckFailedError, match="it would make other predictions"):
        export(diverged, folder / "diverged.onnx")


@keras.saving.register_keras_serializable("tests")
class BatchCentered(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x - keras.ops.mean(x, axis=0, keepdims=True)


@pytest.mark.slow
def test_batch_statistics_fail_determinism_and_the_node_is_named(folder: Path) -> None:
    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(5, name="before")(x)
    y = keras.layers.Dense(3, name="after")(BatchCentered(name="centered")(y))
    model = keras.Model(x, y)
    export(model, folder / "batch.onnx", fold=False)
    found = verify(folder / "batch.onnx", model)
    assert statuses(found)["determinism"] == FAILED
    assert found.determinism.figures["cause"] == "batch statistics"
    assert "from node 'centered/" in found.determinism.reason
    assert statuses(found)["parity"] == PASSED


@pytest.mark.slow
def test_bn_called_with_training_fails_determinism(folder: Path) -> None:
    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(4, name="d")(x)
    model = keras.Model(x, keras.layers.BatchNormalization(name="live")(y, training=True))
    export(model, folder / "live.onnx")
    found = verify(folder / "live.onnx", model)
    assert statuses(found) == ALL_PASSED | {"folded": FAILED, "determinism": FAILED}
    assert "from node 'live/" in found.determinism.reason


def test_randomness_fails_determinism(good: Path) -> None:
    def shake(model: onnx.ModelProto) -> None:
        noise = helper.make_node("RandomNormalLike", ["dense_2"], ["noise"], name="shaker")
        add = helper.make_node("Add", ["dense_2", "noise"], ["shaken"], name="add")
        relu = next(node for node in model.graph.node if node.name == "relu_2")
        relu.input[0] = "shaken"
        at = list(model.graph.node).index(relu)
        model.graph.node.insert(at, add)
        model.graph.node.insert(at, noise)

    found = verify(edited(good, "shaken.onnx", shake))
    assert statuses(found)["determinism"] == FAILED
    assert "shaker" in found.determinism.reason


@pytest.mark.slow
def test_rounding_passes_unless_strict(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kerasbn.inference.determinism as module

    one_by_one = module._one_by_one
    monkeypatch.setattr(
        module, "_one_by_one", lambda *a: [x * np.float32(1 + 5e-7) for x in one_by_one(*a)]
    )
    found = verify(good)
    assert found.determinism.status == PASSED
    assert found.determinism.reason.startswith("outputs are not bit-equal")
    assert found.determinism.figures["cause"] == "rounding"
    assert verify(good, strict=True).determinism.status == FAILED
    monkeypatch.setattr(
        module, "_one_by_one", lambda *a: [x * np.float32(1 + 5e-5) for x in one_by_one(*a)]
    )
    assert verify(good).determinism.status == FAILED


def test_model_with_other_inputs_is_refused(good: Path, make_network: Make) -> None:
    with pytest.raises(InputError, match="expected those of model"):
        verify(good, make_network("nested"))
