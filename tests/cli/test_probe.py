"""`--probe` as a user types it, on the sample."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_processes import WITHOUT_XLA, run_forked

pytestmark = pytest.mark.slow

Kerasbn = Callable[..., tuple[int, str, str]]

QUICK = ["--dataset", "mnist-sample", "--steps", "10", "--hidden", "12,9"]
TITLES = [
    "Internal covariate shift", "Loss landscape", "Pre-activations", "Typical unit", "Dead units",
    "BN statistics", "Gamma and beta", "Batch composition",
]  # fmt: skip


def test_compare_ends_with_the_findings(tmp_path: Path) -> None:
    command = " ".join(["compare", "--seeds", "2", "--probe", "--quiet", *QUICK])
    code, out, err = run_forked(command, tmp_path, WITHOUT_XLA)
    # Nothing else is printed: no warning of NumPy or matplotlib.
    assert (code, err) == (0, "")
    lines = out.splitlines()
    start = lines.index("Probes of the pair with seed 0:") + 1
    titles = [line.split(":")[0] for line in lines[start:]]
    assert titles[0].lower().endswith("gradients")
    assert titles[1:] == TITLES
    study = tmp_path / "saved_models" / "compare"
    assert len(list(study.glob("probes-*.png"))) == len(titles)
    assert sorted(path.parent.name for path in study.glob("*/probes.csv")) == [
        "bn-seed-0", "plain-seed-0",
    ]  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_train_without_bn_says_that_there_are_no_statistics(
    kerasbn: Kerasbn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = kerasbn("train", "--no-bn", "--probe", "--json", "--quiet", *QUICK)
    assert (code, err) == (0, "")
    claims = {each["topic"]: each["claim"] for each in json.loads(out)["findings"]}
    assert "no BN layers" in claims["statistics"]
    pictures = {path.name for path in (tmp_path / "saved_models" / "plain").glob("probes-*")}
    assert "probes-gradients.png" in pictures
    assert "probes-statistics.png" not in pictures


@pytest.mark.usefixtures("quick")
def test_a_diverged_model_has_findings_too(
    kerasbn: Kerasbn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = kerasbn("train", "--no-bn", "--probe", "--lr", "1e38", "--quiet", *QUICK)
    assert code == 1
    assert err.count("\n") == 1
    assert "NaN or infinite" in err
    assert out.startswith(("Gradients: ", "Exploding gradients: "))
