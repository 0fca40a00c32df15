"""How far the predictions of two models agree on the same samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbn.common.wording import percent, plural
from kerasbn.folding.rounding import relative_difference

Arrays = list[NDArray[Any]]
Predict = Callable[[Arrays], Sequence[NDArray[Any]]]

# The numbers in the inputs of a batch, in about: 256 digits, but only a few photographs.
_BATCH = 600_000


@dataclass(frozen=True)
class Agreement:
    """Differences between the outputs of two models, a changed one and the original.

    Attributes:
        samples: The number of samples they were compared on.
        absolute: The largest difference.
        relative: The same, relative to the largest value of each output.
        changed: The number of predictions (argmax over the last axis) that differ.
        predictions: The number of predictions compared.
    """

    samples: int
    absolute: float
    relative: float
    changed: int
    predictions: int

    def line(self, other: str, *, given: bool) -> str:
        """Return the differences from the model called `other`, on given or on random samples."""
        kind = "given sample" if given else "random sample"
        found = (
            f"difference from {other} on {plural(self.samples, kind)}: at most "
            f"{self.absolute:.1e}, relative {self.relative:.1e}"
        )
        if not self.predictions:
            return found
        equal = self.predictions - self.changed
        share = percent(equal / self.predictions)
        return f"{found}; {equal:,} of {self.predictions:,} predictions are equal ({share})"


def measure_agreement(got: Arrays, want: Arrays, samples: int) -> Agreement:
    """Compare the outputs of a changed model with those of the original on so many samples."""
    pairs = list(zip(got, want, strict=True))
    classes = [(a.argmax(-1), b.argmax(-1)) for a, b in pairs if a.ndim > 1 and a.shape[-1] > 1]
    gaps = [np.abs(a.astype(np.float64) - b.astype(np.float64)) for a, b in pairs]
    return Agreement(
        samples=samples,
        absolute=max(float(gap.max(initial=0)) for gap in gaps),
        relative=relative_difference(got, want),
        changed=sum(int((a != b).sum()) for a, b in classes),
        predictions=sum(a.size for a, _ in classes),
    )


def in_batches(predict: Predict, inputs: Arrays, size: int | None = None) -> Arrays:
    """Return the outputs for all samples, computed in batches of a fixed size or a suitable one."""
    step = size or batch_size(inputs)
    if size is None and len(inputs[0]) <= step:
        return list(predict(inputs))
    made = []
    for start in range(0, len(inputs[0]), step):
        left = [array[start:] for array in inputs]
        made.append([output[: len(left[0])] for output in predict(first_batch(left, size))])
    return [np.concatenate(outputs) for outputs in zip(*made, strict=True)]


def first_batch(inputs: Arrays, size: int | None = None) -> Arrays:
    """Return the first samples; where a fixed `size` is more than there are, repeatedly."""
    if size:
        return [np.resize(array[:size], (size, *array.shape[1:])) for array in inputs]
    return [array[: batch_size(inputs)] for array in inputs]


def batch_size(inputs: Arrays) -> int:
    """Return how many samples are computed together."""
    return max(4, int(_BATCH // max(array[0].size for array in inputs)))
