"""The training loop: Keras's `fit` and callbacks, with many batches in each compiled call.

With small models, launching a batch takes about twenty times as long as its arithmetic. So the
images stay on the device, the `tf.data` pipeline yields chunks of batches as indices, and the train
step loops over them inside XLA. Several models train side by side in one step.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.batching import Schedule, index_chunks
from kerasbn.data.datasets import Dataset
from kerasbn.training.ensembles import Learner, SingleModel, compile_model
from kerasbn.training.settings import TrainingSettings

EVALUATION_BATCH = 2000  # bounds the memory that an evaluation takes


def fit(
    learners: Sequence[Learner],
    dataset: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    device: str,
    first_epoch: int = 0,
) -> None:
    """Train models side by side on the device that they are on, such as `/CPU:0`.

    Each model sees the batches of its own seed. For the callbacks, a chunk of batches is a batch.
    `first_epoch` is the number of epochs that a checkpoint has, which a callback restores.
    """
    with tf.device(device):
        loop = TrainingLoop(learners, dataset)
        chunks = index_chunks(schedule, loop.seeds, first_epoch)
        loop.fit_schedule(chunks, schedule, callbacks, first_epoch)


def fit_data_parallel(
    models: Mapping[str, keras.Model],
    settings: Mapping[str, TrainingSettings],
    dataset: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    devices: Sequence[str],
    first_epoch: int = 0,
) -> None:
    """Train models side by side, with each batch split over several devices.

    Gradients are summed over the devices, and BN uses the mean and variance of the whole batch, so
    results differ from one device only by rounding. `MirroredStrategy` supports neither loops over
    batches nor XLA, so a call trains one batch: only worth it when that takes longer than launching
    it. The models do not change: callbacks get the trained weights from the `TrainingLoop`.
    """
    with _strategy(tuple(devices)).scope():
        learners = [_synchronized(key, model, settings[key]) for key, model in models.items()]
        loop = DataParallelLoop(learners, dataset, compiled=False)
        loop.built = True  # otherwise Keras would call it on a batch to build it
        schedule = schedule.batch_by_batch()
        chunks = index_chunks(schedule, loop.seeds, first_epoch).filter(lambda _, count: count > 0)
        batches = chunks.map(lambda indices, _: tf.transpose(indices[0]))
        with warnings.catch_warnings():
            # The last epoch may have fewer steps than the others.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            loop.fit_schedule(batches, schedule, callbacks, first_epoch)


class TrainingLoop(keras.Model):
    """Trains several learners side by side, and evaluates them, in calls that XLA compiles.

    A Keras model only in order to use `fit`: it has no layers of its own and is never saved. The
    logs that callbacks get hold for each model `KEY:batch_loss` and `KEY:batch_accuracy`, the means
    over the chunk in training mode, and `KEY:bad_step`, the index of the first batch in the chunk
    with a loss that is not finite, or -1.
    """

    def __init__(
        self, learners: Sequence[Learner], dataset: Dataset, *, compiled: bool = True
    ) -> None:
        super().__init__(name="training_loop")
        self.learners = learners
        self.models = {key: model for each in learners for key, model in each.models.items()}
        self.seeds = tuple(dict.fromkeys(seed for each in learners for seed in each.seeds))
        # One array for both splits, so that one compiled evaluation serves both.
        train, test = dataset.train, dataset.test
        images = tf.concat([train.images, test.images], axis=0)
        labels = tf.concat([train.labels, test.labels], axis=0)
        self._images = tf.Variable(images, trainable=False, name="images")
        # int64, since TensorFlow keeps no int32 variables on a GPU.
        self._labels = tf.Variable(tf.cast(labels, tf.int64), trainable=False, name="labels")
        self._splits = {"": (0, len(train)), "val_": (len(train), len(train) + len(test))}
        # Keras would leave a step without XLA in a deterministic training.
        self._training = tf.function(self._train, jit_compile=compiled, autograph=False)
        self._evaluation = tf.function(self._evaluate, jit_compile=compiled, autograph=False)
        self.compile(jit_compile=False)

    def fit_schedule(
        self,
        data: tf.data.Dataset,
        schedule: Schedule,
        callbacks: Sequence[keras.callbacks.Callback],
        first_epoch: int = 0,
    ) -> None:
        """Call `fit`; `data` has one element per chunk of the schedule from `first_epoch` on."""
        self.fit(
            data, initial_epoch=first_epoch, epochs=schedule.epochs,
            steps_per_epoch=schedule.chunks, shuffle=False, verbose=0, callbacks=list(callbacks),
        )  # fmt: skip

    def state(self) -> list[np.ndarray]:
        """Return the values of all variables that training changes."""
        return [keras.ops.convert_to_numpy(each) for each in self._variables()]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Go on from a `state`."""
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [variable for each in self.learners for variable in each.variables]

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Train on a chunk: image indices, int32 `[steps, seeds, batch]`, and the steps to take."""
        logs: dict[str, tf.Tensor] = self._training(*data)
        return logs

    def _train(self, indices: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        one_step = tf.function(self._one_step, autograph=False)
        size = len(self.models)

        def body(step: tf.Tensor, *totals: tf.Tensor) -> tuple[tf.Tensor, ...]:
            losses, correct = one_step(indices[step])
            loss_sum, correct_sum, bad_step = totals
            bad_step = tf.where(~tf.math.is_finite(losses) & (bad_step < 0), step, bad_step)
            return step + 1, loss_sum + losses, correct_sum + correct, bad_step

        start = (tf.constant(0), tf.zeros(size), tf.zeros(size), -tf.ones(size, tf.int32))
        _, losses, correct, bad_step = tf.while_loop(lambda step, *_: step < count, body, start)
        batches = tf.cast(tf.maximum(count, 1), tf.float32)
        examples = batches * tf.cast(tf.shape(indices)[-1], tf.float32)
        return self._logs(losses / batches, correct / examples, bad_step)

    def _one_step(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Train on the images with indices `rows`, `[seeds, batch]`; return losses and counts."""
        images, labels = tf.gather(self._images, rows), tf.gather(self._labels, rows)
        results = []
        for learner in self.learners:
            order = [self.seeds.index(seed) for seed in learner.seeds]
            if order == list(range(len(self.seeds))):  # all of them, which needs no copy
                results.append(learner.train_step(images, labels))
            else:
                own = tf.gather(images, order), tf.gather(labels, order)
                results.append(learner.train_step(*own))
        losses, correct = (tf.concat(each, 0) for each in zip(*results, strict=True))
        return losses, correct

    def _logs(
        self, losses: tf.Tensor, accuracies: tf.Tensor, bad_steps: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        metrics = {"batch_loss": losses, "batch_accuracy": accuracies, "bad_step": bad_steps}
        return {
            f"{key}:{name}": values[i]
            for i, key in enumerate(self.models)
            for name, values in metrics.items()
        }

    def evaluate_all(self) -> dict[str, dict[str, float]]:
        """Return loss, accuracy, val_loss and val_accuracy by key, with moving statistics."""
        metrics: dict[str, dict[str, float]] = {key: {} for key in self.models}
        for prefix, (start, stop) in self._splits.items():
            results = self._evaluation(tf.constant(start), tf.constant(stop))
            for name, sums in zip(("loss", "accuracy"), results, strict=True):
                for key, total in zip(self.models, sums.numpy(), strict=True):
                    metrics[key][prefix + name] = float(total) / (stop - start)
        return metrics

    def _evaluate(self, start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return summed losses and correct predictions on the images from `start` to `stop`."""
        size = len(self.models)

        def body(first: tf.Tensor, *totals: tf.Tensor) -> tuple[tf.Tensor, ...]:
            rows = first + tf.range(EVALUATION_BATCH)
            is_valid = rows < stop
            rows = tf.minimum(rows, stop - 1)
            images, labels = tf.gather(self._images, rows), tf.gather(self._labels, rows)
            results = [each.test_step(images, labels, is_valid) for each in self.learners]
            losses, correct = (tf.concat(each, 0) for each in zip(*results, strict=True))
            return first + EVALUATION_BATCH, totals[0] + losses, totals[1] + correct

        begin = (start, tf.zeros(size), tf.zeros(size))
        _, losses, correct = tf.while_loop(lambda first, *_: first < stop, body, begin)
        return losses, correct

    def all_weights(self) -> dict[str, list[np.ndarray]]:
        """Return the current weights of every model by key, each as its `get_weights` would."""
        return {key: value for each in self.learners for key, value in each.weights().items()}

    def weights_of(self, key: str) -> list[np.ndarray]:
        """Return the current weights of one model."""
        return next(each for each in self.learners if key in each.models).weights()[key]


class DataParallelLoop(TrainingLoop):
    """A `TrainingLoop` within the scope of a `MirroredStrategy`, with one batch per call."""

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train on this device's part of a batch: indices, int32 `[part of the batch, seeds]`."""
        replica = tf.distribute.get_replica_context()
        # Keras divides losses by the number of devices, so their sum is the mean.
        losses, correct = replica.all_reduce("sum", list(self._one_step(tf.transpose(data))))
        bad_step = tf.where(tf.math.is_finite(losses), -1, 0)
        examples = data.shape[0] * replica.num_replicas_in_sync
        return self._logs(losses, correct / examples, bad_step)


@cache
def _strategy(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """Return the strategy for these devices: one per process, since a second would fail.

    TensorFlow remembers the shapes of sums over devices by number, and each strategy counts anew.
    """
    return tf.distribute.MirroredStrategy(list(devices))


def _synchronized(key: str, model: keras.Model, settings: TrainingSettings) -> SingleModel:
    """Clone a model within the scope of a strategy, with BN statistics shared by all devices."""

    def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = True
        return type(layer).from_config(config)

    clone = keras.models.clone_model(model, clone_function=clone_layer)
    clone.set_weights(model.get_weights())
    return SingleModel(key, compile_model(clone, settings), settings.seed)
