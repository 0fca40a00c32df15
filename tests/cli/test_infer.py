"""`kerasbn infer` on the command line, with models exported once."""

import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kerasbn.inference.metadata import CHECKSUM, PLACEHOLDER, Metadata, with_checksum

Images = np.ndarray[Any, Any]

Run = Callable[..., tuple[int, str, str]]


def onnx_model(
    nodes: list[onnx.NodeProto], shape: list[Any], kind: int, classes: int, *constants: Images
) -> onnx.ModelProto:
    """A model from `x` to `y` with the constants `w0`, `w1`, ..."""
    weights = [numpy_helper.from_array(each, f"w{at}") for at, each in enumerate(constants)]
    x = helper.make_tensor_value_info("x", kind, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model for the full MNIST and one for the sample, as exported."""
    folder = tmp_path_factory.mktemp("models")
    weights = np.random.default_rng(0).normal(0, 1e-3, (784, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w0"], ["y"]),
    ]
    for name in ("mnist", "mnist-sample"):
        model = onnx_model(nodes, ["n", 28, 28], TensorProto.UINT8, 10, weights)
        metadata = Metadata(labels=tuple("0123456789"), data={"name": name})
        helper.set_model_props(model, metadata.properties() | {CHECKSUM: PLACEHOLDER})
        content = with_checksum(model.SerializeToString(deterministic=True))
        (folder / f"{name}.onnx").write_bytes(content)
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a model.onnx, and no MNIST anywhere."""
    (tmp_path / "model.onnx").write_bytes((models / "mnist-sample.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def seven() -> Images:
    """Dark ink on light paper, 60 x 40."""
    paper = np.full((60, 40, 3), 230, np.uint8)
    paper[10:16, 8:32] = 20
    for row in range(16, 50):
        left = 28 - (row - 16) // 3
        paper[row, left : left + 5] = 20
    return paper


def one_line(err: str) -> bool:
    return err.count("\n") == 1 and err.startswith("kerasbn: ")


@pytest.mark.usefixtures("here")
def test_shows_images_and_the_accuracy(kerasbn: Run) -> None:
    code, out, err = kerasbn("infer", "--count", "3")
    assert (code, err) == (0, "")
    assert "▀" in out
    assert out.splitlines()[-1].startswith("test accuracy ")
    assert out.splitlines()[-1].endswith("% (mnist-sample, 1,000 images)")


@pytest.mark.usefixtures("here")
def test_accuracy_is_that_of_the_test_set(kerasbn: Run) -> None:
    from kerasbn.data.datasets import load_dataset
    from kerasbn.inference.session import Session

    _, out, _ = kerasbn("infer", "--json", "--count", "5", "--batch-size", "7")
    found = json.loads(out)
    test = load_dataset("mnist-sample").test
    logits = Session("model.onnx").run([test.images])[0]
    assert found["accuracy"] == (logits.argmax(1) == test.labels).mean()
    assert found["tested"] == 1000
    assert [row["prediction"] for row in found["images"]] == [str(n) for n in logits[:5].argmax(1)]
    assert [row["true"] for row in found["images"]] == [str(n) for n in test.labels[:5]]
    wanted = np.exp(logits[:5] - logits[:5].max(1, keepdims=True))
    wanted /= wanted.sum(1, keepdims=True)
    assert np.allclose([row["probabilities"] for row in found["images"]], wanted, atol=1e-6)


@pytest.mark.usefixtures("here")
def test_no_accuracy_on_images_of_the_training_set(models: Path, kerasbn: Run) -> None:
    code, out, _ = kerasbn("infer", "--model", str(models / "mnist.onnx"))
    assert code == 0
    assert "▀" in out
    assert "No accuracy" in out
    assert "part of the full MNIST" in " ".join(out.split())
    assert "test accuracy" not in out
    found = json.loads(kerasbn("infer", "--json", "--model", str(models / "mnist.onnx"))[1])
    assert found["accuracy"] is None


def test_files_folders_patterns_and_standard_input(
    here: Path, kerasbn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "digits"
    folder.mkdir()
    Image.fromarray(seven()).save(folder / "a.png")
    Image.fromarray(seven()).save(folder / "b.jpg", quality=95)
    code, out, _ = kerasbn("infer", "digits/a.png")
    assert code == 0
    name, answer, probability = out.split()
    assert (name, answer in "0123456789", probability[-1]) == ("digits/a.png", True, "%")
    for argument in ("digits", "digits/*.*"):
        code, out, _ = kerasbn("infer", argument)
        assert [line.split()[0] for line in out.splitlines()] == ["digits/a.png", "digits/b.jpg"]
    given = io.BytesIO((folder / "a.png").read_bytes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given))
    code, out, _ = kerasbn("infer", "-")
    assert out.split()[:2] == ["standard", "input"]
    assert out.split()[2] == answer


@pytest.mark.usefixtures("here")
def test_preprocessed_inputs_are_saved(kerasbn: Run) -> None:
    from kerasbn.data.digits import as_digit
    from kerasbn.data.images import read_picture

    Image.fromarray(seven()).save("a.png")
    for flags in ([], ["--raw"]):
        assert kerasbn("infer", "a.png", "--save-inputs", "seen", *flags)[0] == 0
        with Image.open("seen/image-001-a.png") as seen:
            wanted = as_digit(read_picture("a.png"), bool(flags))
            assert np.array_equal(np.asarray(seen), wanted)


@pytest.mark.usefixtures("here")
def test_several_digits_in_one_image_are_read_in_order(kerasbn: Run) -> None:
    three = np.hstack([seven(), np.full((60, 20, 3), 230, np.uint8), seven(), seven()])
    Image.fromarray(three).save("row.png")
    Image.fromarray(seven()).save("one.png")
    code, out, _ = kerasbn("infer", "row.png", "one.png", "--save-inputs", "seen")
    assert code == 0
    names = ["row.png [1/3]", "row.png [2/3]", "row.png [3/3]", "one.png"]
    assert [line.split("  ")[0].strip() for line in out.splitlines()] == names
    assert len(list(Path("seen").glob("image-001-row-?.png"))) == 3
    rows = json.loads(kerasbn("infer", "row.png", "one.png", "--json")[1])["images"]
    assert [(row["image"], row.get("digit")) for row in rows] == [
        ("row.png", 1), ("row.png", 2), ("row.png", 3), ("one.png", None),
    ]  # fmt: skip
    assert len({row["prediction"] for row in rows}) == 1
    assert len(kerasbn("infer", "row.png", "--raw")[1].splitlines()) == 1


def labeled_folder(names: list[str]) -> dict[str, str]:
    """A folder "test" with a red, a green and a blue image in subfolders; returns file -> class."""
    made = {}
    for at, name in enumerate(names):
        Path("test", name).mkdir(parents=True)
        for brightness in (1, 2):
            pixels = np.full((8, 6, 3), 10, np.uint8)
            pixels[..., at if brightness == 1 else 0] += 2  # the second one of each looks red
            file = Path("test", name, f"{brightness}.png")
            Image.fromarray(pixels).save(file)
            made[str(file)] = name
    return made


def test_a_folder_per_class_gives_accuracy_and_confusion_matrix(here: Path, kerasbn: Run) -> None:
    classifier(here / "other.onnx", ["n", 8, 6, 3])
    Path("labels.txt").write_text("red\ngreen\nblue\n")
    files = labeled_folder(["red", "green", "blue"])
    arguments = ("infer", "test", "--model", "other.onnx", "--labels", "labels.txt")
    code, out, err = kerasbn(*arguments, "-o", "matrix.png", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {row["image"]: row["true"] for row in found["images"]} == files
    assert found["accuracy"] == 4 / 6
    assert found["confusion"]["counts"] == [[2, 0, 0], [1, 1, 0], [1, 0, 1]]
    with Image.open("matrix.png") as figure:
        assert min(figure.size) > 400
    code, out, _ = kerasbn(*arguments)
    assert "accuracy 66.67% (6 images of 3 classes)" in out
    wrong = [line for line in out.splitlines() if "(is " in line]
    assert [line.split()[0] for line in wrong] == ["test/blue/2.png", "test/green/2.png"]
    assert wrong[0].endswith("(is blue)")


def test_classes_without_names_are_in_the_order_of_the_subfolders(here: Path, kerasbn: Run) -> None:
    classifier(here / "other.onnx", ["n", 8, 6, 3])
    labeled_folder(["a", "b", "c"])
    found = json.loads(kerasbn("infer", "test", "--model", "other.onnx", "--json")[1])
    assert found["confusion"]["counts"] == [[2, 0, 0], [1, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("names", "note"),
    [(["red", "junk"], "no class with the name of subfolder 'junk'"), (["one", "two"], "")],
)
def test_other_subfolders_are_only_searched(
    names: list[str], note: str, here: Path, kerasbn: Run
) -> None:
    classifier(here / "other.onnx", ["n", 8, 6, 3])
    Path("labels.txt").write_text("red\ngreen\nblue\n")
    labeled_folder(names)
    arguments = ("infer", "test", "--model", "other.onnx", "--labels", "labels.txt")
    code, out, _ = kerasbn(*arguments)
    assert code == 0
    assert sum(line.startswith("test/") for line in out.splitlines()) == 4
    assert "accuracy" not in out.lower() if not note else note in " ".join(out.split())
    code, out, err = kerasbn(*arguments, "--output", "matrix.png")
    assert code == 2
    assert "--output matrix.png: received no images with a true class" in err
    assert out  # the predictions are not lost
    assert not Path("matrix.png").exists()


def test_contact_sheets_show_all_inputs(here: Path, kerasbn: Run) -> None:
    classifier(here / "other.onnx", ["n", 8, 6, 3])
    labeled_folder(["a", "b", "c"])
    assert kerasbn("infer", "test", "--model", "other.onnx", "--save-inputs", "seen")[0] == 0
    assert len(list(Path("seen").glob("image-*.png"))) == 6
    with Image.open("seen/contact-sheet-1.png") as sheet:
        pixels = np.asarray(sheet)
    for column in range(6):  # each image is enlarged, the color of its corner kept
        seen = Path("seen", sorted(path.name for path in Path("seen").glob("image-*"))[column])
        with Image.open(seen) as image:
            assert (pixels[10, column * 92 + 10] == np.asarray(image)[0, 0]).all()


def test_unreadable_files_of_a_folder_are_named(here: Path, kerasbn: Run) -> None:
    folder = here / "digits"
    folder.mkdir()
    Image.fromarray(seven()).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    Image.fromarray(seven()).save(folder / "c.png")
    code, out, err = kerasbn("infer", "digits")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["digits/a.png", "digits/c.png"]
    assert "digits/b.png: received a file that is no image" in err
    assert err.splitlines()[-1] == "kerasbn: 1 of 3 images could not be classified"
    found = json.loads(kerasbn("infer", "digits", "--json")[1])
    assert list(found["failed"]) == ["digits/b.png"]


@pytest.mark.usefixtures("here")
def test_pictures_of_every_kind(kerasbn: Run) -> None:
    picture = Image.fromarray(seven())
    picture.convert("CMYK").save("cmyk.jpg")
    picture.convert("RGBA").save("alpha.png")
    Image.fromarray(seven()[..., 0].astype(np.uint16) * 257).save("deep.png")
    picture.save("moving.gif", save_all=True, append_images=[picture.rotate(90)])
    picture.convert("1").save("two.png")
    picture.save("plain.png")
    probability = kerasbn("infer", "plain.png")[1].split()[1:]
    for name in ("cmyk.jpg", "alpha.png", "deep.png", "moving.gif", "two.png"):
        code, out, err = kerasbn("infer", name)
        assert code == 0, err
        if name in ("alpha.png", "deep.png"):  # the others lose something
            assert out.split()[1:] == probability


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["empty.png", "text.png", "huge.png", "dot.png", "absent.png"])
def test_unusable_images(name: str, kerasbn: Run) -> None:
    Path("empty.png").touch()
    Path("text.png").write_text("hello")
    if name == "huge.png":
        Image.new("1", (9_500, 9_500)).save("huge.png")
    Image.new("L", (1, 1)).save("dot.png")
    code, out, err = kerasbn("infer", name)
    assert (code, out) == (2, "")
    assert one_line(err)
    assert name in err


def classifier(path: Path, shape: list[Any], kind: int = TensorProto.FLOAT) -> None:
    """An ONNX file whose three logits are the means of the channels, or of thirds."""
    channels_first = shape[1] == 3
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "w0"], ["y"], keepdims=0),
    ]
    axes = np.array([2, 3] if channels_first else [1, 2])
    onnx.save(onnx_model(nodes, shape, kind, 3, axes), path)


@pytest.mark.parametrize(
    "shape", [["n", 8, 6, 3], ["n", 3, 8, 6], [1, 8, 6, 3], ["n", "h", "w", 3]]
)
def test_other_classifiers_get_resized_images(shape: Any, here: Path, kerasbn: Run) -> None:
    classifier(here / "other.onnx", shape)
    Path("labels.txt").write_text("red\ngreen\nblue\n")
    colors = {}
    for at, name in enumerate(("red", "green", "blue")):
        pixels = np.full((20, 30, 3), 10, np.uint8)
        pixels[..., at] = 12
        Image.fromarray(pixels).save(f"{name}.png")
        colors[name] = pixels
    code, out, err = kerasbn(
        "infer", "red.png", "green.png", "blue.png", "--model", "other.onnx", "--labels",
        "labels.txt", "--json",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(out)["images"]
    assert [row["prediction"] for row in rows] == ["red", "green", "blue"]
    assert rows[0]["probability"] == pytest.approx(np.exp(12) / (np.exp(12) + 2 * np.exp(10)))
    code, out, _ = kerasbn(
        "infer", "red.png", "--model", "other.onnx", "--scale", "0.5", "--offset", "1", "--json"
    )
    row = json.loads(out)["images"][0]
    assert row["prediction"] == "0"
    assert row["probability"] == pytest.approx(np.exp(1) / (np.exp(1) + 2))


def test_outputs_that_are_not_finite(here: Path, kerasbn: Run) -> None:
    classifier(here / "other.onnx", ["n", 8, 6, 3], TensorProto.FLOAT16)
    Image.new("RGB", (6, 8), "white").save("a.png")
    code, out, err = kerasbn("infer", "a.png", "--model", "other.onnx", "--scale", "1e9")
    assert (code, out) == (1, "")
    assert one_line(err)
    assert "other.onnx: the model gives numbers that are not finite" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "absent.onnx"], "absent.onnx: received no such file"),
        (["--model", "empty.onnx"], "received an empty file"),
        (["--model", "text.onnx"], "a file that onnxruntime cannot read"),
        (["--model", "cut.onnx"], "a file that onnxruntime cannot read"),
        (["--model", "flipped.onnx"], "altered or damaged (its checksum does not match)"),
        (["--model", "table.onnx"], "received the input 'x' (any, 5), expected an image"),
        (["--model", "other.onnx"], "a file that names no dataset"),
        (["--count", "0"], "--count 0: received '0'"),
        (["--batch-size", "0"], "--batch-size 0: received '0'"),
        (["a.png", "--labels", "text.onnx"], "received 1 labels, expected 10"),
        (["a.png", "--labels", "absent"], "absent: received no such file, expected a text file"),
        (["a.png", "--scale", "2"], "--scale 2.0: received a model that takes uint8"),
        (["a.png", "--offset", "nan"], "--offset nan: received 'nan', expected a finite number"),
        (["a.png", "--device", "gpu"], "without GPU support"),
        (["a.png", "--save-inputs", "absent/seen"], "a folder that cannot be created"),
        (["absent*.png"], "absent*.png: received no images"),
        (["a.png", "-o", "matrix.gif"], "one ending in .png or .svg or .pdf"),
        (["-o", "matrix.png"], "--output matrix.png: received no images with a true class"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, here: Path, kerasbn: Run) -> None:
    whole = Path("model.onnx").read_bytes()
    Path("empty.onnx").touch()
    Path("text.onnx").write_text("hello")
    Path("cut.onnx").write_bytes(whole[: len(whole) // 2])
    at = len(whole) // 3
    Path("flipped.onnx").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    classifier(here / "other.onnx", ["n", 8, 6, 3])
    gemm = helper.make_node("Gemm", ["x", "w0"], ["y"])
    table = onnx_model([gemm], ["n", 5], TensorProto.FLOAT, 3, np.eye(5, 3, dtype=np.float32))
    onnx.save(table, "table.onnx")
    Image.fromarray(seven()).save("a.png")
    code, out, err = kerasbn("infer", *arguments)
    assert (code, out) == (2, "")
    assert line in err
    assert one_line(err)


def test_without_a_model_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kerasbn: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = kerasbn("infer")
    assert code == 2
    assert one_line(err)
    assert "kerasbn train --bn && kerasbn export model.onnx" in err


@pytest.mark.usefixtures("here")
def test_every_flipped_bit_is_found() -> None:
    from kerasbn.common.errors import InputError
    from kerasbn.inference.classifier import Classifier

    whole = Path("model.onnx").read_bytes()
    dice = np.random.default_rng(0)
    own = whole.rindex(CHECKSUM.encode())  # a flip in the checksum's own bytes changes no answer
    after = own + len(CHECKSUM) + 2 + len(PLACEHOLDER)
    for at in [*dice.integers(0, own - 4, 60), *range(after, len(whole), 7)]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(dice.integers(0, 8))
        Path("flipped.onnx").write_bytes(flipped)
        with pytest.raises(InputError) as caught:
            Classifier("flipped.onnx")
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_neither_tensorflow_nor_keras_is_loaded() -> None:
    Image.fromarray(seven()).save("a.png")
    for arguments in (["infer"], ["infer", "a.png"]):
        code = (
            "import sys; from kerasbn.cli.main import main\n"
            f"main({arguments!r})\n"
            "print([m for m in ('tensorflow', 'keras', 'onnx', 'matplotlib') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert ast.literal_eval(done.stdout.splitlines()[-1]) == []


@pytest.mark.usefixtures("here")
def test_a_terminal_without_blocks_gets_plain_signs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kerasbn", "infer"], capture_output=True, check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"#" in done.stdout
