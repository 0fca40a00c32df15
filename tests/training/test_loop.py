"""The compiled loop trains like plain Keras, on one device and data-parallel on several."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from plain_batches import train_plainly

from kerasbn import runs
from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset
from kerasbn.runs import METRICS
from kerasbn.training.callbacks import EvaluateEachEpoch
from kerasbn.training.ensembles import SingleModel, compile_model
from kerasbn.training.loop import TrainingLoop, fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings


def compiled(key: str, settings: TrainingSettings, **options: Any) -> keras.Model:
    model = mlp(bn=key == "bn", hidden=(12, 9), seed=settings.seed, **options)
    return compile_model(model, settings)


def pair(settings: TrainingSettings, **options: Any) -> dict[str, keras.Model]:
    return {key: compiled(key, settings, **options) for key in ("bn", "plain")}


def learners(models: dict[str, keras.Model], settings: TrainingSettings) -> list[SingleModel]:
    return [SingleModel(key, model, settings.seed) for key, model in models.items()]


def train(
    models: dict[str, keras.Model], data: Dataset, settings: TrainingSettings
) -> EvaluateEachEpoch:
    """Train models in place; return the only callback."""
    schedule = Schedule.of(len(data.train), settings.batch_size, settings.epochs, settings.steps)
    evaluation = EvaluateEachEpoch(schedule)
    fit(learners(models, settings), data, schedule, [evaluation], "/CPU:0")
    return evaluation


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_training_equals_plain_keras(few_digits: Dataset) -> None:
    """With two optimizers side by side, and a model that trains alone."""
    adam = TrainingSettings(lr=0.02, batch_size=48, epochs=2, seed=3)
    sgd = replace(adam, optimizer="sgd", lr=0.2)
    settings = {"bn": adam, "plain": sgd}
    models, references = (
        {key: compiled(key, each) for key, each in settings.items()} for _ in range(2)
    )
    alone = compiled("bn", adam)
    train(models, few_digits, adam)
    train({"bn": alone}, few_digits, adam)
    for key, reference in references.items():
        train_plainly(reference, settings[key], few_digits.train)
    for model, reference in [
        *((models[key], references[key]) for key in settings),
        (alone, references["bn"]),
    ]:
        for actual, expected in zip(model.weights, reference.weights, strict=True):
            # 26 steps; a wrong order, a missed update or stale statistics would differ by 1e-2.
            np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-10, err_msg=actual.path)


@pytest.mark.slow
def test_evaluation_takes_several_batches(sample_digits: Dataset) -> None:
    model = compile_model(mlp(hidden=(8,), seed=1), TrainingSettings())
    model.jit_compile = False
    metrics = TrainingLoop([SingleModel("bn", model, 0)], sample_digits).evaluate_all()["bn"]
    train_split = sample_digits.train
    loss, accuracy = model.evaluate(train_split.images, train_split.labels, verbose=0)
    assert len(train_split) == 4000
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(accuracy, abs=1e-7)


@pytest.mark.slow
def test_training_is_bit_reproducible_and_evaluation_equals_keras(few_digits: Dataset) -> None:
    settings = TrainingSettings(epochs=2, seed=9)
    first, second = pair(settings), pair(settings)
    for models in (first, second):
        train(models, few_digits, settings)
    metrics = TrainingLoop(learners(first, settings), few_digits).evaluate_all()
    for key, model in first.items():
        for one, other in zip(model.weights, second[key].weights, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=one.path)
        model.jit_compile = False
        for prefix, split in (("", few_digits.train), ("val_", few_digits.test)):
            loss, accuracy = model.evaluate(split.images, split.labels, verbose=0)
            assert metrics[key][f"{prefix}loss"] == pytest.approx(loss, rel=1e-5)
            assert metrics[key][f"{prefix}accuracy"] == pytest.approx(accuracy, abs=1e-7)


@pytest.mark.slow
def test_the_step_of_divergence_is_exact(few_digits: Dataset) -> None:
    settings = TrainingSettings(optimizer="sgd", lr=0.3, batch_size=32, epochs=2, seed=1)
    options = {"init": "normal:1", "activation": "linear"}
    evaluation = train(pair(settings, **options), few_digits, settings)
    losses = train_plainly(compiled("plain", settings, **options), settings, few_digits.train)
    (bad, *_) = np.flatnonzero(~np.isfinite(losses))
    assert evaluation.diverged == {"plain": bad + 1}
    assert evaluation.epochs == 2  # the other model continues


TRAIN_ON_ONE_AND_TWO_CPUS = """
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras

keras.config.set_dtype_policy("float64")
keras.config.set_floatx("float64")

