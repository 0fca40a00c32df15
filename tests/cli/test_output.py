"""Whatever text a file holds, commands print it in lines of printable characters."""

import ast
import json
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sample_runs import run_record, write_run

from kerasbn.cli.main import main
from kerasbn.cli.output import echo
from kerasbn.runs import DataRecord

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path.relative_to(ROOT) for name in ("kerasbn", "cli") for path in (ROOT / name).rglob("*.py")
)
HOSTILE = "a\x1b[31m\u202eb\nc"
SHOWN = r"a\x1b[31m\u202eb\nc"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_everything_is_printed_in_one_way(path: Path) -> None:
    """No file but these two calls what prints; `start` says what is fixed."""
    if str(path) in ("cli/output.py", "kerasbn/common/terminal.py", "kerasbn/__main__.py"):
        return
    tree = ast.parse((ROOT / path).read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"print", "click.echo", "click.secho", "Console", "sys.stdout.write"}


def test_a_line_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    echo(HOSTILE, Path(HOSTILE))
    echo("problem", err=True)
    assert capsys.readouterr() == (f"{SHOWN}\n{SHOWN}\n", "problem\n")


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """What a command prints; all of it is printable."""
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        main(arguments)
    assert (ended.value.code if ended else 0) == code
    text = "".join(capsys.readouterr())
    assert text.replace("\n", "").isprintable()
    return text


def test_names_of_runs_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # else the column of the data would not fit
    data = DataRecord(f"data{HOSTILE}", "0" * 64, 10, 10)
    write_run(Path("saved_models"), HOSTILE, run_record(data=data))
    assert f"\n{SHOWN} " in (text := printed(["report"], capsys))
    assert f"data{SHOWN}" in text
    assert f"kerasbn: x{SHOWN}: received an unk" in printed(["report", f"x{HOSTILE}"], capsys, 2)
    Path("saved_models", HOSTILE, "run.json").write_text(f'{{"status": {json.dumps(HOSTILE)}}}')
    assert f"{SHOWN}/run.json: received a damaged record" in printed(["report"], capsys)


def test_names_of_layers_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = keras.Input((8,))
    y = keras.layers.BatchNormalization(name=HOSTILE)(keras.layers.Dense(4)(x))
    keras.Model(x, y).save(tmp_path / "model.keras")
    assert f"{SHOWN}: folded backward into" in printed(
        ["fold", str(tmp_path / "model.keras")], capsys
    )


def test_names_of_images_and_classes_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels, model = (tmp_path / name for name in (f"{HOSTILE}.png", "labels", "m.onnx"))
    Image.new("L", (4, 4)).save(image)
    labels.write_text("one\x1b[2J\ntwo\n")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = numpy_helper.from_array(np.zeros((16, 2), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), model)
    arguments = ["infer", str(image), "--model", str(model), "--labels", str(labels)]
    assert f"{SHOWN}.png  one\\x1b[2J " in printed(arguments, capsys)
