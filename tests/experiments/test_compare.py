"""A comparison is fair, whole, and says what it found."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.errors import CheckFailedError, InputError, StoppedError
from kerasbn.experiments.compare import Comparison, check_ending, compare, difference_in_points
from kerasbn.training.settings import ModelSettings, TrainingSettings

Compared = tuple[Path, Comparison]


def with_status(run: runs.Run, status: str) -> runs.Run:
    return replace(run, record=run.record | {"status": status, "diverged_at_step": 7})


def test_it_leaves_two_runs_and_a_folder(comparison: Compared) -> None:
    root, _ = comparison
    assert sorted(path.name for path in root.iterdir()) == ["bn", "compare", "plain"]
    files = sorted(path.name for path in (root / "compare").iterdir())
    assert files == ["compare.json", "compare.png"]
    for name in ("bn", "plain"):
        files = sorted(path.name for path in (root / name).iterdir())
        assert files == ["curves.png", "history.csv", "model.keras", "run.json"]


def test_the_newest_run_is_the_normalized_one(comparison: Compared) -> None:
    root, _ = comparison
    assert runs.find_model(None, root) == root / "bn" / "model.keras"


def test_the_record_holds_both_histories(comparison: Compared) -> None:
    root, result = comparison
    record = json.loads((root / "compare" / "compare.json").read_text())
    assert record["runs"] == {"with_bn": "bn", "without_bn": "plain"}
    for key, run in (("with_bn", result.with_bn), ("without_bn", result.without_bn)):
        assert record["history"][key] == run.history
        assert record["final"][key]["val_accuracy"] == run.history["val_accuracy"][-1]
    finals = [record["final"][key]["val_accuracy"] for key in ("with_bn", "without_bn")]
    assert record["difference_in_points"] == pytest.approx(100 * (finals[0] - finals[1]))


def test_the_kept_networks_answer_as_recorded(comparison: Compared, sample_digits: Dataset) -> None:
    _, result = comparison
    for run in (result.with_bn, result.without_bn):
        network = keras.models.load_model(run.model_path)
        loss, accuracy = network.evaluate(
            sample_digits.test.images, sample_digits.test.labels, verbose=0
        )
        assert loss == pytest.approx(run.record["final"]["val_loss"], rel=1e-5)
        assert accuracy == pytest.approx(run.record["final"]["val_accuracy"], abs=1e-7)
        assert accuracy > 0.85


def test_moving_statistics_were_worn_in(comparison: Compared) -> None:
    _, result = comparison
    normalization = keras.models.load_model(result.with_bn.model_path).get_layer("bn_1")
    assert np.abs(np.asarray(normalization.moving_mean)).max() > 0.1
    assert np.abs(np.asarray(normalization.moving_variance) - 1).max() > 0.1


def test_the_summary_names_the_difference(comparison: Compared) -> None:
    _, result = comparison
    accuracies = [
        run.record["final"]["val_accuracy"] for run in (result.with_bn, result.without_bn)
    ]
    points = 100 * (accuracies[0] - accuracies[1])
    assert result.summary() == (
        f"test accuracy {accuracies[0]:.2%} with BN, {accuracies[1]:.2%} without: "
        f"{points:+.2f} points"
    )


def test_a_diverged_network_makes_no_difference(comparison: Compared) -> None:
    _, result = comparison
    lost = with_status(result.without_bn, "diverged")
    assert difference_in_points(result.with_bn, lost) is None
    line = replace(result, without_bn=lost).summary()
    assert line.endswith("with BN, diverged (at step 7) without")
    check_ending(replace(result, without_bn=lost))  # it is a result
    with pytest.raises(CheckFailedError, match=r"at step 7 with learning rate 0\.01"):
        check_ending(replace(result, without_bn=lost, with_bn=with_status(lost, "diverged")))


def test_an_interrupted_comparison_is_no_success(comparison: Compared) -> None:
    _, result = comparison
    stopped = replace(result, with_bn=with_status(result.with_bn, "interrupted"))
    with pytest.raises(StoppedError, match="3 epochs kept in"):
        check_ending(stopped)


def test_names_are_numbered_or_asked_for(few_digits: Dataset, tmp_path: Path) -> None:
    short = TrainingSettings(steps=3)
    for name in (None, None, "mine"):
        compare(ModelSettings(), few_digits, short, name=name, quiet=True, root=tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [
        "bn", "bn-2", "compare", "compare-2",
        "mine-bn", "mine-compare", "mine-plain", "plain", "plain-2",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"mine-bn.*--force"):
        compare(ModelSettings(), few_digits, short, name="mine", quiet=True, root=tmp_path)
    longer = TrainingSettings(steps=4)
    again = compare(
        ModelSettings(), few_digits, longer, name="mine", force=True, quiet=True, root=tmp_path
    )
    assert again.with_bn.history["step"] == [4]
    assert sorted(path.name for path in tmp_path.iterdir()) == found


def test_one_network_diverges_and_the_other_goes_on(few_digits: Dataset, tmp_path: Path) -> None:
    network = ModelSettings(init="normal:1", activation="linear", hidden=(8,))
    training = TrainingSettings(optimizer="sgd", lr=3.0, epochs=3)
    result = compare(network, few_digits, training, quiet=True, root=tmp_path)
    assert result.with_bn.status == "finished"
    assert result.with_bn.history["epoch"] == [1, 2, 3]
    assert result.without_bn.status == "diverged"
    assert result.without_bn.record["diverged_at_step"] <= 60
    assert (result.path / "compare.png").is_file()
