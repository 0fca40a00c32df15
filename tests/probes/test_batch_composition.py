"""Predictions depend on batch composition with batch statistics, and only with them."""

from collections.abc import Sequence

import keras
import numpy as np
import pytest

from kerasbn.data.datasets import Dataset, Split
from kerasbn.probes.batch_composition import predict_in_batches
from kerasbn.probes.readings import BatchResult
from kerasbn.training.ensembles import compile_model
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings

Trained = tuple[keras.Model, Split, tuple[BatchResult, ...]]


@pytest.fixture(scope="module")
def trained(few_digits: Dataset) -> Trained:
    keras.utils.set_random_seed(1)
    model = compile_model(mlp(hidden=(12, 9)), TrainingSettings())
    model.fit(few_digits.train.images, few_digits.train.labels, epochs=4, verbose=0)
    return model, few_digits.test, predict_in_batches(model, model.get_weights(), few_digits.test)


def chosen(found: Sequence[BatchResult], statistics: str, size: int, order: str) -> BatchResult:
    (row,) = (
        row for row in found
        if (row.statistics, row.batch_size, row.order) == (statistics, size, order)
    )  # fmt: skip
    return row


@pytest.mark.slow
def test_with_moving_statistics_nothing_depends_on_the_batch(trained: Trained) -> None:
    model, test, found = trained
    _, accuracy = model.evaluate(test.images, test.labels, verbose=0)
    moving = [row for row in found if row.statistics == "moving"]
    assert {row.batch_size for row in moving} == {1, 2, 8, 64}
    for row in moving:
        assert row.changed == 0
        assert row.largest < 1e-5
        assert row.accuracy == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.slow
def test_in_batches_of_one_every_image_gets_the_same_prediction(trained: Trained) -> None:
    model, test, found = trained
    logits = np.asarray(model(test.images[:1], training=True))
    row = chosen(found, "batch", 1, "shuffled")
    assert row.accuracy == pytest.approx((test.labels == logits.argmax()).mean())
    assert row.largest < 1e-4  # rounding, where x - mean is computed as two products


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 8, 64])
def test_batch_statistics_make_predictions_depend_on_the_batch(trained: Trained, size: int) -> None:
    model, test, found = trained
    before = model.get_weights()
    order = np.random.default_rng(0).permutation(len(test))
    # The first images fill up the last batch.
    filled = np.concatenate([order, order])[: -(-len(order) // size) * size]
    logits = np.concatenate(
        [model(test.images[part], training=True) for part in filled.reshape(-1, size)]
    )[: len(order)]
    model.set_weights(before)
    row = chosen(found, "batch", size, "shuffled")
    assert row.accuracy == pytest.approx((logits.argmax(1) == test.labels[order]).mean(), abs=0.011)
    assert row.changed > 0
    assert row.largest > 0.01
    by_class = chosen(found, "batch", size, "sorted")
    assert by_class.accuracy < row.accuracy


def test_without_bn_there_are_no_batch_statistics(few_digits: Dataset) -> None:
    model = mlp(bn=False, hidden=(12,))
    found = predict_in_batches(model, model.get_weights(), few_digits.test)
    assert {row.statistics for row in found} == {"moving"}
    assert all(row.changed == 0 for row in found)


def test_batches_are_no_larger_than_the_test_set(few_digits: Dataset) -> None:
    test = Split(few_digits.test.images[:5], few_digits.test.labels[:5])
    model = mlp(hidden=(4,))
    found = predict_in_batches(model, model.get_weights(), test)
    assert {row.batch_size for row in found} == {1, 2}


def test_the_model_stays_unchanged(few_digits: Dataset) -> None:
    model = mlp(hidden=(4,))
    before = model.get_weights()
    predict_in_batches(model, model.get_weights(), few_digits.test)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
