"""Moving statistics replaced by the population's: Algorithm 2 of the paper of batch normalization.

Training leaves in each normalization a running mean of batch statistics. Where its momentum was too
high for the number of steps, or the data is now another, that is not what the layer sees, and the
network answers worse at inference than it did in training. Here each normalization, in the order of
the graph, gets the mean and variance of all that reaches it, with the ones before it already right.
Keras has nothing that does this.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.errors import InputError, expected
from kerasbn.keras_internals import restore_layer_state

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Call:
    """One call of a layer: what it was given, and the mask with it, if any."""

    layer: keras.Layer
    values: tf.Tensor
    mask: tf.Tensor | None


@dataclass(frozen=True)
class Shift:
    """How far one normalization's statistics were from the population's, at its worst unit.

    Attributes:
        layer: its name.
        mean: the change of the mean, in standard deviations of the population.
        variance: the larger of new/old and old/new variance, epsilon included; 1 is no change.
    """

    layer: str
    mean: float
    variance: float

    def __str__(self) -> str:
        return (
            f"{self.layer}: mean off by up to {self.mean:.3g} standard deviations, "
            f"variance by up to a factor of {self.variance:.3g}"
        )


@dataclass(frozen=True)
class Recalibration:
    """A network with the population's statistics, and what they changed, layer by layer."""

    model: keras.Model
    shifts: tuple[Shift, ...]


