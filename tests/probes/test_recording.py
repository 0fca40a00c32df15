"""Probes record what their definitions say, and training is bit-equal with and without them."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from sample_runs import job, train_runs

from kerasbn.data.datasets import Dataset, Split
from kerasbn.experiments.train import TrainingJob, train_jobs
from kerasbn.probes.activations import ActivationProbe
from kerasbn.probes.landscape import STEP_SIZES, LossLandscape
from kerasbn.probes.readings import MODEL, read_probes
from kerasbn.probes.recording import probe_examples, probe_steps, probe_stops
from kerasbn.probes.topics.activations import HISTOGRAM, saturated_share, typical_unit
from kerasbn.probes.topics.gradients import drift, gradient_per_example
from kerasbn.probes.topics.statistics import moving_against_batch, outside_share
from kerasbn.probes.topics.topic import BNSnapshot, layer_sd, moments
from kerasbn.reports.play.training import training
from kerasbn.runs import Run
from kerasbn.training.models import mlp
from kerasbn.training.settings import ACTIVATIONS, ModelSettings, TrainingSettings

SMALL = ModelSettings(hidden=(12, 9))
SHORT = TrainingSettings(epochs=2, seed=3)


def randomized(**options: Any) -> keras.Model:
    """A small model with randomized weights and statistics."""
    model = mlp(hidden=(12, 9), **options)
    rng = np.random.default_rng(5)
    for weight in model.weights:
        low, high = (0.5, 2) if "variance" in weight.path else (-0.7, 0.9)
        weight.assign(rng.uniform(low, high, weight.shape) * (1 if weight.ndim == 1 else 0.3))
    return model


@pytest.fixture(scope="module")
def split(few_digits: Dataset) -> Split:
    return Split(few_digits.train.images[:100], few_digits.train.labels[:100])


def gradients_by_hand(
    model: keras.Model, weights: list[np.ndarray], split: Split
) -> tuple[float, list[np.ndarray]]:
    """Return the loss and its gradients for one training batch, from the model itself."""
    before = model.get_weights()
    model.set_weights(weights)
    with tf.GradientTape() as tape:
        logits = model(split.images, training=True)
        every = tf.nn.sparse_softmax_cross_entropy_with_logits(split.labels.astype(int), logits)
        loss = tf.reduce_mean(every)
    found = tape.gradient(loss, [each.value for each in model.trainable_variables])
    model.set_weights(before)
    return float(loss), [each.numpy() for each in found]


@given(st.integers(1, 10**7))
def test_probe_steps_are_dense_at_first_and_then_regular(total: int) -> None:
    steps = probe_steps(total)
    assert (steps[0], steps[-1]) == (0, total)
    assert list(steps) == sorted(set(steps))
    assert len(steps) <= 35
    assert {step for step in (1, 3, 10, 30) if step <= total / 10 - 1} <= set(steps)
    assert max(np.diff(steps)) <= total / 10 + 1
    assert {step + 1 for step in steps} <= set(probe_stops(total))


def test_the_probe_examples_are_the_training_sets_and_always_the_same(
    sample_digits: Dataset, few_digits: Dataset
) -> None:
    first, again = probe_examples(sample_digits.train), probe_examples(sample_digits.train)
    np.testing.assert_array_equal(first.images, again.images)
    known = {image.tobytes() for image in sample_digits.train.images}
    assert len(first) == 1000
    assert {image.tobytes() for image in first.images} <= known
    assert len(probe_examples(few_digits.train)) == 640


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bn": False}, {"bn_position": "after"}])
def test_gradients_are_those_of_the_model(options: Any, split: Split) -> None:
    model = randomized(**options)
    seen = ActivationProbe(model, split).snapshot(model.get_weights())
    _, by_hand = gradients_by_hand(model, model.get_weights(), split)
    names = [variable.path for variable in model.trainable_variables]
    for name, its in zip(("dense_1", "dense_2", "logits"), seen, strict=True):
        kernel = by_hand[names.index(f"{name}/kernel")]
        assert its.kernel_gradient == pytest.approx(np.linalg.norm(kernel), rel=1e-4)
        # The gradient of an added bias or beta is the sum over the examples.
        added = f"{name}/bias" if f"{name}/bias" in names else name.replace("dense", "bn") + "/beta"
        total = by_hand[names.index(added)]
        np.testing.assert_allclose(its.gradient.sum(0), total, rtol=1e-3, atol=1e-5)
    # At the logits the gradient is (softmax - one-hot) / n.
    logits = seen[-1].preactivation
    share = np.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    errors = share - np.eye(10)[split.labels]
    np.testing.assert_allclose(seen[-1].gradient, errors / 100, rtol=1e-3, atol=1e-7)
    rms = np.sqrt((np.linalg.norm(errors, axis=1) ** 2).mean())
    assert gradient_per_example(seen[-1].gradient) == pytest.approx(rms, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_snapshots_hold_the_outputs_of_each_layer(
    activation: str, position: str, split: Split
) -> None:
    model = randomized(activation=activation, bn_position=position)
    x = split.images.reshape(100, -1) / np.float32(255)
    for its, k in zip(
        ActivationProbe(model, split).snapshot(model.get_weights()), (1, 2, 3), strict=True
    ):
        name = f"dense_{k}" if k < 3 else "logits"
        summed = model.get_layer(name)(x).numpy()
        if k == 3:
            np.testing.assert_allclose(its.preactivation, summed, rtol=1e-3, atol=1e-3)
            break
        act = keras.activations.get(activation)
        norm = model.get_layer(f"bn_{k}")
        if position == "before" or activation == "linear":
            entering, preactivation = summed, normalized(norm, summed)
            output = np.asarray(act(preactivation))
        else:
            entering, preactivation = np.asarray(act(summed)), summed
            output = normalized(norm, entering)
        assert its.bn is not None
        np.testing.assert_allclose(its.bn.inputs, entering, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(its.preactivation, preactivation, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(its.output, output, rtol=1e-3, atol=1e-3)
        x = its.output


def normalized(norm: Any, x: np.ndarray) -> np.ndarray:
    gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
    return np.asarray(gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + norm.epsilon) + beta)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_gamma_and_beta_can_undo_bn(activation: str, split: Split) -> None:
    """With gamma = sqrt(var + eps) and beta = mean, the model computes what it does without BN."""
    plain = randomized(bn=False, activation=activation)
    with_bn = mlp(hidden=(12, 9), activation=activation, bias_before_bn=True)
    for layer in plain.layers:
        if layer.weights:
            with_bn.get_layer(layer.name).set_weights(layer.get_weights())
    wanted = ActivationProbe(plain, split).snapshot(plain.get_weights())
    opened = ActivationProbe(with_bn, split)
    other = opened.snapshot(with_bn.get_weights())
    assert np.abs(other[-1].preactivation - wanted[-1].preactivation).max() > 0.1
    for k, its in enumerate(wanted[:-1], start=1):
        norm = with_bn.get_layer(f"bn_{k}")
        norm.gamma.assign(np.sqrt(its.preactivation.var(0) + norm.epsilon))
        norm.beta.assign(its.preactivation.mean(0))
    for mine, theirs in zip(opened.snapshot(with_bn.get_weights()), wanted, strict=True):
        np.testing.assert_allclose(mine.output, theirs.output, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_landscape_is_the_loss_of_the_model(split: Split) -> None:
    model = randomized()
    weights = model.get_weights()
    around = LossLandscape(model, split, batch_size=32)
    assert (around.batches, around.batch_size) == (3, 32)
    batches = [Split(split.images[i : i + 32], split.labels[i : i + 32]) for i in (0, 32, 64)]

    def by_hand(at: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        each = [gradients_by_hand(model, at, batch) for batch in batches]
        parts = zip(*(gradient for _, gradient in each), strict=True)
        return float(np.mean([loss for loss, _ in each])), [np.mean(p, axis=0) for p in parts]

    loss, gradient = by_hand(weights)
    found, its_gradient = around.along_the_gradient(weights)
    length = np.sqrt(sum((g**2).sum() for g in gradient))
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.gradient == pytest.approx(length, rel=1e-4)
    for mine, theirs in zip(its_gradient, gradient, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)
    slopes = []
    for size, its_loss, change in zip(
        STEP_SIZES, found.losses.values(), found.changes.values(), strict=True
    ):
        moved = dict(zip([v.path for v in model.trainable_variables], gradient, strict=True))
        there = [
            weight - size * moved.get(variable.path, 0)
            for weight, variable in zip(weights, model.weights, strict=True)
        ]
        loss, after = by_hand(there)
        apart = np.sqrt(sum(((g - h) ** 2).sum() for g, h in zip(gradient, after, strict=True)))
        assert its_loss == pytest.approx(loss, rel=1e-4)
        assert change == pytest.approx(apart, rel=1e-3)
        slopes.append(apart / (size * length))
    assert found.smoothness == pytest.approx(max(slopes), rel=1e-3)


def test_the_covariate_shift_is_the_gradient_after_only_earlier_layers_stepped(
    split: Split,
) -> None:
    model = randomized()
    batch = Split(split.images[:64], split.labels[:64])
    around = LossLandscape(model, batch, batch_size=64)
    before = model.get_weights()
    rng = np.random.default_rng(2)
    after = [w + rng.normal(0, 0.05, w.shape).astype(np.float32) for w in before]
    _, gradient = around.along_the_gradient(before)
    shifts = around.covariate_shift(before, gradient, after)
    assert list(shifts) == ["dense_2", "logits"]
    for name, shift in shifts.items():
        first = [v.path for v in model.weights].index(f"{name}/kernel")
        mixed = [*after[:first], *before[first:]]
        place = [v.path for v in model.trainable_variables].index(f"{name}/kernel")
        g, h = (gradients_by_hand(model, w, batch)[1][place] for w in (before, mixed))
        assert shift.distance == pytest.approx(np.linalg.norm(g - h), rel=1e-3)
        assert shift.relative == pytest.approx(np.linalg.norm(g - h) / np.linalg.norm(g), rel=1e-3)
        cosine = (g * h).sum() / np.linalg.norm(g) / np.linalg.norm(h)
        assert shift.cosine == pytest.approx(cosine, abs=1e-4)
    only_last = [*before[:-2], *after[-2:]]
    unmoved = around.covariate_shift(before, gradient, only_last)
    assert all(each.distance == 0 for each in unmoved.values())


def test_shares_and_distances() -> None:
    rng = np.random.default_rng(1)
    gauss = rng.normal(3, 2, (20_000, 4)).astype(np.float32)
    mean, variance = moments(gauss)
    bn = BNSnapshot("bn_1", 1e-5, gauss, mean, mean, mean, variance)
    assert outside_share(bn) == pytest.approx(0.317, abs=0.01)
    assert moving_against_batch(bn) == pytest.approx((0, 1))
    off = bn._replace(epsilon=0, moving_mean=mean + 4, moving_variance=variance * 9)
    assert moving_against_batch(off) == pytest.approx((2, 3), rel=0.05)
    assert layer_sd(variance) == pytest.approx(2, rel=0.02)
    moved = (mean + 1, variance * 4)
    assert drift((mean, variance), moved) == pytest.approx((0.5, 1), rel=0.02)
    sigmoids = np.array([[0.04, 0.06, 0.94, 0.96]])
    assert saturated_share(sigmoids, 0, 1) == 0.5
    assert saturated_share(2 * sigmoids - 1, -1, 1) == 0.5
    travels = np.array([[0, 0, 0], [5, 1, 2], [0, 0, 0], [np.nan, 0, 0]])
    assert typical_unit(travels) == 2


class KeepWeights(keras.callbacks.Callback):
    """Keeps the weights of all models after each epoch, by its number."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, dict[str, list[np.ndarray]]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.kept[epoch] = self.model.all_weights()


