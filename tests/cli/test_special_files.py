"""Pipes, devices, sockets, folders and unreadable files are refused at once, wherever a file goes.

Every option and argument of every command that takes a path is tried, new ones too.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, socket

import click
import keras
import onnx
import pytest
from PIL import Image
from sample_runs import write_run

from kerasbn.cli.main import COMMANDS, cli
from kerasbn.data.idx import MNIST
from kerasbn.inference.metadata import Metadata

SECONDS = 20  # until a command hangs: enough to load TensorFlow
NO_PATHS = {"hidden", "init", "device", "address", "changes", "run"}
SUFFIXES = {
    ("sweep", "grid"): ".toml",
    ("report", "output"): ".png",
    ("recalibrate", "model"): ".keras",
    ("recalibrate", "data"): ".npz",
    ("recalibrate", "out"): ".keras",
    ("fold", "model"): ".keras",
    ("fold", "out"): ".keras",
    ("export", "out"): ".onnx",
    ("export", "model"): ".h5",
    ("infer", "images"): ".png",
    ("infer", "model"): ".onnx",
    ("infer", "output"): ".png",
    ("infer", "labels"): ".txt",
    ("verify", "model"): ".onnx",
    ("verify", "against"): ".keras",
    ("verify", "inputs"): ".npz",
}
REQUIRED = {  # for the other parameters of a command
    "sweep": {"grid": "learning-rate"},
    "report": {"subjects": "bn"},
    "recalibrate": {"model": "model.keras"},
    "fold": {"model": "model.keras"},
    "export": {"out": "new.onnx", "model": "model.keras"},
    "infer": {"model": "model.onnx"},
    "verify": {"model": "model.onnx"},
}
OUTPUTS = {"out", "output"}
TAKES_FOLDERS = {"data_dir", "save_inputs", "data", "images", "subjects", "repeat"}
OTHERS = ("socket", "device", "unreadable", "folder", "long")
KINDS = ("pipe", *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS))


def parameters() -> Iterator[tuple[str, click.Parameter]]:
    """Every parameter of every command that can be a path."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for each in command.params:
            if each.name not in NO_PATHS and isinstance(each.type, click.Path | type(click.STRING)):
                yield name, each


def arguments(command: str, parameter: click.Parameter, value: str) -> list[str]:
    """A command line on which a parameter has a value, and others what they need."""
    given = REQUIRED.get(command, {}) | {str(parameter.name): value}
    if parameter.name in ("labels", "save_inputs", "output") and command == "infer":
        given["images"] = "classes"
    chosen = cli.get_command(click.Context(cli), command)
    assert chosen is not None
    line = [command]
    for each in chosen.params:
        if each.name in given:
            option = [each.opts[0]] if isinstance(each, click.Option) else []
            line += [*option, given[each.name]]
    return line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with whatever the other parameters name."""
    from kerasbn.onnx_export.export import export

    folder = tmp_path_factory.mktemp("made")
    x = keras.Input((28, 28), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x))
    model = keras.Model(x, keras.layers.Dense(10)(flat))
    model.save(folder / "model.keras")
    export(model, folder / "model.onnx")
    exported = onnx.load(folder / "model.onnx")
    about = Metadata(labels=tuple("0123456789"), data={"name": "mnist"})
    onnx.helper.set_model_props(exported, about.properties())
    onnx.save(exported, folder / "model.onnx")
    write_run(folder / "saved_models", "bn")
    for each in ("0", "1"):
        (folder / "classes" / each).mkdir(parents=True)
        image = Image.new("L", (28, 28))
        image.paste(255, (12, 4, 16, 24))
        image.save(folder / "classes" / each / "image.png")
    return folder


@pytest.fixture
def hangs() -> Iterator[None]:
    """Fail a test that waits for something."""

    def fail(*_: object) -> None:
        pytest.fail(f"no answer after {SECONDS} seconds")  # which no `except Exception` catches

    old = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def special(kind: str, path: Path) -> None:
    """Make a file of some kind."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket(AF_UNIX) as listening:
            listening.bind(str(path))
    elif kind == "device":
        path.symlink_to(os.ttyname(os.openpty()[1]))
    elif kind == "unreadable":  # by root as well
        path.symlink_to("/proc/self/mem")
    elif kind == "folder":
        path.mkdir()


@pytest.mark.usefixtures("hangs")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("command", "parameter"),
    [pytest.param(*each, id=f"{each[0]} {each[1].name}") for each in parameters()],
)
def test_what_is_no_file_is_one_line(
    made: Path,
    kerasbn: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    parameter: click.Parameter,
    kind: str,
) -> None:
    takes = {"folder": TAKES_FOLDERS, "unreadable": OUTPUTS}.get(kind, set())
    if parameter.name in takes:
        return
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASBN_DATA", str(tmp_path / "none"))
    name = (
        f"{kind * (80 if kind == 'long' else 1)}{SUFFIXES.get((command, str(parameter.name)), '')}"
    )
    if kind != "long":
        special(kind, tmp_path / name)
        special(kind, tmp_path / "saved_models" / name)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = kerasbn(*arguments(command, parameter, name))
    assert (code, out, err.count("\n")) == (2, "", 1), err[-600:]
    assert err.startswith("kerasbn")
    assert name[:20] in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("hangs")
@pytest.mark.parametrize(
    ("inside", "line"),
    [
        (["train", "--data-dir", "mnist"], "mnist/train-images-idx3-ubyte"),
        (["infer", "photos", "--model", "model.onnx"], "photos: received no images"),
        (["report", "bn", "-o", "bn.html"], "saved_models/bn/history.csv"),
        (["report", "bn", "-o", "bn.svg"], "saved_models/bn/history.csv"),
        (["report", "compare"], "saved_models/compare: received"),
        (["export", "new.onnx", "--model", "bn"], "saved_models/bn: received a run without model"),
        (["train", "--resume", "half"], "--resume half: received no training of this name"),
        (["train", "--run", "new", "--dataset", "mnist-sample"], "saved_models/new: cannot"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_a_pipe_inside_a_folder_is_not_waited_for(
    made: Path,
    kerasbn: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: list[str],
    line: str,
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "saved_models"
    (runs / "bn" / "history.csv").unlink()
    for each in (
        *(f"mnist/{each.name}" for each in MNIST),
        "photos/image.png", "saved_models/bn/history.csv",
        "saved_models/bn/model.keras", "saved_models/compare/compare.json",
        "saved_models/.half.part/checkpoint/session.json", "saved_models/.new.part",
    ):  # fmt: skip
        path = tmp_path / each
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    code, _, err = kerasbn(*inside)
    assert (code, err.count("\n")) == (2, 1), err[-600:]
    assert line in err
