"""`kerasbn train --bn`, then `export model.onnx`, `infer` and `verify model.onnx`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_processes import WITHOUT_XLA, run_forked
from PIL import Image

TRAIN = "train --bn --dataset mnist-sample --epochs 2 --quiet --run first"

Kerasbn = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A current folder with one run."""
    folder = tmp_path_factory.mktemp("work")
    code, _, err = run_forked(TRAIN, folder, WITHOUT_XLA)
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> tuple[Path, Any]:
    code, out, err = run_forked("export model.onnx", trained)
    assert (code, err) == (0, "")
    return trained, out


@pytest.mark.slow
def test_export_tells_what_it_wrote(exported: tuple[Path, str]) -> None:
    folder, out = exported
    lines = out.splitlines()
    source = Path("saved_models/first/model.keras")
    size = (folder / "model.onnx").stat().st_size
    assert lines[0] == f"model.onnx: {size:,} bytes from {source}"
    assert lines[1] == "  nodes: 1 Cast, 1 Flatten, 3 Gemm, 2 Relu"
    assert lines[2] == "  remaining: nothing"
    assert lines[3] == "  2 of 2 BN layers folded, 1 of 1 scalings folded."


@pytest.mark.slow
def test_the_plan_is_written_beside_the_run(exported: tuple[Path, str]) -> None:
    folder, _ = exported
    plan = json.loads((folder / "saved_models/first/plan.json").read_text())
    properties = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert plan == json.loads(properties["kerasbn.plan"])
    assert {decision["decision"] for decision in plan} == {"fold"}
    record = json.loads((folder / "saved_models/first/run.json").read_text())
    assert json.loads(properties["kerasbn.data"]) == record["data"]
    assert json.loads(properties["kerasbn.labels"]) == list("0123456789")
    assert properties["kerasbn.run"] == "first"


@pytest.mark.slow
def test_infer_then_shows_the_accuracy_of_training(exported: tuple[Path, str]) -> None:
    folder, _ = exported
    record = json.loads((folder / "saved_models/first/run.json").read_text())
    code, out, err = run_forked("infer --json", folder)
    assert (code, err) == (0, "")
    trained = [f"{value:.4f}" for value in numbers(record)]
    assert f"{json.loads(out)['accuracy']:.4f}" in trained


def numbers(value: Any) -> list[float]:
    """All numbers anywhere in a record."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.slow
def test_verify_passes_and_writes_its_result_beside_the_run(
    exported: tuple[Path, str], kerasbn: Kerasbn, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = exported
    monkeypatch.chdir(folder)
    code, out, err = kerasbn("verify", "model.onnx")
    assert (code, err) == (0, "")
    verdicts = [line.split(";")[0].strip() for line in out.splitlines() if line[2:3] != " "]
    assert verdicts == [
        "model.onnx: passed", "intact:      passed", "folded:      passed", "parity:      passed",
        "determinism: passed",
    ]  # fmt: skip
    written = json.loads((folder / "saved_models/first/verify.json").read_text())
    assert written["passed"]
    assert written["parity"]["figures"]["samples"] == 256


@pytest.mark.slow
def test_unfolded_keeps_them_and_says_so(
    exported: tuple[Path, str], kerasbn: Kerasbn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported[0])
    code, out, _ = kerasbn("export", "plain.onnx", "--no-fold", "--json")
    assert code == 0
    assert len(json.loads(out)["remaining"]) == 2


def test_labels_and_samples_are_those_given(
    kerasbn: Kerasbn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.chdir(tmp_path)
    image = keras.Input((4, 4, 3), name="image")
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 4)(image))
    keras.Model(image, keras.layers.Flatten()(y)).save("pets.keras")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for at in range(3):
            pixels = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(Path("photos", name, f"{at}.png"))
    arguments = ["export", "pets.onnx", "--model", "pets.keras", "--inputs", "photos"]
    code, out, err = kerasbn(*arguments, "--labels", "cat,dog")
    assert (code, err) == (0, "")
    assert "  difference from Keras on 6 given samples: at most " in out
    assert "; 6 of 6 predictions are equal (100.00%)" in out
    properties = {p.key: p.value for p in onnx.load("pets.onnx").metadata_props}
    assert json.loads(properties["kerasbn.labels"]) == ["cat", "dog"]
    code, out, err = kerasbn(*arguments, "--labels", "cat,dog,owl")
    assert (code, out) == (2, "")
    assert err == "kerasbn: --labels cat,dog,owl: received 3 labels, expected 2, one per class\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["absent/model.onnx"], "received a folder that does not exist"),
        (["model.txt"], "expected one ending in .onnx"),
        (["new.onnx", "--model", "nobody"], "received no run of this name"),
        (["new.onnx", "--model", "text.keras"], "text.keras: received"),
        (["new.onnx", "--model", "cut.keras"], "cut.keras: received"),
        (
            ["new.onnx", "--model", "text.keras", "--opset", "99"],
            "--opset 99: received '99', expected 13 to 18",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    line: str,
    kerasbn: Kerasbn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save("cut.keras")
    cut = tmp_path / "cut.keras"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "text.keras").write_text("hello")
    before = set(tmp_path.rglob("*"))
    code, out, err = kerasbn("export", *arguments)
    assert (code, out) == (2, ""), err
    assert line in err
    assert err.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before
