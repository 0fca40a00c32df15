"""What only a real process shows: who writes where, signals, terminals and full disks."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from command_processes import WITHOUT_XLA, ForkedCommand

QUICK = ["--dataset", "mnist-sample", "--hidden", "8", "--epochs", "1"]


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kerasbn", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder where `kerasbn compare` ran for two epochs, and what it printed."""
    folder = tmp_path_factory.mktemp("compared")
    done = start("compare", *QUICK, "--epochs", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.slow
def test_results_and_progress_go_their_ways(
    compared: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = compared
    first, second, third = done.stdout.splitlines()
    assert re.fullmatch(
        r"Test accuracy: \d\d\.\d\d% with BN, \d\d\.\d\d% without: [+-]\d+\.\d\d points\.", first
    )
    assert second == f"runs: {Path('saved_models/bn')}, {Path('saved_models/plain')}"
    assert third == f"curves: {Path('saved_models/compare/compare.png')}"
    # Nothing but our own lines: no word of TensorFlow, XLA or CUDA.
    lines = done.stderr.splitlines()
    assert len(lines) == 4, done.stderr
    for line, (epoch, label) in zip(
        lines, [(e, n) for e in (1, 2) for n in ("With BN", "Without BN")], strict=True
    ):
        assert len(line) <= 80
        assert line.startswith(f"epoch {epoch}/2 {label:10}  train loss ")


@pytest.mark.slow
def test_report_lists_and_draws(
    compared: tuple[Path, subprocess.CompletedProcess[str]],
    kerasbn: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = compared
    monkeypatch.chdir(folder)
    _, listed, _ = kerasbn("report")
    firsts = [line.split()[0] for line in listed.splitlines() if line.strip()]
    assert firsts == ["Runs", "run", "plain", "bn", "Comparisons", "comparison", "compare"]
    drawn = kerasbn("report", "bn", "saved_models/plain", "-o", "both.svg")
    assert drawn == (0, "both.svg\n", "")
    assert (folder / "both.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(
    full_disk: Path, kerasbn: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(full_disk)
    code, _, err = kerasbn("train", *QUICK)
    assert code == 2, err
    assert "cannot be written" in err
    assert list((full_disk / "saved_models").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_keeps_the_epochs_so_far(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    command = " ".join(["train", *QUICK, "--epochs", "9999"])
    process = ForkedCommand(command, tmp_path, WITHOUT_XLA, errors)
    while not (errors.exists() and "epoch    2/9999" in errors.read_text()):
        assert process.is_running()
        time.sleep(0.02)
    process.kill(sent)
    assert process.wait() == (code, "")
    err = errors.read_text()
    assert "stopping; Ctrl-C again" in err
    assert re.search(
        r"kerasbn: stopped; \d+ epochs kept in saved_models.bn; resume with "
        r"kerasbn train --resume bn$",
        err.strip(),
    )
    record = json.loads((tmp_path / "saved_models" / "bn" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert 2 <= record["epochs"] < 9999
    assert (tmp_path / "saved_models" / "bn" / "model.keras").is_file()


@pytest.mark.slow
def test_ctrl_c_before_the_first_epoch_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasbn", "train", *QUICK],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    maps = Path(f"/proc/{process.pid}/maps")
    if maps.exists():  # on Linux one sees that TensorFlow is being imported
        while "tensorflow" not in maps.read_text():
            time.sleep(0.02)
    else:
        time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.glob("saved_models/*")) == []


@pytest.mark.slow
def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = ForkedCommand(
        " ".join(["train", *QUICK, "--epochs", "3"]), tmp_path,
        WITHOUT_XLA + "os.environ |= {'TERM': 'xterm-256color', 'COLUMNS': '100'}",
        Path(os.ttyname(follower)),
    )  # fmt: skip
    shown = b""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(process.wait)
        ended.add_done_callback(lambda _: os.close(follower))
        with suppress(OSError):  # Linux's way to say that the other end is closed
            while part := os.read(leader, 4096):
                shown += part
    assert ended.result()[0] == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "epoch 3/3" in text
    assert "━" in text
    assert re.search(r"loss \d\.\d{3} \d\d\.\d%", text)


@pytest.mark.slow
def test_verbose_shows_what_is_otherwise_silent(
    kerasbn: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """A device that is not there is refused after TensorFlow was loaded."""
    arguments = ["train", "--device", "gpu:9", *QUICK]
    loud = start("-v", *arguments, cwd=tmp_path)
    _, _, silent = kerasbn(*arguments)
    assert silent.startswith("kerasbn: --device gpu:9: received a GPU that TensorFlow")
    assert silent.count("\n") == 1
    assert loud.stderr.endswith(silent)
    assert loud.stderr.count("\n") > 1


def test_an_error_within_tensorflow_stays_visible(tmp_path: Path) -> None:
    """Silencing TensorFlow's import must not swallow why it fails."""
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('no tensorflow today')")
    code = "from kerasbn.common.keras_internals import quiet_tensorflow; quiet_tensorflow()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert "RuntimeError: no tensorflow today" in done.stderr
