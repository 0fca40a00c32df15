"""A comparison over many seeds holds what each seed alone would give, and hides no failure."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.errors import CheckFailedError, InputError, StoppedError
from kerasbn.experiments import ensemble
from kerasbn.experiments.compare import compare
from kerasbn.experiments.ensemble import (
    SeedComparison,
    check_ending,
    compare_seeds,
    draw,
    record_of,
)
from kerasbn.training.settings import ModelSettings, TrainingSettings

SHORT = TrainingSettings(epochs=2, seed=4)
SMALL = ModelSettings(hidden=(12, 9))


@pytest.fixture(scope="module")
def compared(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SeedComparison:
    """Three pairs, in groups of at most two."""
    root = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "GROUP", 2)
        return compare_seeds(SMALL, few_digits, SHORT, 3, quiet=True, root=root)


def sick(
    result: SeedComparison, kind: str, *seeds: int, status: str = "diverged"
) -> SeedComparison:
    """The same comparison, had these members diverged."""
    pairs = []
    for pair in result.pairs:
        run: runs.Run = getattr(pair, kind)
        ill = replace(run, record=run.record | {"status": status, "diverged_at_step": 7})
        ills: Any = {kind: ill}
        pairs.append(replace(pair, **ills) if pair.seed in seeds else pair)
    return replace(result, pairs=tuple(pairs))


def test_one_folder_holds_it_all(compared: SeedComparison) -> None:
    assert compared.path.name == "compare"
    members = [f"{kind}-seed-{seed}" for kind in ("bn", "plain") for seed in (4, 5, 6)]
    files = ["compare.csv", "compare.json", "compare.png"]
    assert sorted(path.name for path in compared.path.iterdir()) == sorted([*members, *files])
    assert [path.name for path in compared.path.parent.iterdir()] == ["compare"]


def test_a_pair_is_what_its_seed_alone_gives(
    compared: SeedComparison, few_digits: Dataset, tmp_path: Path
) -> None:
    alone = compare(SMALL, few_digits, replace(SHORT, seed=5), quiet=True, root=tmp_path)
    pair = compared.pairs[1]
    assert pair.seed == 5
    for mine, theirs in ((pair.with_bn, alone.with_bn), (pair.without_bn, alone.without_bn)):
        assert mine.record["training"] == theirs.record["training"]
        assert mine.record["parameters"] == theirs.record["parameters"]
        for figure in ("loss", "val_loss"):
            # In float32, after 40 steps; other kernels or batches differ in the first digit.
            np.testing.assert_allclose(mine.history[figure], theirs.history[figure], rtol=1e-3)
        one, other = (keras.models.load_model(run.model_path) for run in (mine, theirs))
        for weight, same in zip(one.weights, other.weights, strict=True):
            assert weight.path == same.path
            np.testing.assert_allclose(weight, same, rtol=1e-2, atol=1e-3)


def test_a_member_is_a_run_with_a_plain_network(
    compared: SeedComparison, few_digits: Dataset
) -> None:
    path = compared.path / "plain-seed-6"
    network = keras.models.load_model(runs.find_model(str(path)))
    loss, accuracy = network.evaluate(few_digits.test.images, few_digits.test.labels, verbose=0)
    final = runs.read_run(path).record["final"]
    assert loss == pytest.approx(final["val_loss"], rel=1e-5)
    assert accuracy == pytest.approx(final["val_accuracy"], abs=1e-7)
    assert [layer.name for layer in network.layers][-3:] == ["dense_2", "relu_2", "logits"]


def test_the_record_and_the_table_hold_the_same_figures(compared: SeedComparison) -> None:
    record = json.loads((compared.path / "compare.json").read_text())
    assert record == json.loads(json.dumps(record_of(compared)))
    assert record["seeds"] == [4, 5, 6]
    assert record["history"]["with_bn"][2] == compared.pairs[2].with_bn.history
    assert record["sentence"] in compared.summary()
    assert record["method"] in compared.summary()
    finals = [pair.with_bn.history["val_loss"][1] for pair in compared.pairs]
    with (compared.path / "compare.csv").open(newline="") as lines:
        table = {(row["figure"], row["epoch"]): row for row in csv.DictReader(lines)}
    assert len(table) == 4 * 2
    found = table["val_loss", "2"]
    assert float(found["with_bn_mean"]) == pytest.approx(np.mean(finals))
    assert float(found["with_bn_sd"]) == pytest.approx(np.std(finals, ddof=1))
    columns = record["statistics"]["val_loss"]
    for kind, name, column in (
        ("with_bn", "mean", "with_bn_mean"), ("without_bn", "members", "without_bn_members"),
        ("difference", "mean", "difference"), ("difference", "low", "low"),
    ):  # fmt: skip
        assert columns[kind][name][1] == pytest.approx(float(found[column]))


def test_the_picture_shows_mean_band_and_members(compared: SeedComparison) -> None:
    axes = draw(compared).axes[3]
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    (mean, _) = (line for line in axes.lines if line.get_linewidth() == 2)
    assert len(thin) == 6
    assert len(axes.collections) == 2  # the bands
    finals = [pair.with_bn.history["val_accuracy"] for pair in compared.pairs]
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), np.mean(finals, axis=0))
    edge = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1].max()
    assert edge == pytest.approx(max(np.mean(finals, axis=0) + np.std(finals, axis=0, ddof=1)))
    assert "seeds 4 to 6" in draw(compared).get_suptitle()


def test_a_diverged_member_is_named_and_in_no_mean(compared: SeedComparison) -> None:
    result = sick(compared, "without_bn", 5)
    assert result.diverged() == {"with_bn": [], "without_bn": [5]}
    last = result.statistics()["val_accuracy"][-1]
    others = [result.pairs[i].without_bn.history["val_accuracy"][-1] for i in (0, 2)]
    assert last.without_bn.mean == pytest.approx(np.mean(others))
    assert (last.with_bn.members, last.without_bn.members, last.difference.pairs) == (3, 2, 2)
    assert "1 of 3 diverged, seed 5, left out" in result.summary()
    labels = [text.get_text() for text in draw(result).legends[0].get_texts()]
    assert labels == ["With BN, mean of 3", "Without BN, mean of 2 (1 of 3 diverged)"]
    check_ending(result)


def test_no_member_left_is_a_failure(compared: SeedComparison) -> None:
    none_left = sick(sick(compared, "with_bn", 4, 5, 6), "without_bn", 4, 5, 6)
    with pytest.raises(CheckFailedError, match=r"all 6 networks diverged .* lower --lr"):
        check_ending(none_left)
    assert none_left.summary().count("3 of 3 diverged") == 2
    draw(none_left)


def test_an_interrupted_comparison_says_so(compared: SeedComparison) -> None:
    with pytest.raises(StoppedError, match="3 pairs kept"):
        check_ending(sick(compared, "with_bn", 6, status="interrupted"))


def test_members_that_really_diverge(few_digits: Dataset, tmp_path: Path) -> None:
    wild = replace(SMALL, init="normal:1", activation="linear")
    training = TrainingSettings(optimizer="sgd", lr=0.3, epochs=2)
    result = compare_seeds(wild, few_digits, training, 2, quiet=True, root=tmp_path, name="wild")
    assert result.path == tmp_path / "wild"
    assert result.diverged() == {"with_bn": [], "without_bn": [0, 1]}
    steps = [pair.without_bn.record["diverged_at_step"] for pair in result.pairs]
    assert all(1 <= step <= 40 for step in steps)
    assert "without no figures (2 of 2 diverged, seeds 0, 1)" in result.summary()
    assert not (result.path / "plain-seed-0" / "model.keras").exists()
    with pytest.raises(InputError, match="--force"):
        compare_seeds(wild, few_digits, training, 2, quiet=True, root=tmp_path, name="wild")


@pytest.mark.parametrize("count", [0, -3, 1001])
def test_seeds_out_of_range_are_refused(few_digits: Dataset, tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=rf"--seeds {count}: received {count}, expected a whole"):
        compare_seeds(SMALL, few_digits, SHORT, count, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_groups_are_of_nearly_one_size() -> None:
    every = [replace(SHORT, seed=seed) for seed in range(17)]
    sizes = [len(group) for group in ensemble._groups(every)]
    assert sizes == [6, 6, 5]
    assert [own for group in ensemble._groups(every) for own in group] == every
