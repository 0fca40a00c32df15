"""How the answer for one digit depends on the other digits of its batch.

With moving statistics it does not; with the statistics of the batch it does, and the more the
smaller or the more one-sided the batch is. At a batch of one every normalized value is 0.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import Split

SIZES = (1, 2, 8, 64)
USUAL = "usual"  # the order whose answers are the measure
SLICE = 2000  # digits answered at a time, about, which bounds the memory


class Answered(NamedTuple):
    """How a network answers digits that come in certain batches.

    Attributes:
        statistics: ``moving`` or ``batch``: what it normalizes with, if it does.
        batch_size: digits in a batch.
        order: ``shuffled``, or ``sorted`` by class, so that most batches hold one class.
        accuracy: the share of right answers.
        changed: the share of digits that get another answer in this order than when shuffled (if
            shuffled: than when shuffled otherwise).
        largest: the largest difference of any logit between the two.
    """

    statistics: str
    batch_size: int
    order: str
    accuracy: float
    changed: float
    largest: float


def batch_mates(
    network: keras.Model,
    weights: Sequence[np.ndarray],
    digits: Split,
    sizes: Sequence[int] = SIZES,
) -> list[Answered]:
    """Answer all digits in batches of several sizes and orders, with moving and batch statistics.

    Args:
        network: from images to logits; it stays as it is.
        weights: what it answers with, as `get_weights` gives them.
        digits: what to answer, each once in each arrangement.
        sizes: of the batches; those larger than there are digits are left out.
    """
    network = keras.models.clone_model(network)  # this may be a thread beside others
    network.set_weights(weights)
    rng = np.random.default_rng(0)
    # Answers in the first order are what those in the others are compared with.
    orders = {order: rng.permutation(len(digits)) for order in (USUAL, "shuffled")}
    orders["sorted"] = np.argsort(digits.labels, kind="stable")
    arranged = {order: digits.images[rows] for order, rows in orders.items()}
    found = []
    # Without a normalization there is nothing that could take the batch's statistics.
    normalized = any(isinstance(x, keras.layers.BatchNormalization) for x in network.layers)
    for statistics in ("moving", "batch") if normalized else ("moving",):
        answer = _answers(network, training=statistics == "batch")
        for size in sizes:
            if size > len(digits):
                continue
            logits = {}
            for order, rows in orders.items():
                logits[order] = np.empty((len(digits), network.output.shape[-1]), np.float32)
                logits[order][rows] = answer(arranged[order], size)
            usual = logits.pop(USUAL)
            decisions = usual.argmax(1)
            for order, others in logits.items():
                right = (decisions if order == "shuffled" else others.argmax(1)) == digits.labels
                found.append(
                    Answered(
                        statistics, size, order, float(right.mean()),
                        float((others.argmax(1) != decisions).mean()),
                        float(np.abs(others - usual).max()),
                    )
                )  # fmt: skip
    return found


def _answers(network: keras.Model, *, training: bool) -> Callable[[np.ndarray, int], np.ndarray]:
    """A function from images and a batch size to their logits, answered in batches as they come."""
    variables = [
        [variable.value for variable in kind]
        for kind in (network.trainable_variables, network.non_trainable_variables)
    ]

    def in_batches(batches: tf.Tensor) -> tf.Tensor:
        return tf.vectorized_map(
            lambda batch: network.stateless_call(*variables, batch, training=training)[0],
            batches,
            fallback_to_while_loop=False,
        )

    image = network.input
    shape = [None, None, *image.shape[1:]]
    signature = [tf.TensorSpec(shape, image.dtype)]
    compiled = tf.function(in_batches, input_signature=signature, autograph=False)

    def answer(images: np.ndarray, size: int) -> np.ndarray:
        logits = []
        for start in range(0, len(images), max(1, SLICE // size) * size):
            part = images[start : start + max(1, SLICE // size) * size]
            # The last batch is filled up with the first digits, whose second answer does not count.
            if missing := -len(part) % size:
                part = np.concatenate([part, images[:missing]])
            batches = part.reshape(-1, size, *images.shape[1:])
            logits.append(compiled(batches).numpy().reshape(-1, network.output.shape[-1]))
        return np.concatenate(logits)[: len(images)]

    return answer
