"""Data-parallel training: every device holds a copy of each network and takes a part of each batch.

Gradients are summed over the devices, and a normalization takes mean and variance over the whole
batch (`synchronized=True`), so that the figures are those of one device on the same batch but for
rounding. TensorFlow's `MirroredStrategy` admits neither compiled loops over batches nor XLA, so a
call trains one batch, where `loop.SideBySide` trains hundreds. It pays for networks whose step
takes a device longer than a call does, which those of the experiment are not.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache

import keras
import tensorflow as tf

from kerasbn.data.batching import Schedule, index_chunks
from kerasbn.data.datasets import Dataset
from kerasbn.training.ensembles import Learner, Solo, compile_network
from kerasbn.training.loop import SideBySide, run_fit
from kerasbn.training.settings import TrainingSettings


class Mirrored(SideBySide):
    """Networks trained side by side in the scope of a `MirroredStrategy`, a batch in each call."""

    def __init__(self, learners: Sequence[Learner], digits: Dataset) -> None:
        super().__init__(learners, digits, compiled=False)
        self.built = True  # Keras would build it on a batch, which nothing here is to be called on

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train every network on this device's part of a batch.

        Args:
            data: indices, int32 `[part of the batch, seeds]`.
        """
        replica = tf.distribute.get_replica_context()
        # Keras has divided the losses by the number of devices, so that their sum is the mean.
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
    """Train networks side by side with Keras's `fit`, every batch shared out among devices.

    Args:
        networks: what is trained, by key. They stay as they are and where they are: what is learned
            is in the weights of the model that the callbacks see.
        settings: how each is trained.
        digits: what they train on; every device holds all of them.
        schedule: for how long, in what batches: multiples of the number of devices.
        callbacks: Keras callbacks. A batch, to them, is a batch.
        devices: TensorFlow's names of the devices.
    """
    with _strategy(tuple(devices)).scope():
        learners = [mirror(key, network, settings[key]) for key, network in networks.items()]
        model = Mirrored(learners, digits)
        one_by_one = schedule.batch_by_batch()
        with warnings.catch_warnings():
            # The last epoch of a number of steps may be shorter than those before.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            run_fit(model, whole_batches(one_by_one, model.seeds), one_by_one, callbacks)


@cache
def _strategy(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """The strategy of these devices, always the same one.

    TensorFlow remembers by number how large each sum over the devices is, and every strategy begins
    to number at the same place: a second one would be refused for sums of another network.
    """
    return tf.distribute.MirroredStrategy(list(devices))


def mirror(key: str, network: keras.Model, settings: TrainingSettings) -> Solo:
    """A learner on every device of the strategy in whose scope this is called.

    The network itself stays as it is and where it is; `weights` gives what was learned.
    """

    def synchronized(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=synchronized)
    copy.set_weights(network.get_weights())
    return Solo(key, compile_network(copy, settings), settings.seed)


def whole_batches(schedule: Schedule, seeds: Sequence[int]) -> tf.data.Dataset:
    """The batches of all epochs one at a time, for the strategy to share out: `[batch, seeds]`."""
    chunks = index_chunks(schedule.batch_by_batch(), seeds)
    return chunks.filter(_counts).map(_only_batch)


def _counts(_: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    return count > 0


def _only_batch(indices: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return tf.transpose(indices[0])
