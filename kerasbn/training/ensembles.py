"""What learns in a step: one network, or an ensemble of networks that differ by a few numbers.

The members of an ensemble are one network called once, each of its weights with a member axis in
front: TensorFlow's `vectorized_map` turns `network.stateless_call` into that call, so that a matrix
product becomes one batched product and a normalization one over (member, feature). It serves any
network, where layers written with a member axis would have to be kept equal to those they stand
for; it is as fast as those (0.20 s of one core per network and epoch, both ways, in a group of 8).
Members share nothing: the loss is their sum, and so the gradient of each is its own.
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
    """One network or several, trained in one step.

    Attributes:
        networks: plain Keras networks by key. Those of an ensemble hold what they began with.
        seeds: for each of them, whose batches it sees.
    """

    networks: dict[str, keras.Model]
    seeds: Sequence[int]

    def learn(self, images: tf.Tensor, labels: tf.Tensor) -> Sums:
        """One step of each member on its own batch.

        Args:
            images: uint8 `[members, batch, 28, 28]`.
            labels: int64 `[members, batch]`.

        Returns:
            the mean loss and the count of right answers of each, float32 `[members]`, both in
            training mode and before the step.
        """

    def examine(self, images: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor) -> Sums:
        """Sums of losses and of right answers, float32 `[members]`, with moving statistics.

        Args:
            images: uint8 `[batch, 28, 28]`, the same for all members.
            labels: int64 `[batch]`.
            counted: bool `[batch]`; the others are padding.
        """

    def weights(self) -> dict[str, list[np.ndarray]]:
        """What `get_weights` of each network would give if it had been trained alone, by key."""


def compile_network(network: keras.Model, settings: TrainingSettings) -> keras.Model:
    """Give the network its optimizer, loss and metric, as `fit` and `evaluate` want them."""
    network.compile(
        optimizer=_OPTIMIZERS[settings.optimizer](learning_rate=settings.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    network.optimizer.build(network.trainable_variables)
    return network


class Solo:
    """A compiled network that is trained in place."""

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
    """Networks of one architecture, trained together, each as it would be alone.

    Args:
        networks: by key; each starts from its own weights, which stay as they are: what was learned
            is given by `weights`.
        settings: for each network how it is trained; `seed` and `lr` may differ.
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
    """What `member` gives for each index of the first axis; never by a loop over them."""
    return tf.vectorized_map(member, given, fallback_to_while_loop=False)


def _stacked(members: Sequence[Sequence[keras.Variable]]) -> list[keras.Variable]:
    """One variable for each of a network's, the members' values along a new first axis."""
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
    """The members' optimizer: it works element by element, so it needs to know only their rates."""
    kind = _OPTIMIZERS[settings[0].optimizer]
    rates = [each.lr for each in settings]
    if len(set(rates)) == 1:
        return kind(learning_rate=rates[0])

    class OwnRates(kind):  # type: ignore[misc, valid-type] # chosen by name, above
        """Each member goes at its own rate."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: ANN401 - tensors
            shape = [-1, *[1] * (len(variable.shape) - 1)]
            own = keras.ops.reshape(keras.ops.convert_to_tensor(rates, learning_rate.dtype), shape)
            super().update_step(gradient, variable, own)

    return OwnRates(learning_rate=rates[0])


def _sums(logits: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor) -> Sums:
    """Sums of losses and of right answers of each member, of logits `[members, batch, 10]`."""
    labels = tf.broadcast_to(labels, tf.shape(logits)[:-1])
    each = tf.cast(_cross_entropy(labels, logits), tf.float32)
    # A weight of 0 would not silence an infinite loss of the padding.
    losses = tf.reduce_sum(tf.where(counted, each, 0.0), axis=-1)
    return losses, _right(logits, labels, tf.cast(counted, tf.float32))


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _right(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
    """How many answers of each member are right; those of a diverged one, all NaN, are not."""
    right = (tf.argmax(logits, axis=-1, output_type=tf.int64) == labels) & tf.reduce_all(
        tf.math.is_finite(logits), axis=-1
    )
    return tf.reduce_sum(tf.cast(right, tf.float32) * weights, axis=-1)
