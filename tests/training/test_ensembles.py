"""Each member of an ensemble trains as it would alone."""

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


def members(settings: list[TrainingSettings], **options: Any) -> dict[str, keras.Model]:
    """Compile a model for each of the settings."""
    return {
        f"{each.seed}-{each.lr}": compile_model(
            mlp(hidden=(12, 9), seed=each.seed, **options), each
        )
        for each in settings
    }


def train(
    data: Dataset, *ensembles: Ensemble, settings: TrainingSettings = BASE
) -> EvaluateEachEpoch:
    schedule = Schedule.of(len(data.train), settings.batch_size, settings.epochs)
    evaluation = EvaluateEachEpoch(schedule)
    fit(ensembles, data, schedule, [evaluation], "/CPU:0")
    return evaluation


def train_one_by_one(
    models: dict[str, keras.Model], settings: list[TrainingSettings], data: Dataset
) -> list[list[np.ndarray]]:
    """Return the weights of each model after training by plain Keras on the batches of its seed.

    The first model trains in place of all, since compiling costs more than these few steps.
    """
    trained = []
    (model, *_), initial = models.values(), [each.get_weights() for each in models.values()]
    fresh = [np.asarray(variable) for variable in model.optimizer.variables]
    for weights, own in zip(initial, settings, strict=True):
        model.set_weights(weights)
        for variable, value in zip(model.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        model.optimizer.learning_rate.assign(own.lr)
        for epoch in range(own.epochs):
            for images, labels in batches(data.train, own.batch_size, own.seed, epoch):
                model.train_on_batch(images, labels)
        trained.append(model.get_weights())
    return trained


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("optimizer", "rates"), [("adam", (0.02, 0.02)), ("adam", (0.02, 0.04)), ("sgd", (0.2, 0.1))]
)
def test_members_equal_models_trained_by_plain_keras(
    few_digits: Dataset, optimizer: str, rates: tuple[float, float]
) -> None:
    settings = [
        replace(BASE, optimizer=optimizer, seed=seed, lr=lr)
        for seed, lr in zip((3, 0), rates, strict=True)
    ]
    kinds = [members(settings, bn=bn) for bn in (True, False)]
    renamed = {f"plain {key}": model for key, model in kinds[1].items()}
    together = [Ensemble(each, settings) for each in (kinds[0], renamed)]
    train(few_digits, *together)
    for models, ensemble in zip(kinds, together, strict=True):
        theirs = train_one_by_one(models, settings, few_digits)
        for mine, alone, own in zip(ensemble.weights().values(), theirs, settings, strict=True):
            for one, other in zip(mine, alone, strict=True):
                # 26 steps; batches, kernels, rates or statistics mixed up would differ by 1e-2.
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=str(own))


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("activation", "bn_position"), [*((each, "before") for each in ACTIVATIONS), ("relu", "after")]
)
def test_any_model_can_have_a_member_axis(
    few_digits: Dataset, activation: str, bn_position: str
) -> None:
    settings = [replace(BASE, seed=seed) for seed in (3, 0)]
    options = {"activation": activation, "bn_position": bn_position, "bias_before_bn": True}
    models = members(settings, **options)
    together = Ensemble(models, settings)
    seen = [next(iter(batches(few_digits.train, 48, seed=each.seed, epoch=0))) for each in settings]
    images, labels = (tf.stack(each) for each in zip(*seen, strict=True))
    losses, _ = tf.function(together.train_step, autograph=False)(images, tf.cast(labels, tf.int64))
    last, (x, y) = models["0-0.02"], seen[1]
    assert last.train_on_batch(x, y)[0] == pytest.approx(float(losses[1]), rel=1e-6)
    for mine, theirs in zip(together.weights()["0-0.02"], last.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_each_learner_sees_the_batches_of_its_seeds(few_digits: Dataset) -> None:
    """The other learners have the seeds in another order, or fewer of them."""
    settings = [replace(BASE, seed=seed, epochs=1) for seed in (3, 0)]
    together = Ensemble(members(settings), settings)
    reversed_order = Ensemble(
        {f"2 {k}": n for k, n in members(settings[::-1]).items()}, settings[::-1]
    )
    alone = SingleModel("alone", members(settings[1:])["0-0.02"], 0)
    schedule = Schedule.of(len(few_digits.train), 48, 1)
    evaluation = EvaluateEachEpoch(schedule)
    fit([together, reversed_order, alone], few_digits, schedule, [evaluation], "/CPU:0")
    for key in ("2 0-0.02", "alone"):
        for mine, theirs in zip(evaluation.weights[key], evaluation.weights["0-0.02"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert not np.allclose(evaluation.weights["3-0.02"][0], evaluation.weights["0-0.02"][0])


@pytest.mark.slow
def test_evaluation_of_members_equals_keras_evaluate(few_digits: Dataset) -> None:
    settings = [replace(BASE, seed=seed, epochs=1) for seed in SEEDS]
    models = members(settings)
    together = Ensemble(models, settings)
    evaluation = train(few_digits, together, settings=settings[0])
    metrics = TrainingLoop([together], few_digits).evaluate_all()
    for key, model in models.items():
        model.set_weights(evaluation.weights[key])
        for prefix, split in (("", few_digits.train), ("val_", few_digits.test)):
            loss, accuracy = model.evaluate(split.images, split.labels, verbose=0)
            assert metrics[key][f"{prefix}loss"] == pytest.approx(loss, rel=1e-5)
            assert metrics[key][f"{prefix}accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert len({metrics[key]["loss"] for key in models}) == len(models)


@pytest.mark.slow
def test_a_diverged_member_does_not_affect_the_others(few_digits: Dataset) -> None:
    settings = [replace(BASE, seed=seed) for seed in SEEDS]
    intact, damaged = members(settings), members(settings)
    diverged = list(damaged)[1]
    damaged[diverged].layers[3].kernel.assign(keras.ops.full((784, 12), np.nan))
    evaluation, reference = (
        train(few_digits, Ensemble(each, settings)) for each in (damaged, intact)
    )
    assert evaluation.diverged == {diverged: 1}
    assert reference.diverged == {}
    assert evaluation.epochs == 2
    assert set(evaluation.weights) == set(damaged) - {diverged}
    for key in evaluation.weights:
        for mine, theirs in zip(evaluation.weights[key], reference.weights[key], strict=True):
            np.testing.assert_array_equal(mine, theirs)
