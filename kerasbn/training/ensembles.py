"""One model, or an ensemble of models with the same architecture, trained in one step.

An ensemble is one model with a member axis in front of each of its weights: `tf.vectorized_map`
turns `stateless_call` into a call of all members, as fast as layers written with a member axis. The
members are independent: the loss is their sum, so each gets its own gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.training.settings import TrainingSettings

_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}

LossAndCorrect = tuple[tf.Tensor, tf.Tensor]


def compile_model(model: keras.Model, settings: TrainingSettings) -> keras.Model:
    """Compile a model with its optimizer, loss and metric, and return it."""
    model.compile(
        optimizer=_OPTIMIZERS[settings.optimizer](learning_rate=settings.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


class SingleModel:
    """A compiled model that is trained in place, as an ensemble with one member."""

    def __init__(self, key: str, model: keras.Model, seed: int) -> None:
        self.models = {key: model}
        self.seeds: Sequence[int] = (seed,)  # of each member, for the batches that it sees
        self._model = model

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables that training changes: those of the model and of its optimizer."""
        return [*self._model.weights, *self._model.optimizer.variables]

    def train_step(self, images: tf.Tensor, labels: tf.Tensor) -> LossAndCorrect:
        """Train each member on its own batch, uint8 `[members, batch, 28, 28]` and int64 labels.

        Returns the mean loss and the number of correct predictions of each member, float32
        `[members]`, in training mode and before the update.
        """
        model = self._model
        with tf.GradientTape() as tape:
            logits = model(images[0], training=True)
            loss = model.compute_loss(x=images[0], y=labels[0], y_pred=logits)
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.cast(loss, tf.float32)[None], _correct(logits[None], labels, 1.0)

    def test_step(
        self, images: tf.Tensor, labels: tf.Tensor, is_valid: tf.Tensor
    ) -> LossAndCorrect:
        """Evaluate all members on the same batch with moving statistics, except for the padding.

        Returns the sum of the losses and the number of correct predictions, float32 `[members]`.
        """
        return _evaluate(self._model(images, training=False)[None], labels, is_valid)

    def weights(self) -> dict[str, list[np.ndarray]]:
        """Return the current weights of each model by key, in the order of `get_weights`."""
        return {key: model.get_weights() for key, model in self.models.items()}


class Ensemble:
    """Models of one architecture that are trained together, each as it would be alone.

    Training starts from their weights, but does not change them: `weights` returns the trained
    ones. Only `seed` and `lr` of the settings may differ.
    """

    def __init__(
        self, models: Mapping[str, keras.Model], settings: Sequence[TrainingSettings]
    ) -> None:
        self.models = dict(models)
        self.seeds: Sequence[int] = tuple(each.seed for each in settings)
        members = list(models.values())
        self._model = members[0]
        self._trainable = _stack([each.trainable_variables for each in members])
        self._non_trainable = _stack([each.non_trainable_variables for each in members])
        self._optimizer = _optimizer(settings)
        self._optimizer.build(self._trainable)

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables that training changes; see `SingleModel`."""
        return [*self._trainable, *self._non_trainable, *self._optimizer.variables]

    def train_step(self, images: tf.Tensor, labels: tf.Tensor) -> LossAndCorrect:
        """Train each member on its own batch; see `SingleModel`."""
        trainable = [variable.value for variable in self._trainable]
        members = (trainable, [variable.value for variable in self._non_trainable], images)
        with tf.GradientTape() as tape:
            logits, non_trainable = _for_each(
                lambda member: self._model.stateless_call(*member, training=True), members
            )
            losses = tf.reduce_mean(_cross_entropy(labels, logits), axis=-1)
            loss = tf.reduce_sum(losses)
        self._optimizer.apply(tape.gradient(loss, trainable), self._trainable)
        for variable, value in zip(self._non_trainable, non_trainable, strict=True):
            variable.assign(value)
        return tf.cast(losses, tf.float32), _correct(logits, labels, 1.0)

    def test_step(
        self, images: tf.Tensor, labels: tf.Tensor, is_valid: tf.Tensor
    ) -> LossAndCorrect:
        """Evaluate all members on the same batch; see `SingleModel`."""
        groups = (self._trainable, self._non_trainable)
        members = tuple([variable.value for variable in group] for group in groups)
        logits = _for_each(
            lambda member: self._model.stateless_call(*member, images, training=False)[0], members
        )
        return _evaluate(logits, labels, is_valid)

    def weights(self) -> dict[str, list[np.ndarray]]:
        """Return the weights of each member by key; see `SingleModel`."""
        variables = [*self._model.trainable_variables, *self._model.non_trainable_variables]
        stacked = dict(
            zip(map(id, variables), [*self._trainable, *self._non_trainable], strict=True)
        )
        order = [keras.ops.convert_to_numpy(stacked[id(each)]) for each in self._model.weights]
        return {key: [stack[i] for stack in order] for i, key in enumerate(self.models)}


Learner = SingleModel | Ensemble


def _for_each(call: Callable[..., Any], members: tuple[Any, ...]) -> Any:  # noqa: ANN401 - tensors
    """Map `call` over the first axis, vectorized, never with a loop."""
    return tf.vectorized_map(call, members, fallback_to_while_loop=False)


def _stack(members: Sequence[Sequence[keras.Variable]]) -> list[keras.Variable]:
    """Stack the variables of all members along a new first axis."""
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
    """Return an optimizer of stacked variables; it is elementwise but for the learning rates."""
    kind = _OPTIMIZERS[settings[0].optimizer]
    rates = [each.lr for each in settings]
    if len(set(rates)) == 1:
        return kind(learning_rate=rates[0])

    class RatePerMember(kind):  # type: ignore[misc, valid-type] # a class chosen at run time
        """Gives each member its own learning rate."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: ANN401 - tensors
            shape = [-1, *[1] * (len(variable.shape) - 1)]
            own = keras.ops.reshape(keras.ops.convert_to_tensor(rates, learning_rate.dtype), shape)
            super().update_step(gradient, variable, own)

    return RatePerMember(learning_rate=rates[0])


def _evaluate(logits: tf.Tensor, labels: tf.Tensor, is_valid: tf.Tensor) -> LossAndCorrect:
    """Return summed losses and correct predictions for logits `[members, batch, 10]`."""
    labels = tf.broadcast_to(labels, tf.shape(logits)[:-1])
    losses = tf.cast(_cross_entropy(labels, logits), tf.float32)
    # Not a multiplication by 0, which would keep the infinite loss of an example of the padding.
    losses = tf.reduce_sum(tf.where(is_valid, losses, 0.0), axis=-1)
    return losses, _correct(logits, labels, tf.cast(is_valid, tf.float32))


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _correct(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
    """Count correct predictions per member; a NaN or infinite one is never correct."""
    correct = (tf.argmax(logits, axis=-1, output_type=tf.int64) == labels) & tf.reduce_all(
        tf.math.is_finite(logits), axis=-1
    )
    return tf.reduce_sum(tf.cast(correct, tf.float32) * weights, axis=-1)