from kerasbn.data.datasets import Split, load_dataset
from kerasbn.common.errors import InputError
from kerasbn.experiments import train
from kerasbn.experiments.train import TrainingJob, train_jobs
from kerasbn.training import loop
from kerasbn.training.ensembles import SingleModel, compile_model
from kerasbn.training.settings import ModelSettings, TrainingSettings

train.default_keras_config = nullcontext  # this process computes in float64
root = Path(sys.argv[1])
data = load_dataset("mnist-sample")
data = replace(data, train=Split(data.train.images[:640], data.train.labels[:640]))
settings = TrainingSettings(steps=50)  # two epochs of 20 steps and half of a third
sgd = replace(settings, optimizer="sgd", lr=0.1)  # Adam hardly depends on the scale of a gradient
with_bn = TrainingJob("True", ModelSettings(hidden=(12,)), sgd)
without = TrainingJob("False", ModelSettings(hidden=(12,), bn=False), settings)
for device in ("cpu", "all"):
    for job in (with_bn, without):
        job = replace(job, run=f"{device}-{job.key}", probe=job.model.bn and device == "all")
        train_jobs([job], data, device=device, root=root, figures=False)

synchronized = loop._synchronized

def statistics_of_each_half(key, model, settings):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return SingleModel(key, compile_model(clone, settings), settings.seed)

def sum_of_gradients(key, model, settings):
    learner = synchronized(key, model, settings)
    mean = learner._model.compute_loss
    learner._model.compute_loss = lambda **given: 2 * mean(**given)
    return learner

for loop._synchronized in (statistics_of_each_half, sum_of_gradients):
    job = replace(with_bn, run=loop._synchronized.__name__)
    train_jobs([job], data, device="all", root=root, figures=False)
loop._synchronized = synchronized
model = ModelSettings(hidden=(8,), bn_position="after")
other = TrainingJob("other", model, TrainingSettings(steps=3), "other")
train_jobs([other], data, device="all", root=root, figures=False)
try:
    odd = replace(other, training=replace(settings, batch_size=31))
    train_jobs([odd], data, device="all", force=True, root=root)
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two logical CPUs stand for two devices; the runs, and what the process printed."""
    root = tmp_path_factory.mktemp("saved_models")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_ONE_AND_TWO_CPUS, str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("bn", [True, False])
def test_data_parallel_training_gives_the_same_results(
    on_two_devices: tuple[Path, str], bn: bool
) -> None:
    one, two = (runs.read_run(on_two_devices[0] / f"{device}-{bn}") for device in ("cpu", "all"))
    assert list(one.history["step"]) == two.history["step"] == [20, 40, 50]
    for metric in METRICS:  # summed in float32
        np.testing.assert_allclose(two.history[metric], one.history[metric], rtol=1e-6)
    # The weights of a model include its moving statistics.
    for actual, expected in zip(weights_of(two), weights_of(one), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["statistics_of_each_half", "sum_of_gradients"])
def test_a_wrong_share_of_the_devices_gives_other_results(
    on_two_devices: tuple[Path, str], wrong: str
) -> None:
    """What the tolerances above have to tell apart is at least 100,000 times as large."""
    one, two = (runs.read_run(on_two_devices[0] / name) for name in ("cpu-True", wrong))
    assert not np.allclose(two.history["loss"], one.history["loss"], rtol=1e-3)
    for actual, expected in zip(weights_of(two), weights_of(one), strict=True):
        assert not np.allclose(actual, expected, rtol=1e-4, atol=1e-6)


def weights_of(run: runs.Run) -> list[np.ndarray]:
    weights: list[np.ndarray] = keras.models.load_model(run.model_path).get_weights()
    return weights


@pytest.mark.slow
def test_data_parallel_training_of_another_model_in_the_same_process(
    on_two_devices: tuple[Path, str],
) -> None:
    assert runs.read_run(on_two_devices[0] / "other").status == "finished"


@pytest.mark.slow
def test_data_parallel_training_saves_a_plain_model(on_two_devices: tuple[Path, str]) -> None:
    model = keras.models.load_model(on_two_devices[0] / "all-True" / runs.MODEL)
    layers = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    assert [each.synchronized for each in layers] == [False]


@pytest.mark.slow
def test_the_record_names_all_devices(on_two_devices: tuple[Path, str]) -> None:
    record = json.loads((on_two_devices[0] / "all-True" / runs.RECORD).read_text())
    assert record["device"].count("CPU") == 2
    assert record["status"] == "finished"


@pytest.mark.slow
def test_a_batch_that_cannot_be_split_evenly_is_an_error(on_two_devices: tuple[Path, str]) -> None:
    assert on_two_devices[1] == (
        "batch_size=31: received 31, expected a multiple of 2, to split each batch over 2 devices\n"
    )
