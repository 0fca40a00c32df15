"""`--probe` as a user types it: real processes, on the sample."""

import json
import subprocess
import sys
from pathlib import Path

QUICK = ["--dataset", "mnist-sample", "--steps", "30", "--hidden", "12,9"]
SUBJECTS = [
    "Gradients", "Internal covariate shift", "Landscape", "Pre-activations", "A typical unit",
    "Activations", "Statistics", "Learned", "Batch-mates",
]  # fmt: skip


def kerasbn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kerasbn", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_compare_ends_with_what_was_found(tmp_path: Path) -> None:
    done = kerasbn("compare", "--seeds", "2", "--probe", "--quiet", *QUICK, cwd=tmp_path)
    # Nothing else is said: no warning of NumPy's or matplotlib's.
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[3] == "of the pair with seed 0:"
    assert [line.split(":")[0] for line in lines[4:]] == SUBJECTS
    study = tmp_path / "saved_models" / "compare"
    assert len(list(study.glob("probes-*.png"))) == len(SUBJECTS)
    assert sorted(path.parent.name for path in study.glob("*/probes.csv")) == [
        "bn-seed-0", "plain-seed-0",
    ]  # fmt: skip


def test_train_without_normalization_works_and_says_so(tmp_path: Path) -> None:
    done = kerasbn("train", "--no-bn", "--probe", "--json", "--quiet", *QUICK, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)["findings"]
    assert any("there is no normalization" in line for line in told)
    pictures = {path.name for path in (tmp_path / "saved_models" / "plain").glob("probes-*")}
    assert "probes-gradients.png" in pictures
    assert "probes-statistics.png" not in pictures


def test_a_network_that_diverged_says_what_was_seen_until_then(tmp_path: Path) -> None:
    done = kerasbn("train", "--no-bn", "--probe", "--lr", "1e38", "--quiet", *QUICK, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "NaN or infinite" in done.stderr
    assert done.stdout.startswith("Gradients: before the first step")
