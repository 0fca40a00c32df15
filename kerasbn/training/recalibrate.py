"""Recalibration: replace moving statistics by population statistics.

If the momentum was too high for the number of steps, or the data has changed, a BN layer's moving
statistics are not those of its inputs, and the model is worse at inference than in training.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.common.errors import InputError, expected
from kerasbn.common.keras_internals import all_layers, record_calls, restore_layer_state

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StatisticsShift:
    """Largest change of the statistics of one BN layer, over its channels."""

    layer: str
    mean: float  # in standard deviations of the population
    variance: float  # the larger of new/old and old/new, epsilon included; 1 is no change

    def __str__(self) -> str:
        return (
            f"{self.layer}: mean off by up to {self.mean:.3g} standard deviations, "
            f"variance by up to a factor of {self.variance:.3g}"
        )


@dataclass(frozen=True, repr=False)
class Recalibration:
    """Result of `kerasbn.recalibrate`: a copy of the model, and the change of its BN layers."""

    model: keras.Model
    shifts: tuple[StatisticsShift, ...]  # in the order of the graph

    def __repr__(self) -> str:
        lines = (f"  {shift}" for shift in self.shifts)
        return "\n".join([f"Recalibration of {self.model.name}", *lines])


def recalibrate_model(
    model: keras.Model, data: tf.data.Dataset, *, unbiased: bool = True
) -> Recalibration:
    """Recalibrate a model on batches, as `kerasbn.recalibrate` describes."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise expected("data", "an infinite dataset", "a finite one", "use take(n)")
    first = next(iter(data.take(1)), None)
    if first is None:
        raise expected("data", "no batches", "examples like those the model was trained on")
    copy = _copy(model)
    kind = keras.layers.BatchNormalization
    with record_calls([each for each in all_layers(copy) if isinstance(each, kind)]) as calls:
        copy(_inputs(first), training=False)
    called = list(dict.fromkeys(layer for layer, _, _ in calls))
    if not called:
        raise expected(
            f"model '{model.name}'", "a model without BN layers", "at least one BN layer",
            "there are no statistics to replace",
        )  # fmt: skip
    return Recalibration(copy, tuple(_update(copy, layer, data, unbiased) for layer in called))


def accuracy(model: keras.Model, data: tf.data.Dataset) -> float | None:
    """Return the accuracy at inference, 0 to 1, or None without labels or class probabilities.

    Labels are class numbers or one-hot; the prediction is the largest of several outputs.
    """
    correct = count = 0
    predict = tf.function(lambda inputs: model(inputs, training=False))
    for batch in data:
        if not isinstance(batch, tuple) or len(batch) < 2:
            return None
        outputs, labels = predict(batch[0]), np.asarray(batch[1])
        if not tf.is_tensor(outputs) or len(outputs.shape) != 2 or outputs.shape[1] < 2:
            return None
        if labels.shape == tuple(outputs.shape):
            labels = labels.argmax(-1)
        correct += int((np.argmax(outputs, -1) == labels.reshape(-1)).sum())
        count += len(labels)
    return correct / count if count else None


def _copy(model: keras.Model) -> keras.Model:
    try:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        for new, old in zip(all_layers(copy), all_layers(model), strict=True):
            restore_layer_state(new, old)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise expected(
            f"model '{model.name}'", f"a {type(model).__name__} that Keras cannot clone",
            "a functional or Sequential model",
        ) from error  # fmt: skip
    return copy


def _update(
    model: keras.Model,
    layer: keras.layers.BatchNormalization,
    data: tf.data.Dataset,
    unbiased: bool,
) -> StatisticsShift:
    """Replace the statistics of one BN layer, and return their change."""
    count, mean, squares = _population(model, layer, data)
    divisor = count - 1 if unbiased else count
    if divisor < 1:
        raise expected("data", "one value per channel", "more, for a variance")
    variance = squares / divisor
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise InputError(
            f"layer '{layer.name}': received NaN or infinite inputs, expected finite ones; "
            "the model or the data is damaged"
        )
    old_mean, old_variance = (
        each.numpy().astype(np.float64) for each in (layer.moving_mean, layer.moving_variance)
    )
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    ratio = (variance + layer.epsilon) / (old_variance + layer.epsilon)
    change = np.abs(mean - old_mean) / np.sqrt(variance + layer.epsilon)
    return StatisticsShift(
        layer.name, float(change.max()), float(np.maximum(ratio, 1 / ratio).max())
    )


def _population(
    model: keras.Model, layer: keras.layers.BatchNormalization, data: tf.data.Dataset
) -> tuple[float, Floats, Floats]:
    """Return count, mean and sum of squared deviations of a layer's inputs, over all its calls.

    Batches are combined by the formula of Chan, Golub and LeVeque (1979), which is stable.
    """

    def moments(inputs: Any) -> list[tuple[tf.Tensor, ...]]:  # noqa: ANN401 - what the model takes
        with record_calls([layer]) as calls:
            model(inputs, training=False)
        return [_moments(values, mask, layer.axis) for _, values, mask in calls]

    # TensorFlow prunes what comes after the layer, since nothing of it is returned.
    compiled = tf.function(moments, autograph=False)
    count, mean, squares = 0.0, np.zeros(1), np.zeros(1)
    for results in chain.from_iterable(compiled(_inputs(batch)) for batch in data):
        new_count, new_mean, new_squares = (each.numpy() for each in results)
        if new_count > 0:
            total = count + float(new_count)
            delta = new_mean - mean
            mean = mean + delta * (new_count / total)
            squares = squares + new_squares + delta**2 * (count * new_count / total)
            count = total
    return count, mean, squares


def _moments(values: tf.Tensor, mask: tf.Tensor | None, axis: int) -> tuple[tf.Tensor, ...]:
    """Return count, mean and sum of squared deviations per channel, without masked values."""
    values = tf.cast(values, tf.float64)
    weights = tf.ones_like(values)
    if mask is not None:
        weights = tf.cast(mask, tf.float64)[..., None] * weights
    rank = len(values.shape)
    axes = [i for i in range(rank) if i != axis % rank]
    counts = tf.reduce_sum(weights, axes, keepdims=True)
    mean = tf.math.divide_no_nan(tf.reduce_sum(weights * values, axes, keepdims=True), counts)
    squares = tf.reduce_sum(weights * (values - mean) ** 2, axes)
    return tf.reduce_max(counts), tf.reshape(mean, [-1]), squares


def _inputs(batch: Any) -> Any:  # noqa: ANN401 - what a dataset yields
    """Return the model's inputs in a batch, without labels and sample weights."""
    return batch[0] if isinstance(batch, tuple) else batch
