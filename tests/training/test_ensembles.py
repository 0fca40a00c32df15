"""Each member of an ensemble trains as it would alone."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain_batches import batches, train_plainly

from kerasbn.data.batching import Schedule, index_chunks
from kerasbn.data.datasets import Dataset
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.training.callbacks import EvaluateEachEpoch
from kerasbn.training.ensembles import Ensemble, SingleModel, compile_model
from kerasbn.training.loop import TrainingLoop, fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import ACTIVATIONS, TrainingSettings

BASE = TrainingSettings(batch_size=48, epochs=2, lr=0.02)


def members(settings: list[TrainingSettings], **options: Any) -> dict[str, keras.Model]:
    """Compile a model for each of the settings."""
    return {
        f"{each.seed}-{each.lr}": compile_model(
            mlp(hidden=(12, 9), seed=each.seed, **options), each
        )
        for each in settings
    }


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
        train_plainly(model, own, data.train)
        trained.append(model.get_weights())
    return trained


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("optimizer", "rates"), [("adam", (0.02, 0.04)), ("sgd", (0.2, 0.2))])
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
    schedule = Schedule.of(len(few_digits.train), BASE.batch_size, BASE.epochs)
    fit(together, few_digits, schedule, [], "/CPU:0")
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
    last.run_eagerly = True  # compiling takes longer than one step
    assert last.train_on_batch(x, y)[0] == pytest.approx(float(losses[1]), rel=1e-6)
    for mine, theirs in zip(together.weights()["0-0.02"], last.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_each_learner_sees_the_batches_of_its_seeds(few_digits: Dataset) -> None:
    """The other learners have the seeds in another order, or fewer of them."""
    settings = [replace(BASE, seed=seed, epochs=1) for seed in (3, 0)]
    together = Ensemble(members(settings, bn=False), settings)
    reversed_order = Ensemble(
        {f"2 {k}": n for k, n in members(settings[::-1], bn=False).items()}, settings[::-1]
    )
    alone = SingleModel("alone", members(settings[1:], bn=False)["0-0.02"], 0)
    schedule = Schedule.of(len(few_digits.train), 48, 1)
    evaluation = EvaluateEachEpoch(schedule)
    fit([together, reversed_order, alone], few_digits, schedule, [evaluation], "/CPU:0")
    for key in ("2 0-0.02", "alone"):
        for mine, theirs in zip(evaluation.weights[key], evaluation.weights["0-0.02"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert not np.allclose(evaluation.weights["3-0.02"][0], evaluation.weights["0-0.02"][0])


@pytest.mark.slow
def test_evaluation_of_members_equals_keras_evaluate(few_digits: Dataset) -> None:
    settings = [replace(BASE, seed=seed) for seed in (3, 0)]
    models = members(settings)
    for seed, model in enumerate(models.values()):
        randomize_parameters(model, seed)
    metrics = TrainingLoop([Ensemble(models, settings)], few_digits).evaluate_all()
    for key, model in models.items():
        model.jit_compile = False
        for prefix, split in (("", few_digits.train), ("val_", few_digits.test)):
            loss, accuracy = model.evaluate(split.images, split.labels, verbose=0)
            assert metrics[key][f"{prefix}loss"] == pytest.approx(loss, rel=1e-5)
            assert metrics[key][f"{prefix}accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert metrics["3-0.02"]["loss"] != metrics["0-0.02"]["loss"]


@pytest.mark.slow
def test_a_diverged_member_does_not_affect_the_others(few_digits: Dataset) -> None:
    settings = [replace(BASE, seed=seed) for seed in (3, 0)]
    together = Ensemble(members(settings), settings)
    loop = TrainingLoop([together], few_digits)
    schedule = Schedule.of(len(few_digits.train), BASE.batch_size, BASE.epochs)
    variables = [*together._trainable, *together._non_trainable, *together._optimizer.variables]
    start = [np.asarray(each) for each in variables]
    found = []
    for damage in (0.0, np.nan):  # in one loop, since compiling takes longer than training
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        kernel = np.array(start[0])
        kernel[0] += damage
        variables[0].assign(kernel)
        found.append(EvaluateEachEpoch(schedule))
        loop.fit_schedule(index_chunks(schedule, loop.seeds), schedule, [found[-1]])
    intact, damaged = found
    assert (intact.diverged, damaged.diverged) == ({}, {"3-0.02": 1})
    assert damaged.epochs == 2
    assert list(damaged.weights) == ["0-0.02"]
    for one, other in zip(damaged.weights["0-0.02"], intact.weights["0-0.02"], strict=True):
        np.testing.assert_array_equal(one, other)
