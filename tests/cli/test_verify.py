"""`kerasbn verify` on the command line: which check fails, and the exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sample_runs import run_record

from kerasbn import export, verify
from kerasbn.common.records import write_json
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.inference import determinism
from kerasbn.inference.metadata import CHECKSUM
from kerasbn.inference.session import Session
from kerasbn.runs import DataRecord

Kerasbn = Callable[..., tuple[int, str, str]]
Edit = Callable[[onnx.ModelProto], None]

RECORD = run_record(data=DataRecord("mnist-sample", "none", 4000, 1000))


def classifier(epsilon: float = 1e-3, *, seed: int = 0) -> keras.Model:
    """A small classifier with random parameters, the same each time."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = x = keras.Input((4, 4), dtype="uint8", name="image")
    x = layers.Flatten(name="flatten")(layers.Rescaling(1 / 255, name="rescale")(x))
    x = layers.BatchNormalization(name="bn", epsilon=epsilon)(layers.Dense(8, name="dense")(x))
    x = layers.Dense(3, name="logits")(layers.Activation("tanh", name="tanh")(x))
    model = keras.Model(image, x, name="small")
    randomize_parameters(model, seed)
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `first` and its file `model.onnx`."""
    folder = tmp_path_factory.mktemp("verify")
    run = folder / "saved_models/first"
    run.mkdir(parents=True)
    classifier().save(run / "model.keras")
    write_json(run / "run.json", RECORD)
    export(run / "model.keras", folder / "model.onnx")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a copy of `made`."""
    for file in [*made.glob("*.onnx"), *made.glob("saved_models/first/*")]:
        copy = tmp_path / file.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def wide_terminal_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each check on one line, and spare it the start of a process."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(
        determinism, "_in_new_process", lambda path, batch: Session(path, threads=1).run(batch)
    )


def statuses(out: str) -> dict[str, str]:
    """The status of each check by its name."""
    lines = [line.split(";")[0].split(":") for line in out.splitlines()[1:]]
    return {name.strip(): verdict.strip() for name, verdict in lines}


ALL_PASSED = dict.fromkeys(("intact", "folded", "parity", "determinism"), "passed")


def edit(path: str, change: Edit, *, unsigned: bool = True) -> None:
    """Change a file like another program, which keeps no checksum."""
    model = onnx.load(path)
    change(model)
    if unsigned:
        kept = [entry for entry in model.metadata_props if entry.key != CHECKSUM]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def nudge(model: onnx.ModelProto) -> None:
    """Add 0.001 to a weight."""
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "logits.weight"]
    weight = numpy_helper.to_array(tensor).copy()
    weight[0, 0] += np.float32(1e-3)
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))


@pytest.mark.slow
def test_good_file_passes_and_result_is_written(here: Path, kerasbn: Kerasbn) -> None:
    code, out, err = kerasbn("verify", "model.onnx")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "model.onnx: passed"
    assert statuses(out) == ALL_PASSED
    assert "outputs are bit-equal; batch sizes 1-256; at 256: reversed order, repeated run" in out
    written = json.loads((here / "saved_models/first/verify.json").read_text())
    code, out, _ = kerasbn("verify", "model.onnx", "--json", "--strict")
    assert json.loads(out) == written
    assert written["passed"]


@pytest.mark.usefixtures("here")
def test_output_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify("model.onnx")
    wide = repr(found)
    for columns in (40, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert max(map(len, repr(found).splitlines())) <= columns
        assert repr(found).split() == wide.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    "against", ["first", "saved_models/first", "saved_models/first/model.keras"]
)
def test_against_takes_a_run_or_a_file(against: str, here: Path, kerasbn: Kerasbn) -> None:
    (here / "saved_models/first/verify.json").unlink(missing_ok=True)
    code, out, _ = kerasbn("verify", "model.onnx", "--against", against)
    assert (code, statuses(out)) == (0, ALL_PASSED)
    assert (here / "saved_models/first/verify.json").is_file()


