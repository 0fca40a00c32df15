"""What each tap of a convolution kernel sees along an axis, and the map that it sees there.

Along an axis, tap u of a kernel multiplies, for output o, the value at the position ``seen[u, o]``.
A map before the convolution can be folded into the kernel where it is equal at all positions that
a tap sees. Padded zeros are zero under any s, and have t = 0. So a map may vary along the axis if,
for example, the kernel sees all positions at once, with a tap for each of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbn.folding.affine import Affine, CannotFold

Indices = NDArray[np.int64]
SHARED = "shares its kernel along an axis where s and t vary"
_PADS = "pads its input with zeros, which would miss the offset t"
_OVERLAPS = "applies other kernel taps at each position, so t would not be the same everywhere"


@dataclass(frozen=True, eq=False)
class Window:
    """An axis that a kernel moves along: the name of its taps, and what they see.

    Where the length is not known, `seen` only tells whether all taps always see some position.
    """

    letter: str
    length: int | None  # of the input
    seen: Indices  # of shape (taps, outputs), -1 where a tap sees no position
    uneven: str  # why t cannot be folded where not all outputs see the same

    def at_taps(self, a: Affine, axis: int) -> Affine:
        """Return the map that each tap sees, in the place of an axis. Raises `CannotFold`."""
        empty = self.seen < 0
        varies = a.varies_along(axis)
        if not varies and (a.only_scales() or not empty.any()):
            return a
        if varies and a.shape[axis] != self.length:
            raise CannotFold(SHARED)
        places = np.where(empty, 0, self.seen) if varies else np.zeros_like(self.seen)
        s, t = (np.moveaxis(values, axis, -1)[..., places] for values in (a.s, a.t))
        t = np.where(empty, 0.0, t)
        first = np.argmax(~empty, axis=1)
        one = s[..., np.arange(len(first)), first], t[..., 0]
        if not ((s == one[0][..., None]) | empty).all() or not (t == one[1][..., None]).all():
            raise CannotFold(SHARED if varies else self.uneven)
        return Affine(*(np.moveaxis(values, -1, axis) for values in one))


@dataclass(frozen=True)
class Steps:
    """How a kernel moves along an axis. What "same" padding adds is not known beforehand."""

    taps: int
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] | None = None
    lower: bool = False  # whether "same" padding adds an odd zero before the input, not after it
    more: int = 0  # positions that a transposed convolution adds at the end


def convolution(letter: str, lengths: tuple[int | None, int | None], steps: Steps) -> Window:
    """Return what a convolution sees. `lengths` are those of its input and its output."""
    n, m = lengths
    reach = (steps.taps - 1) * steps.dilation
    if n is None or m is None:
        padded = any(steps.pads) if steps.pads else reach > 0
        return Window(letter, None, _unknown(steps.taps, padded), _PADS)
    output, tap = np.arange(m), np.arange(steps.taps)[:, None]
    at = output * steps.stride + tap * steps.dilation - _before(steps, (m - 1, n))
    return Window(letter, n, np.where((at >= 0) & (at < n), at, -1), _PADS)


def transposed(letter: str, lengths: tuple[int | None, int | None], steps: Steps) -> Window:
    """Return the same for a transposed convolution, whose `pads` are cut off."""
    n, m = lengths
    if n is None or m is None:
        return Window(
            letter, None, _unknown(steps.taps, steps.taps > 1 or steps.stride > 1), _OVERLAPS
        )
    output, tap = np.arange(m), np.arange(steps.taps)[:, None]
    at = output + _before(steps, (n - 1, m - steps.more)) - tap * steps.dilation
    at, rest = np.divmod(at, steps.stride)
    return Window(letter, n, np.where((rest == 0) & (at >= 0) & (at < n), at, -1), _OVERLAPS)


def _before(steps: Steps, ends: tuple[int, int]) -> int:
    """Return how much is padded, or cut off, before the first position."""
    if steps.pads:
        return steps.pads[0]
    last, length = ends
    total = max(0, last * steps.stride + (steps.taps - 1) * steps.dilation + 1 - length)
    return total - total // 2 if steps.lower else total // 2


def _unknown(taps: int, uneven: bool) -> Indices:
    return np.tile([0, -1] if uneven else [0], (taps, 1))
