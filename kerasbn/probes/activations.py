"""A model opened up: the inputs, outputs and gradients of every layer, for any weights.

A layer here is a Dense layer together with the BN and activation layers that follow it. Its
*pre-activation* is the input of its activation: the output of BN if BN comes before the activation,
else the output of Dense.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import Split
from kerasbn.probes.readings import LayerNames
from kerasbn.probes.topics.topic import BNSnapshot, LayerSnapshot

Weights = list[np.ndarray]


class Block(NamedTuple):
    """A Dense layer and the layers that follow it, up to the next Dense layer."""

    dense: keras.layers.Dense
    bn: keras.layers.BatchNormalization | None = None
    activation: keras.layers.Layer | None = None

    @property
    def names(self) -> LayerNames:
        """The names of the layers."""
        return LayerNames(self.dense.name, self.bn.name if self.bn else None)

    @property
    def activation_name(self) -> str:
        """The name of the activation function, such as ``relu``; empty if there is none."""
        if isinstance(self.activation, keras.layers.ReLU):
            return "relu"
        return str(self.activation.activation.__name__) if self.activation else ""

    def tensors(self) -> list[Any]:
        """Return the output of Dense, the inputs of BN and activation, and their outputs.

        Where a layer is missing, its input stands for its output.
        """
        bn, activation, dense = self.bn, self.activation, self.dense.output
        bn_input = bn.input if bn else dense
        last = bn.output if bn else dense
        if activation is None:
            return [bn_input, last, last, last]
        if bn is None or bn.input is not activation.output:  # BN comes before the activation
            last = activation.output
        return [bn_input, activation.input, activation.output, last]


def blocks_of(model: keras.Model) -> list[Block]:
    """Return the blocks of an MLP in order; the last one computes the logits."""
    blocks: list[Block] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            blocks.append(Block(layer))
        elif isinstance(layer, keras.layers.BatchNormalization):
            blocks[-1] = blocks[-1]._replace(bn=layer)
        elif isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            blocks[-1] = blocks[-1]._replace(activation=layer)
    return blocks


class ActivationProbe:
    """Runs examples through a model with any weights; the model's own weights stay unchanged.

    Args:
        model: An MLP as `kerasbn.training.models.mlp` builds it.
        examples: What it is evaluated on, as one batch in training mode: BN normalizes with their
            statistics.
    """

    def __init__(self, model: keras.Model, examples: Split) -> None:
        self.blocks = blocks_of(model)
        inner = [tensor for block in self.blocks for tensor in block.tensors()]
        self._model = keras.Model(model.input, inner)
        self._images = tf.constant(examples.images)
        self._labels = tf.constant(examples.labels.astype(np.int64))
        self._order = WeightOrder(model, self._model)
        self._index = {id(variable): i for i, variable in enumerate(model.weights)}
        self._evaluate = tf.function(self._tensors_and_gradients, autograph=False)

    def snapshot(self, weights: Weights) -> list[LayerSnapshot]:
        """Return what each layer computes with the given weights, as `get_weights` orders them."""
        tensors, gradients, norms = self._evaluate(*self._order.split(weights))
        found = []
        for i, block in enumerate(self.blocks):
            bn_input, preactivation, activated, output = (
                each.numpy() for each in tensors[4 * i : 4 * i + 4]
            )
            bn = self._bn_snapshot(block.bn, bn_input, weights) if block.bn else None
            kernel = weights[self._index[id(block.dense.kernel)]]
            gradient, norm = gradients[i].numpy(), float(norms[i])
            found.append(
                LayerSnapshot(
                    block.dense.name, block.activation_name, bn, kernel,
                    preactivation, activated, output, gradient, norm,
                )
            )  # fmt: skip
        return found

    def _bn_snapshot(
        self, bn: keras.layers.BatchNormalization, inputs: np.ndarray, weights: Weights
    ) -> BNSnapshot:
        variables = (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
        values = [weights[self._index[id(variable)]] for variable in variables]
        return BNSnapshot(bn.name, bn.epsilon, inputs, *values)

    def _tensors_and_gradients(self, trainable: Any, others: Any) -> Any:  # noqa: ANN401 - tensors
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            tensors, _ = self._model.stateless_call(trainable, others, self._images, training=True)
            loss = mean_loss(self._labels, tensors[-1])
        kernels = [trainable[self._order.index(block.dense.kernel)] for block in self.blocks]
        gradients = tape.gradient(loss, [*tensors[1::4], *kernels])
        count = len(self.blocks)
        return tensors, gradients[:count], [tf.norm(each) for each in gradients[count:]]


class WeightOrder:
    """Maps the weights of a model to the variables of another model made of the same layers."""

    def __init__(self, model: keras.Model, other: keras.Model) -> None:
        places = {id(variable): i for i, variable in enumerate(model.weights)}
        self._trainable = [places[id(variable)] for variable in other.trainable_variables]
        self._others = [places[id(variable)] for variable in other.non_trainable_variables]
        self._within = {id(variable): i for i, variable in enumerate(other.trainable_variables)}

    def split(self, weights: Sequence[np.ndarray]) -> tuple[Weights, Weights]:
        """Return trainable and non-trainable weights, as `stateless_call` takes them."""
        return [weights[i] for i in self._trainable], [weights[i] for i in self._others]

    def index(self, variable: keras.Variable) -> int:
        """Return the index of a variable among the trainable ones."""
        return self._within[id(variable)]


def mean_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the mean cross entropy of logits `[..., classes]` for labels `[...]`."""
    return tf.reduce_mean(
        keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    )
