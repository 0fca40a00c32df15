"""How sure the page is: the words follow the interval."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kerasbn.reports.answer import answer_of, certainty, findings
from kerasbn.reports.sources import Data, Pairs, Trained
from kerasbn.runs import METRICS as FIGURES
from kerasbn.runs import Status
from kerasbn.training.settings import ModelSettings, TrainingSettings

DATA = Data("mnist", "0" * 64, 60000, 10000, "")


def trained(
    bn: bool, seed: int, accuracies: Sequence[float], status: Status = "finished"
) -> Trained:
    history = {
        name: [a if name.endswith("accuracy") else 1 - a for a in accuracies] for name in FIGURES
    } | {"epoch": [float(i + 1) for i in range(len(accuracies))]}
    return Trained(
        f"{bn}-{seed}", ModelSettings(bn), TrainingSettings(seed=seed), DATA, "", status, history
    )


def pairs(with_bn: Sequence[Sequence[float]], without: Sequence[Sequence[float]]) -> Pairs:
    return Pairs(
        "x",
        tuple(trained(True, i, each) for i, each in enumerate(with_bn)),
        tuple(trained(False, i, each) for i, each in enumerate(without)),
    )


def sure(found: Pairs) -> str:
    return certainty(found.statistics()["val_accuracy"][-1])


def test_one_pair_is_an_anecdote() -> None:
    found = pairs([[0.9, 0.97]], [[0.8, 0.95]])
    assert sure(found).startswith("One pair is an anecdote")
    assert answer_of(found) == (
        "With batch normalization 97.00\u00a0%, without it 95.00\u00a0% of the 10,000 test digits "
        "are right: 2.00 points more with batch normalization."
    )


def test_two_pairs_are_too_few() -> None:
    assert "too few for an interval" in sure(pairs([[0.9], [0.91]], [[0.8], [0.8]]))


@given(st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)), min_size=3, max_size=9))
def test_the_words_follow_the_interval(values: list[tuple[float, float]]) -> None:
    found = pairs([[a] for a, _ in values], [[b] for _, b in values])
    difference = found.statistics()["val_accuracy"][-1].difference
    assert difference.low is not None
    assert difference.high is not None
    assume(difference.low != 0 != difference.high)
    said = sure(found)
    assert ("helps." in said) == (difference.low > 0)
    assert ("harms." in said) == (difference.high < 0)
    assert ("cannot tell" in said) == (difference.low < 0 < difference.high)


def test_worse_with_normalization_is_said_as_plainly() -> None:
    found = pairs([[0.80], [0.81], [0.82]], [[0.90], [0.91], [0.925]])
    assert "harms" in sure(found)
    difference = found.statistics()["val_accuracy"][-1].difference
    assert difference.low is not None
    assert difference.high is not None
    assert answer_of(found).endswith(
        "points fewer with batch normalization, on average over 3 pairs (95 % interval "
        f"\u2212{-100 * difference.low:.2f} to \u2212{-100 * difference.high:.2f})."
    )


def test_pace_names_when_each_was_where_the_weaker_ends() -> None:
    """Not when the weaker ended: it was as good before."""
    (pace,) = [
        each
        for each in findings(pairs([[0.91, 0.95, 0.97, 0.98]], [[0.6, 0.92, 0.7, 0.905]]))
        if each.startswith("Pace")
    ]
    assert "90.50\u00a0% of the test digits, where the networks without BN end," in pace
    assert pace.endswith("were right after 1 epoch with BN and after 2 epochs without.")


def test_an_equal_pace_is_not_worth_a_sentence() -> None:
    found = findings(pairs([[0.9, 0.95, 0.97]], [[0.6, 0.91, 0.905]]))
    assert not [each for each in found if each.startswith("Pace")]


def test_a_divergence_is_said_and_left_out() -> None:
    whole = pairs([[0.9], [0.91], [0.92]], [[0.8], [0.81], [0.82]])
    sick = replace(whole, without_bn=(
        trained(False, 0, [0.1], "diverged"), *whole.without_bn[1:]
    ))  # fmt: skip
    said = " ".join(findings(sick))
    assert "1 of 3 without BN (seed 0); those are in no mean" in said
    assert "81.50\u00a0%" in answer_of(sick)
    assert answer_of(sick).endswith("on average over 2 pairs.")
    assert "2 pairs are too few" in sure(sick)


@pytest.mark.parametrize("kind", ["with_bn", "without_bn"])
def test_where_all_of_a_kind_diverged_there_is_no_difference(kind: str) -> None:
    whole = pairs([[0.9], [0.91]], [[0.8], [0.81]])
    sick = tuple(replace(each, status="diverged") for each in whole.of(kind))
    found = Pairs(
        "x",
        sick if kind == "with_bn" else whole.with_bn,
        sick if kind == "without_bn" else whole.without_bn,
    )
    assert "no pair is left to compare" in answer_of(found)
    assert "there is no difference to be sure of" in sure(found)
    assert findings(found)
