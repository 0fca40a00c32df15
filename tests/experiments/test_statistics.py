"""Means and intervals are those of the textbook, and the sentence says what they are."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from simulated_studies import (
    DIFFERENT,
    EQUAL,
    NEAR_ONE,
    SEEDS,
    Scenario,
    normal,
    simulate,
    very_skewed,
)

from kerasbn.experiments.statistics import (
    MIN_PAIRS,
    Spread,
    by_epoch,
    columns,
    paired_difference,
    spread,
)

NONE: dict[str, list[int]] = {"with_bn": [], "without_bn": []}


def test_mean_and_deviation_by_hand() -> None:
    found = spread([1.0, 2.0, 6.0])
    assert (found.mean, found.count) == (3.0, 3)
    assert found.sd == pytest.approx(7**0.5)
    assert spread([4.0]) == Spread(4.0, None, 1)
    assert spread([]) == Spread(None, None, 0)


@given(
    st.lists(
        st.tuples(*[st.floats(0, 1).map(lambda x: round(x, 6))] * 2), min_size=MIN_PAIRS, max_size=9
    )
)
def test_the_interval_is_that_of_a_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    ours = paired_difference(first, second)
    assert ours.pairs == len(pairs)
    assert ours.low is not None
    assert ours.high is not None
    if np.ptp(np.subtract(first, second)) < 1e-9:  # scipy's is NaN there
        assert ours.low == pytest.approx(ours.high, abs=1e-8)
        return
    theirs = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert ours.low == pytest.approx(theirs.low, rel=1e-6, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, rel=1e-6, abs=1e-9)


def coverage(scenario: Scenario, seeds: int) -> float:
    """The share of simulated studies whose interval covers the true difference."""
    found = [
        paired_difference(with_bn.tolist(), without_bn.tolist(), 1 / scenario.images)
        for with_bn, without_bn in zip(*simulate(scenario, seeds), strict=True)
    ]
    return float(np.mean([each.low <= scenario.difference <= each.high for each in found]))  # type: ignore[operator] # so many pairs have ends


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
def test_intervals_cover_the_true_difference_in_95_of_100_studies(seeds: int) -> None:
    found = {name: coverage(scenario, seeds) for name, scenario in DIFFERENT.items()}
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
def test_without_a_difference_at_most_6_of_100_intervals_exclude_zero(seeds: int) -> None:
    found = {name: coverage(scenario, seeds) for name, scenario in EQUAL.items()}
    assert all(share >= 0.94 for share in found.values()), found


@pytest.mark.parametrize("seeds", SEEDS)
def test_equal_counts_of_few_seeds_are_not_exact(seeds: int) -> None:
    """Where accuracies take few values, intervals may only cover the truth more often."""
    found = {name: coverage(scenario, seeds) for name, scenario in NEAR_ONE.items()}
    assert all(share >= 0.93 for share in found.values()), found


@pytest.mark.parametrize("seeds", SEEDS)
def test_strongly_skewed_results_are_covered_as_rarely_as_the_docstring_says(seeds: int) -> None:
    certain = normal(0.97, 0.002)
    found = [
        coverage(Scenario(very_skewed(0.03), other), seeds)
        for other in (certain, very_skewed(0.01))
    ]
    assert 0.8 <= min(found) <= max(found) <= 0.92, found
    assert "sigma 1, it covers it in 80 to 92%" in " ".join(
        (paired_difference.__doc__ or "").split()
    )


def test_what_a_seed_does_to_both_drops_out() -> None:
    luck = np.array([0.0, 0.3, -0.2, 0.5])
    alike = paired_difference((luck + 1.1).tolist(), (luck + 1).tolist())
    assert alike.mean == pytest.approx(0.1)
    assert alike.high is not None
    assert alike.high < 0.11


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_too_few_pairs_have_no_interval(pairs: int) -> None:
    found = paired_difference([0.5, 0.7][:pairs], [0.4, 0.5][:pairs])
    assert (found.low, found.high, found.pairs) == (None, None, pairs)
    assert (found.mean is None) == (pairs == 0)


def history(*accuracies: float) -> dict[str, list[float]]:
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    columns = {name: [value + i for value in accuracies] for i, name in enumerate(names)}
    return {"epoch": [float(i + 1) for i in range(len(accuracies))], **columns}


def test_rows_go_as_far_as_all_members_and_pair_by_seed() -> None:
    with_bn = {0: history(1, 2, 3), 1: history(3, 6), 5: history(2, 2)}
    without_bn = {5: history(1, 1, 1), 0: history(0, 3)}
    first, second = by_epoch(with_bn, without_bn, {})["loss"]
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.with_bn.mean == pytest.approx(10 / 3)
    assert second.with_bn.count == 3
    assert second.without_bn.mean == 2.0
    assert second.without_bn.sd == pytest.approx(2**0.5)
    assert second.difference.mean == pytest.approx(0)  # 2-3 and 2-1: seed 1 has no partner
    assert second.difference.pairs == 2
    assert columns([first, second])["with_bn"]["count"] == [3, 3]
    assert columns([first, second])["difference"]["mean"] == [1.0, 0.0]


def test_no_member_has_no_row() -> None:
    assert by_epoch({}, {}, {}) == {
        name: [] for name in ("loss", "accuracy", "val_loss", "val_accuracy")
    }


def test_values_near_the_largest_there_are_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spread([1e308, -1e308]).sd == float("inf")
