"""Probes: what is recorded of the inside of networks while they train, at chosen steps.

The training does not notice: its batches end at the chosen steps, and there a callback takes the
weights out and looks at them with digits of its own. What is measured is defined in `anatomy`,
`landscape` and `batch_mates`.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Split
from kerasbn.probes import activations as anatomy
from kerasbn.probes.activations import Block, OpenNetwork, Seen
from kerasbn.probes.landscape import STEP_SIZES, Landscape, Surroundings, Weights
from kerasbn.training.callbacks import Logs

DIGITS = 1000  # of the training set, shown to every network at every probe
REGULAR = 10  # probes over the whole training, beside the early ones
NETWORK = "network"  # stands for a layer's name where a quantity is the whole network's

# Activation -> the ends of its range, where its slope vanishes.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


Figure = tuple[str, str, str, float]  # a layer, a quantity, which of several, a value


class Reading(NamedTuple):
    """One value of one quantity.

    Attributes:
        step: batches trained on before it.
        layer: the Keras layer's name, or `NETWORK`.
        quantity: such as ``kernel_gradient``.
        which: which of several, such as a percentile or a step size; empty if there is one.
        value: NaN or infinite where the network is no longer finite.
    """

    step: int
    layer: str
    quantity: str
    which: str
    value: float


def probe_steps(total: int) -> tuple[int, ...]:
    """After how many batches to look, in a training of `total` batches.

    Dense at first, where gradients vanish and statistics settle: 0, 1, 3, 10, 30, 100, ... until
    that is as sparse as a tenth of the training; from there on every tenth, the end among them.
    """
    regular = [round(total * i / REGULAR) for i in range(1, REGULAR + 1)]
    early = [first * 10**power for power in range(len(str(total))) for first in (1, 3)]
    return tuple(sorted({0, *regular, *(step for step in early if step < regular[0])}))


def stops_for(steps: tuple[int, ...]) -> tuple[int, ...]:
    """Where chunks must end for these probes: there and a batch later, to see what it changed."""
    return tuple(sorted({*steps, *(step + 1 for step in steps)}))


def probing_digits(train: Split) -> Split:
    """`DIGITS` of the training set: always the same ones, whatever the seed of the training."""
    count = min(DIGITS, len(train))
    rows = np.random.default_rng(0).choice(len(train), count, replace=False)
    return Split(train.images[rows], train.labels[rows])


@dataclass
class _Before:
    """What has to be remembered for the step that follows a look."""

    step: int
    weights: Weights
    gradient: Weights


class Probe(keras.callbacks.Callback):
    """Looks into one network at chosen steps of its training.

    It looks until the network's loss is no longer finite, that once included. It works in a thread
    of its own and on a copy of the network, while the training goes on; one look at most waits, so
    that no more than one set of weights is held.

    Args:
        key: the network's, among those that train side by side.
        network: the network; its weights are asked for by the key, its own stay as they are.
        schedule: of the training; its `stops` must be those of `stops_for(steps)`.
        steps: when to look.
        train: the training set.
        log: a folder to log into for TensorBoard, or None.
    """

    def __init__(
        self,
        key: str,
        network: keras.Model,
        schedule: Schedule,
        steps: tuple[int, ...],
        train: Split,
        log: Path | None = None,
    ) -> None:
        super().__init__()
        self.key = key
        self._schedule, self._steps = schedule, frozenset(steps)
        digits = probing_digits(train)
        self._digits = len(digits)
        network = keras.models.clone_model(network)  # layers are not made for two threads at once
        self._device = tf.constant(0).device
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"probe-{key}")
        self._busy: Future[None] | None = None
        self._open = OpenNetwork(network, digits)
        self._blocks: list[Block] = self._open.blocks
        self._around = Surroundings(network, self._blocks, digits, schedule.batch_size)
        self._places = {id(variable): i for i, variable in enumerate(network.weights)}
        self._writer = tf.summary.create_file_writer(str(log)) if log else None
        self._done: list[int] = []
        self._readings: list[Reading] = []
        self._percentiles: list[tuple[int, list[np.ndarray]]] = []
        self._inputs: list[tuple[anatomy.Floats, anatomy.Floats]] = []
        self._before: _Before | None = None
        self._finite = True

    def on_train_begin(self, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's call
        """Look before the first step."""
        self._at_step(0)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's call
        """Learn where the epoch's chunks end."""
        self._done = self._schedule.steps_done(epoch)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Look, if the chunk that ended brought the training to where one wants to."""
        if self._done[batch + 1] > self._done[batch]:
            self._at_step(self._done[batch + 1])

    def on_train_end(self, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's call
        """Wait for the last look, and close the log."""
        self._wait()
        self._worker.shutdown()
        if self._writer:
            self._writer.close()

    def readings(self) -> list[Reading]:
        """All that was read, the percentiles of each layer's typical unit too, by step."""
        found = list(self._readings)
        for i, (block, unit) in enumerate(zip(self._blocks, self._typical(), strict=True)):
            for step, percentiles in self._percentiles:
                for p, value in zip(anatomy.PERCENTILES, percentiles[i][:, unit], strict=True):
                    found.append(
                        Reading(step, block.dense.name, "percentile", str(p), float(value))
                    )
        return sorted(found, key=lambda reading: reading.step)

    def about(self) -> dict[str, Any]:
        """How it was looked, as a record."""
        return {
            "digits": self._digits,
            "batches": self._around.batches,
            "batch_size": self._around.batch_size,
            "step_sizes": list(STEP_SIZES),
            "layers": [
                {
                    "dense": block.dense.name,
                    "normalization": block.norm.name if block.norm else None,
                    "activation": block.activation.name if block.activation else None,
                    "typical_unit": unit,
                }
                for block, unit in zip(self._blocks, self._typical(), strict=True)
            ],
        }

    def _at_step(self, step: int) -> None:
        if step in self._steps or step - 1 in self._steps:
            weights = self.model.weights_of(self.key)
            self._wait()
            self._busy = self._worker.submit(self._take, step, weights)

    def _wait(self) -> None:
        """Wait for the look under way, and raise what it raised."""
        if self._busy is not None:
            self._busy.result()

    def _take(self, step: int, weights: Weights) -> None:
        """All that is to be read at a step."""
        if not self._finite:
            return
        # The device and NumPy's manners are a thread's own; figures may be no longer finite.
        with tf.device(self._device), np.errstate(all="ignore"):
            found = self._after_step(weights)
            if step in self._steps:
                found += self._look(step, weights)
        self._readings += found
        if self._writer:
            with self._writer.as_default():
                for each in found:
                    name = "/".join(filter(None, (each.layer, each.quantity, each.which)))
                    tf.summary.scalar(name, each.value, each.step)

    def _look(self, step: int, weights: Weights) -> list[Reading]:
        """What is seen at a step."""
        seen = self._open.look(weights)
        landscape, gradient = self._around.along_the_gradient(weights)
        self._before = _Before(step, weights, gradient)
        self._finite = bool(np.isfinite(landscape.loss))
        self._percentiles.append((step, [_percentiles(each) for each in seen]))
        figures = [*_of_landscape(landscape), *self._of_inputs(seen)]
        for block, its in zip(self._blocks, seen, strict=True):
            figures += _of_block(block, its)
            if block.norm is not None and its.entering is not None:
                figures += self._of_normalization(block.norm, its.entering, weights)
        if self._writer and self._finite:  # TensorBoard has no histogram of NaN
            with self._writer.as_default():
                self._log_distributions(step, seen, weights)
        return [Reading(step, *figure) for figure in figures]

    def _after_step(self, weights: Weights) -> list[Reading]:
        """What the one step since the last look changed; nothing if more than one went by."""
        before, self._before = self._before, None
        if before is None:
            return []
        shifts = self._around.covariate_shift(before.weights, before.gradient, weights)
        return [
            Reading(before.step, block.dense.name, f"shift_{name}", "", value)
            for block, shift in zip(self._blocks[1:], shifts, strict=True)
            for name, value in shift._asdict().items()
        ]

    def _of_normalization(
        self, norm: keras.layers.BatchNormalization, entering: np.ndarray, weights: Weights
    ) -> Iterator[Figure]:
        distance, ratio = anatomy.moving_against_batch(
            entering,
            self._value(norm.moving_mean, weights),
            self._value(norm.moving_variance, weights),
            norm.epsilon,
        )
        yield norm.name, "outside", "", anatomy.outside_share(entering, norm.epsilon)
        yield norm.name, "moving_mean_distance", "", distance
        yield norm.name, "moving_sd_ratio", "", ratio
        for part in ("gamma", "beta"):
            values = np.percentile(self._value(getattr(norm, part), weights), anatomy.SPREAD)
            for p, value in zip(anatomy.SPREAD, values, strict=True):
                yield norm.name, part, str(p), float(value)

    def _of_inputs(self, seen: Sequence[Seen]) -> Iterator[Figure]:
        """How far the inputs of each layer but the first drifted since the last look."""
        before, now = self._inputs, [anatomy.moments(each.output) for each in seen[:-1]]
        self._inputs = now
        for block, *both in zip(self._blocks[1:], before, now, strict=False):
            mean, sd = anatomy.drift(*both)
            yield block.dense.name, "input_mean_drift", "", mean
            yield block.dense.name, "input_sd_drift", "", sd

    def _log_distributions(self, step: int, seen: Sequence[Seen], weights: Weights) -> None:
        for block, its in zip(self._blocks, seen, strict=True):
            name = block.dense.name
            tf.summary.histogram(f"{name}/preactivations", its.preactivation, step)
            tf.summary.histogram(f"{name}/gradients", its.gradient, step)
            tf.summary.histogram(f"{name}/kernel", self._value(block.dense.kernel, weights), step)
            if block.norm is not None:
                for part in ("gamma", "beta"):
                    value = self._value(getattr(block.norm, part), weights)
                    tf.summary.histogram(f"{block.norm.name}/{part}", value, step)

    def _value(self, variable: keras.Variable, weights: Weights) -> np.ndarray:
        return weights[self._places[id(variable)]]

    def _typical(self) -> list[int]:
        return [
            anatomy.typical_unit(np.stack([parts[i][1] for _, parts in self._percentiles]))
            for i in range(len(self._blocks))
        ]


