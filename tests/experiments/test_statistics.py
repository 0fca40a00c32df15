"""Means and intervals are those of the textbook, and the sentence says what they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [
        paired_difference(rng.normal(5, 1, 6).tolist(), rng.normal(3, 2, 6).tolist())
        for _ in range(4000)
    ]
    share = np.mean([each.low <= 2 <= each.high for each in found])  # type: ignore[operator] # 6 pairs have ends
    assert share == pytest.approx(0.95, abs=0.012)


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
    first, second = by_epoch(with_bn, without_bn)["loss"]
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
    assert by_epoch({}, {}) == {
        name: [] for name in ("loss", "accuracy", "val_loss", "val_accuracy")
    }
