"""A network laid open: what enters and leaves each layer, and the gradient that reaches it.

All quantities of one layer that a probe records are defined here, each in a function of its own. A
layer is meant as a block: a Dense with the normalization and the activation that follow it. What
enters the activation is its *pre-activation*; with the normalization before the activation that is
what the normalization gives, otherwise what the Dense gives.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.data.datasets import Split

Floats = NDArray[np.float64]
PERCENTILES = (15, 50, 85)  # as in Figure 1(b, c) of Ioffe and Szegedy (2015)
SPREAD = (0, *PERCENTILES, 100)  # of gamma and beta over the units
NEAR_THE_END = 0.05  # of its range: a sigmoid is saturated so near to 0 or to 1


class Block(NamedTuple):
    """A Dense and what follows it up to the next one."""

    dense: keras.layers.Dense
    norm: keras.layers.BatchNormalization | None = None
    activation: keras.layers.Layer | None = None


class Seen(NamedTuple):
    """What a block did with some digits in training mode; each array is `[digits, units]`.

    Attributes:
        entering: what enters the normalization; None without one.
        preactivation: what enters the activation; the logits, in the last block.
        output: what the next block gets.
        gradient: of the mean loss, with respect to the pre-activation.
        kernel_gradient: Euclidean norm of the gradient of the mean loss with respect to the kernel.
    """

    entering: np.ndarray | None
    preactivation: np.ndarray
    output: np.ndarray
    gradient: np.ndarray
    kernel_gradient: float


def blocks_of(network: keras.Model) -> list[Block]:
    """The blocks of one of the experiment's networks, in order; the last one gives the logits."""
    blocks: list[Block] = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense):
            blocks.append(Block(layer))
        elif isinstance(layer, keras.layers.BatchNormalization):
            blocks[-1] = blocks[-1]._replace(norm=layer)
        elif isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            blocks[-1] = blocks[-1]._replace(activation=layer)
    return blocks


class OpenNetwork:
    """Shows what happens in a network with any weights; its own stay as they are.

    Args:
        network: one of the experiment's networks.
        digits: what it is shown, all as one batch: in training mode the statistics are theirs.
    """

    def __init__(self, network: keras.Model, digits: Split) -> None:
        self.blocks = blocks_of(network)
        inner = [tensor for block in self.blocks for tensor in _tensors(block)]
        self._model = keras.Model(network.input, inner)
        self._images = tf.constant(digits.images)
        self._labels = tf.constant(digits.labels.astype(np.int64))
        self._order = Order(network, self._model)
        self._look = tf.function(self._tensors_and_gradients, autograph=False)

    def look(self, weights: Sequence[np.ndarray]) -> list[Seen]:
        """What each block does with the digits, given weights as `get_weights` gives them."""
        tensors, gradients, norms = self._look(*self._order.parted(weights))
        found = []
        for i, block in enumerate(self.blocks):
            entering, preactivation, output = (each.numpy() for each in tensors[3 * i : 3 * i + 3])
            found.append(
                Seen(
                    entering if block.norm else None, preactivation, output,
                    gradients[i].numpy(), float(norms[i]),
                )
            )  # fmt: skip
        return found

    def _tensors_and_gradients(self, trainable: Any, others: Any) -> Any:  # noqa: ANN401 - tensors
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            tensors, _ = self._model.stateless_call(trainable, others, self._images, training=True)
            loss = mean_loss(self._labels, tensors[-1])
        kernels = [trainable[self._order.place(block.dense.kernel)] for block in self.blocks]
        gradients = tape.gradient(loss, [*tensors[1::3], *kernels])
        count = len(self.blocks)
        return tensors, gradients[:count], [tf.norm(each) for each in gradients[count:]]


