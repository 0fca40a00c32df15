"""Replace moving statistics by population statistics (Ioffe and Szegedy 2015, Algorithm 2).

Training leaves a running mean of batch statistics in each BN layer. If its momentum was too high
for the number of steps, or the data has changed, the statistics are wrong, and the model predicts
worse at inference than in training. Here each BN layer, in the order of the graph, gets the mean
and variance of its inputs, computed with the new statistics of the layers before it.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.common.errors import ArgumentError, InputError, expected
from kerasbn.common.keras_internals import LayerCall, all_layers, record_calls, restore_layer_state

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How far the statistics of one BN layer were off, at its worst unit.

    Attributes:
        layer: The name of the layer.
        mean: The change of the mean, in standard deviations of the population.
        variance: The larger of new/old and old/new variance, epsilon included; 1 is no change.
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
    """A model with population statistics.

    Attributes:
        model: The new model.
        shifts: How far the statistics of each BN layer were off.
    """

    model: keras.Model
    shifts: tuple[Shift, ...]


def recalibrate(
    model: keras.Model, data: tf.data.Dataset, *, unbiased: bool = True
) -> Recalibration:
    """Return a copy of a model whose BN layers have the statistics of `data`.

    Layer by layer in the order of the graph (Ioffe and Szegedy 2015, Algorithm 2, with all data as
    one batch, so batch sizes do not matter), the moving mean becomes the mean of the layer's input
    and the moving variance its variance times m/(m-1), with m the number of values per unit. The
    layers before it already use their new statistics, and dropout is off. Sums are in float64. The
    data is read once per BN layer.

    Args:
        model: A functional or Sequential model; it is not changed.
        data: A finite `tf.data.Dataset` of batches: inputs, or tuples that start with inputs.
        unbiased: Whether the variance has the factor m/(m-1), as in the paper.

    Returns:
        The new model, and how far the statistics of each layer were off.

    Raises:
        InputError: If an argument has the wrong type, there is no BN layer or no data, or the input
            of a BN layer is not finite.

    Examples:
        >>> import kerasbn
        >>> import numpy as np
        >>> import tensorflow as tf
        >>> images = np.zeros((8, 28, 28), "uint8")
        >>> data = tf.data.Dataset.from_tensor_slices(images).batch(4)
        >>> result = kerasbn.recalibrate(kerasbn.mlp(), data)
        >>> [shift.layer for shift in result.shifts]
        ['bn_1', 'bn_2']
    """
    for name, value, kind in (("model", model, keras.Model), ("data", data, tf.data.Dataset)):
        if not isinstance(value, kind):
            wrong = f"a {type(value).__name__}"
            raise ArgumentError(name, value, f"a {kind.__name__}", received=wrong)
    new = _copy(model)
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise expected("the data", "an infinite dataset", "a finite one", "use take(n)")
    first = next(iter(data.take(1)), None)
    if first is None:
        raise expected("the data", "no batch", "some training data")
    normalizations = [
        layer for layer in all_layers(new) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    with record_calls(normalizations) as calls:
        new(_inputs(first), training=False)
    found = list(dict.fromkeys(call.layer for call in calls))
    if not found:
        raise expected(
            f"model '{model.name}'", "a model without BN layers",
            "at least one BN layer", "there are no statistics to replace",
        )  # fmt: skip
    return Recalibration(new, tuple(_replace(new, layer, data, unbiased) for layer in found))


def accuracy(model: keras.Model, data: tf.data.Dataset) -> float | None:
    """Return the accuracy at inference, 0 to 1; None without labels or classes.

    Labels are class numbers or one-hot; the largest output is the predicted class.
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
        for old, copied in zip(all_layers(model), all_layers(new), strict=True):
            restore_layer_state(copied, old)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise expected(
            f"model '{model.name}'", f"a {type(model).__name__} that Keras cannot copy",
            "a functional or Sequential model",
        ) from error  # fmt: skip
    return new


def _replace(
    model: keras.Model,
    layer: keras.layers.BatchNormalization,
    data: tf.data.Dataset,
    unbiased: bool,
) -> Shift:
    """Assign population statistics to one BN layer, and return the shift."""
    count, mean, squares = _population(model, layer, data)
    divisor = count - 1 if unbiased else count
    if divisor < 1:
        raise expected("the data", "one value in each unit", "more, for a variance")
    variance = squares / divisor
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise InputError(
            f"layer '{layer.name}': received NaN or infinite values from the layers before it, "
            "expected finite ones; the model or the data is damaged"
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
    """Return count, mean and sum of squared deviations of the inputs of a layer, over all calls.

    Batches are combined as in Chan, Golub and LeVeque (1979), which is numerically stable.
    """

    def sums_of(inputs: Any) -> list[tuple[tf.Tensor, ...]]:  # noqa: ANN401 - what the network takes
        with record_calls([layer]) as calls:
            model(inputs, training=False)
        return [_sums(call, layer.axis) for call in calls]

    # TensorFlow prunes the layers after this one, since nothing of them is returned.
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


def _sums(call: LayerCall, axis: int) -> tuple[tf.Tensor, ...]:
    """Return count, mean and sum of squared deviations per unit, float64, without masked values."""
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


def _inputs(batch: Any) -> Any:  # noqa: ANN401 - what a data set yields
    """Return the inputs in a batch, which labels and weights may follow."""
    return batch[0] if isinstance(batch, tuple) else batch
