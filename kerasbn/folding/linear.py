"""Fold an affine map into a linear operation: two equations on a kernel with named axes.

A linear operation has a kernel K whose axes are named by letters, and a bias b:

    y[outputs] = sum over the other axes of K of K * x[inputs], + b[outputs]

A map after the operation scales the kernel along its outputs, a map before it along its inputs:

    s*(K x + b) + t = (s*K) x + (s*b + t)
    K (s*x + t) + b = (K*s) x + (b + K t)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_letters
from typing import Literal

import numpy as np

from kerasbn.folding.affine import Affine, Array, CannotFold, Shape, compose, same
from kerasbn.folding.windows import SHARED, Window

Side = Literal["after", "before"]


@dataclass(frozen=True)
class LinearMap:
    """The named axes of a linear operation.

    `inputs` and `outputs` name, for each axis of an incoming or outgoing example, the kernel axes
    that it runs along. Where the kernel is the same all along an axis, the axis has none, "", or a
    name of its own that tells which axis of the output it becomes.
    """

    axes: str  # the names of the kernel's axes, one letter each
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    # Whether x selects one row of the kernel, so that (K + t) x = K x + t.
    one_hot: bool = field(default=False, kw_only=True)
    # Whether the bias may vary along named axes of the output that K does not have, too.
    loose: bool = field(default=False, kw_only=True)
    # The lengths of axes that K x is summed over, though neither K nor the output has them.
    summed: Mapping[str, int | None] = field(default_factory=dict, kw_only=True)
    # The axes of an incoming example that the kernel moves along.
    windows: Mapping[int, Window] = field(default_factory=dict, kw_only=True)
    # The axes of an outgoing example along which groups of positions share the kernel and bias.
    groups: Mapping[int, Window] = field(default_factory=dict, kw_only=True)

    def after(self, k: Array, b: Array, a: Affine) -> tuple[Array, Array]:
        """Return K and b of s*(K x + b) + t = (s*K) x + (s*b + t)."""
        a = self._made(a)
        scaled = k * self._along(k, a.s, self.outputs)
        if self.one_hot:
            return scaled + self._along(k, a.t, self.outputs), b
        return scaled, a.s * b + a.t

    def before(self, k: Array, b: Array, a: Affine) -> tuple[Array, Array]:
        """Return K and b of K (s*x + t) + b = (K*s) x + (b + K t)."""
        a, inputs = self._seen(a)
        return k * self._along(k, a.s, inputs), b + self._product(k, a.t, inputs)

    def check(self, a: Affine, side: Side) -> None:
        """Raise `CannotFold` if K or b would have to vary along an axis that it has not."""
        a, names = (self._made(a), self.outputs) if side == "after" else self._seen(a)
        for axis, name in enumerate(names):
            if set(name) & set(self.axes) or not a.varies_along(axis):
                continue
            is_added = name in self.summed or (self.loose and name and name in self.outputs)
            if not is_added or not (a.s == a.s.take([0], axis)).all():
                raise CannotFold(SHARED)
        unknown = any(n is None for n in self.summed.values())
        if side == "before" and unknown and not a.only_scales():
            raise CannotFold("sums over an axis of unknown length, which t would be multiplied by")

    def lengths(self, kernel: Sequence[int], tensor: tuple[str, ...]) -> list[int]:
        """Return the lengths of a tensor's axes as the kernel has them, 1 for its other axes."""
        sizes = dict(zip(self.axes, kernel, strict=True))
        return [math.prod(sizes.get(c, 1) for c in names) for names in tensor]

    def _seen(self, a: Affine) -> tuple[Affine, tuple[str, ...]]:
        """Return a map before the operation as the taps of its kernel see it, and its names."""
        names = list(self.inputs)
        # Where a kernel sees nothing but padding along an axis, the other axes don't matter.
        for axis, window in sorted(self.windows.items(), key=lambda each: each[1].seen.max()):
            a, names[axis] = window.at_taps(a, axis), window.letter
        return a, tuple(names)

    def _made(self, a: Affine) -> Affine:
        """Return a map after the operation with one value for each group."""
        for axis, group in self.groups.items():
            a = group.at_taps(a, axis)
        return a

    def _along(self, k: Array, values: Array, tensor: tuple[str, ...]) -> Array:
        """Move values from the axes of a tensor to the axes of the kernel."""
        values, order = self._apart(k, values, tensor, self.axes)
        values = values.transpose([order.index(c) for c in self.axes if c in order])
        return np.expand_dims(values, tuple(i for i, c in enumerate(self.axes) if c not in order))

    def _product(self, k: Array, t: Array, tensor: tuple[str, ...]) -> Array:
        """Return K t, summed over all axes but the outputs, on the axes of an output."""
        if not t.any():
            return np.zeros((1,) * len(self.outputs))
        out = "".join(self.outputs)
        t, order = self._apart(k, t, tensor, self.axes + out + "".join(self.summed))
        sizes = dict(zip(order, t.shape, strict=True)) | dict(zip(self.axes, k.shape, strict=True))
        t = np.broadcast_to(t, [sizes[c] for c in order])
        left = [c for c in out if c in sizes]
        letter = dict(zip(sizes, ascii_letters, strict=False))  # einsum takes no digits
        axes, along, kept = ("".join(letter[c] for c in each) for each in (self.axes, order, left))
        repeats = math.prod(n or 1 for c, n in self.summed.items() if sizes[c] == 1)
        summed = repeats * np.einsum(f"{axes},{along}->{kept}", k, t)
        shape = [math.prod(sizes.get(c, 1) for c in names) for names in self.outputs]
        return np.asarray(summed.reshape(shape))

    def _apart(
        self, k: Array, values: Array, tensor: tuple[str, ...], kept: str
    ) -> tuple[Array, str]:
        """Return values on single axes with the names that are `kept`, and these names."""
        sizes = dict(zip(self.axes, k.shape, strict=True))
        values = values[tuple(slice(None) if set(each) & set(kept) else 0 for each in tensor)]
        names = [each for each in tensor if set(each) & set(kept)]
        shape = [
            sizes.get(c, n) if n > 1 else 1
            for each, n in zip(names, values.shape, strict=True)
            for c in each
        ]
        return values.reshape(shape), "".join(names)


@dataclass(frozen=True, eq=False)
class Edit:
    """An affine map to fold into a layer."""

    side: Side  # whether the map is applied after the layer or before it
    affine: Affine
    example: Shape  # of an incoming example
    argument: str = ""  # that the map arrives by, for layers that fold several
    training: bool = False  # whether this call of the layer runs with training=True

    def agrees(self, other: "Edit") -> bool:
        """Return whether two edits require the same change to a layer."""
        return (
            (self.side, self.argument) == (other.side, other.argument)
            and len(self.example) == len(other.example)
            and same(self.affine, other.affine)
        )

    def merge(self, a: Affine) -> Affine:
        """Return the map of an affine layer with this one merged into it."""
        return compose(self.affine, a) if self.side == "after" else compose(a, self.affine)