def recalibrate(
    model: keras.Model, data: tf.data.Dataset, *, unbiased: bool = True
) -> Recalibration:
    """A copy of a network whose moving statistics are those of the population, `data`.

    Layer by layer in the order of the graph (Ioffe and Szegedy 2015, Algorithm 2, with all of the
    data as one batch, so that it does not matter how it is cut): the mean of the layer's input and
    its variance, times m/(m-1), with m the number of values in a unit. The layers before it already
    answer with their new statistics, and dropout is off. Summed in float64. The data is gone
    through once for each normalization.

    Args:
        model: a functional or Sequential network; it stays as it is.
        data: batches of what the network takes, alone or as the first of a tuple. It ends.
        unbiased: whether the variance has the factor m/(m-1), as in the paper, or is plain.

    Raises:
        InputError: if there is no normalization, no data, or what reaches a layer is not finite.
    """
    new = _copy(model)
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise expected("the data", "a data set without an end", "one that ends", "use take(n)")
    first = next(iter(data.take(1)), None)
    if first is None:
        raise expected("the data", "no batch", "some of what the network was trained on")
    normalizations = [
        layer for layer in _layers_in(new) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    with _seen(normalizations) as calls:
        new(_inputs(first), training=False)
    found = list(dict.fromkeys(call.layer for call in calls))
    if not found:
        raise expected(
            f"model '{model.name}'", "a network without batch normalization",
            "at least one BatchNormalization", "there are no statistics to replace",
        )  # fmt: skip
    return Recalibration(new, tuple(_replace(new, layer, data, unbiased) for layer in found))


def accuracy(model: keras.Model, data: tf.data.Dataset) -> float | None:
    """The share of right answers at inference, 0 to 1.

    None where there are no labels, or the network gives no class: the labels are class numbers or
    one-hot, and the largest of several outputs is the answer.
    """
    right = count = 0
    answer = tf.function(lambda inputs: model(inputs, training=False))
    for batch in data:
        if not isinstance(batch, tuple) or len(batch) < 2:
            return None
        answers, labels = answer(batch[0]), np.asarray(batch[1])
        if not tf.is_tensor(answers) or len(answers.shape) != 2 or answers.shape[1] < 2:
            return None
        if labels.shape == tuple(answers.shape):
            labels = labels.argmax(-1)
        right += int((np.argmax(answers, -1) == labels.reshape(-1)).sum())
        count += len(labels)
    return right / count if count else None


def _copy(model: keras.Model) -> keras.Model:
    try:
        new = keras.models.clone_model(model)
        new.set_weights(model.get_weights())
        for old, copied in zip(_layers_in(model), _layers_in(new), strict=True):
            restore_layer_state(copied, old)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise expected(
            f"model '{model.name}'", f"a {type(model).__name__} that Keras cannot copy",
            "a functional or Sequential network",
        ) from error  # fmt: skip
    return new


def _replace(
    model: keras.Model,
    layer: keras.layers.BatchNormalization,
    data: tf.data.Dataset,
    unbiased: bool,
) -> Shift:
    """Give one normalization its population's statistics."""
    count, mean, squares = _population(model, layer, data)
    divisor = count - 1 if unbiased else count
    if divisor < 1:
        raise expected("the data", "one value in each unit", "more, for a variance")
    variance = squares / divisor
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise InputError(
            f"layer '{layer.name}': received NaN or infinite values from the layers before it, "
            "expected finite ones; the network or the data is damaged"
        )
    old_mean, old_variance = (
        np.asarray(keras.ops.convert_to_numpy(each), np.float64)
        for each in (layer.moving_mean, layer.moving_variance)
    )
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    ratio = (variance + layer.epsilon) / (old_variance + layer.epsilon)
    off = np.abs(mean - old_mean) / np.sqrt(variance + layer.epsilon)
    return Shift(layer.name, float(off.max()), float(np.maximum(ratio, 1 / ratio).max()))


def _population(
    model: keras.Model, layer: keras.layers.BatchNormalization, data: tf.data.Dataset
) -> tuple[float, Floats, Floats]:
    """Count, mean and sum of squared deviations of all that reaches the layer, at every call.

    Batches are joined as in Chan, Golub and LeVeque (1979), which keeps all digits.
    """

    def sums_of(inputs: Any) -> list[tuple[tf.Tensor, ...]]:  # noqa: ANN401 - what the network takes
        with _seen([layer]) as calls:
            model(inputs, training=False)
        return [_sums(call, layer.axis) for call in calls]

    # TensorFlow leaves out what comes after the layer, since nothing of it is returned.
    compiled = tf.function(sums_of, autograph=False)
    count, mean, squares = 0.0, np.zeros(1), np.zeros(1)
    for batch in data:
        for sums in compiled(_inputs(batch)):
            more, its_mean, its_squares = (each.numpy() for each in sums)
            if more > 0:
                both = count + float(more)
                apart = its_mean - mean
                mean = mean + apart * (more / both)
                squares = squares + its_squares + apart**2 * (count * more / both)
                count = both
    return count, mean, squares


def _sums(call: Call, axis: int) -> tuple[tf.Tensor, ...]:
    """Count, mean and sum of squared deviations in each unit, float64; masked values are out."""
    values = tf.cast(call.values, tf.float64)
    rank = len(values.shape)
    weights = tf.ones_like(values)
    if call.mask is not None:
        weights = tf.cast(call.mask, tf.float64)[..., None] * weights
    over = [i for i in range(rank) if i != axis % rank]
    counts = tf.reduce_sum(weights, over, keepdims=True)
    mean = tf.math.divide_no_nan(tf.reduce_sum(weights * values, over, keepdims=True), counts)
    squares = tf.reduce_sum(weights * (values - mean) ** 2, over)
    return tf.reduce_max(counts), tf.reshape(mean, [-1]), squares


@contextmanager
def _seen(layers: Sequence[keras.Layer]) -> Iterator[list[Call]]:
    """Fill a list with what reaches these layers, in the order they are called.

    A layer within another network, or called several times, has no one tensor of its own in the
    graph to ask for; but whatever calls it calls its `call`.
    """
    calls: list[Call] = []

    def listen(layer: keras.Layer) -> None:
        call = layer.call

        def listening(inputs: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as `call`
            calls.append(Call(layer, inputs, kwargs.get("mask")))
            return call(inputs, *args, **kwargs)

        layer.call = listening

    for layer in layers:
        listen(layer)
    try:
        yield calls
    finally:
        for layer in layers:
            del layer.call


def _layers_in(model: keras.Model) -> list[keras.Layer]:
    """All layers in a network, those of networks, wrappers and layers within it included."""
    return list(model._flatten_layers())  # Keras has no public way to the layers of a layer


def _inputs(batch: Any) -> Any:  # noqa: ANN401 - what a data set yields
    """What the network takes, of a batch that may carry labels and weights behind it."""
    return batch[0] if isinstance(batch, tuple) else batch
