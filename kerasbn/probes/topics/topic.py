"""What a probe topic is: one aspect of training that is recorded, drawn and described."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kerasbn.common import wording
from kerasbn.probes.readings import Floats, ProbedRun, Reading

ReadingValue = tuple[
    str, str, str, float
]  # layer, quantity, which, value: a `Reading` without its step


class Landscape(NamedTuple):
    """The loss at the weights W and along the gradient, at W - size * dL/dW for each step size.

    The figures are those of the paper that `kerasbn.probes.landscape` names.
    """

    loss: float  # L(W)
    gradient: float  # Euclidean norm of dL/dW over all trainable weights
    losses: dict[float, float]  # L after each step, by step size: Figure 4(a) shows their range
    # Euclidean distance between the gradients before and after each step, by step size
    # (Figure 4(b), "gradient predictiveness").
    changes: dict[float, float]
    # The largest ratio of change to length of the step (Figure 4(c), "effective beta-smoothness").
    # The smaller, the smoother.
    smoothness: float


class Shift(NamedTuple):
    """How much the gradient of one layer's kernel changes when the layers before it take a step.

    The internal covariate shift of the same paper (definition 2.1): G is the gradient with respect
    to the layer's own weights before a training step, G' the same after only the layers before it
    have taken that step.
    """

    distance: float  # ||G - G'||
    relative: float  # ||G - G'|| / ||G||
    cosine: float  # of the angle between G and G': 1 if only the gradient's norm changed


class BNSnapshot(NamedTuple):
    """The inputs of a BN layer, `[examples, units]`, and its weights, `[units]`."""

    name: str
    epsilon: float
    inputs: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    moving_mean: np.ndarray
    moving_variance: np.ndarray


class LayerSnapshot(NamedTuple):
    """What one layer computes in training mode. Arrays are `[examples, units]`, except the kernel.

    Gradients are those of the mean loss.
    """

    name: str  # of the Dense layer
    activation: str  # name of the function; empty if there is none
    bn: BNSnapshot | None
    kernel: np.ndarray  # of the Dense layer, `[inputs, units]`
    kernel_gradient: float  # Euclidean norm
    preactivation: np.ndarray  # input of the activation; the logits, in the last layer
    activated: np.ndarray  # output of the activation
    output: np.ndarray  # input of the next layer
    gradient: np.ndarray  # with respect to the pre-activation


class Snapshot(NamedTuple):
    """A model after some training steps, as one probe sees it."""

    step: int
    layers: Sequence[LayerSnapshot]
    landscape: Landscape


@dataclass(frozen=True)
class Finding:
    """What the probes show about one topic: a short claim, and details for report and JSON."""

    topic: str
    title: str
    claim: str
    details: str = ""


class Topic(ABC):
    """One aspect of training: what is recorded of it, how it is drawn and what the data says.

    While a model trains, the recorder makes one instance and calls the first three methods.
    Afterwards `draw` and `describe` get recorded runs: one, or two to compare.
    """

    name: ClassVar[str]  # part of the picture's file name, and key of the finding
    title: ClassVar[str]  # heading of the finding
    caption: ClassVar[str]  # what the picture shows

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:  # noqa: ARG002 - for subclasses
        """Return what to record at a probe."""
        return ()

    def measure_step(self, shifts: Mapping[str, Shift]) -> Iterable[ReadingValue]:  # noqa: ARG002
        """Return what to record of the step after a probe, given covariate shifts by layer."""
        return ()

    def finish(self) -> Iterable[Reading]:
        """Return readings that depend on all probes, at the end of training."""
        return ()

    @abstractmethod
    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        """Return the picture, or None if there is nothing to show."""

    @abstractmethod
    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        """Return the finding, or None if there is nothing to say."""

    def finding(
        self, claims: Sequence[str], details: Sequence[str] = (), title: str = ""
    ) -> Finding | None:
        """Return a finding on this topic, each clause as a sentence; None without any claim."""
        claim, detail = (" ".join(map(wording.sentence, each)) for each in (claims, details))
        return Finding(self.name, title or self.title, claim, detail) if claims else None


def moments(values: np.ndarray) -> tuple[Floats, Floats]:
    """Return mean and variance of each unit over the examples."""
    values = values.astype(np.float64)
    return values.mean(0), values.var(0)


def layer_sd(variance: Floats) -> float:
    """Return the standard deviation over examples in a layer: sqrt(mean variance of its units)."""
    return float(np.sqrt(variance.mean()))
