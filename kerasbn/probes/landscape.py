"""The loss around a network: along its gradient, and as its layers change one after another.

What Santurkar and others measured in "How does batch normalization help optimization?" (NeurIPS
2018). The loss L is the one the training sees: a mean over batches of the training's size, each
normalized by its own statistics; the batches are always the same, so that what changes is the
network.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import Split
from kerasbn.probes.activations import Block, Order, mean_loss

# Section 3.1 of the paper goes along the gradient up to 0.4 times the gradient.
STEP_SIZES = (0.05, 0.1, 0.2, 0.4)
MOST_DIGITS = 256  # in all batches, unless one batch is larger

Weights = list[np.ndarray]


class Landscape(NamedTuple):
    """The loss at the weights W and along the gradient, at W - size * dL/dW for each step size.

    Attributes:
        loss: L(W).
        gradient: the Euclidean norm of dL/dW, over all trainable weights.
        losses: L after each step (Figure 4(a) of the paper shows their range).
        changes: the Euclidean distance between the gradients before and after each step (Figure
            4(b), "gradient predictiveness").
        smoothness: the largest change over the length of its step (Figure 4(c), "effective
            beta-smoothness"): the smaller, the smoother.
    """

    loss: float
    gradient: float
    losses: list[float]
    changes: list[float]
    smoothness: float


class Shift(NamedTuple):
    """How much the gradient of one layer's kernel depends on the layers before it standing still.

    The paper's internal covariate shift (definition 2.1): G is the gradient with respect to the
    layer's own weights before a step of the training, G' the same after only the layers before it
    have taken that step.

    Attributes:
        distance: ||G - G'||.
        relative: ||G - G'|| / ||G||.
        cosine: of the angle between G and G': 1 if the step changed only the gradient's length.
    """

    distance: float
    relative: float
    cosine: float


class Surroundings:
    """The loss of a network and its gradient, for any weights.

    Args:
        network: one of the experiment's networks; its own weights stay as they are.
        blocks: its blocks.
        digits: what the batches are cut from.
        batch_size: that of the training.
    """

    def __init__(
        self, network: keras.Model, blocks: Sequence[Block], digits: Split, batch_size: int
    ) -> None:
        self.batch_size = size = min(batch_size, len(digits))
        self.batches = max(1, min(len(digits), MOST_DIGITS) // size)
        used = self.batches * size
        shape = (self.batches, size)
        self._images = tf.constant(digits.images[:used].reshape(*shape, 28, 28))
        self._labels = tf.constant(digits.labels[:used].astype(np.int64).reshape(shape))
        self._network = network
        self._order = Order(network, network)
        self._layers = [
            [self._order.place(variable) for variable in _trainable(block)] for block in blocks
        ]
        self._kernels = [self._order.place(block.dense.kernel) for block in blocks]
        self._evaluate = tf.function(self._loss_and_gradients, autograph=False)

    def along_the_gradient(self, weights: Weights) -> tuple[Landscape, Weights]:
        """The loss along the gradient, and the gradient, a part for each trainable weight."""
        trainable, others = self._order.parted(weights)
        loss, gradient = self._at(trainable, others)
        length = float(_norm(gradient))
        losses, changes = [], []
        for size in STEP_SIZES:
            there = [w - np.float32(size) * g for w, g in zip(trainable, gradient, strict=True)]
            its_loss, its_gradient = self._at(there, others)
            losses.append(its_loss)
            changes.append(_distance(its_gradient, gradient))
        with np.errstate(divide="ignore", invalid="ignore"):  # no gradient left: no figure
            slopes = np.array(changes) / (np.array(STEP_SIZES) * length)
        return Landscape(loss, length, losses, changes, float(slopes.max())), gradient

    def covariate_shift(self, before: Weights, gradient: Weights, after: Weights) -> list[Shift]:
        """The internal covariate shift of every layer but the first, which has none before it.

        Args:
            before: the weights before a step of the training.
            gradient: there, as `along_the_gradient` gives it.
            after: the weights after the step.
        """
        mixed, others = self._order.parted(before)
        stepped, _ = self._order.parted(after)
        found = []
        for earlier, kernel in zip(self._layers, self._kernels[1:], strict=False):
            for place in earlier:
                mixed[place] = stepped[place]
            g, h = gradient[kernel], self._at(mixed, others)[1][kernel]
            distance, lengths = _distance([g], [h]), (_norm([g]), _norm([h]))
            with np.errstate(divide="ignore", invalid="ignore"):
                cosine = np.sum(g * h, dtype=np.float64) / (lengths[0] * lengths[1])
                found.append(Shift(distance, float(distance / lengths[0]), float(cosine)))
        return found

    def _at(self, trainable: Weights, others: Weights) -> tuple[float, Weights]:
        loss, gradients = self._evaluate(trainable, others)
        return float(loss), [each.numpy() for each in gradients]

    def _loss_and_gradients(self, trainable: Any, others: Any) -> Any:  # noqa: ANN401 - tensors
        def answer(images: tf.Tensor) -> Any:  # noqa: ANN401 - a tensor
            return self._network.stateless_call(trainable, others, images, training=True)[0]

        with tf.GradientTape() as tape:
            tape.watch(trainable)
            logits = tf.vectorized_map(answer, self._images, fallback_to_while_loop=False)
            loss = mean_loss(self._labels, logits)
        return loss, tape.gradient(loss, trainable)


def _trainable(block: Block) -> list[keras.Variable]:
    layers = [block.dense, block.norm] if block.norm else [block.dense]
    return [variable for layer in layers for variable in layer.trainable_variables]


def _norm(parts: Weights) -> np.float64:
    return np.float64(np.sqrt(sum(np.sum(np.square(part, dtype=np.float64)) for part in parts)))


def _distance(parts: Weights, others: Weights) -> float:
    return float(_norm([one - other for one, other in zip(parts, others, strict=True)]))
