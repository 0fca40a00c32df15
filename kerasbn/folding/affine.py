"""The affine map ``y = s*x + t`` and its algebra. Needs only NumPy.

`s` and `t` belong to a tensor without its batch axis. They have as many axes as the tensor. Each
axis has the tensor's length, or length 1 where the values are equal along it: for an image with C
channels, per-channel values have the shape (1, 1, C). Everything is in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_ROUNDED = 4 * np.finfo(np.float64).eps
Shape = tuple[int | None, ...]  # None is a length that is not known before the model runs


class CannotFold(Exception):  # noqa: N818 - a reason in the plan, never an error that a user sees
    """An affine map cannot be folded here. The message is a clause that says why."""


@dataclass(frozen=True, eq=False)
class Affine:
    """``x -> s*x + t``. `s` and `t` have the same shape. Created by `affine`."""

    s: Array
    t: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `s` and `t`."""
        return self.s.shape

    def map(self, change: Callable[[Array], Array]) -> "Affine":
        """Rearrange `s` and `t` alike, e.g. by a transpose or a slice."""
        return Affine(change(self.s), change(self.t))

    def is_identity(self) -> bool:
        """Return whether s = 1 and t = 0; s may be off by the rounding of a c/c."""
        return self.only_scales() and bool((np.abs(self.s - 1) < _ROUNDED).all())

    def only_scales(self) -> bool:
        """Return whether t = 0."""
        return not self.t.any()

    def keeps_order(self) -> bool:
        """Return whether s >= 0, so that a larger x never gives a smaller y."""
        return bool((self.s >= 0).all())

    def varies_along(self, axis: int) -> bool:
        """Return whether `s` or `t` may differ along an axis."""
        return self.shape[axis] != 1


def affine(s: ArrayLike, t: ArrayLike) -> Affine:
    """Return ``x -> s*x + t``, with `s` and `t` broadcast. Raises `CannotFold` if not finite."""
    s, t = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(t, np.float64))
    if not (np.isfinite(s).all() and np.isfinite(t).all()):
        raise CannotFold("its statistics are not finite")
    return Affine(s, t)


def identity(rank: int) -> Affine:
    """Return ``x -> x`` for tensors with `rank` axes besides the batch axis."""
    return affine(np.ones((1,) * rank), 0.0)


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return ``x -> outer(inner(x))``: s = s2*s1, t = s2*t1 + t2."""
    return affine(outer.s * inner.s, outer.s * inner.t + outer.t)


def same(a: Affine, b: Affine) -> bool:
    """Return whether two maps are equal, value by value, whatever shapes they are stored in."""
    if len(a.shape) != len(b.shape):
        return False
    if any(m != n and 1 not in (m, n) for m, n in zip(a.shape, b.shape, strict=True)):
        return False
    return bool(np.all(a.s == b.s) and np.all(a.t == b.t))


def expand(a: Affine, shape: Sequence[int | None]) -> Affine:
    """Return `a` with its values repeated to the full shape of its tensor. Raises `CannotFold`."""
    if None in shape:
        raise CannotFold("has an input with an axis of unknown length")
    return a.map(lambda values: np.broadcast_to(values, [n or 1 for n in shape]))


def compress(a: Affine) -> Affine:
    """Return `a` with length 1 along each axis where its values are equal."""
    for axis in range(len(a.shape)):
        first = Affine(a.s.take([0], axis), a.t.take([0], axis))
        if same(a, first):
            a = first
    return a


def join(parts: Sequence[Affine], lengths: Sequence[int | None], axis: int) -> Affine:
    """Return the map of a concatenation along `axis` of tensors with the given lengths."""
    if not any(part.varies_along(axis) for part in parts) and all(
        same(part, parts[0]) for part in parts
    ):
        return parts[0]
    if None in lengths:
        raise CannotFold("concatenates axes of unknown length")
    others = np.broadcast_shapes(*[part.s.take([0], axis).shape for part in parts])
    wide = [
        expand(part, [*others[:axis], n, *others[axis + 1 :]])
        for part, n in zip(parts, lengths, strict=True)
    ]
    s, t = [a.s for a in wide], [a.t for a in wide]
    return Affine(np.concatenate(s, axis), np.concatenate(t, axis))


def split(a: Affine, lengths: Sequence[int | None], axis: int) -> list[Affine]:
    """Return the slice of `a` for each part of a concatenation, the inverse of `join`."""
    if not a.varies_along(axis):
        return [a for _ in lengths]
    if None in lengths:
        raise CannotFold("concatenates axes of unknown length")
    ends = np.cumsum([n or 0 for n in lengths])[:-1]
    s, t = np.split(a.s, ends, axis), np.split(a.t, ends, axis)
    return [Affine(*pair) for pair in zip(s, t, strict=True)]
