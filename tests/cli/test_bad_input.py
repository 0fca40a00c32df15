"""Bad input is one line that says what to do, and leaves nothing behind."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Kerasbn = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "--hidden", "32,,x"], "--hidden 32,,x: received '32,,x', expected layer sizes"),
        (["train", "--hidden", "-1"], "--hidden -1: received '-1', expected layer sizes"),
        (["train", "--lr", "nan"], "--lr nan: received 'nan', expected a finite number"),
        (["train", "--lr", "fast"], "'fast' is not a valid float"),
        (["train", "--epochs", "0"], "--epochs 0: received '0', expected a whole number above 0"),
        (["train", "--batch-size", "1"], "one example has no variance"),
        (["compare", "--batch-size", "1"], "one example has no variance"),
        (["train", "--batch-size", "5000"], "expected at most the 4,000 training examples"),
        (["train", "--run", "../up"], "--run ../up: received '../up', expected letters"),
        (["train", "--run", ""], "received '', expected letters"),
        (["compare", "--run", "a/b"], "--run a/b: received 'a/b', expected letters"),
        (["train", "--activation", "mish"], "'mish' is not one of"),
        (["train", "--optimizer", "adamw"], "'adamw' is not one of"),
        pytest.param(
            ["train", "--device", "tpu"],
            "--device tpu: received 'tpu', expected auto, all, cpu, gpu or gpu:N",
            marks=pytest.mark.slow,  # loads TensorFlow
        ),
        (["train", "--epoch", "3"], "No such option"),
        (["train", "--bn", "--no-bn"], "received --bn and --no-bn, expected one of the two"),
        (
            ["compare", "--seeds", "0"],
            "--seeds 0: received '0', expected a whole number from 1 to 1,000",
        ),
        (["compare", "--seeds", "1001"], "expected a whole number from 1 to 1,000"),
        (["train", "--repeat", "bn", "--lr", "0.1"], "received --lr with --repeat, expected none"),
        (["trian"], "did you mean 'train'?"),
        (["report", "nobody"], "nobody: received an unknown name"),
        (["report", "nobody", "-o", "x.gif"], "received"),
    ],
)
def test_bad_input_is_one_line(
    kerasbn: Kerasbn, arguments: list[str], line: str, tmp_path: Path
) -> None:
    if arguments[0] in ("train", "compare"):
        arguments = [arguments[0], "--dataset", "mnist-sample", *arguments[1:]]
    code, out, err = kerasbn(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert line in err
    assert err.startswith("kerasbn")
    assert list(tmp_path.glob("saved_models/*")) == []


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(kerasbn: Kerasbn, tmp_path: Path) -> None:
    (tmp_path / "saved_models").write_text("a file, where a folder belongs")
    code, _, err = kerasbn("train", "--dataset", "mnist-sample", "--steps", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(r"saved_models.*cannot be written", err)


def test_report_names_a_damaged_run(kerasbn: Kerasbn, tmp_path: Path) -> None:
    folder = tmp_path / "saved_models" / "odd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    code, out, err = kerasbn("report")
    assert code == 0
    assert "no runs yet" in out
    assert "odd/run.json: received text that is not JSON" in err
    code, _, err = kerasbn("report", "odd")
    assert (code, err.count("\n")) == (2, 1)
