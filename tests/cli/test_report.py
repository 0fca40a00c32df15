"""`kerasbn report` in real processes, from training to the page."""

import csv
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
QUICK = ["--dataset", "mnist-sample", "--epochs", "1", "--quiet"]


def kerasbn(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kerasbn", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def page_text(path: Path) -> str:
    """Return the text of the page without charts, style and scripts."""
    bare = re.sub(r"<(svg|style|script)\b.*?</\1>", "", path.read_text(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a comparison whose model was exported and verified."""
    folder = tmp_path_factory.mktemp("exported")
    for line in (
        ["compare", *QUICK],
        ["export", "model.onnx"],
        ["verify", "model.onnx"],
    ):
        done = kerasbn(*line, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_from_training_to_the_page(exported: Path) -> None:
    done = kerasbn("report", "compare", "-o", "report.html", cwd=exported)
    assert (done.returncode, done.stdout, done.stderr) == (0, "report.html\n", "")
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


def test_the_command_on_the_page_gives_the_same_numbers(exported: Path, tmp_path: Path) -> None:
    kerasbn("report", "compare", "-o", "report.html", cwd=exported)
    commands = re.findall(r"<code>(.*?)</code>", (exported / "report.html").read_text(), re.S)
    (line,) = commands[-1].splitlines()
    done = kerasbn(*html.unescape(line).split()[1:], "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = kerasbn("report", "compare", "-o", "report.html", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    both = [
        re.findall(r'<data value="([^"]+)"', (folder / "report.html").read_text())
        for folder in (exported, tmp_path)
    ]
    assert len(both[0]) > 10
    assert both[0] == both[1]


def test_a_run_is_found_by_its_folder(exported: Path, tmp_path: Path) -> None:
    done = kerasbn("report", str(exported / "saved_models" / "bn"), "-o", "a.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kerasbn train --bn --epochs 1" in page_text(tmp_path / "a.html")


def test_a_page_needs_no_tensorflow(exported: Path) -> None:
    code = (
        "import sys; from kerasbn.cli.main import cli;"
        "cli.main(['report', 'compare', '-o', 'b.html'], standalone_mode=False);"
        "print([m for m in ('tensorflow', 'keras', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=exported, capture_output=True, text=True, check=True
    )
    assert done.stdout == "b.html\n[]\n"


@pytest.mark.parametrize("columns", ["40", "80", ""])
def test_without_arguments_everything_is_listed(exported: Path, columns: str) -> None:
    done = kerasbn("report", cwd=exported, **({"COLUMNS": columns} if columns else {}))
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    assert {"Runs", "bn", "plain", "Comparisons", "compare", "finished"} <= set(words)
    assert "Studies" not in words
    assert all(len(line) <= int(columns or 1000) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "bm", "-o", "a.html"], "bm: received an unknown name, expected a run, "
         "comparison or study in saved_models (plain, bn, compare); see kerasbn report"),
        (["report", "bn", "-o", "a.htm"], "a.htm: received '.htm' as a format, expected one of "
         ".html, .png, .svg, .pdf"),
        (["report", "bn", "-o", "none/a.html"], "none/a.html: cannot be written"),
        (["report", "bn", "-o", "saved_models"], "'saved_models' is a directory"),
        (["report", "saved_models", "-o", "a.html"], "saved_models: received a folder without"),
        (["report", "bn", "--out", "a.html"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_error_is_one_line(exported: Path, arguments: list[str], said: str) -> None:
    done = kerasbn(*arguments, cwd=exported)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (exported / "a.html").exists()
