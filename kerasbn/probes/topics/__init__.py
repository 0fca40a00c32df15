"""The topics of probes. To add one, write its class in a module here and list it in `TOPICS`."""

from kerasbn.probes.topics.activations import Inactive, PreActivations, TypicalUnit
from kerasbn.probes.topics.gradients import CovariateShift, Gradients, Smoothness
from kerasbn.probes.topics.statistics import BatchComposition, GammaAndBeta, Statistics
from kerasbn.probes.topics.topic import Topic

TOPICS: tuple[type[Topic], ...] = (
    Gradients, CovariateShift, Smoothness, PreActivations, TypicalUnit, Inactive, Statistics,
    GammaAndBeta, BatchComposition,
)  # fmt: skip
