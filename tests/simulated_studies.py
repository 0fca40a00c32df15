"""Test accuracies of many simulated studies with and without BN, whose true means are known."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STUDIES = 4000
SEEDS = (3, 5, 8, 32)  # two have no interval

Accuracies = NDArray[np.float64]  # (studies, seeds)
Draw = Callable[[np.random.Generator, tuple[int, int]], Accuracies]


class Kind(NamedTuple):
    """Models of one kind: how their accuracies are drawn, and the mean of these."""

    draw: Draw
    mean: float


def normal(mean: float, sd: float) -> Kind:
    return Kind(lambda rng, size: rng.normal(mean, sd, size), mean)


def skewed(error: float) -> Kind:
    """A test error with a gamma distribution of skewness 1."""
    return Kind(lambda rng, size: 1 - error * rng.gamma(4, 1 / 4, size), 1 - error)


def very_skewed(error: float) -> Kind:
    """A log-normal test error: now and then one several times as large as usual."""
    mean = error * np.exp(1 / 2)
    return Kind(lambda rng, size: 1 - error * rng.lognormal(0, 1, size), 1 - mean)


def counted(mean: float, images: int) -> Kind:
    """A share of correct images, which is a multiple of 1 / images."""
    return Kind(lambda rng, size: rng.binomial(images, mean, size) / images, mean)


class Scenario(NamedTuple):
    """What a study draws from; `luck` is the standard deviation of what a seed does to both."""

    with_bn: Kind
    without_bn: Kind
    images: int = 10_000
    luck: float = 0.0

    @property
    def difference(self) -> float:
        """The true difference, with BN minus without."""
        return self.with_bn.mean - self.without_bn.mean


DIFFERENT = {
    "normal": Scenario(normal(0.97, 0.002), normal(0.955, 0.002)),
    "unequal variances": Scenario(normal(0.95, 0.0005), normal(0.7, 0.05)),
    "seeds act on both": Scenario(normal(0.97, 0.001), normal(0.965, 0.002), luck=0.02),
    "skewed": Scenario(skewed(0.02), skewed(0.04)),
    "skewed, one side": Scenario(skewed(0.03), normal(0.96, 0.002)),
    "few images": Scenario(counted(0.95, 100), counted(0.9, 100), images=100),
}
# With 3 seeds, all three pairs often differ by the same number of images.
NEAR_ONE = {
    "one error": Scenario(counted(0.9995, 1000), counted(0.999, 1000), images=1000),
    "no error": Scenario(counted(0.9999, 1000), counted(0.9995, 1000), images=1000),
}
EQUAL = {
    "normal": Scenario(normal(0.97, 0.002), normal(0.97, 0.002)),
    "unequal variances": Scenario(normal(0.95, 0.0005), normal(0.95, 0.01)),
    "seeds act on both": Scenario(normal(0.97, 0.001), normal(0.97, 0.002), luck=0.02),
    "skewed": Scenario(skewed(0.03), skewed(0.03)),
    "very skewed": Scenario(very_skewed(0.03), very_skewed(0.03)),
    "near one": Scenario(counted(0.9995, 1000), counted(0.9995, 1000), images=1000),
    "few images": Scenario(counted(0.95, 100), counted(0.95, 100), images=100),
}


def simulate(
    scenario: Scenario, seeds: int, studies: int = STUDIES
) -> tuple[Accuracies, Accuracies]:
    """Accuracies with and without BN, always the same for the same arguments."""
    rng, size = np.random.default_rng(seeds), (studies, seeds)
    luck = scenario.luck * rng.normal(size=size)
    with_bn, without_bn = (kind.draw(rng, size) + luck for kind in scenario[:2])
    return with_bn, without_bn
