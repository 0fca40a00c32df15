import subprocess
import sys
from pathlib import Path

import pytest
from command_processes import run_forked

from kerasbn.cli.main import main

CTRL_C_AT = """
import sys

class PressedWhileLoading:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, PressedWhileLoading())
from kerasbn.__main__ import start
start()
"""


ENDING_BY = """
import atexit
import kerasbn.cli.main
from kerasbn.__main__ import start

class Last:
    def __del__(self):
        print("cleared away")

last = Last()

def main():
    atexit.register(print, "ended in order")
    {last_words}

kerasbn.cli.main.main = main
start()
"""


@pytest.mark.parametrize(
    ("last_words", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('said')", 1, "said"),
        ("raise KeyboardInterrupt", 130, "kerasbn: stopped"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_the_end_is_in_order_and_at_once(last_words: str, code: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDING_BY.format(last_words=last_words)],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (code, "ended in order\n")
    assert "".join(ended.stderr.splitlines()[-1:]) == said


def test_ctrl_c_while_the_command_line_loads_is_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C_AT.format(module="click")], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "kerasbn: stopped\n")


DEEP_MODEL = """
import kerasbn.cli.main

def build():
    import keras
    from kerasbn.folding.keras.graph import read_model

    x = given = keras.Input((2,))
    for _ in range(1100):
        x = keras.layers.Identity()(x)
    print(len(read_model(keras.Model(given, x)).calls))

kerasbn.cli.main.main = build
"""


@pytest.mark.slow
def test_a_model_may_have_more_layers_in_a_row_than_python_allows_calls(tmp_path: Path) -> None:
    code, out, err = run_forked("", tmp_path, DEEP_MODEL)
    assert (code, out) == (0, "1100\n"), err[-1000:]


def test_python_m_kerasbn_is_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "kerasbn", "--version"], capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert ended.stdout.startswith("kerasbn, version ")


@pytest.mark.parametrize(
    "arguments",
    [["two\nlines"], ["train", "--lr", "two\nlines"], ["report", "two\r\nlines"]],
    ids=["command", "option", "run"],
)
def test_an_error_is_one_line_whatever_it_quotes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out, len(err.splitlines())) == (2, "", 1), err


def test_without_a_command_there_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    asked_for = capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([])
    out, err = capsys.readouterr()
    assert (end.value.code, out, err) == (2, "", asked_for)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_onto_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "kerasbn", "report"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 2
    assert ended.stderr == (
        "kerasbn: standard output: cannot be written (No space left on device); make room on the "
        "disk\n"
    )
