"""A model opened up: the inputs, outputs and gradients of every layer, for any weights.

A layer here is a Dense layer together with the BN and activation layers that follow it. Its
*pre-activation* is the input of its activation: the output of BN if BN comes before the activation,
else the output of Dense.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import Split
from kerasbn.probes.topics.topic import BNSnapshot, LayerSnapshot

Weights = list[np.ndarray]


@dataclass
class DenseBlock:
    """A Dense layer, the layers that follow it up to the next one, and the output of the last."""

    dense: keras.layers.Dense
    output: Any
    bn: keras.layers.BatchNormalization | None = None
    activation: keras.layers.Layer | None = None

    @property
    def activation_name(self) -> str:
        """The name of the activation function, such as ``relu``; empty if there is none."""
        if isinstance(self.activation, keras.layers.ReLU):
            return "relu"
        return str(self.activation.activation.__name__) if self.activation else ""

    def tensors(self) -> list[Any]:
        """Return the inputs of BN and activation, the activation's output and that of the block.

        Where a layer is missing, the output of the block stands for its tensors.
        """
        activation = self.activation
        inner = [activation.input, activation.output] if activation else [self.output] * 2
        return [self.bn.input if self.bn else self.output, *inner, self.output]


def blocks_of(model: keras.Model) -> list[DenseBlock]:
    """Return the blocks of an MLP in order; the last one computes the logits."""
    blocks: list[DenseBlock] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            blocks.append(DenseBlock(layer, layer.output))
        elif isinstance(layer, keras.layers.BatchNormalization):
            blocks[-1].bn, blocks[-1].output = layer, layer.output
        elif isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            blocks[-1].activation, blocks[-1].output = layer, layer.output
    return blocks


class ActivationProbe:
    """Runs examples through an MLP with any weights; the model's own weights stay unchanged.

    The examples are one batch in training mode: BN normalizes with their statistics.
    """

    def __init__(self, model: keras.Model, examples: Split) -> None:
        self.blocks = blocks_of(model)
        self._model = keras.Model(model.input, [block.tensors() for block in self.blocks])
        self._images = tf.constant(examples.images)
        self._labels = tf.constant(examples.labels.astype(np.int64))
        self._kernels = kernel_indices(model).values()
        self._evaluate = tf.function(self._tensors_and_gradients, autograph=False)

    def snapshot(self, weights: Weights) -> list[LayerSnapshot]:
        """Return what each layer computes with the given weights, as `get_weights` orders them."""
        paths = [variable.path for variable in self._model.weights]
        named = dict(zip(paths, weights, strict=True))
        found = []
        computed = self._evaluate(*split_weights(self._model, weights))
        for block, tensors, gradient, norm in zip(self.blocks, *computed, strict=True):
            bn_input, *others = (each.numpy() for each in (*tensors, gradient))
            bn, kernel = None, named[block.dense.kernel.path]
            if block.bn:
                values = (named[variable.path] for variable in block.bn.weights)
                bn = BNSnapshot(block.bn.name, block.bn.epsilon, bn_input, *values)
            names = block.dense.name, block.activation_name
            found.append(LayerSnapshot(*names, bn, kernel, float(norm), *others))
        return found

    def _tensors_and_gradients(self, trainable: Any, others: Any) -> Any:  # noqa: ANN401 - tensors
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            tensors, _ = self._model.stateless_call(trainable, others, self._images, training=True)
            loss = mean_loss(self._labels, tensors[-1][-1])
        preactivations = [block[1] for block in tensors]
        kernels = [trainable[i] for i in self._kernels]
        gradients, of_kernels = tape.gradient(loss, (preactivations, kernels))
        return tensors, gradients, [tf.norm(each) for each in of_kernels]


def split_weights(model: keras.Model, weights: Weights) -> tuple[Weights, Weights]:
    """Return trainable and other weights, as `stateless_call` takes them."""
    pairs = list(zip(model.weights, weights, strict=True))
    trainable = [value for variable, value in pairs if variable.trainable]
    return trainable, [value for variable, value in pairs if not variable.trainable]


def kernel_indices(model: keras.Model) -> dict[str, int]:
    """Return the index of every Dense kernel among the trainable weights, by the layer's name."""
    indexed = enumerate(variable.path.split("/") for variable in model.trainable_variables)
    return {layer: i for i, (layer, name) in indexed if name == "kernel"}


def mean_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the mean cross entropy of logits `[..., classes]` for labels `[...]`."""
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return tf.reduce_mean(losses)