class Trained(NamedTuple):
    """A pair trained without probes and the same pair with them."""

    plain: list[Run]
    halfway: dict[str, list[np.ndarray]]  # weights of the former after 20 of 40 steps
    watched: list[Run]


@pytest.fixture(scope="module")
def pair(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    members, keep = [job(SMALL), job(replace(SMALL, bn=False))], KeepWeights()
    options: dict[str, Any] = {"root": tmp_path_factory.mktemp("pair"), "figures": False}
    plain = train_runs(members, few_digits, SHORT, callbacks=[keep], **options)
    probing = [replace(each, probe=True) for each in members]
    return Trained(plain, keep.kept[0], train_runs(probing, few_digits, SHORT, **options))


@pytest.mark.slow
def test_training_is_bit_equal_with_probes(pair: Trained) -> None:
    for one, other in zip(pair.plain, pair.watched, strict=True):
        assert one.history == other.history
        mine, theirs = (keras.models.load_model(run.model_path) for run in (one, other))
        for weight, same in zip(mine.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(weight, same, err_msg=weight.path)
    assert not (pair.plain[0].path / "probes.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("bn", [True, False])
def test_readings_belong_to_their_step(bn: bool, pair: Trained, few_digits: Dataset) -> None:
    """They are those of the weights that a training without probes has at that step."""
    long = read_probes(pair.watched[0 if bn else 1])
    assert long.bn is bn
    model, weights = mlp(bn, hidden=(12, 9)), pair.halfway["bn" if bn else "plain"]
    seen = ActivationProbe(model, probe_examples(few_digits.train)).snapshot(weights)
    for layer, its in zip(long.layers, seen, strict=True):
        series = long.series(layer, "kernel_gradient")
        at = series.values[series.steps == 20]
        assert at == pytest.approx([its.kernel_gradient], rel=1e-4)
        for which in HISTOGRAM:
            series = long.series(layer, "preactivation_percentile", which)
            percentile = np.percentile(its.preactivation, which)
            assert series.values[series.steps == 20] == pytest.approx(
                [percentile], rel=1e-3, abs=1e-4
            )
        if its.bn:
            series = long.series(its.bn.name, "gamma", 100)
            assert series.values[series.steps == 20] == pytest.approx([its.bn.gamma.max()])
    steps = list(probe_steps(40))
    assert long.series(MODEL, "loss").steps.tolist() == steps
    # The step after the last probe is never taken.
    assert long.series("logits", "shift_cosine").steps.tolist() == steps[:-1]


@pytest.mark.slow
def test_a_page_can_play_the_training_back(pair: Trained) -> None:
    """It finds all that it shows, under the names that the topics gave it."""
    found = training(pair.watched)
    assert found is not None
    assert found.steps == list(probe_steps(40))
    assert (found.steps_per_epoch, found.levels) == (20, list(HISTOGRAM))
    for model in (found.bn, found.plain):
        values = np.array([model.loss, *model.gradients], float)
        assert np.isfinite(values).all()
        percentiles = np.array(model.percentiles, float)  # layers, percentiles, steps
        assert percentiles.shape == (3, len(HISTOGRAM), len(found.steps))
        assert (np.diff(percentiles, axis=1) >= 0).all()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_one_member_of_an_ensemble_can_be_probed(
    pair: Trained, few_digits: Dataset, tmp_path: Path
) -> None:
    members = [
        TrainingJob(f"bn-{seed}", SMALL, replace(SHORT, seed=seed), probe=seed == 3)
        for seed in (4, 3)
    ]
    together = train_jobs(members, few_digits, root=tmp_path, figures=False)
    assert [(run.path / "probes.csv").exists() for run in together] == [False, True]
    mine, alone = (read_probes(run).series(MODEL, "loss") for run in (together[1], pair.watched[0]))
    # In float32, after 40 steps; the other member's losses differ in the first digit.
    np.testing.assert_allclose(mine.values, alone.values, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_diverging_model_is_probed_until_then(few_digits: Dataset, tmp_path: Path) -> None:
    wild = replace(SMALL, bn=False, init="normal:1", activation="linear")
    training = TrainingSettings(optimizer="sgd", lr=0.3, epochs=2)
    (run,) = train_runs([job(wild, probe=True)], few_digits, training, root=tmp_path)
    assert run.status == "diverged"
    loss = read_probes(run).series(MODEL, "loss")
    assert np.isfinite(loss.values[:-1]).all()
    assert not np.isfinite(loss.values[-1])
    assert loss.steps[-1] >= (run.record.diverged_at_step or 0) - 1
    assert (run.path / "probes-gradients.png").is_file()


class PressCtrlC(keras.callbacks.Callback):
    """Presses Ctrl-C after the first epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_ctrl_c_keeps_the_probes_so_far(few_digits: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"root": tmp_path, "figures": False, "callbacks": [PressCtrlC()]}
    (run,) = train_runs([job(SMALL, probe=True)], few_digits, replace(SHORT, epochs=30), **options)
    assert run.status == "interrupted"
    steps = read_probes(run).series(MODEL, "loss").steps.tolist()
    assert steps[:5] == [0, 1, 3, 10, 30]
    assert 30 <= steps[-1] < 100


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_one_step_is_enough_and_tensorboard_shows_it(few_digits: Dataset, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options: dict[str, Any] = {"root": tmp_path, "figures": False, "tensorboard": True}
    (run,) = train_runs([job(SMALL, probe=True)], few_digits, replace(SHORT, steps=1), **options)
    found = read_probes(run)
    assert found.series(MODEL, "loss").steps.tolist() == [0, 1]
    assert found.series("dense_2", "shift_relative").steps.tolist() == [0]
    folder = run.path / "tensorboard" / "probes"
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()  # 0: keep all
    logged = events.Tensors("dense_1/kernel_gradient")
    series = found.series("dense_1", "kernel_gradient")
    assert [event.step for event in logged] == series.steps.tolist()
    values = [float(tf.make_ndarray(event.tensor_proto)) for event in logged]
    assert values == pytest.approx(series.values.tolist())
    first = events.Tensors("bn_2/gamma")[0]
    buckets = tf.make_ndarray(first.tensor_proto)  # left, right and count of each
    assert buckets[:, 2].sum() == 9
    tags = set(events.Tags()["tensors"])
    assert {"dense_1/preactivations", "logits/gradients"} <= tags
    assert not any("percentile" in tag for tag in tags)  # it has histograms
