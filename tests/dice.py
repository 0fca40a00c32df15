"""Random choices, all from one seed."""

from typing import Any

import numpy as np


class Dice:
    """Choices, all from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def one(self, options: list[Any]) -> Any:
        return options[self.random.integers(len(options))]

    def chance(self, p: float) -> bool:
        return bool(self.random.random() < p)

    def int(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))
