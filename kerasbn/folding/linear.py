"""Fold an affine map into a linear operation: two equations on a kernel with named axes.

A linear operation has a kernel K whose axes are named by letters, and a bias b:

    y[outputs] = sum over the other axes of K of K * x[inputs], + b[outputs]

A map after the operation scales the kernel along its outputs, a map before it along its inputs:

    s*(K x + b) + t = (s*K) x + (s*b + t)
    K (s*x + t) + b = (K*s) x + (b + K t)
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kerasbn.folding.affine import Affine, Array, CannotFold, Shape, compose, same

Side = Literal["after", "before"]


@dataclass(frozen=True)
class LinearMap:
    """The named axes of a linear operation.

    `inputs` and `outputs` name, for each axis of an incoming or outgoing example, the kernel axes
    that it runs along: none, "", where the kernel is the same all along that axis.
    """

    axes: str  # the names of the kernel's axes, one letter each
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    # Whether x selects one row of the kernel, so that (K + t) x = K x + t.
    one_hot: bool = field(default=False, kw_only=True)
    # How many positions K x is summed over, along axes that neither K nor the output has.
    repeats: int = field(default=1, kw_only=True)

    def after(self, k: Array, b: Array, a: Affine) -> tuple[Array, Array]:
        """Return K and b of s*(K x + b) + t = (s*K) x + (s*b + t)."""
        scaled = k * self._along(k, a.s, self.outputs)
        if self.one_hot:
            return scaled + self._along(k, a.t, self.outputs), b
        return scaled, a.s * b + a.t

    def before(self, k: Array, b: Array, a: Affine) -> tuple[Array, Array]:
        """Return K and b of K (s*x + t) + b = (K*s) x + (b + K t)."""
        return k * self._along(k, a.s, self.inputs), b + self.repeats * self._product(k, a.t)

    def check(self, a: Affine, tensor: tuple[str, ...]) -> None:
        """Raise `CannotFold` if `a` varies along an axis that the kernel is the same along."""
        for axis, names in enumerate(tensor):
            if not names and a.varies_along(axis):
                raise CannotFold("shares its kernel along an axis where s and t vary")

    def lengths(self, k: Array, tensor: tuple[str, ...]) -> list[int]:
        """Return the lengths of a tensor's axes as the kernel has them, 1 for unnamed axes."""
        sizes = dict(zip(self.axes, k.shape, strict=True))
        return [math.prod(sizes[c] for c in names) for names in tensor]

    def _along(self, k: Array, values: Array, tensor: tuple[str, ...]) -> Array:
        """Move values from the axes of a tensor to the axes of the kernel."""
        sizes = dict(zip(self.axes, k.shape, strict=True))
        shape: list[int] = []
        for names, n in zip(tensor, values.shape, strict=True):
            shape += [sizes[c] if n > 1 else 1 for c in names]
        order = "".join(tensor)
        values = values.reshape(shape).transpose([order.index(c) for c in self.axes if c in order])
        return np.expand_dims(values, tuple(i for i, c in enumerate(self.axes) if c not in order))

    def _product(self, k: Array, t: Array) -> Array:
        """Return K t, summed over all axes but the outputs, on the axes of an output."""
        if not t.any():
            return np.zeros((1,) * len(self.outputs))
        out = "".join(self.outputs)
        product = k * self._along(k, t, self.inputs)
        left = [c for c in self.axes if c in out]
        summed = product.sum(axis=tuple(i for i, c in enumerate(self.axes) if c not in out))
        summed = summed.transpose([left.index(c) for c in out])
        return np.asarray(summed.reshape(self.lengths(k, self.outputs)))


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