class Order:
    """Where the weights of a network are in those of a model made of its layers."""

    def __init__(self, network: keras.Model, model: keras.Model) -> None:
        places = {id(variable): i for i, variable in enumerate(network.weights)}
        self._trainable = [places[id(variable)] for variable in model.trainable_variables]
        self._others = [places[id(variable)] for variable in model.non_trainable_variables]
        self._within = {id(variable): i for i, variable in enumerate(model.trainable_variables)}

    def parted(self, weights: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Trainable weights and the others, as the model's `stateless_call` takes them."""
        return [weights[i] for i in self._trainable], [weights[i] for i in self._others]

    def place(self, variable: keras.Variable) -> int:
        """The place of a variable among the trainable ones."""
        return self._within[id(variable)]


def mean_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The mean cross entropy of logits `[..., classes]` for class numbers `[...]`."""
    return tf.reduce_mean(
        keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    )


def gradient_per_digit(seen: Seen) -> float:
    """How strongly the loss of one digit pulls at the pre-activations of a layer.

    sqrt(n) * ||dL/dZ||, with L the mean loss over n digits and Z their pre-activations: the root
    mean square over digits of the norm of each one's gradient, n * dL/dz. Unlike ||dL/dZ|| it does
    not depend on n.
    """
    # Not np.linalg.norm: its BLAS starts threads, which takes longer than the sum.
    return float(np.sqrt(len(seen.gradient) * np.square(seen.gradient, dtype=np.float64).sum()))


def moments(values: np.ndarray) -> tuple[Floats, Floats]:
    """Mean and variance of each unit over the digits."""
    values = values.astype(np.float64)
    return values.mean(0), values.var(0)


def spread(variance: Floats) -> float:
    """The standard deviation over digits, typical of a layer: sqrt(mean over units of variance)."""
    return float(np.sqrt(variance.mean()))


def dead_share(output: np.ndarray) -> float:
    """The share of a ReLU's units that are 0 for every digit, and so get no gradient from any."""
    return float((output == 0).all(0).mean())


def saturated_share(output: np.ndarray, low: float, high: float) -> float:
    """The share of outputs (over digits and units) within 5 % of an end of the range low..high.

    For a sigmoid that is below 0.05 or above 0.95, for a tanh beyond -0.9 or 0.9; since tanh(x) =
    2 sigmoid(2x) - 1 both mean the same, and there the slope is less than a fifth of its maximum.
    """
    margin = NEAR_THE_END * (high - low)
    return float(((output < low + margin) | (output > high - margin)).mean())


def outside_share(entering: np.ndarray, epsilon: float) -> float:
    """The share of normalized values, before gamma and beta, that are not within -1..1.

    (x - mean) / sqrt(variance + epsilon), with the statistics of these digits. Normalizing gives a
    variance of 1, not a range of 1: of Gaussian values 31.7 % are outside.
    """
    mean, variance = moments(entering)
    return float((np.abs(entering - mean) > np.sqrt(variance + epsilon)).mean())


def moving_against_batch(
    entering: np.ndarray, moving_mean: np.ndarray, moving_variance: np.ndarray, epsilon: float
) -> tuple[float, float]:
    """How far the moving statistics are from those of these digits.

    Root mean square over units of (moving mean - mean) / sqrt(variance + epsilon), and the median
    over units of sqrt((moving variance + epsilon) / (variance + epsilon)): 0 and 1 if they agree.
    """
    mean, variance = moments(entering)
    distance = (moving_mean - mean) / np.sqrt(variance + epsilon)
    ratio = np.sqrt((moving_variance + epsilon) / (variance + epsilon))
    return float(np.sqrt((distance**2).mean())), float(np.median(ratio))


def drift(before: tuple[Floats, Floats], now: tuple[Floats, Floats]) -> tuple[float, float]:
    """How far mean and standard deviation of a layer's inputs moved, in units of their spread.

    sqrt(mean over units of (difference)^2 / mean over units of the variance before), for the mean
    and for the standard deviation: the change in the distribution of a layer's inputs that Ioffe
    and Szegedy (2015, section 2) call internal covariate shift, in its first two moments.
    """
    scale = spread(before[1])
    shift = np.sqrt(((now[0] - before[0]) ** 2).mean())
    stretch = np.sqrt(((np.sqrt(now[1]) - np.sqrt(before[1])) ** 2).mean())
    with np.errstate(divide="ignore", invalid="ignore"):  # inputs that are constant: no figure
        return float(shift / scale), float(stretch / scale)


def typical_unit(medians: np.ndarray) -> int:
    """The unit whose median travelled the median distance: half the layer's moved less.

    Args:
        medians: of each unit's pre-activation at each probe, `[probes, units]`; probes at which
            one is not finite do not count.
    """
    finite = medians[np.isfinite(medians).all(1)]
    travelled = np.abs(np.diff(finite, axis=0)).sum(0)
    return int(np.argsort(travelled, kind="stable")[(len(travelled) - 1) // 2])


def _tensors(block: Block) -> list[Any]:
    """What enters the normalization (or leaves the Dense), the activation, and the next block."""
    norm, activation = block.norm, block.activation
    after = norm.output if norm else block.dense.output
    if activation is None:
        return [norm.input if norm else block.dense.output, after, after]
    last = after if norm and norm.input is activation.output else activation.output
    return [norm.input if norm else block.dense.output, activation.input, last]
