"""Learners: one model, or an ensemble of models that are trained in the same operations.

An ensemble calls one model whose weights have an additional leading member axis. TensorFlow's
`vectorized_map` turns `model.stateless_call` into that call: a matrix product becomes a batched
product, and BN works per (member, feature). This supports any model and is as fast as layers
written with a member axis (0.20 s of one core per model and epoch in a group of 8). Members share
nothing: the loss is the sum over members, so each gradient depends on its own member only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from kerasbn.training.settings import TrainingSettings

_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}

Sums = tuple[tf.Tensor, tf.Tensor]


class Learner(Protocol):
    """One or several models, trained in one step.

    Attributes:
        networks: Keras models by key. Those of an ensemble keep their initial weights.
        seeds: The seed of the batches of each model.
    """

    networks: dict[str, keras.Model]
    seeds: Sequence[int]

    def learn(self, images: tf.Tensor, labels: tf.Tensor) -> Sums:
        """Train each member for one step on its own batch.

        Args:
            images: uint8 `[members, batch, 28, 28]`.
            labels: int64 `[members, batch]`.

        Returns:
            The mean loss and the number of correct predictions of each member, float32
            `[members]`, in training mode and before the step.
        """

    def examine(self, images: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor) -> Sums:
        """Return sums of losses and correct predictions, `[members]`, with moving statistics.

        Args:
            images: uint8 `[batch, 28, 28]`, the same for all members.
            labels: int64 `[batch]`.
            counted: bool `[batch]`; False for padding.
        """

    def weights(self) -> dict[str, list[np.ndarray]]:
        """Return the current weights of each model by key, in the order of `get_weights`."""


def compile_model(network: keras.Model, settings: TrainingSettings) -> keras.Model:
    """Compile a model with the optimizer of its settings, and return it."""
    network.compile(
        optimizer=_OPTIMIZERS[settings.optimizer](learning_rate=settings.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    network.optimizer.build(network.trainable_variables)
    return network


class SingleModel:
    """A compiled model that is trained in place."""

    def __init__(self, key: str, network: keras.Model, seed: int) -> None:
        self.networks = {key: network}
        self.seeds: Sequence[int] = (seed,)
        self._network = network

    def learn(self, images: tf.Tensor, labels: tf.Tensor) -> Sums:
        """As in `Learner`."""
        network = self._network
        with tf.GradientTape() as tape:
            logits = network(images[0], training=True)
            loss = network.compute_loss(x=images[0], y=labels[0], y_pred=logits)
        variables = network.trainable_variables
        network.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.cast(loss, tf.float32)[None], _right(logits[None], labels, 1.0)

    def examine(self, images: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor) -> Sums:
        """As in `Learner`."""
        return _sums(self._network(images, training=False)[None], labels, counted)

    def weights(self) -> dict[str, list[np.ndarray]]:
        """As in `Learner`."""
        return {key: network.get_weights() for key, network in self.networks.items()}


class Ensemble:
    """Models of one architecture, trained together, each as it would be alone.

    Args:
        networks: The models by key. They keep their initial weights; `weights` returns the trained
            ones.
        settings: The settings of each model; `seed` and `lr` may differ.
    """

    def __init__(
        self, networks: Mapping[str, keras.Model], settings: Sequence[TrainingSettings]
    ) -> None:
        self.networks = dict(networks)
        self.seeds: Sequence[int] = tuple(each.seed for each in settings)
        members = list(networks.values())
        self._network = members[0]
        self._trainable = _stacked([each.trainable_variables for each in members])
        self._others = _stacked([each.non_trainable_variables for each in members])
        self._optimizer = _optimizer(settings)
        self._optimizer.build(self._trainable)

    def learn(self, images: tf.Tensor, labels: tf.Tensor) -> Sums:
        """As in `Learner`."""

        def member(given: tuple[Any, ...]) -> tuple[Any, ...]:
            trainable, others, seen = given
            logits, after = self._network.stateless_call(trainable, others, seen, training=True)
            return logits, after

        trainable = [variable.value for variable in self._trainable]
        with tf.GradientTape() as tape:
            given = (trainable, [variable.value for variable in self._others], images)
            logits, after = _for_each(member, given)
            losses = tf.reduce_mean(_cross_entropy(labels, logits), axis=-1)
            loss = tf.reduce_sum(losses)
        self._optimizer.apply(tape.gradient(loss, trainable), self._trainable)
        for variable, value in zip(self._others, after, strict=True):
            variable.assign(value)
        return tf.cast(losses, tf.float32), _right(logits, labels, 1.0)

    def examine(self, images: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor) -> Sums:
        """As in `Learner`."""

        def member(given: tuple[Any, ...]) -> Any:  # noqa: ANN401 - a tensor
            return self._network.stateless_call(*given, images, training=False)[0]

        variables = (self._trainable, self._others)
        given = tuple([variable.value for variable in kind] for kind in variables)
        return _sums(_for_each(member, given), labels, counted)

    def weights(self) -> dict[str, list[np.ndarray]]:
        """As in `Learner`."""
        of_first = {
            id(variable): keras.ops.convert_to_numpy(stacked)
            for kind, stacks in (
                (self._network.trainable_variables, self._trainable),
                (self._network.non_trainable_variables, self._others),
            )
            for variable, stacked in zip(kind, stacks, strict=True)
        }
        order = [of_first[id(variable)] for variable in self._network.weights]
        return {key: [stack[i] for stack in order] for i, key in enumerate(self.networks)}


def _for_each(member: Callable[..., Any], given: tuple[Any, ...]) -> Any:  # noqa: ANN401 - tensors
    """Map `member` over the first axis by vectorization, never by a loop."""
    return tf.vectorized_map(member, given, fallback_to_while_loop=False)


def _stacked(members: Sequence[Sequence[keras.Variable]]) -> list[keras.Variable]:
    """Stack the variables of the members along a new first axis."""
    return [
        keras.Variable(
            np.stack([keras.ops.convert_to_numpy(each) for each in same]),
            trainable=same[0].trainable,
            dtype=same[0].dtype,
            name=same[0].path.replace("/", "_"),
        )
        for same in zip(*members, strict=True)
    ]


def _optimizer(settings: Sequence[TrainingSettings]) -> keras.optimizers.Optimizer:
    """Return the optimizer of all members; it works elementwise, so only learning rates differ."""
    kind = _OPTIMIZERS[settings[0].optimizer]
    rates = [each.lr for each in settings]
    if len(set(rates)) == 1:
        return kind(learning_rate=rates[0])

    class OwnRates(kind):  # type: ignore[misc, valid-type] # chosen by name, above
        """Applies a learning rate per member."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: ANN401 - tensors
            shape = [-1, *[1] * (len(variable.shape) - 1)]
            own = keras.ops.reshape(keras.ops.convert_to_tensor(rates, learning_rate.dtype), shape)
            super().update_step(gradient, variable, own)

    return OwnRates(learning_rate=rates[0])


def _sums(logits: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor) -> Sums:
    """Return sums of losses and correct predictions for logits `[members, batch, 10]`."""
    labels = tf.broadcast_to(labels, tf.shape(logits)[:-1])
    each = tf.cast(_cross_entropy(labels, logits), tf.float32)
    # Multiplying by 0 would not remove an infinite loss of the padding.
    losses = tf.reduce_sum(tf.where(counted, each, 0.0), axis=-1)
    return losses, _right(logits, labels, tf.cast(counted, tf.float32))


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _right(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
    """Count the correct predictions of each member; NaN logits of a diverged one are incorrect."""
    right = (tf.argmax(logits, axis=-1, output_type=tf.int64) == labels) & tf.reduce_all(
        tf.math.is_finite(logits), axis=-1
    )
    return tf.reduce_sum(tf.cast(right, tf.float32) * weights, axis=-1)
