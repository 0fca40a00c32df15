"""Keras's `fit` and its callbacks, with many batches in each compiled call.

Small networks are bound by the calls, not by the arithmetic: at one batch a call Python and the
runtime cost some twenty times what the batch does. So an element of the data set is a chunk of
batches, given as indices into digits that are resident on the device, and the train step loops
over them inside XLA. Several networks train side by side in one step, each on the same batch.
"""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from kerasbn.digits.files import Digits
from kerasbn.digits.pipeline import Schedule, index_chunks
from kerasbn.training.settings import TrainingSettings

_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
SLICE = 2000  # digits evaluated at a time, which bounds the memory


def compile_network(network: keras.Model, settings: TrainingSettings) -> keras.Model:
    """Give the network its optimizer, loss and metric, as `fit` and `evaluate` want them."""
    network.compile(
        optimizer=_OPTIMIZERS[settings.optimizer](learning_rate=settings.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    network.optimizer.build(network.trainable_variables)
    return network


class SideBySide(keras.Model):
    """Several compiled networks trained on the same batches, and evaluated, in compiled calls.

    It is a Keras model only to borrow `fit`: it has no layers of its own and is never saved. What
    a train step returns, and so the logs of each callback, is for each network, by its key:
    ``KEY:batch_loss`` and ``KEY:batch_accuracy``, means over the chunk in training mode, and
    ``KEY:bad_step``, the first batch of the chunk whose loss is not finite (-1: none).
    """

    def __init__(self, networks: Mapping[str, keras.Model], digits: Digits) -> None:
        super().__init__(name="side_by_side")
        self.networks = dict(networks)
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
        self._evaluate_range = tf.function(self._sums_over_range, jit_compile=True, autograph=False)
        self.compile(jit_compile=True)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Train every network on each batch of a chunk.

        Args:
            data: indices, int32 `[steps, batch]`, and how many of these batches count.
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
        digits = batches * tf.cast(tf.shape(indices)[1], tf.float32)
        return {
            f"{key}:{figure}": values[i]
            for i, key in enumerate(self.networks)
            for figure, values in {
                "batch_loss": losses / batches,
                "batch_accuracy": hits / digits,
                "bad_step": bad,
            }.items()
        }

    def _one_step(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of every network on the digits `rows`: losses and counts of right answers."""
        images, labels = tf.gather(self._pixels, rows), tf.gather(self._labels, rows)
        losses, hits = [], []
        for network in self.networks.values():
            with tf.GradientTape() as tape:
                logits = network(images, training=True)
                loss = network.compute_loss(x=images, y=labels, y_pred=logits)
            variables = network.trainable_variables
            network.optimizer.apply(tape.gradient(loss, variables), variables)
            losses.append(tf.cast(loss, tf.float32))
            hits.append(_right(logits, labels, 1.0))
        return tf.stack(losses), tf.stack(hits)

    def evaluate_all(self) -> dict[str, dict[str, float]]:
        """Loss and accuracy of every network on all digits of both sets, with moving statistics.

        Gives `loss`, `accuracy` (training set), `val_loss` and `val_accuracy` (test set) by key.
        """
        figures: dict[str, dict[str, float]] = {key: {} for key in self.networks}
        for prefix, (start, stop) in zip(("", "val_"), self._ranges.values(), strict=True):
            losses, hits = self._evaluate_range(tf.constant(start), tf.constant(stop))
            for i, key in enumerate(self.networks):
                figures[key][f"{prefix}loss"] = float(losses[i]) / (stop - start)
                figures[key][f"{prefix}accuracy"] = float(hits[i]) / (stop - start)
        return figures

    def _sums_over_range(self, start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Sums of losses and of right answers over digits `start` to `stop`, a slice at a time."""
        size = len(self.networks)

        def body(first: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            rows = first + tf.range(SLICE)
            weights = tf.cast(rows < stop, tf.float32)
            rows = tf.minimum(rows, stop - 1)
            images, labels = tf.gather(self._pixels, rows), tf.gather(self._labels, rows)
            losses, hits = [], []
            for network in self.networks.values():
                logits = network(images, training=False)
                each = keras.losses.sparse_categorical_crossentropy(
                    labels, logits, from_logits=True
                )
                # A weight of 0 would not silence an infinite loss of the padding.
                each = tf.cast(each, tf.float32)
                losses.append(tf.reduce_sum(tf.where(weights > 0, each, 0.0)))
                hits.append(_right(logits, labels, weights))
            return first + SLICE, sums[0] + tf.stack(losses), sums[1] + tf.stack(hits)

        begin = (start, tf.zeros(size), tf.zeros(size))
        _, losses, hits = tf.while_loop(lambda first, *_: first < stop, body, begin)
        return losses, hits


def fit(
    networks: Mapping[str, keras.Model],
    digits: Digits,
    settings: TrainingSettings,
    callbacks: Sequence[keras.callbacks.Callback],
    device: str,
) -> None:
    """Train compiled networks side by side with Keras's `fit`.

    Args:
        networks: the networks by key; each is trained in place.
        digits: what they train on.
        settings: how; every network must have been compiled with them.
        callbacks: Keras callbacks. A batch, to them, is a chunk of batches.
        device: TensorFlow's name of the device, such as ``/CPU:0``; the networks must be there.
    """
    schedule = Schedule.of(len(digits.train), settings.batch_size, settings.epochs, settings.steps)
    with tf.device(device):
        model = SideBySide(networks, digits)
        model.fit(
            index_chunks(schedule, settings.seed),
            epochs=schedule.epochs,
            steps_per_epoch=schedule.chunks,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )


def _right(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
    """How many answers are right; those of a diverged network, all NaN, are not."""
    right = (tf.argmax(logits, axis=-1, output_type=tf.int64) == labels) & tf.reduce_all(
        tf.math.is_finite(logits), axis=-1
    )
    return tf.reduce_sum(tf.cast(right, tf.float32) * weights)
