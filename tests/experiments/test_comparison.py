"""Reading a comparison back, and what it says."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_runs import run_record, trained_member, write_run

from kerasbn.common.errors import CheckFailedError, InputError, StoppedError
from kerasbn.experiments.comparison import (
    KINDS,
    Comparison,
    comparison_of,
    difference_text,
    read_comparison,
)
from kerasbn.experiments.statistics import Difference
from kerasbn.experiments.trained_model import trained_model
from kerasbn.runs import HISTORY_COLUMNS, Status, read_run
from kerasbn.training.settings import ModelSettings


@pytest.fixture
def compared(tmp_path: Path) -> Comparison:
    members = [trained_member(bn, seed) for seed in (4, 5, 6) for bn in (True, False)]
    found = comparison_of(members, "compare", tmp_path)
    assert found is not None
    return found


def with_status(result: Comparison, kind: str, *seeds: int, status: Status) -> Comparison:
    """The same comparison, had these models ended so."""
    changed = tuple(
        replace(each, status=status) if each.training.seed in seeds else each
        for each in result.of(kind)
    )
    if kind == "with_bn":
        return replace(result, with_bn=changed)
    return replace(result, without_bn=changed)


def test_a_comparison_is_read_as_it_was_written(compared: Comparison) -> None:
    assert compared.path is not None
    compared.write()
    back = read_comparison(compared.path)
    assert back == replace(compared, name=compared.path.name)
    assert back.record() == compared.record()


def test_a_run_is_found_as_long_as_it_agrees(tmp_path: Path) -> None:
    for name, bn in (("bn", True), ("plain", False)):
        write_run(tmp_path, name, run_record(model=ModelSettings(bn=bn)))
    pair = comparison_of([trained_model(read_run(tmp_path / name)) for name in ("bn", "plain")])
    assert pair is not None
    (tmp_path / "compare").mkdir()
    replace(pair, path=tmp_path / "compare").write()
    found = read_comparison(tmp_path / "compare")
    assert [run.name for run in found.probed_runs] == ["bn", "plain"]
    (tmp_path / "bn" / "history.csv").write_text(
        f"{','.join(HISTORY_COLUMNS)}\n1,0.5,0.2,125,0.8,0.3\n"
    )
    found = read_comparison(tmp_path / "compare")
    assert found.with_bn[0].run is None
    assert found.without_bn[0].run is not None
    assert found.probed_runs == []


@pytest.mark.parametrize(
    "damage",
    [
        {"seeds": []},
        {"seeds": [1]},
        {"with_bn": []},
        {"model": 3},
        {"training": {"lr": "x"}},
        {"training": {"lr": -1}},
        {"data": None},
        {"without_bn": [{"run": "x", "status": "finished", "history": {}}] * 3},
        {"without_bn": [{"run": "x", "status": "lost", "history": {}}] * 3},
    ],
)
def test_a_damaged_record_is_one_line(compared: Comparison, damage: dict[str, object]) -> None:
    assert compared.path is not None
    compared.write()
    file = compared.path / "compare.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(InputError, match=r"received a damaged record .*; compare again"):
        read_comparison(compared.path)


def test_record_and_table_hold_the_same_statistics(compared: Comparison) -> None:
    assert compared.path is not None
    compared.write()
    record = json.loads((compared.path / "compare.json").read_text())
    assert record["summary"] == compared.summary()
    with (compared.path / "compare.csv").open(newline="") as lines:
        table = {(row["metric"], row["epoch"]): row for row in csv.DictReader(lines)}
    assert len(table) == 4 * 2
    found = table["val_loss", "2"]
    finals = [each.history["val_loss"][1] for each in compared.with_bn]
    assert float(found["with_bn_mean"]) == pytest.approx(np.mean(finals))
    assert float(found["with_bn_sd"]) == pytest.approx(np.std(finals, ddof=1))
    statistics = record["statistics"]["val_loss"]
    for side, name, column in (
        ("with_bn", "mean", "with_bn_mean"), ("without_bn", "count", "without_bn_count"),
        ("difference", "mean", "difference"), ("difference", "low", "low"),
    ):  # fmt: skip
        assert statistics[side][name][1] == pytest.approx(float(found[column]))


def test_the_figure_shows_mean_band_and_every_model(compared: Comparison) -> None:
    figure = compared.figure()
    axes = figure.axes[3]
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    (mean, _) = (line for line in axes.lines if line.get_linewidth() == 2)
    assert len(thin) == 6
    assert len(axes.collections) == 2  # the bands
    finals = [each.history["val_accuracy"] for each in compared.with_bn]
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), np.mean(finals, axis=0))
    edge = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1].max()
    assert edge == pytest.approx(max(np.mean(finals, axis=0) + np.std(finals, axis=0, ddof=1)))
    assert "seeds 4 to 6" in figure.get_suptitle()


def test_a_diverged_model_is_named_and_in_no_mean(compared: Comparison) -> None:
    result = with_status(compared, "without_bn", 5, status="diverged")
    assert result.diverged() == {"with_bn": [], "without_bn": [5]}
    last = result.last
    assert last is not None
    others = [result.without_bn[i].history["val_accuracy"][-1] for i in (0, 2)]
    assert last.without_bn.mean == pytest.approx(np.mean(others))
    assert (last.with_bn.count, last.without_bn.count, last.difference.pairs) == (3, 2, 2)
    assert "without (1 of 3 diverged: seed 5, left out)" in result.summary()
    labels = [text.get_text() for text in result.figure().legends[0].get_texts()]
    assert labels == ["With BN, mean of 3", "Without BN, mean of 2 (1 of 3 diverged)"]
    result.check_ending()


def test_a_diverged_model_of_one_pair_leaves_no_difference(compared: Comparison) -> None:
    pair = replace(compared, with_bn=compared.with_bn[:1], without_bn=compared.without_bn[:1])
    assert pair.summary().endswith(" points.")
    lost = with_status(pair, "without_bn", 4, status="diverged")
    assert lost.summary().endswith("with BN, without diverged.")
    lost.check_ending()
    with pytest.raises(CheckFailedError, match=r"all 2 models diverged .* lower --lr"):
        with_status(lost, "with_bn", 4, status="diverged").check_ending()


def test_an_interrupted_comparison_is_no_success(compared: Comparison) -> None:
    with pytest.raises(StoppedError, match="3 pairs with 2 epochs kept in"):
        with_status(compared, "with_bn", 6, status="interrupted").check_ending()


def test_no_model_left_is_a_failure(compared: Comparison) -> None:
    lost = compared
    for kind in KINDS:
        lost = with_status(lost, kind, 4, 5, 6, status="diverged")
    with pytest.raises(CheckFailedError, match=r"all 6 models diverged .* lower --lr"):
        lost.check_ending()
    assert lost.summary().count("3 of 3 diverged") == 2
    lost.figure()


def test_runs_that_differ_in_more_than_bn_and_seed_are_no_comparison(tmp_path: Path) -> None:
    pair = [trained_member(True, 0), trained_member(False, 0)]
    assert comparison_of(pair) is not None
    other = replace(pair[1], model=ModelSettings(bn=False, hidden=(9,)))
    assert comparison_of([pair[0], other]) is None
    assert comparison_of([*pair, trained_member(True, 1)]) is None
    assert comparison_of([pair[0], trained_member(True, 1)]) is None
    changed = run_record(recalibrated={"from": "bn"}, model=ModelSettings(bn=False))
    recalibrated = trained_model(write_run(tmp_path, "new", changed))
    assert comparison_of([trained_model(write_run(tmp_path, "old")), recalibrated]) is None


@pytest.mark.parametrize(
    ("difference", "pairs", "text"),
    [
        (Difference(0.0203, 0.0158, 0.0248, 8), 8,
         "+2.03 points (95% interval 1.58 to 2.48, 8 pairs)"),
        (Difference(0.0203, None, None, 2), 2, "+2.03 points (2 pairs, an interval needs 3)"),
        (Difference(-0.001, None, None, 1), 1, "-0.10 points"),
    ],
)  # fmt: skip
def test_a_difference_in_words(difference: Difference, pairs: int, text: str) -> None:
    assert difference_text(difference, pairs) == text
