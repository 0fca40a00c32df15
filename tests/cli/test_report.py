"""`kerasbn report`: in real processes from training to the page, and in this one."""

import csv
import html
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_processes import WITHOUT_XLA, run_forked
from sample_runs import write_comparison

from kerasbn.training.settings import ModelSettings, TrainingSettings

Kerasbn = Callable[..., tuple[int, str, str]]

COMMANDS = (
    "compare --dataset mnist-sample --epochs 1 --quiet", "export model.onnx", "verify model.onnx",
    "report compare -o report.html",
)  # fmt: skip


def page_text(path: Path) -> str:
    """Return the text of the page without charts, style and scripts."""
    bare = re.sub(r"<(svg|style|script)\b.*?</\1>", "", path.read_text(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a comparison whose model was exported and verified, and its page."""
    folder = tmp_path_factory.mktemp("exported")
    for command in COMMANDS:
        code, out, err = run_forked(command, folder, WITHOUT_XLA)
        assert (code, err) == (0, "")
    assert out == "report.html\n"
    return folder


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a comparison of made-up runs in saved_models."""
    monkeypatch.chdir(tmp_path)
    write_comparison(tmp_path / "saved_models", ModelSettings(), TrainingSettings(epochs=1))
    return tmp_path


@pytest.mark.slow
def test_from_training_to_the_page(exported: Path) -> None:
    said = page_text(exported / "report.html")
    for name, words in (("bn", "with BN"), ("plain", "without")):
        with (exported / "saved_models" / name / "history.csv").open() as lines:
            accuracy = 100 * float(list(csv.DictReader(lines))[-1]["val_accuracy"])
        assert f"{accuracy:.2f}% {words}" in said
    assert "One pair does not show" in said
    assert "Folded: 2 of 2 BN layers and 1 of 1 scaling layer." in said
    assert said.count(" passed ") >= 3
    assert "Not exported yet" not in said
    assert "kerasbn compare --epochs 1 --dataset mnist-sample" in said
    # A page is made to be shared: it holds no path of this machine.
    assert str(exported) not in (exported / "report.html").read_text()


@pytest.mark.slow
def test_the_command_on_the_page_gives_the_same_numbers(exported: Path, tmp_path: Path) -> None:
    commands = re.findall(r"<code>(.*?)</code>", (exported / "report.html").read_text(), re.S)
    (line,) = commands[-1].splitlines()
    compare = html.unescape(line).removeprefix("kerasbn ")
    for command in (f"{compare} --quiet", COMMANDS[-1]):
        code, _, err = run_forked(command, tmp_path, WITHOUT_XLA)
        assert (code, err) == (0, "")
    both = [
        re.findall(r'<data value="([^"]+)"', (folder / "report.html").read_text())
        for folder in (exported, tmp_path)
    ]
    assert len(both[0]) > 10
    assert both[0] == both[1]


def test_a_run_is_found_by_its_folder(kerasbn: Kerasbn, made_up: Path) -> None:
    folder = (made_up / "saved_models").rename(made_up / "elsewhere")
    assert kerasbn("report", folder / "bn", "-o", "a.html") == (0, "a.html\n", "")
    assert "kerasbn train --bn --epochs 1" in page_text(made_up / "a.html")


def test_a_page_is_shown_in_the_browser(
    kerasbn: Kerasbn, made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without -o it is a page that stays; without a browser a line says what to do."""
    shown: list[str] = []

    def show(url: str) -> bool:
        shown.append(url)
        return len(shown) < 3

    monkeypatch.setattr("webbrowser.open", show)
    monkeypatch.setattr("tempfile.tempdir", str(made_up))
    code, out, err = kerasbn("report", "compare", "--open", "--static")
    assert (code, err) == (0, "")
    assert Path(out.strip()).name == "report.html"
    assert "Test accuracy" in page_text(Path(out.strip()))
    assert kerasbn("report", "bn", "--open", "-o", "a.html") == (0, "a.html\n", "")
    assert shown == [Path(out.strip()).as_uri(), (made_up / "a.html").as_uri()]
    code, _, err = kerasbn("report", "bn", "--open", "-o", "a.html")
    assert (code, err) == (0, "no browser was found; open the file yourself\n")
    assert kerasbn("report", "--open")[0] == 2


@pytest.mark.slow
def test_a_page_needs_no_tensorflow(made_up: Path) -> None:
    code = (
        "import sys; from kerasbn.cli.main import cli;"
        "cli.main(['report', 'compare', '-o', 'b.html'], standalone_mode=False);"
        "print([m for m in ('tensorflow', 'keras', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=made_up, capture_output=True, text=True, check=True
    )
    assert done.stdout == "b.html\n[]\n"


@pytest.mark.parametrize("columns", ["40", "80", ""])
def test_without_arguments_everything_is_listed(
    kerasbn: Kerasbn, made_up: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    assert (made_up / "saved_models").is_dir()
    code, out, err = kerasbn("report")
    assert (code, err) == (0, "")
    words = out.split()
    assert {"Runs", "bn", "plain", "Comparisons", "compare", "finished"} <= set(words)
    assert "Studies" not in words
    assert all(len(line) <= int(columns or 1000) for line in out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "bm", "-o", "a.html"], "bm: received an unknown name, expected a run, "
         "comparison or study in saved_models (bn, plain, compare); see kerasbn report"),
        (["report", "bn", "-o", "a.htm"], "a.htm: received '.htm' as a format, expected one of "
         ".html, .png, .svg, .pdf"),
        (["report", "bn", "-o", "none/a.html"], "none/a.html: cannot be written"),
        (["report", "bn", "-o", "saved_models"], "'saved_models' is a directory"),
        (["report", "saved_models", "-o", "a.html"], "saved_models: received a folder without"),
        (["report", "bn", "--out", "a.html"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_error_is_one_line(
    kerasbn: Kerasbn, made_up: Path, arguments: list[str], said: str
) -> None:
    code, out, err = kerasbn(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err
    assert not (made_up / "a.html").exists()
