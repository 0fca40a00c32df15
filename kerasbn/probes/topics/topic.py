"""What a probe topic is: one aspect of training that is recorded, drawn and described."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kerasbn.common import wording
from kerasbn.probes.readings import Floats, ProbedRun, Reading

Value = tuple[str, str, str, float]  # layer, quantity, which, value: a `Reading` without its step


class Landscape(NamedTuple):
    """The loss at the weights W and along the gradient, at W - size * dL/dW for each step size.

    The figures are those of the paper that `kerasbn.probes.landscape` names.

    Attributes:
        loss: L(W).
        gradient: Euclidean norm of dL/dW over all trainable weights.
        losses: L after each step, by step size (Figure 4(a) of the paper shows their range).
        changes: Euclidean distance between the gradients before and after each step, by step size
            (Figure 4(b), "gradient predictiveness").
        smoothness: The largest ratio of change to length of the step (Figure 4(c), "effective
            beta-smoothness"). The smaller, the smoother.
    """

    loss: float
    gradient: float
    losses: dict[float, float]
    changes: dict[float, float]
    smoothness: float


class Shift(NamedTuple):
    """How much the gradient of one layer's kernel changes when the layers before it take a step.

    The internal covariate shift of the same paper (definition 2.1): G is the gradient with respect
    to the layer's own weights before a training step, G' the same after only the layers before it
    have taken that step.

    Attributes:
        distance: ||G - G'||.
        relative: ||G - G'|| / ||G||.
        cosine: Cosine of the angle between G and G': 1 if only the gradient's norm changed.
    """

    distance: float
    relative: float
    cosine: float


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

    Attributes:
        name: Name of the Dense layer.
        activation: Name of the activation function; empty if there is none.
        bn: Its BN layer, if any.
        kernel: Kernel of the Dense layer, `[inputs, units]`.
        kernel_gradient: Euclidean norm of the gradient of the mean loss with respect to it.
        preactivation: Input of the activation; the logits, in the last layer.
        activated: Output of the activation.
        output: Input of the next layer.
        gradient: Gradient of the mean loss with respect to the pre-activation.
    """

    name: str
    activation: str
    bn: BNSnapshot | None
    kernel: np.ndarray
    kernel_gradient: float
    preactivation: np.ndarray
    activated: np.ndarray
    output: np.ndarray
    gradient: np.ndarray


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

    Attributes:
        name: Part of the picture's file name, and key of the finding.
        title: Heading of the finding.
        caption: What the picture shows.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    caption: ClassVar[str]

    def measure(self, now: Snapshot) -> Iterable[Value]:  # noqa: ARG002 - for subclasses
        """Return what to record at a probe."""
        return ()

    def measure_step(self, shifts: Mapping[str, Shift]) -> Iterable[Value]:  # noqa: ARG002
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

    def finding(self, claim: str, details: str = "", title: str = "") -> Finding:
        """Return a finding on this topic; the claim gets a capital and a full stop."""
        return Finding(self.name, title or self.title, wording.sentence(claim), details)


def moments(values: np.ndarray) -> tuple[Floats, Floats]:
    """Return mean and variance of each unit over the examples."""
    values = values.astype(np.float64)
    return values.mean(0), values.var(0)


def layer_sd(variance: Floats) -> float:
    """Return the standard deviation over examples in a layer: sqrt(mean variance of its units)."""
    return float(np.sqrt(variance.mean()))


def label(run: ProbedRun, runs: Sequence[ProbedRun]) -> str:
    """Return what tells a run from the others: "with BN", "without BN", or "in NAME"."""
    if len({each.bn for each in runs}) == len(runs):
        return "with BN" if run.bn else "without BN"
    return f"in {run.name}"


def by_run(runs: Sequence[ProbedRun], texts: Sequence[str], noun: str = "") -> str:
    """Return a text for each run, without empty ones: "20% with BN and 30% without BN".

    A noun follows the first text: "20% of the units with BN and 30% without BN".
    """
    pairs = [(text, label(run, runs)) for run, text in zip(runs, texts, strict=True) if text]
    nouns = [f" {noun}" if noun else "", ""]
    return wording.listed([f"{text}{nouns[i > 0]} {name}" for i, (text, name) in enumerate(pairs)])


def amount(value: float, of: str = "") -> str:
    """Return a ratio as ``7.7%`` or, from 10 on, ``12 times``; nothing if it is not finite."""
    if not np.isfinite(value):
        return ""
    return f"{wording.number(100 * value, 2)}%" if value < 10 else f"{wording.times(value)}{of}"


def extent(values: Iterable[float]) -> str:
    """Return the range of the finite values: "0.5 to 2", or "1" if both ends round to that."""
    finite = [value for value in values if np.isfinite(value)]
    ends = [wording.number(end(finite), 2) for end in (min, max)] if finite else []
    return " to ".join(dict.fromkeys(ends))


def at_the_end(runs: Sequence[ProbedRun]) -> str:
    """Return when the last finite readings were taken."""
    return "at the last finite probe" if any(run.diverged for run in runs) else "at the end"


def pair_of(runs: Sequence[ProbedRun], values: Sequence[float]) -> tuple[float, float] | None:
    """Return the values with and without BN, if these are two runs that differ in it."""
    if len(runs) != 2 or runs[0].bn == runs[1].bn or not np.isfinite(values).all():
        return None
    return (values[0], values[1]) if runs[0].bn else (values[1], values[0])
