"""Keras's `fit` and its callbacks, with many batches in each compiled call.

Small networks are bound by the calls, not by the arithmetic: at one batch a call Python and the
runtime cost some twenty times what the batch does. So an element of the data set is a chunk of
batches, given as indices into digits that are resident on the device, and the train step loops
over them inside XLA. Several networks train side by side in one step, those of one seed on the same
batches.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.batching import Schedule, index_chunks
from kerasbn.data.datasets import Dataset
from kerasbn.training.ensembles import Learner

SLICE = 2000  # digits evaluated at a time, which bounds the memory


class SideBySide(keras.Model):
    """Several learners trained side by side, and evaluated, in compiled calls.

    It is a Keras model only to borrow `fit`: it has no layers of its own and is never saved. What
    a train step returns, and so the logs of each callback, is for each network, by its key:
    ``KEY:batch_loss`` and ``KEY:batch_accuracy``, means over the chunk in training mode, and
    ``KEY:bad_step``, the first batch of the chunk whose loss is not finite (-1: none).

    Attributes:
        networks: the networks of all learners by key.
        seeds: the seeds there are; the batches of each are a lane of a chunk.

    Args:
        learners: what is trained.
        digits: what they learn and are evaluated on.
        compiled: whether XLA compiles the steps and the evaluation.
    """

    def __init__(
        self, learners: Sequence[Learner], digits: Dataset, *, compiled: bool = True
    ) -> None:
        super().__init__(name="side_by_side")
        self.learners = tuple(learners)
        self.networks = {key: net for each in learners for key, net in each.networks.items()}
        self.seeds = tuple(dict.fromkeys(seed for each in learners for seed in each.seeds))
        # One resident array for both sets: one compiled evaluation serves both, by range.
        pixels = tf.concat([digits.train.images, digits.test.images], axis=0)
        labels = tf.concat([digits.train.labels, digits.test.labels], axis=0)
        self._pixels = tf.Variable(pixels, trainable=False, name="pixels")
        # TensorFlow keeps no int32 variables on a GPU, so the labels are int64.
        self._labels = tf.Variable(tf.cast(labels, tf.int64), trainable=False, name="labels")
        self._ranges = {
            "train": (0, len(digits.train)),
            "test": (len(digits.train), len(digits.train) + len(digits.test)),
        }
        self._evaluate_range = tf.function(
            self._sums_over_range, jit_compile=compiled, autograph=False
        )
        self.compile(jit_compile=compiled)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Train every network on each batch of a chunk.

        Args:
            data: indices, int32 `[steps, seeds, batch]`, and how many of these steps count.
        """
        indices, count = data
        one_step = tf.function(self._one_step, autograph=False)
        size = len(self.networks)

        def body(step: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            losses, hits = one_step(indices[step])
            loss_sum, hit_sum, bad = sums
            first_bad = tf.where(~tf.math.is_finite(losses) & (bad < 0), step, bad)
            return step + 1, loss_sum + losses, hit_sum + hits, first_bad

        start = (tf.constant(0), tf.zeros(size), tf.zeros(size), -tf.ones(size, tf.int32))
        _, losses, hits, bad = tf.while_loop(lambda step, *_: step < count, body, start)
        batches = tf.cast(tf.maximum(count, 1), tf.float32)
        digits = batches * tf.cast(tf.shape(indices)[-1], tf.float32)
        return self._logs(losses / batches, hits / digits, bad)

    def _logs(self, losses: tf.Tensor, rates: tf.Tensor, bad: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a train step returns, from a vector over the networks for each figure."""
        figures = {"batch_loss": losses, "batch_accuracy": rates, "bad_step": bad}
        return {
            f"{key}:{figure}": values[i]
            for i, key in enumerate(self.networks)
            for figure, values in figures.items()
        }

    def _one_step(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of every network on the digits `rows`: losses and counts of right answers."""
        images, labels = tf.gather(self._pixels, rows), tf.gather(self._labels, rows)
        losses, hits = [], []
        for learner in self.learners:
            lanes = [self.seeds.index(seed) for seed in learner.seeds]
            loss, hit = learner.learn(_lanes(images, lanes), _lanes(labels, lanes))
            losses.append(loss)
            hits.append(hit)
        return tf.concat(losses, 0), tf.concat(hits, 0)

    def evaluate_all(self) -> dict[str, dict[str, float]]:
        """Loss and accuracy of every network on all digits of both sets, with moving statistics.

        Gives `loss`, `accuracy` (training set), `val_loss` and `val_accuracy` (test set) by key.
        """
        figures: dict[str, dict[str, float]] = {key: {} for key in self.networks}
        for prefix, (start, stop) in zip(("", "val_"), self._ranges.values(), strict=True):
            sums = self._evaluate_range(tf.constant(start), tf.constant(stop))
            losses, hits = (each.numpy() for each in sums)
            for i, key in enumerate(self.networks):
                figures[key][f"{prefix}loss"] = float(losses[i]) / (stop - start)
                figures[key][f"{prefix}accuracy"] = float(hits[i]) / (stop - start)
        return figures

    def _sums_over_range(self, start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Sums of losses and of right answers over digits `start` to `stop`, a slice at a time."""
        size = len(self.networks)

        def body(first: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            rows = first + tf.range(SLICE)
            counted = rows < stop
            rows = tf.minimum(rows, stop - 1)
            images, labels = tf.gather(self._pixels, rows), tf.gather(self._labels, rows)
            each = [learner.examine(images, labels, counted) for learner in self.learners]
            losses, hits = (tf.concat(figure, 0) for figure in zip(*each, strict=True))
            return first + SLICE, sums[0] + losses, sums[1] + hits

        begin = (start, tf.zeros(size), tf.zeros(size))
        _, losses, hits = tf.while_loop(lambda first, *_: first < stop, body, begin)
        return losses, hits

    def all_weights(self) -> dict[str, list[np.ndarray]]:
        """The present weights of every network by key, as its `set_weights` takes them."""
        return {key: value for each in self.learners for key, value in each.weights().items()}

    def weights_of(self, key: str) -> list[np.ndarray]:
        """The present weights of one network, as its `set_weights` takes them."""
        (learner,) = (each for each in self.learners if key in each.networks)
        return learner.weights()[key]


def fit(
    learners: Sequence[Learner],
    digits: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    device: str,
) -> None:
    """Train networks side by side with Keras's `fit`.

    Args:
        learners: what is trained; each network sees the batches of its own seed.
        digits: what they train on.
        schedule: for how long, in what batches, and where callbacks get to look.
        callbacks: Keras callbacks. A batch, to them, is a chunk of batches.
        device: TensorFlow's name of the device, such as ``/CPU:0``; the networks must be there.
    """
    with tf.device(device):
        model = SideBySide(learners, digits)
        run_fit(model, index_chunks(schedule, model.seeds), schedule, callbacks)


def run_fit(
    model: SideBySide,
    data: tf.data.Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Keras's `fit`, an element of `data` for each chunk of the schedule."""
    model.fit(
        data,
        epochs=schedule.epochs,
        steps_per_epoch=schedule.chunks,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )


def _lanes(chunk: tf.Tensor, lanes: list[int]) -> tf.Tensor:
    """Those lanes of a batch `[lanes, ...]`; most often all of them, which costs nothing."""
    return chunk if lanes == list(range(chunk.shape[0])) else tf.gather(chunk, lanes)