def _of_block(block: Block, seen: Seen) -> Iterator[Figure]:
    mean, variance = anatomy.moments(seen.preactivation)
    figures = {
        "preactivation_gradient": anatomy.gradient_per_digit(seen),
        "kernel_gradient": seen.kernel_gradient,
        "preactivation_mean": float(mean.mean()),
        "preactivation_sd": anatomy.spread(variance),
        **_at_the_ends(block, seen),
    }
    for quantity, value in figures.items():
        yield block.dense.name, quantity, "", value


def _of_landscape(landscape: Landscape) -> Iterator[Figure]:
    for name in ("loss", "gradient", "smoothness"):
        yield NETWORK, name, "", float(getattr(landscape, name))
    for quantity, values in (("loss_after", landscape.losses), ("change", landscape.changes)):
        for size, value in zip(STEP_SIZES, values, strict=True):
            yield NETWORK, quantity, str(size), value


def _at_the_ends(block: Block, seen: Seen) -> dict[str, float]:
    """The share of dead units of a ReLU, or of saturated outputs of a sigmoid or tanh."""
    if block.activation is None:
        return {}
    output = seen.output
    if block.norm is not None and block.norm.input is block.activation.output:
        output = seen.entering  # type: ignore[assignment] # the activation gives it
    if isinstance(block.activation, keras.layers.ReLU):
        return {"dead": anatomy.dead_share(output)}
    kind = block.activation.activation.__name__
    if kind not in RANGES:
        return {}
    return {"saturated": anatomy.saturated_share(output, *RANGES[kind])}


def _percentiles(seen: Seen) -> np.ndarray:
    return np.asarray(np.percentile(seen.preactivation, anatomy.PERCENTILES, axis=0))
