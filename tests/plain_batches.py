"""The batches of an epoch as plain Keras takes them, to compare the training loop with."""

import tensorflow as tf

from kerasbn.data.batching import permutation
from kerasbn.data.datasets import Split


def batches(split: Split, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """Return one epoch of (images, labels): uint8 `[batch, 28, 28]` and uint8 `[batch]`."""
    images, labels = tf.constant(split.images), tf.constant(split.labels)
    order = tf.data.Dataset.from_tensor_slices(permutation(len(split), seed, epoch))
    return order.batch(batch_size, drop_remainder=True).map(
        lambda rows: (tf.gather(images, rows), tf.gather(labels, rows))
    )
