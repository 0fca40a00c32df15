"""Training by plain Keras on the batches of an epoch, to compare the training loop with."""

import keras
import tensorflow as tf

from kerasbn.data.batching import permutation
from kerasbn.data.datasets import Split
from kerasbn.training.settings import TrainingSettings


def batches(split: Split, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """Return one epoch of (images, labels): uint8 `[batch, 28, 28]` and uint8 `[batch]`."""
    images, labels = tf.constant(split.images), tf.constant(split.labels)
    order = tf.data.Dataset.from_tensor_slices(permutation(len(split), seed, epoch))
    return order.batch(batch_size, drop_remainder=True).map(
        lambda rows: (tf.gather(images, rows), tf.gather(labels, rows))
    )


def train_plainly(model: keras.Model, settings: TrainingSettings, split: Split) -> list[float]:
    """Train a compiled model by `train_on_batch`, and return the loss of each step.

    Without XLA, which takes seconds to compile what these few steps take no time for.
    """
    model.jit_compile = False
    return [
        model.train_on_batch(images, labels)[0]
        for epoch in range(settings.epochs)
        for images, labels in batches(split, settings.batch_size, settings.seed, epoch)
    ]
