"""Members of an ensemble train just as each would alone, and take no notice of each other."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain_batches import batches

from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset
from kerasbn.training.callbacks import EvaluateEachEpoch
from kerasbn.training.ensembles import Ensemble, SingleModel, compile_model
from kerasbn.training.loop import TrainingLoop, fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import ACTIVATIONS, TrainingSettings

BASE = TrainingSettings(batch_size=48, epochs=2, lr=0.02)
SEEDS = (3, 0, 7)


@pytest.fixture
def float64() -> Any:
    """Networks made here compute in float64, which judges."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def members(settings: list[TrainingSettings], **options: Any) -> dict[str, keras.Model]:
    """A network for each of the settings."""
    return {
        f"{each.seed}-{each.lr}": compile_model(
            mlp(hidden=(12, 9), seed=each.seed, **options), each
        )
        for each in settings
    }


def trained(
    digits: Dataset, *ensembles: Ensemble, settings: TrainingSettings = BASE
) -> EvaluateEachEpoch:
    schedule = Schedule.of(len(digits.train), settings.batch_size, settings.epochs)
    watch = EvaluateEachEpoch(schedule)
    fit(ensembles, digits, schedule, [watch], "/CPU:0")
    return watch


def singly(
    networks: dict[str, keras.Model], settings: list[TrainingSettings], digits: Dataset
) -> list[list[np.ndarray]]:
    """The weights of each after plain Keras has trained it on the batches of its seed.

    One network trains in the place of each in turn, from the other's weights, since compiling
    costs more than these few steps.
    """
    found = []
    (network, *_), began = networks.values(), [each.get_weights() for each in networks.values()]
    fresh = [np.asarray(variable) for variable in network.optimizer.variables]
    for weights, own in zip(began, settings, strict=True):
        network.set_weights(weights)
        for variable, value in zip(network.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        network.optimizer.learning_rate.assign(own.lr)
        for epoch in range(own.epochs):
            for images, labels in batches(digits.train, own.batch_size, own.seed, epoch):
                network.train_on_batch(images, labels)
        found.append(network.get_weights())
    return found


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("optimizer", "rates"), [("adam", (0.02, 0.02)), ("adam", (0.02, 0.04)), ("sgd", (0.2, 0.1))]
)
def test_members_train_as_each_would_alone(
    few_digits: Dataset, optimizer: str, rates: tuple[float, float]
) -> None:
    settings = [
        replace(BASE, optimizer=optimizer, seed=seed, lr=lr)
        for seed, lr in zip((3, 0), rates, strict=True)
    ]
    kinds = [members(settings, bn=bn) for bn in (True, False)]
    renamed = {f"plain {key}": network for key, network in kinds[1].items()}
    together = [Ensemble(each, settings) for each in (kinds[0], renamed)]
    trained(few_digits, *together)
    for networks, ensemble in zip(kinds, together, strict=True):
        theirs = singly(networks, settings, few_digits)
        for mine, alone, own in zip(ensemble.weights().values(), theirs, settings, strict=True):
            for one, other in zip(mine, alone, strict=True):
                # 26 steps; another's batches, kernels, rate or statistics differ by 1e-2.
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=str(own))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("activation", "bn_position"), [*((each, "before") for each in ACTIVATIONS), ("relu", "after")]
)
def test_every_network_has_a_member_axis(
    few_digits: Dataset, activation: str, bn_position: str
) -> None:
    settings = [replace(BASE, seed=seed) for seed in (3, 0)]
    options = {"activation": activation, "bn_position": bn_position, "bias_before_bn": True}
    networks = members(settings, **options)
    together = Ensemble(networks, settings)
    seen = [next(iter(batches(few_digits.train, 48, seed=each.seed, epoch=0))) for each in settings]
    images, labels = (tf.stack(each) for each in zip(*seen, strict=True))
    losses, _ = tf.function(together.train_step, autograph=False)(images, tf.cast(labels, tf.int64))
    last, (x, y) = networks["0-0.02"], seen[1]
    assert last.train_on_batch(x, y)[0] == pytest.approx(float(losses[1]), rel=1e-6)
    for mine, theirs in zip(together.weights()["0-0.02"], last.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_each_learner_sees_the_batches_of_its_own_seeds(few_digits: Dataset) -> None:
    """Seeds in another order, and fewer of them, than the ensemble before."""
    settings = [replace(BASE, seed=seed, epochs=1) for seed in (3, 0)]
    together = Ensemble(members(settings), settings)
    turned = Ensemble({f"2 {k}": n for k, n in members(settings[::-1]).items()}, settings[::-1])
    alone = SingleModel("alone", members(settings[1:])["0-0.02"], 0)
    schedule = Schedule.of(len(few_digits.train), 48, 1)
    watch = EvaluateEachEpoch(schedule)
    fit([together, turned, alone], few_digits, schedule, [watch], "/CPU:0")
    for key in ("2 0-0.02", "alone"):
        for mine, theirs in zip(watch.weights[key], watch.weights["0-0.02"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert not np.allclose(watch.weights["3-0.02"][0], watch.weights["0-0.02"][0])


def test_the_evaluation_of_a_member_is_keras_evaluate(few_digits: Dataset) -> None:
    settings = [replace(BASE, seed=seed, epochs=1) for seed in SEEDS]
    networks = members(settings)
    together = Ensemble(networks, settings)
    watch = trained(few_digits, together, settings=settings[0])
    figures = TrainingLoop([together], few_digits).evaluate_all()
    for key, network in networks.items():
        network.set_weights(watch.weights[key])  # a plain Keras network, taken out
        for prefix, split in (("", few_digits.train), ("val_", few_digits.test)):
            loss, accuracy = network.evaluate(split.images, split.labels, verbose=0)
            assert figures[key][f"{prefix}loss"] == pytest.approx(loss, rel=1e-5)
            assert figures[key][f"{prefix}accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert len({figures[key]["loss"] for key in networks}) == len(networks)


def test_a_member_that_diverges_leaves_the_others_alone(few_digits: Dataset) -> None:
    settings = [replace(BASE, seed=seed) for seed in SEEDS]
    whole, hurt = members(settings), members(settings)
    sick = list(hurt)[1]
    hurt[sick].layers[3].kernel.assign(keras.ops.full((784, 12), np.nan))
    watch, reference = (trained(few_digits, Ensemble(each, settings)) for each in (hurt, whole))
    assert watch.diverged == {sick: 1}
    assert reference.diverged == {}
    assert watch.epochs == 2
    assert set(watch.weights) == set(hurt) - {sick}
    for key in watch.weights:
        for mine, theirs in zip(watch.weights[key], reference.weights[key], strict=True):
            np.testing.assert_array_equal(mine, theirs)
