"""Questions, answers and findings. What a page concludes follows from the interval."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from simulated_studies import EQUAL, STUDIES, simulate

from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.statistics import MIN_PAIRS, Row, Spread, paired_difference
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.results import certainty, finding_blocks, runs_answer
from kerasbn.runs import METRICS, DataRecord, Status
from kerasbn.training.settings import ModelSettings, TrainingSettings

DATA = DataRecord("mnist", "0" * 64, 60000, 10000)


def member(
    bn: bool, seed: int, accuracies: Sequence[float], status: Status = "finished"
) -> TrainedModel:
    history = {
        name: [a if name.endswith("accuracy") else 1 - a for a in accuracies] for name in METRICS
    } | {"epoch": [float(i + 1) for i in range(len(accuracies))]}
    model, training = ModelSettings(bn=bn), TrainingSettings(seed=seed)
    return TrainedModel(f"{bn}-{seed}", model, training, DATA, "", status, history)


def compared(with_bn: Sequence[Sequence[float]], without: Sequence[Sequence[float]]) -> Comparison:
    return Comparison(
        "x",
        tuple(member(True, i, each) for i, each in enumerate(with_bn)),
        tuple(member(False, i, each) for i, each in enumerate(without)),
    )


def test_one_pair_is_not_enough() -> None:
    found = compared([[0.9, 0.97]], [[0.8, 0.95]])
    assert certainty(found.last).startswith("One pair does not show")
    assert "97.00% with BN, 95.00% without: +2.00 points" in found.summary()


def test_two_pairs_are_too_few() -> None:
    found = compared([[0.9], [0.91]], [[0.8], [0.8]])
    assert certainty(found.last).startswith("2 pairs are too few")


@given(st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)), min_size=3, max_size=9))
def test_the_conclusion_follows_from_the_interval(values: list[tuple[float, float]]) -> None:
    found = compared([[a] for a, _ in values], [[b] for _, b in values])
    assert found.last is not None
    difference = found.last.difference
    assert difference.low is not None
    assert difference.high is not None
    assume(difference.low != 0 != difference.high)
    said = certainty(found.last)
    assert ("improves" in said) == (difference.low > 0)
    assert ("lowers" in said) == (difference.high < 0)
    assert ("includes zero" in said) == (difference.low < 0 < difference.high)


def test_speed_compares_when_each_reaches_the_lower_final_accuracy() -> None:
    """The model without BN reaches its final accuracy before the last epoch."""
    found = compared([[0.91, 0.95, 0.97, 0.98]], [[0.6, 0.92, 0.7, 0.905]])
    (speed,) = [each for each in finding_blocks(found) if each.startswith("Training speed")]
    assert "90.50% test accuracy takes 1 epoch with BN, 2 without" in speed


def test_equal_speed_is_no_finding() -> None:
    found = list(finding_blocks(compared([[0.9, 0.95, 0.97]], [[0.6, 0.91, 0.905]])))
    assert not [each for each in found if each.startswith("Training speed")]


def test_findings_are_short() -> None:
    found = list(finding_blocks(compared([[0.92, 0.97], [0.9, 0.96]], [[0.4, 0.9], [0.7, 0.75]])))
    assert len(found) == 3
    assert all(len(each) < 110 for each in found)


def test_models_that_diverged_are_named_and_left_out() -> None:
    whole = compared([[0.9], [0.91], [0.92]], [[0.8], [0.81], [0.82]])
    diverged = member(False, 0, [0.1], "diverged")
    found = replace(whole, without_bn=(diverged, *whole.without_bn[1:]))
    assert "1 of 3 without BN (seed 0)" in " ".join(finding_blocks(found))
    assert "81.50" in found.summary()
    assert certainty(found.last).startswith("2 pairs are too few")


@pytest.mark.parametrize("kind", ["with_bn", "without_bn"])
def test_without_a_finished_pair_there_is_no_difference(kind: str) -> None:
    whole = compared([[0.9], [0.91]], [[0.8], [0.81]])
    diverged = tuple(replace(each, status="diverged") for each in whole.of(kind))
    found = Comparison(
        "x",
        diverged if kind == "with_bn" else whole.with_bn,
        diverged if kind == "without_bn" else whole.without_bn,
    )
    assert "points" not in found.summary()
    assert "no difference to report" in certainty(found.last)
    assert list(finding_blocks(found))


def test_the_answer_for_runs_is_the_best_test_accuracy() -> None:
    runs = [member(True, 0, [0.9, 0.97]), member(True, 1, [0.9, 0.98]), member(True, 2, [])]
    assert runs_answer(runs[:1]) == "Test accuracy: 97.00% after 2 epochs."
    assert runs_answer(runs) == "Best test accuracy: 98.00%, by True-1 (seed 1)."
    assert runs_answer(runs[2:]).startswith("No metrics")


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_of_studies_without_a_difference_at_most_6_of_100_conclude_one(seeds: int) -> None:
    rates = {}
    for name in ("normal", "near one"):
        scenario, none = EQUAL[name], Spread(None, None, 0)
        called = 0
        for with_bn, without in zip(*simulate(scenario, seeds), strict=True):
            found = paired_difference(with_bn.tolist(), without.tolist(), 1 / scenario.images)
            said = certainty(Row(1, none, none, found))
            called += "improves" in said or "lowers" in said
        rates[name] = called / STUDIES
    assert all(rate <= 0.06 for rate in rates.values()), rates
    assert (seeds >= MIN_PAIRS) == any(rates.values())
