"""`train`, `compare` and `report` as a user types them: real processes, on the sample."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

QUICK = ["--dataset", "mnist-sample", "--epochs", "1"]


def kerasbn(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
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
    done = kerasbn("compare", "--dataset", "mnist-sample", "--epochs", "2", cwd=folder)
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
def test_many_seeds_give_an_interval(tmp_path: Path) -> None:
    done = kerasbn("compare", "--seeds", "3", *QUICK, "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, method, last = done.stdout.splitlines()
    number = r"-?\d+\.\d+"
    assert re.fullmatch(
        rf"Test accuracy: {number} ± {number}% with BN, {number} ± {number}% without: "
        rf"[+-]{number} points \(95% interval {number} to {number}, 3 pairs\)\.",
        first,
    )
    assert "paired t-test" in method
    assert last == f"curves: {Path('saved_models/compare/compare.png')}"
    record = json.loads((tmp_path / "saved_models" / "compare" / "compare.json").read_text())
    assert record["summary"] == first


@pytest.mark.parametrize("count", ["0", "1001"])
def test_a_number_of_seeds_out_of_range_is_one_line(tmp_path: Path, count: str) -> None:
    done = kerasbn("compare", "--seeds", count, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"kerasbn: --seeds {count}: received '{count}', expected a whole number from 1 to 1,000\n"
    )


@pytest.mark.slow
def test_report_lists_and_draws(compared: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = compared
    listed = kerasbn("report", cwd=folder)
    firsts = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
    assert firsts == ["Runs", "run", "plain", "bn", "Comparisons", "comparison", "compare"]
    drawn = kerasbn("report", "bn", "saved_models/plain", "-o", "both.svg", cwd=folder)
    assert (drawn.returncode, drawn.stdout) == (0, "both.svg\n")
    assert (folder / "both.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_report_names_a_damaged_run(tmp_path: Path) -> None:
    folder = tmp_path / "saved_models" / "odd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    listed = kerasbn("report", cwd=tmp_path)
    assert listed.returncode == 0
    assert "no runs yet" in listed.stdout
    assert "odd/run.json: received text that is not JSON" in listed.stderr
    drawn = kerasbn("report", "odd", cwd=tmp_path)
    assert drawn.returncode == 2
    assert drawn.stderr.count("\n") == 1


@pytest.mark.slow
def test_train_prints_json(tmp_path: Path) -> None:
    done = kerasbn("train", "--no-bn", "--steps", "9", "--json", "--quiet", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    record = json.loads(done.stdout)
    assert record["run"] == str(Path("saved_models/plain"))
    assert record["model"]["bn"] is False
    assert record["final"]["step"] == 9


@pytest.mark.slow
def test_the_sample_is_said_to_be_one(tmp_path: Path) -> None:
    """With an empty cache and mirrors out of reach, `auto` takes the sample and tells."""
    environment = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "KERASBN_DATA": "",
        # A proxy where nobody listens: refused at once, with or without a network.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
    }
    done = kerasbn("train", "--steps", "3", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    note = "This is a sample of 5,000 MNIST images"
    assert done.stderr.count(note) == 1
    record = json.loads((tmp_path / "saved_models" / "bn" / "run.json").read_text())
    assert record["data"]["name"] == "mnist-sample"
    assert record["data"]["note"].startswith(note)


@pytest.mark.slow
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
        (["train", "--device", "gpu:9"], "a GPU that TensorFlow does not see, expected one of"),
        (
            ["train", "--device", "tpu"],
            "--device tpu: received 'tpu', expected auto, all, cpu, gpu or gpu:N",
        ),
        (["train", "--epoch", "3"], "No such option"),
        (["trian"], "did you mean 'train'?"),
        (["report", "nobody"], "nobody: received an unknown name"),
        (["report", "nobody", "-o", "x.gif"], "received"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    if arguments[0] in ("train", "compare"):
        arguments = [arguments[0], "--dataset", "mnist-sample", *arguments[1:]]
    done = kerasbn(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert line in done.stderr
    assert done.stderr.startswith("kerasbn")
    assert done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.glob("saved_models/*")) == []


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved_models").write_text("a file, where a folder belongs")
    done = kerasbn("train", *QUICK, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(r"saved_models.*cannot be written", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(full_disk: Path) -> None:
    done = kerasbn("train", *QUICK, cwd=full_disk)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((full_disk / "saved_models").iterdir()) == []


@pytest.mark.slow
def test_divergence_is_exit_code_1(tmp_path: Path) -> None:
    done = kerasbn("train", "--no-bn", "--lr", "1e38", *QUICK, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"saved_models.plain: .* at step \d+ with learning rate 1e\+38", done.stderr)
    assert "Traceback" not in done.stderr
    record = json.loads((tmp_path / "saved_models" / "plain" / "run.json").read_text())
    assert record["status"] == "diverged"


@pytest.mark.slow
def test_ctrl_c_keeps_the_epochs_so_far(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasbn", "train", "--dataset", "mnist-sample", "--epochs", "9999"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch    2/9999"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "stopping; Ctrl-C again" in err
    assert re.search(r"kerasbn: stopped; \d+ epochs kept in saved_models.bn$", err.strip())
    record = json.loads((tmp_path / "saved_models" / "bn" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert 2 <= record["epochs"] < 9999
    assert (tmp_path / "saved_models" / "bn" / "model.keras").is_file()


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
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasbn", "train", "--dataset", "mnist-sample", "--epochs", "3"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=follower,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(120) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "epoch 3/3" in text
    assert "━" in text
    assert re.search(r"loss \d\.\d{3} \d\d\.\d%", text)


@pytest.mark.slow
def test_verbose_shows_what_is_otherwise_silent(tmp_path: Path) -> None:
    loud = kerasbn("-v", "train", "--steps", "2", "--quiet", *QUICK, cwd=tmp_path)
    silent = kerasbn("train", "--steps", "2", "--quiet", *QUICK, cwd=tmp_path)
    assert silent.stderr == ""
    assert loud.stderr != ""


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
