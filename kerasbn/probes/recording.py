"""Records what happens inside a model at chosen steps of its training.

Training is unaffected: chunks of batches end at the chosen steps, where a callback copies the
weights and evaluates them on examples of its own. `kerasbn.probes.topics` defines what is measured.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Split
from kerasbn.probes.activations import ActivationProbe, Weights
from kerasbn.probes.landscape import STEP_SIZES, LossLandscape
from kerasbn.probes.readings import BatchResult, LayerNames, ProbeRecord, Reading
from kerasbn.probes.topics import TOPICS
from kerasbn.probes.topics.topic import ReadingValue, Snapshot
from kerasbn.training.callbacks import Logs
from kerasbn.training.checkpoint import read_arrays, write_arrays

EXAMPLES = 1000  # of the training set, for every model and every probe
REGULAR = 10  # probes over the whole training, in addition to the early ones


def probe_steps(total: int) -> tuple[int, ...]:
    """Return the steps at which to probe a training of `total` steps.

    Dense at first, when gradients vanish and statistics settle: 0, 1, 3, 10, 30, 100, ... up to a
    tenth of the training, then every tenth including the end.
    """
    regular = [round(total * i / REGULAR) for i in range(1, REGULAR + 1)]
    early = [first * 10**power for power in range(len(str(total))) for first in (1, 3)]
    return tuple(sorted({0, *regular, *(step for step in early if step < regular[0])}))


def probe_stops(total: int) -> tuple[int, ...]:
    """Return where chunks must end: at each probe, and one step later to see what it changed."""
    return tuple(sorted({stop for step in probe_steps(total) for stop in (step, step + 1)}))


def probe_examples(train: Split) -> Split:
    """Return `EXAMPLES` training examples, always the same ones, whatever the training's seed."""
    count = min(EXAMPLES, len(train))
    rows = np.random.default_rng(0).choice(len(train), count, replace=False)
    return Split(train.images[rows], train.labels[rows])


class Probe(keras.callbacks.Callback):
    """Callback that probes one model over its training, until its loss is no longer finite.

    Measuring runs in a thread of its own, on a clone of the model, while training continues. At
    most one probe waits for another, so at most one extra set of weights is held.

    The weights come from the training by `key`, of `model` only the architecture is used. The
    schedule's chunks must end at `probe_stops`; `log` is the folder for TensorBoard, if any.

    The weights of each probe are kept in the folder `weights`, if any, by calling `keep`. If
    training continues after `first` steps, the readings until then are taken again from there: they
    depend on nothing else.
    """

    def __init__(
        self,
        key: str,
        model: keras.Model,
        schedule: Schedule,
        train: Split,
        log: Path | None = None,
        weights: Path | None = None,
        keep: Callable[[Path, Weights], None] = write_arrays,
        first: int = 0,
    ) -> None:
        super().__init__()
        self.key = key
        self._schedule, self._steps = schedule, frozenset(probe_steps(schedule.steps))
        self._writer = tf.summary.create_file_writer(str(log)) if log else None
        self._worker = ThreadPoolExecutor(1, f"probe-{key}")
        self._pending: Future[None] = self._worker.submit(lambda: None)
        self._device = tf.constant(0.0).device  # integers stay on the CPU
        self._examples = probe_examples(train)
        clone = keras.models.clone_model(model)  # Keras layers are not thread-safe
        self._activations = ActivationProbe(clone, self._examples)
        self._landscape = LossLandscape(clone, self._examples, schedule.batch_size)
        self._topics = [topic() for topic in TOPICS]
        self._done: list[int] = []
        self._readings: list[Reading] = []
        self._before: tuple[Weights, Weights] | None = None  # weights and gradient at a probe
        self._finite = True
        self._weights, self._keep_weights, self._first = weights, keep, first

    def on_train_begin(self, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Probe before the first step, or take the readings until a checkpoint again."""
        if self._weights:
            self._weights.mkdir(exist_ok=True)
        if self._first == 0:
            self._at_step(0)
            return
        assert self._weights is not None
        for step in probe_stops(self._schedule.steps):
            if step <= self._first:
                self._submit(step, read_arrays(self._weights / f"{step}.npz"))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Look up where the chunks of the epoch end."""
        self._done = self._schedule.steps_done(epoch)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Probe if the chunk that ended led to one of the steps."""
        if self._done[batch + 1] > self._done[batch]:
            self._at_step(self._done[batch + 1])

    def on_train_end(self, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Wait for the last probe and close the log."""
        self._pending.result()
        self._worker.shutdown()
        if self._writer:
            self._writer.close()

    def readings(self) -> list[Reading]:
        """Return all readings in the order of steps, once training has ended."""
        late = [reading for topic in self._topics for reading in topic.finish()]
        return sorted([*self._readings, *late], key=lambda reading: reading.step)

    def record(self, batch_composition: tuple[BatchResult, ...]) -> ProbeRecord:
        """Return how the probes were taken, with the predictions by batch composition."""
        names = (
            LayerNames(block.dense.name, block.bn.name if block.bn else None)
            for block in self._activations.blocks
        )
        return ProbeRecord(
            len(self._examples), self._landscape.batches, self._landscape.batch_size, STEP_SIZES,
            tuple(names), batch_composition,
        )  # fmt: skip

    def _at_step(self, step: int) -> None:
        if step in self._steps or step - 1 in self._steps:
            weights = self.model.weights_of(self.key)
            if self._weights:
                self._keep_weights(self._weights / f"{step}.npz", weights)
            self._submit(step, weights)

    def _submit(self, step: int, weights: Weights) -> None:
        self._pending.result()  # at most one probe waits; raises what the last one raised
        self._pending = self._worker.submit(self._measure, step, weights)

    def _measure(self, step: int, weights: Weights) -> None:
        """Take all readings at a step, and of the step before if there was a probe."""
        if not self._finite:
            return
        # TensorFlow's device and NumPy's error state are per thread; values may not be finite.
        log = self._writer.as_default() if self._writer else nullcontext()
        with tf.device(self._device), np.errstate(all="ignore"), log:
            if self._before:
                shifts = self._landscape.covariate_shift(*self._before, weights)
                self._before = None
                for topic in self._topics:
                    self._keep(step - 1, topic.measure_step(shifts))
            if step in self._steps:
                landscape, gradient = self._landscape.along_the_gradient(weights)
                now = Snapshot(step, self._activations.snapshot(weights), landscape)
                self._before = weights, gradient
                self._finite = bool(np.isfinite(landscape.loss))
                if self._writer and self._finite:  # TensorBoard has no histogram of NaN
                    _log_distributions(now)
                for topic in self._topics:
                    self._keep(step, topic.measure(now))

    def _keep(self, step: int, values: Iterable[ReadingValue]) -> None:
        for layer, quantity, which, value in values:
            self._readings.append(Reading(step, layer, quantity, which, value))
            if self._writer:
                name = "/".join(filter(None, (layer, quantity, which)))
                tf.summary.scalar(name, value, step)


def _log_distributions(now: Snapshot) -> None:
    """Log histograms for TensorBoard."""
    for layer in now.layers:
        tf.summary.histogram(f"{layer.name}/preactivations", layer.preactivation, now.step)
        tf.summary.histogram(f"{layer.name}/gradients", layer.gradient, now.step)
        tf.summary.histogram(f"{layer.name}/kernel", layer.kernel, now.step)
        if layer.bn:
            tf.summary.histogram(f"{layer.bn.name}/gamma", layer.bn.gamma, now.step)
            tf.summary.histogram(f"{layer.bn.name}/beta", layer.bn.beta, now.step)