@pytest.mark.slow
def test_without_a_model_parity_is_not_checked(here: Path, kerasbn: Kerasbn) -> None:
    (here / "saved_models/first").rename(here / "saved_models/other")
    code, out, _ = kerasbn("verify", "model.onnx")
    assert (code, statuses(out)) == (0, ALL_PASSED | {"parity": "not checked"})
    assert "run 'first' was not found; give the Keras model with --against" in out
    classifier(seed=1).save(here / "saved_models/other/model.keras")
    (here / "saved_models/other").rename(here / "saved_models/first")
    code, out, _ = kerasbn("verify", "model.onnx")
    assert (code, statuses(out)["parity"]) == (0, "not checked")
    assert "run 'first' now holds another model; give one with --against" in out


@pytest.mark.usefixtures("here")
def test_changed_weight_with_old_checksum_fails_intact(kerasbn: Kerasbn) -> None:
    edit("model.onnx", nudge, unsigned=False)
    code, out, err = kerasbn("verify", "model.onnx")
    assert (code, err) == (1, "kerasbn: model.onnx: failed intact and parity\n")
    assert "the file was altered after export" in out
    code, out, err = kerasbn("infer", "--model", "model.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "received a file that was altered or damaged (its checksum does not match)" in err


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_every_failed_check_is_named(kerasbn: Kerasbn) -> None:
    export(classifier(epsilon=1.5e-3), "both.onnx", fold=False)
    code, out, err = kerasbn("verify", "both.onnx", "--against", "first")
    assert (code, err) == (1, "kerasbn: both.onnx: failed folded and parity\n")
    assert statuses(out) == ALL_PASSED | {"folded": "failed", "parity": "failed"}
    assert "remaining: 1 BN layer (bn/Mul + bn/Add)" in out


@pytest.mark.usefixtures("here")
def test_rounding_fails_with_strict(kerasbn: Kerasbn, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = determinism._one_by_one
    monkeypatch.setattr(
        determinism, "_one_by_one", lambda *a: [x * np.float32(1 + 5e-7) for x in one_by_one(*a)]
    )
    code, out, err = kerasbn("verify", "model.onnx", "--strict")
    assert (code, err) == (1, "kerasbn: model.onnx: failed determinism\n")
    assert statuses(out) == ALL_PASSED | {"determinism": "failed"}
    assert "outputs are not bit-equal: rounding of" in out


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 4))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_given_samples_are_used(kind: Any, kerasbn: Kerasbn) -> None:
    np.savez("samples.npz", image=PIXELS.astype(kind), other=np.zeros(3))
    code, out, err = kerasbn("verify", "model.onnx", "--inputs", "samples.npz", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["parity"]["figures"]["samples"] == 5
    assert "batch sizes 1-5 (251 of 1-256 skipped)" in found["determinism"]["reason"]


def damaged(path: str) -> None:
    np.savez_compressed(path, image=PIXELS.astype(np.uint8))
    content = bytearray(Path(path).read_bytes())
    content[60] ^= 255
    Path(path).write_bytes(content)


def truncated(path: str) -> None:
    np.savez(path, image=PIXELS.astype(np.uint8))
    Path(path).write_bytes(Path(path).read_bytes()[:200])


def alone(path: str) -> None:
    with Path(path).open("wb") as file:
        np.save(file, PIXELS)


SAMPLES: dict[str, tuple[Callable[[str], object], str]] = {
    "absent": (lambda path: None, "s.npz: received no such file"),
    "text": (lambda path: Path(path).write_text("hello"), "a file that is no .npz of numeric"),
    "empty": (lambda path: Path(path).touch(), "a file that is no .npz of numeric arrays"),
    "an array alone": (alone, "a file that is no .npz of numeric arrays"),
    "damaged": (damaged, "a file that is no .npz of numeric arrays"),
    "truncated": (truncated, "a file that is no .npz of numeric arrays"),
    "pickled objects": (
        lambda path: np.savez(path, image=np.array([{}, "a"], object)),
        "a file that is no .npz of numeric arrays",
    ),
    "another name": (
        lambda path: np.savez(path, picture=PIXELS, other=PIXELS),
        "received no array 'image' but picture, other, expected one for each input (image)",
    ),
    "another rank": (
        lambda path: np.savez(path, image=PIXELS[..., None]),
        "array 'image': received the shape (5, 4, 4, 1), expected (any, 4, 4)",
    ),
    "another size": (
        lambda path: np.savez(path, image=PIXELS[:, :3]),
        "array 'image': received the shape (5, 3, 4), expected (any, 4, 4)",
    ),
    "no sample": (lambda path: np.savez(path, image=PIXELS[:0]), "received the shape (0, 4, 4)"),
    "fractions": (
        lambda path: np.savez(path, image=PIXELS / 255),
        "array 'image': received numbers of type float64, expected uint8",
    ),
    "words": (
        lambda path: np.savez(path, image=PIXELS.astype(str)),
        "received a file that is no .npz of numeric arrays",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", SAMPLES)
def test_unusable_samples(name: str, kerasbn: Kerasbn) -> None:
    write, line = SAMPLES[name]
    write("s.npz")
    code, out, err = kerasbn("verify", "model.onnx", "--inputs", "s.npz")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert line in err


def table(path: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> None:
    """Write a file like another program: one Gemm from 4 numbers to 3."""
    w = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="dense")], "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [shape[0], 3])], [w],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )


@pytest.mark.usefixtures("here")
def test_file_of_another_program(kerasbn: Kerasbn) -> None:
    table("other.onnx", ["n", 4])
    code, out, _ = kerasbn("verify", "other.onnx")
    wanted = ALL_PASSED | {"intact": "not checked", "parity": "not checked"}
    assert (code, statuses(out)) == (0, wanted)
    assert "the file names no run; give the Keras model with --against" in out
    table("fixed.onnx", [2, 4])
    code, out, _ = kerasbn("verify", "fixed.onnx")
    assert (code, statuses(out)) == (0, wanted)
    assert "outputs are bit-equal; batch size 2 (fixed); at 2: reversed order" in out


def scalar_output(path: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0, name="sum")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["absent.onnx"], "absent.onnx: received no such file"),
        (["."], ".: received a folder, expected an ONNX file"),
        (["empty.onnx"], "empty.onnx: received an empty file"),
        (["text.onnx"], "text.onnx: received a file that onnxruntime cannot read"),
        (["cut.onnx"], "cut.onnx: received a file that onnxruntime cannot read"),
        (["sum.onnx"], "received an output of shape () for"),
        (["model.onnx", "--against", "nobody"], "received no run of this name"),
        (["model.onnx", "--against", "absent.keras"], "absent.keras: received no such file"),
        (
            ["model.onnx", "--against", "text.keras"],
            "text.keras: received a file that does not begin as a .keras file",
        ),
        (["model.onnx", "--against", "other.keras"], "expected those of model 'other'"),
        (["model.onnx", "--agianst", "first"], "No such option"),
        ([], "Missing argument 'MODEL.onnx'"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, kerasbn: Kerasbn) -> None:
    Path("empty.onnx").touch()
    for name in ("text.onnx", "text.keras"):
        Path(name).write_text("hello")
    whole = Path("model.onnx").read_bytes()
    Path("cut.onnx").write_bytes(whole[: len(whole) // 2])
    scalar_output("sum.onnx")
    x = keras.Input((3,), name="x")
    keras.Model(x, keras.layers.Dense(2)(x), name="other").save("other.keras")
    code, out, err = kerasbn("verify", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert line in err


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_flipped_bits_are_found(kerasbn: Kerasbn) -> None:
    whole = Path("model.onnx").read_bytes()
    own = whole.rindex(CHECKSUM.encode())
    dice = np.random.default_rng(0)
    for at in dice.integers(0, own - 4, 6):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(dice.integers(0, 8))
        Path("flipped.onnx").write_bytes(flipped)
        code, out, err = kerasbn("verify", "flipped.onnx", "--against", "first")
        if code == 2:
            assert (out, err.count("\n")) == ("", 1)
            assert "altered or damaged" in err
        else:
            assert code == 1
            assert statuses(out)["intact"] == "failed"
