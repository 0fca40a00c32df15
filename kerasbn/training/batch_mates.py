"""How the answer for one digit depends on the other digits of its batch.

With moving statistics it does not; with the statistics of the batch it does, and the more the
smaller or the more one-sided the batch is. At a batch of one every normalized value is 0.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasbn.digits.files import Split

SIZES = (1, 2, 8, 64)
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
    shuffled, otherwise = (rng.permutation(len(digits)) for _ in range(2))
    orders = {"shuffled": otherwise, "sorted": np.argsort(digits.labels, kind="stable")}
    found = []
    # Without a normalization there is nothing that could take the batch's statistics.
    normalized = any(isinstance(x, keras.layers.BatchNormalization) for x in network.layers)
    for statistics in ("moving", "batch") if normalized else ("moving",):
        answer = _answers(network, digits.images, training=statistics == "batch")
        possible = [size for size in sizes if size <= len(digits)]
        # Nobody is expected to depend on company here, so the two ends have to do.
        for size in possible if statistics == "batch" else sorted({possible[0], possible[-1]}):
            usual = answer(shuffled, size)
            decisions = usual.argmax(1)
            for order, arranged in orders.items():
                logits = answer(arranged, size)
                right = (decisions if order == "shuffled" else logits.argmax(1)) == digits.labels
                found.append(
                    Answered(
                        statistics, size, order, float(right.mean()),
                        float((logits.argmax(1) != decisions).mean()),
                        float(np.abs(logits - usual).max()),
                    )
                )  # fmt: skip
    return found


def _answers(network: keras.Model, images: np.ndarray, *, training: bool) -> Any:  # noqa: ANN401 - a function
    """A function from an order of the digits and a batch size to their logits, as they stood."""
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

    shape = [None, None, *images.shape[1:]]
    compiled = tf.function(in_batches, input_signature=[tf.TensorSpec(shape, images.dtype)])

    def answer(order: np.ndarray, size: int) -> np.ndarray:
        # The last batch is filled up with the first digits, whose second answer does not count.
        batches = np.resize(order, -(-len(order) // size) * size).reshape(-1, size)
        parts = np.array_split(batches, -(-batches.size // SLICE))
        logits = np.concatenate([compiled(images[part]).numpy() for part in parts])
        answers = np.empty((len(order), logits.shape[-1]), logits.dtype)
        answers[order] = logits.reshape(-1, logits.shape[-1])[: len(order)]
        return answers

    return answer
