"""Many batches in a compiled call train just as one batch a call does."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from plain_batches import batches

from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset
from kerasbn.training.callbacks import EvaluateEachEpoch
from kerasbn.training.ensembles import SingleModel, compile_model
from kerasbn.training.loop import SideBySide, fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings


@pytest.fixture
def float64() -> Iterator[None]:
    """Networks made here compute in float64, which judges."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def networks(settings: TrainingSettings, **options: Any) -> dict[str, keras.Model]:
    pair = {"bn": True, "plain": False}
    return {
        key: compile_model(mlp(bn=bn, hidden=(12, 9), seed=settings.seed, **options), settings)
        for key, bn in pair.items()
    }


def solos(trained: dict[str, keras.Model], settings: TrainingSettings) -> list[SingleModel]:
    return [SingleModel(key, network, settings.seed) for key, network in trained.items()]


def schedule(digits: Dataset, settings: TrainingSettings) -> Schedule:
    return Schedule.of(len(digits.train), settings.batch_size, settings.epochs, settings.steps)


def train(
    networks: dict[str, keras.Model], digits: Dataset, settings: TrainingSettings
) -> EvaluateEachEpoch:
    """Train them with no callback but `EvaluateEachEpoch`, which is given back."""
    watch = EvaluateEachEpoch(schedule(digits, settings))
    fit(solos(networks, settings), digits, schedule(digits, settings), [watch], "/CPU:0")
    return watch


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_is_plain_keras_training(few_digits: Dataset, optimizer: str) -> None:
    settings = TrainingSettings(optimizer=optimizer, lr=0.02, batch_size=48, epochs=2, seed=3)
    ours, plain = networks(settings), networks(settings)
    train(ours, few_digits, settings)
    for network in plain.values():
        for epoch in range(2):
            for images, labels in batches(few_digits.train, 48, seed=3, epoch=epoch):
                network.train_on_batch(images, labels)
    for key in ours:
        for mine, theirs in zip(ours[key].weights, plain[key].weights, strict=True):
            # 26 steps; a wrong order, a missed update or stale statistics differ by 1e-2.
            np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-10, err_msg=mine.path)


def test_the_evaluation_is_keras_evaluate(few_digits: Dataset) -> None:
    settings = TrainingSettings(batch_size=32, epochs=1)
    trained = networks(settings)
    train(trained, few_digits, settings)
    figures = SideBySide(solos(trained, settings), few_digits).evaluate_all()
    for key, network in trained.items():
        for prefix, split in (("", few_digits.train), ("val_", few_digits.test)):
            loss, accuracy = network.evaluate(split.images, split.labels, verbose=0)
            assert figures[key][f"{prefix}loss"] == pytest.approx(loss, rel=1e-5)
            assert figures[key][f"{prefix}accuracy"] == pytest.approx(accuracy, abs=1e-7)


def test_more_digits_than_a_slice_holds_are_all_counted(sample_digits: Dataset) -> None:
    settings = TrainingSettings()
    network = compile_model(mlp(seed=1), settings)
    figures = SideBySide([SingleModel("bn", network, 0)], sample_digits).evaluate_all()["bn"]
    loss, accuracy = network.evaluate(
        sample_digits.train.images, sample_digits.train.labels, verbose=0
    )
    assert len(sample_digits.train) == 4000
    assert figures["loss"] == pytest.approx(loss, rel=1e-5)
    assert figures["accuracy"] == pytest.approx(accuracy, abs=1e-7)


@pytest.mark.usefixtures("float64")
def test_a_neighbour_changes_nothing(few_digits: Dataset) -> None:
    settings = TrainingSettings(epochs=1, seed=2)
    together, alone = networks(settings), networks(settings)
    train(together, few_digits, settings)
    train({"bn": alone["bn"]}, few_digits, settings)
    for mine, theirs in zip(together["bn"].weights, alone["bn"].weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-10, err_msg=mine.path)


def test_the_same_settings_give_the_same_bits(few_digits: Dataset) -> None:
    settings = TrainingSettings(epochs=2, seed=9)
    first, second = networks(settings), networks(settings)
    for each in (first, second):
        train(each, few_digits, settings)
    for key in first:
        for one, other in zip(first[key].weights, second[key].weights, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_the_step_that_diverges_is_known(few_digits: Dataset) -> None:
    settings = TrainingSettings(optimizer="sgd", lr=0.3, batch_size=32, epochs=2, seed=1)
    trained = networks(settings, init="normal:1", activation="linear")
    watch = train(trained, few_digits, settings)
    by_hand = networks(settings, init="normal:1", activation="linear")["plain"]
    step = 0
    for epoch in range(2):
        for images, labels in batches(few_digits.train, 32, seed=1, epoch=epoch):
            step += 1
            if not np.isfinite(by_hand.train_on_batch(images, labels)[0]):
                assert watch.diverged == {"plain": step}
                assert watch.epochs == 2  # the other went on
                return
    pytest.fail("this network was meant to diverge")
