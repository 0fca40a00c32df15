"""Differences between models are those of all samples, however they are computed."""

from collections.abc import Sequence

import numpy as np
import pytest

from kerasbn.folding import agreement
from kerasbn.folding.agreement import Arrays, batch_size, in_batches, measure_agreement

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("fixed", "sizes"), [(None, [6, 6, 2]), (5, [5, 5, 5]), (20, [20])])
def test_all_samples_are_computed_in_batches(
    fixed: int | None, sizes: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "_BATCH", 18)
    x, y = RANDOM.normal(size=(14, 3)), RANDOM.normal(size=(14, 1))
    seen = []

    def predict(arrays: Arrays) -> Arrays:
        seen.append(len(arrays[0]))
        return [arrays[0] + arrays[1], arrays[0].sum(1)]

    first, second = in_batches(predict, [x, y], fixed)
    np.testing.assert_array_equal(first, x + y)
    np.testing.assert_array_equal(second, x.sum(1))
    assert seen == sizes
    assert batch_size([x, y]) == 6
    assert in_batches(lambda arrays: [arrays[0].sum()], [x[:6]]) == [x[:6].sum()]
    assert batch_size([np.zeros((9, 500))]) == 4


def test_differences_of_all_outputs_are_measured() -> None:
    scores, numbers = RANDOM.normal(size=(1000, 4)), np.full((1000,), -50.0)
    other = scores.copy()
    other[17] = -other[17]
    found = measure_agreement([other, numbers + 10], [scores, numbers], 1000)
    assert (found.samples, found.predictions, found.changed) == (1000, 1000, 1)
    assert found.absolute == 10
    flipped = 2 * np.abs(scores[17]).max() / np.abs(scores).max()
    assert found.relative == pytest.approx(max(0.2, flipped))
    line = found.line("the original", given=True)
    assert line.startswith("difference from the original on 1,000 given samples: at most 1.0e+01, ")
    assert line.endswith("; 999 of 1,000 predictions are equal (99.90%)")


def test_one_number_is_no_prediction() -> None:
    found = measure_agreement([np.ones((1, 1))], [np.ones((1, 1))], 1)
    line = "difference from Keras on 1 random sample: at most 0.0e+00, relative 0.0e+00"
    assert found.line("Keras", given=False) == line
