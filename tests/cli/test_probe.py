"""`--probe` as a user types it: real processes, on the sample."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

QUICK = ["--dataset", "mnist-sample", "--steps", "30", "--hidden", "12,9"]
TITLES = [
    "Internal covariate shift", "Loss landscape", "Pre-activations", "Typical unit", "Dead units",
    "BN statistics", "Gamma and beta", "Batch composition",
]  # fmt: skip


def kerasbn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kerasbn", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_compare_ends_with_the_findings(tmp_path: Path) -> None:
    done = kerasbn("compare", "--seeds", "2", "--probe", "--quiet", *QUICK, cwd=tmp_path)
    # Nothing else is printed: no warning of NumPy or matplotlib.
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    start = lines.index("Probes of the pair with seed 0:") + 1
    titles = [line.split(":")[0] for line in lines[start:]]
    assert titles[0].lower().endswith("gradients")
    assert titles[1:] == TITLES
    study = tmp_path / "saved_models" / "compare"
    assert len(list(study.glob("probes-*.png"))) == len(titles)
    assert sorted(path.parent.name for path in study.glob("*/probes.csv")) == [
        "bn-seed-0", "plain-seed-0",
    ]  # fmt: skip


def test_train_without_bn_says_that_there_are_no_statistics(tmp_path: Path) -> None:
    done = kerasbn("train", "--no-bn", "--probe", "--json", "--quiet", *QUICK, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    claims = {each["topic"]: each["claim"] for each in json.loads(done.stdout)["findings"]}
    assert "no BN layers" in claims["statistics"]
    pictures = {path.name for path in (tmp_path / "saved_models" / "plain").glob("probes-*")}
    assert "probes-gradients.png" in pictures
    assert "probes-statistics.png" not in pictures


def test_a_diverged_model_has_findings_too(tmp_path: Path) -> None:
    done = kerasbn("train", "--no-bn", "--probe", "--lr", "1e38", "--quiet", *QUICK, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "NaN or infinite" in done.stderr
    assert done.stdout.startswith(("Gradients: ", "Exploding gradients: "))
