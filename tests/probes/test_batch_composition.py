"""Answers depend on their batch-mates where the batch's statistics are used, and only there."""

import keras
import numpy as np
import pytest

from kerasbn.data.datasets import Dataset, Split
from kerasbn.probes.batch_composition import Answered, batch_mates
from kerasbn.training.ensembles import compile_network
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings

Trained = tuple[keras.Model, Split, list[Answered]]


@pytest.fixture(scope="module")
def trained(few_digits: Dataset) -> Trained:
    keras.utils.set_random_seed(1)
    network = compile_network(mlp(hidden=(12, 9)), TrainingSettings())
    network.fit(few_digits.train.images, few_digits.train.labels, epochs=4, verbose=0)
    return network, few_digits.test, batch_mates(network, network.get_weights(), few_digits.test)


def chosen(found: list[Answered], statistics: str, size: int, order: str) -> Answered:
    (row,) = (
        row for row in found
        if (row.statistics, row.batch_size, row.order) == (statistics, size, order)
    )  # fmt: skip
    return row


def test_with_moving_statistics_nobody_depends_on_company(trained: Trained) -> None:
    network, test, found = trained
    _, accuracy = network.evaluate(test.images, test.labels, verbose=0)
    moving = [row for row in found if row.statistics == "moving"]
    assert {row.batch_size for row in moving} == {1, 2, 8, 64}
    for row in moving:
        assert row.changed == 0
        assert row.largest < 1e-5
        assert row.accuracy == pytest.approx(accuracy, abs=1e-6)


def test_alone_in_a_batch_every_digit_gets_one_answer(trained: Trained) -> None:
    network, test, found = trained
    logits = np.asarray(network(test.images[:1], training=True))
    row = chosen(found, "batch", 1, "shuffled")
    assert row.accuracy == pytest.approx((test.labels == logits.argmax()).mean())
    assert row.largest < 1e-4  # rounding, where x - mean is computed as two products


@pytest.mark.parametrize("size", [2, 8, 64])
def test_the_batch_decides_with_its_own_statistics(trained: Trained, size: int) -> None:
    network, test, found = trained
    before = network.get_weights()
    order = np.random.default_rng(0).permutation(len(test))
    # The last batch is filled up with the first digits.
    filled = np.concatenate([order, order])[: -(-len(order) // size) * size]
    logits = np.concatenate(
        [network(test.images[part], training=True) for part in filled.reshape(-1, size)]
    )[: len(order)]
    network.set_weights(before)
    row = chosen(found, "batch", size, "shuffled")
    assert row.accuracy == pytest.approx((logits.argmax(1) == test.labels[order]).mean(), abs=0.011)
    assert row.changed > 0
    assert row.largest > 0.01
    by_class = chosen(found, "batch", size, "sorted")
    assert by_class.accuracy < row.accuracy


def test_without_normalization_there_is_only_one_way_to_answer(few_digits: Dataset) -> None:
    network = mlp(bn=False, hidden=(12,))
    found = batch_mates(network, network.get_weights(), few_digits.test)
    assert {row.statistics for row in found} == {"moving"}
    assert all(row.changed == 0 for row in found)


def test_few_digits_make_small_batches(few_digits: Dataset) -> None:
    test = Split(few_digits.test.images[:5], few_digits.test.labels[:5])
    network = mlp(hidden=(4,))
    found = batch_mates(network, network.get_weights(), test)
    assert {row.batch_size for row in found} == {1, 2}


def test_the_network_stays_as_it_is(few_digits: Dataset) -> None:
    network = mlp(hidden=(4,))
    before = network.get_weights()
    batch_mates(network, network.get_weights(), few_digits.test)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
