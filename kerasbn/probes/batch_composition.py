"""Test predictions by batch composition: how they depend on the other examples of a batch.

With moving statistics they do not. With batch statistics they do, and the more so the smaller or
the more one-sided the batches are. In a batch of one, every normalized value is 0.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import Split
from kerasbn.probes.readings import BatchResult

SIZES = (1, 2, 8, 64)
SLICE = 2000  # examples per call, about, which bounds the memory


def predict_in_batches(
    model: keras.Model, weights: Sequence[np.ndarray], test: Split
) -> tuple[BatchResult, ...]:
    """Predict all examples in batches of several sizes and orders, with both kinds of statistics.

    Batches larger than the number of examples are left out. The model stays unchanged.
    """
    model = keras.models.clone_model(model)  # Keras layers are not thread-safe
    model.set_weights(weights)
    rng = np.random.default_rng(0)
    # The predictions in a first shuffled order are those that the others are compared with.
    orders = {order: rng.permutation(len(test)) for order in ("reference", "shuffled")}
    orders["sorted"] = np.argsort(test.labels, kind="stable")
    arranged = {order: (test.images[rows], np.argsort(rows)) for order, rows in orders.items()}
    found = []
    # Without BN there is nothing to use batch statistics.
    has_bn = any(isinstance(x, keras.layers.BatchNormalization) for x in model.layers)
    for statistics in ("moving", "batch") if has_bn else ("moving",):
        predict = _predictor(model, training=statistics == "batch")
        for size in (size for size in SIZES if size <= len(test)):
            logits = {
                order: predict(images, size)[back] for order, (images, back) in arranged.items()
            }
            reference = logits.pop("reference")
            classes = reference.argmax(1)
            for order, others in logits.items():
                predicted = classes if order == "shuffled" else others.argmax(1)
                accuracy = float((predicted == test.labels).mean())
                changed = float((others.argmax(1) != classes).mean())
                largest = float(np.abs(others - reference).max())
                found.append(BatchResult(statistics, size, order, accuracy, changed, largest))
    return tuple(found)


def _predictor(model: keras.Model, *, training: bool) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a function from images and a batch size to logits, in batches in the given order."""
    kinds = model.trainable_variables, model.non_trainable_variables
    variables = [[variable.value for variable in kind] for kind in kinds]

    def in_batches(batches: tf.Tensor) -> tf.Tensor:
        return tf.vectorized_map(
            lambda batch: model.stateless_call(*variables, batch, training=training)[0],
            batches,
            fallback_to_while_loop=False,
        )

    signature = [tf.TensorSpec([None, None, *model.input.shape[1:]], model.input.dtype)]
    compiled = tf.function(in_batches, input_signature=signature, autograph=False)

    def predict(images: np.ndarray, size: int) -> np.ndarray:
        # The first examples fill up the last batch; their second prediction is dropped.
        filled = np.concatenate([images, images[: -len(images) % size]])
        batches = filled.reshape(-1, size, *images.shape[1:])
        count = max(1, SLICE // size)
        logits = [compiled(batches[i : i + count]).numpy() for i in range(0, len(batches), count)]
        return np.concatenate(logits).reshape(-1, model.output.shape[-1])[: len(images)]

    return predict
