"""The affine map ``y = s*x + t`` and what may be done with it; numpy alone.

`s` and `t` belong to a tensor without its batch axis: they have the tensor's number of axes, each
either as long as the tensor's or 1 (the same all along that axis). Per channel of a picture they
have the shape (1, 1, C). All in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class CannotFold(Exception):  # noqa: N818 - a reason in the plan, never an error that a user sees
    """An affine map cannot be folded here. The message is a clause that says why."""


@dataclass(frozen=True, eq=False)
class Affine:
    """``x -> s*x + t``; `s` and `t` have one shape. Make one with `affine`."""

    s: Array
    t: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of `s` and `t`."""
        return self.s.shape

    def map(self, change: Callable[[Array], Array]) -> "Affine":
        """The affine whose `s` and `t` are rearranged alike, as by a transpose or a slice."""
        return Affine(change(self.s), change(self.t))

    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.only_scales() and bool((self.s == 1).all())

    def only_scales(self) -> bool:
        """Whether t = 0."""
        return not self.t.any()

    def keeps_order(self) -> bool:
        """Whether s >= 0 everywhere, so that a larger x never gives a smaller y."""
        return bool((self.s >= 0).all())

    def varies_along(self, axis: int) -> bool:
        """Whether `s` or `t` differs along that axis."""
        return self.shape[axis] != 1


def affine(s: ArrayLike, t: ArrayLike) -> Affine:
    """``x -> s*x + t`` from anything that broadcasts to one shape.

    Raises:
        CannotFold: if a number is not finite.
    """
    s, t = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(t, np.float64))
    if not (np.isfinite(s).all() and np.isfinite(t).all()):
        raise CannotFold("its statistics are not finite numbers")
    return Affine(s, t)


def identity(rank: int) -> Affine:
    """``x -> x`` for tensors of `rank` axes besides the batch."""
    return affine(np.ones((1,) * rank), 0.0)


def compose(outer: Affine, inner: Affine) -> Affine:
    """``x -> outer(inner(x))``: s = s2*s1, t = s2*t1 + t2."""
    return affine(outer.s * inner.s, outer.s * inner.t + outer.t)


def same(a: Affine, b: Affine) -> bool:
    """Whether both are the same map, number by number."""
    if len(a.shape) != len(b.shape):
        return False
    return bool(np.all(a.s == b.s) and np.all(a.t == b.t)) if _broadcast(a, b) else False


def _broadcast(a: Affine, b: Affine) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape, b.shape, strict=True))


def spread(a: Affine, lengths: Sequence[int | None]) -> Affine:
    """`a` written out to the full shape of its tensor.

    Raises:
        CannotFold: if a length is not known.
    """
    if None in lengths:
        raise CannotFold("its input has an axis of unknown length")
    return a.map(lambda values: np.broadcast_to(values, [n or 1 for n in lengths]))


def tight(a: Affine) -> Affine:
    """`a` with length 1 along every axis where neither `s` nor `t` differs."""
    for axis, n in enumerate(a.shape):
        first = a.map(lambda values, axis=axis: values.take([0], axis))  # type: ignore[misc] # mypy cannot infer a lambda's default
        if n > 1 and np.all(a.s == first.s) and np.all(a.t == first.t):
            a = first
    return a


def join(parts: Sequence[Affine], lengths: Sequence[int | None], axis: int) -> Affine:
    """The affine of a concatenation: part after part along `axis`, of the given lengths."""
    if not any(part.varies_along(axis) for part in parts) and all(
        same(part, parts[0]) for part in parts
    ):
        return parts[0]
    if None in lengths:
        raise CannotFold("it joins axes of unknown length")
    shape = np.broadcast_shapes(
        *[tuple(1 if k == axis else n for k, n in enumerate(part.shape)) for part in parts]
    )

    def full(part: Affine, n: int | None) -> Affine:
        wide = [n or 1 if k == axis else m for k, m in enumerate(shape)]
        return part.map(lambda values: np.broadcast_to(values, wide))

    wide = [full(part, n) for part, n in zip(parts, lengths, strict=True)]
    return Affine(
        np.concatenate([part.s for part in wide], axis),
        np.concatenate([part.t for part in wide], axis),
    )


def split(a: Affine, lengths: Sequence[int | None], axis: int) -> list[Affine]:
    """The inverse of `join`: each part's slice of `a` along `axis`."""
    if not a.varies_along(axis):
        return [a for _ in lengths]
    if None in lengths:
        raise CannotFold("it joins axes of unknown length")
    ends = np.cumsum([n or 0 for n in lengths])[:-1]
    s, t = np.split(a.s, ends, axis), np.split(a.t, ends, axis)
    return [Affine(*pair) for pair in zip(s, t, strict=True)]
