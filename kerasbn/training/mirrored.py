"""Data-parallel training: each device has a copy of every model and trains on a part of each batch.

Gradients are summed over the devices, and BN layers take mean and variance over the whole batch
(`synchronized=True`), so the results equal those of one device except for rounding. TensorFlow's
`MirroredStrategy` supports neither compiled loops over batches nor XLA, so a call trains one batch,
where `loop.SideBySide` trains hundreds. It is only worth it when a step takes longer than launching
it. The small MLPs here are launch-bound.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache

import keras
import tensorflow as tf

from kerasbn.data.batching import Schedule, index_chunks
from kerasbn.data.datasets import Dataset
from kerasbn.training.ensembles import Learner, SingleModel, compile_model
from kerasbn.training.loop import SideBySide, run_fit
from kerasbn.training.settings import TrainingSettings


class Mirrored(SideBySide):
    """Models trained side by side in the scope of a `MirroredStrategy`, one batch per call."""

    def __init__(self, learners: Sequence[Learner], digits: Dataset) -> None:
        super().__init__(learners, digits, compiled=False)
        self.built = True  # otherwise Keras would call it on a batch

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train every model on this device's part of a batch.

        Args:
            data: Indices, int32 `[part of the batch, seeds]`.
        """
        replica = tf.distribute.get_replica_context()
        # Keras divides the losses by the number of devices, so their sum is the mean.
        losses, hits = replica.all_reduce("sum", list(self._one_step(tf.transpose(data))))
        bad = tf.where(tf.math.is_finite(losses), -1, 0)
        return self._logs(losses, hits / (data.shape[0] * replica.num_replicas_in_sync), bad)


def fit_mirrored(
    networks: Mapping[str, keras.Model],
    settings: Mapping[str, TrainingSettings],
    digits: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    devices: Sequence[str],
) -> None:
    """Train models side by side with Keras's `fit`, each batch split among devices.

    Args:
        networks: The models by key. They are not changed: callbacks get trained weights from the
            model they see.
        settings: How to train each of them.
        digits: The dataset; every device holds all of it.
        schedule: The batches; the batch size is a multiple of the number of devices.
        callbacks: Keras callbacks, called for every batch.
        devices: TensorFlow's names of the devices.
    """
    with _strategy(tuple(devices)).scope():
        learners = [mirror(key, network, settings[key]) for key, network in networks.items()]
        model = Mirrored(learners, digits)
        one_by_one = schedule.batch_by_batch()
        with warnings.catch_warnings():
            # With `steps`, the last epoch may be shorter than the others.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            run_fit(model, whole_batches(one_by_one, model.seeds), one_by_one, callbacks)


@cache
def _strategy(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """Return the one strategy of these devices.

    TensorFlow numbers the reductions of a process and remembers their shapes. A second strategy
    would use the same numbers and fail for a model of another shape.
    """
    return tf.distribute.MirroredStrategy(list(devices))


def mirror(key: str, network: keras.Model, settings: TrainingSettings) -> SingleModel:
    """Return a copy of the model with synchronized BN, placed by the current strategy.

    The model itself is not changed; the `weights` of the copy are the result of the training.
    """

    def synchronized(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=synchronized)
    copy.set_weights(network.get_weights())
    return SingleModel(key, compile_model(copy, settings), settings.seed)


def whole_batches(schedule: Schedule, seeds: Sequence[int]) -> tf.data.Dataset:
    """Return the batches of all epochs one at a time, `[batch, seeds]`."""
    chunks = index_chunks(schedule.batch_by_batch(), seeds)
    return chunks.filter(_counts).map(_only_batch)


def _counts(_: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    return count > 0


def _only_batch(indices: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return tf.transpose(indices[0])
