"""Recalibration: replace moving statistics by population statistics.

If the momentum was too high for the number of steps, or the data has changed, a BN layer's moving
statistics are not those of its inputs, and the model is worse at inference than in training.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import ceil
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.common.errors import InputError, expected
from kerasbn.common.keras_internals import all_layers, record_calls, restore_layer_state

Floats = NDArray[np.float64]
BatchMoments = Callable[[Any], list[tuple[tf.Tensor, ...]]]  # of a batch: one for each call

GRAPHS = 8  # they compute 9/16 of the model for a layer on average, and one for each layer 1/2


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
    copy, spec = _copy(model), _input_spec(data)
    updated = (_update(*each, data, unbiased) for each in _moments_by_layer(copy, spec))
    if not (shifts := tuple(updated)):
        raise expected(
            f"model '{model.name}'", "a model without BN layers", "at least one BN layer",
            "there are no statistics to replace",
        )  # fmt: skip
    return Recalibration(copy, shifts)


def accuracy(model: keras.Model, data: tf.data.Dataset) -> float | None:
    """Return the accuracy at inference, 0 to 1, or None without labels or class probabilities.

    Labels are class numbers or one-hot; the prediction is the largest of several outputs.
    """
    correct = count = 0
    predict = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
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


def _moments_by_layer(
    model: keras.Model,
    spec: Any,  # noqa: ANN401 - nested as the model's inputs
) -> Iterator[tuple[keras.layers.BatchNormalization, BatchMoments]]:
    """Yield each BN layer called, in order, with a function from a batch to its inputs' moments.

    The model is traced once. Some consecutive layers share a graph, pruned to what they need: a
    graph for every layer takes longer to build than to run, and a single one would compute the
    whole model for every layer.
    """
    layers = [
        each for each in all_layers(model) if isinstance(each, keras.layers.BatchNormalization)
    ]
    moments: dict[keras.layers.BatchNormalization, list[tuple[tf.Tensor, ...]]] = defaultdict(list)

    def trace(*flat: tf.Tensor) -> None:
        inputs = tf.nest.pack_sequence_as(spec, flat, expand_composites=True)
        with record_calls(layers) as calls:
            model(inputs, training=False)
        for layer, values, mask in calls:
            moments[layer].append(_moments(values, mask, layer.axis))

    signature = tf.nest.flatten(spec, expand_composites=True)
    traced = tf.compat.v1.wrap_function(trace, signature)
    size = ceil(len(moments) / GRAPHS) or 1
    for start in range(0, len(moments), size):
        group = list(moments)[start : start + size]
        pruned = traced.prune(traced.inputs[: len(signature)], [moments[each] for each in group])
        for at, layer in enumerate(group):
            yield layer, partial(_of_batch, pruned, at)


def _of_batch(function: Any, at: int, batch: Any) -> list[tuple[tf.Tensor, ...]]:  # noqa: ANN401
    """Return the moments of the layer at one place in a pruned function."""
    found: list[tuple[tf.Tensor, ...]] = function(
        *tf.nest.flatten(_inputs(batch), expand_composites=True)
    )[at]
    return found


def _update(
    layer: keras.layers.BatchNormalization,
    moments: BatchMoments,
    data: tf.data.Dataset,
    unbiased: bool,
) -> StatisticsShift:
    """Replace the statistics of one BN layer, and return their change."""
    count, mean, squares = _population(moments, data)
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


def _population(moments: BatchMoments, data: tf.data.Dataset) -> tuple[float, Floats, Floats]:
    """Return count, mean and sum of squared deviations of a layer's inputs, over all its calls.

    Batches are combined by the formula of Chan, Golub and LeVeque (1979), which is stable.
    """
    count, mean, squares = 0.0, np.zeros(1), np.zeros(1)
    for results in chain.from_iterable(map(moments, data)):
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


def _input_spec(data: tf.data.Dataset) -> Any:  # noqa: ANN401 - nested as the model's inputs
    """Return the specifications of the model's inputs in a batch, with shapes of known rank."""
    first = next(iter(data.take(1)), None)
    if first is None:
        raise expected("data", "no batches", "examples like those the model was trained on")

    def ranked(spec: tf.TypeSpec, value: tf.Tensor) -> tf.TypeSpec:
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank is None:
            return tf.TensorSpec([None, *value.shape[1:]], spec.dtype)
        return spec

    return tf.nest.map_structure(ranked, _inputs(data.element_spec), _inputs(first))


def _inputs(batch: Any) -> Any:  # noqa: ANN401 - what a dataset yields
    """Return the model's inputs in a batch, without labels and sample weights."""
    return batch[0] if isinstance(batch, tuple) else batch
