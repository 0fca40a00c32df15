"""The loss near the weights of a model: along its gradient, and as single layers take a step.

These are the measurements of Santurkar et al., "How does batch normalization help optimization?"
(NeurIPS 2018). The loss L is the training loss: a mean over batches of the training's batch size,
each normalized with its own statistics. The batches are the same at every probe, so only the
weights change.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import Split
from kerasbn.probes.activations import Weights, kernel_indices, mean_loss, split_weights
from kerasbn.probes.topics.topic import Landscape, Shift

# Section 3.1 of the paper goes along the gradient up to 0.4 times the gradient.
STEP_SIZES = (0.05, 0.1, 0.2, 0.4)
MAX_EXAMPLES = 256  # in all batches together, unless one batch is larger


class LossLandscape:
    """The loss of an MLP and its gradient, for any weights; its own weights stay unchanged."""

    def __init__(self, model: keras.Model, examples: Split, batch_size: int) -> None:
        self.batch_size = size = min(batch_size, len(examples))
        self.batches = max(1, min(len(examples), MAX_EXAMPLES) // size)
        used, shape = self.batches * size, (self.batches, size)
        self._images = tf.constant(examples.images[:used].reshape(*shape, 28, 28))
        self._labels = tf.constant(examples.labels[:used].astype(np.int64).reshape(shape))
        self._model = model
        self._evaluate = tf.function(self._loss_and_gradients, autograph=False)

    def along_the_gradient(self, weights: Weights) -> tuple[Landscape, Weights]:
        """Return the loss along the gradient, and the gradient: one array per trainable weight."""
        trainable, others = split_weights(self._model, weights)
        loss, gradient = self._at(trainable, others)
        length = float(_norm(gradient))
        losses, changes = {}, {}
        for size in STEP_SIZES:
            there = [w - np.float32(size) * g for w, g in zip(trainable, gradient, strict=True)]
            losses[size], after = self._at(there, others)
            change = _norm([h - g for g, h in zip(gradient, after, strict=True)])
            changes[size] = float(change)
        with np.errstate(divide="ignore", invalid="ignore"):  # a zero gradient has no ratio
            slopes = np.array(list(changes.values())) / (np.array(STEP_SIZES) * length)
        return Landscape(loss, length, losses, changes, float(slopes.max())), gradient

    def covariate_shift(
        self, before: Weights, gradient: Weights, after: Weights
    ) -> dict[str, Shift]:
        """Return the internal covariate shift of every layer except the first, by its name.

        Takes the weights before and after a training step, and the gradient before it.
        """
        trainable, others = split_weights(self._model, before)
        stepped, _ = split_weights(self._model, after)
        _, *later = kernel_indices(self._model).items()
        shifts = {}
        for name, i in later:
            _, gradients = self._at([*stepped[:i], *trainable[i:]], others)
            g, h = gradient[i], gradients[i]
            distance, length = _norm([g - h]), _norm([g])
            with np.errstate(divide="ignore", invalid="ignore"):
                cosine = np.sum(g * h, dtype=np.float64) / (length * _norm([h]))
                shifts[name] = Shift(float(distance), float(distance / length), float(cosine))
        return shifts

    def _at(self, trainable: Weights, others: Weights) -> tuple[float, Weights]:
        loss, gradients = self._evaluate(trainable, others)
        return float(loss), [each.numpy() for each in gradients]

    def _loss_and_gradients(self, trainable: Any, others: Any) -> Any:  # noqa: ANN401 - tensors
        def logits_of(images: tf.Tensor) -> Any:  # noqa: ANN401 - a tensor
            return self._model.stateless_call(trainable, others, images, training=True)[0]

        with tf.GradientTape() as tape:
            tape.watch(trainable)
            logits = tf.vectorized_map(logits_of, self._images, fallback_to_while_loop=False)
            loss = mean_loss(self._labels, logits)
        return loss, tape.gradient(loss, trainable)


def _norm(parts: Weights) -> np.float64:
    return np.float64(np.sqrt(sum(np.sum(np.square(part, dtype=np.float64)) for part in parts)))
