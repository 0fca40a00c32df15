"""How an affine map changes on its way through an operation, in terms of axes.

A map passes through an operation P where there are maps a (incoming) and b (outgoing) with

    P(a(x)) = b(P(x))

A `PassThrough` has `forward`, which returns b for an a on each input, and `backward`, which returns
choices of a for b: each choice has an a for each input, and any choice will do. Both raise
`CannotFold` where there is none, with a reason that begins with a verb.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbn.folding.affine import (
    Affine,
    CannotFold,
    Shape,
    affine,
    compress,
    expand,
    identity,
    join,
    same,
    split,
)
from kerasbn.folding.graph import Call

Indices = NDArray[np.int64]
Change = Callable[[Affine], Affine]
# An axis whose length is not known may have a name, which is the same for equal lengths.
NamedShape = Sequence[int | str | None]


@dataclass(frozen=True)
class PassThrough:
    """How a map changes on its way through an operation."""

    forward: Callable[[list[Affine]], Affine]
    backward: Callable[[Affine], list[list[Affine]]]

    def then(self, other: "PassThrough") -> "PassThrough":
        """Return how a map changes in an operation of one input and another one behind it."""
        return PassThrough(
            lambda incoming: other.forward([self.forward(incoming)]),
            lambda b: self.backward(other.backward(b)[0][0]),
        )


def one_input(forward: Change, backward: Change | None = None) -> PassThrough:
    """How a map changes in an operation of one input. By default it changes alike both ways."""
    back = backward or forward
    return PassThrough(lambda incoming: forward(incoming[0]), lambda b: [[back(b)]])


# -- one input, the map stays as it is ----------------------------------------------------------

UNCHANGED = one_input(lambda a: a)


def _constant_along(a: Affine, positions: Collection[int]) -> Affine:
    if any(a.varies_along(axis) for axis in positions):
        raise CannotFold("mixes positions between which s and t vary")
    return a


def average(positions: Collection[int]) -> PassThrough:
    """Mixing positions, with weights that sum to 1, lets a map pass that is the same at all."""
    return one_input(lambda a: _constant_along(a, positions))


def maximum(positions: Collection[int]) -> PassThrough:
    """Max pooling."""

    def change(a: Affine) -> Affine:
        if not a.keeps_order():
            raise CannotFold("takes the maximum, which a negative s would turn into the minimum")
        return _constant_along(a, positions)

    return one_input(change)


def padding(positions: Collection[int], value: float = 0.0) -> PassThrough:
    """Padding with a value lets a map pass that keeps the value: s*value + t = value."""

    def change(a: Affine) -> Affine:
        if not np.all(a.s * value + a.t == value):
            zeros = "zeros, which would miss the offset t"
            raise CannotFold(f"pads with {f'{value:g}, which s and t change' if value else zeros}")
        return _constant_along(a, positions)

    return one_input(change)


def total(positions: Collection[int], shape: Shape) -> PassThrough:
    """A sum over n positions is s * (sum of x) + n*t."""

    def scaled(a: Affine, power: int) -> Affine:
        if a.only_scales():
            return _constant_along(a, positions)
        lengths = [shape[axis] for axis in positions]
        if None in lengths:
            raise CannotFold("sums over an axis of unknown length, and so many times t")
        n = float(np.prod([length or 1 for length in lengths])) ** power
        return affine(_constant_along(a, positions).s, n * a.t)

    return one_input(lambda a: scaled(a, 1), lambda b: scaled(b, -1))


def check_rectifier(a: Affine) -> Affine:
    """A rectifier has f(s*x) = s*f(x) for s >= 0, and no more."""
    if not (a.only_scales() and a.keeps_order()):
        raise CannotFold("has a kink at 0, so only a map with s >= 0 and t = 0 passes through it")
    return a


RECTIFIER = one_input(check_rectifier)


# -- one input, the axes change -----------------------------------------------------------------


def without_axes(axes: Collection[int]) -> PassThrough:
    """Removing axes of length 1."""
    gone = tuple(axes)
    return one_input(
        lambda a: a.map(lambda values: values.squeeze(gone)),
        lambda b: b.map(lambda values: np.expand_dims(values, gone)),
    )


def with_axes(axes: Collection[int]) -> PassThrough:
    """Inserting axes of length 1, or with more copies of the same tensor; `axes` of the output."""
    new = tuple(axes)

    def back(b: Affine) -> Affine:
        if any(map(b.varies_along, new)):
            raise CannotFold("repeats its input, while s and t vary between the copies")
        return b.map(lambda values: values.squeeze(new))

    return one_input(lambda a: a.map(lambda values: np.expand_dims(values, new)), back)


def permutation(order: Sequence[int]) -> PassThrough:
    """Transposing: axis `order[i]` of the input becomes axis i."""
    return one_input(
        lambda a: a.map(lambda values: values.transpose(order)),
        lambda b: b.map(lambda values: values.transpose(np.argsort(order))),
    )


def reshape(old: NamedShape, new: NamedShape) -> PassThrough:
    """Reshaping: axes that become axes of the same total length keep what varies along them."""
    return one_input(lambda a: _reshaped(a, old, new), lambda b: _reshaped(b, new, old))


def _reshaped(a: Affine, old: NamedShape, new: NamedShape) -> Affine:
    full: list[int] = []  # the lengths of the old axes that are written out
    shape: list[int] = []
    for olds, news in _blocks(old, new):
        lengths = [old[axis] for axis in olds], [new[axis] for axis in news]
        if not any(map(a.varies_along, olds)):
            full += [1] * len(olds)
            shape += [1] * len(news)
        elif all(isinstance(n, int) for each in lengths for n in each):
            full += [n for n in lengths[0] if isinstance(n, int)]
            shape += [n for n in lengths[1] if isinstance(n, int)]
        else:
            raise CannotFold("reshapes axes of unknown length")
    return compress(expand(a, full).map(lambda values: values.reshape(shape)))


def _blocks(old: NamedShape, new: NamedShape) -> list[tuple[range, range]]:
    """Return groups of old and new axes, each with equally many elements on both sides."""
    groups = _leading(old, new)
    i, j = (groups[-1][0].stop, groups[-1][1].stop) if groups else (0, 0)
    ends = _leading(old[i:][::-1], new[j:][::-1])
    m, n = len(old), len(new)
    tail = [(range(m - o.stop, m - o.start), range(n - p.stop, n - p.start)) for o, p in ends[::-1]]
    k, q = (tail[0][0].start, tail[0][1].start) if tail else (m, n)
    return [*groups, (range(i, k), range(j, q)), *tail]


def _leading(old: NamedShape, new: NamedShape) -> list[tuple[range, range]]:
    """Return the groups from the first axes on, as far as they are known."""
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        start, (m, n) = (i, j), (old[i], new[j])
        i, j = i + 1, j + 1
        if m is None or n is None or (m != n and str in (type(m), type(n))):
            break
        while m != n and isinstance(m, int) and isinstance(n, int):
            side, at = (old, i) if m < n else (new, j)
            factor = side[at] if at < len(side) else None
            if not isinstance(factor, int) or factor == 0:
                return groups
            if m < n:
                m, i = m * factor, i + 1
            else:
                n, j = n * factor, j + 1
        groups.append((range(start[0], i), range(start[1], j)))
    return groups


def selection(call: Call, indices: Mapping[int, Indices | None]) -> PassThrough:
    """Taking some indices along each of some axes, such as slicing.

    The indices may be unknown, None, where the map does not vary.
    """
    shape = call.seen(call.inputs[0])

    def forward(a: Affine) -> Affine:
        for axis, taken in indices.items():
            if a.varies_along(axis):
                if taken is None:
                    raise CannotFold("takes an unknown part of an axis that s and t vary along")
                a = Affine(a.s.take(taken, axis), a.t.take(taken, axis))
        return compress(a)

    def backward(b: Affine) -> Affine:
        """What is not taken may have any map, unless another call reads it."""
        is_read = len(call.inputs[0].readers) > 1
        for axis, taken in indices.items():
            n = shape[axis]
            if n is None or taken is None or len({*taken}) < len(taken):
                if b.varies_along(axis):
                    raise CannotFold("takes several copies of its input, or an unknown part of it")
                continue
            if not (is_read or b.varies_along(axis)):
                continue
            full = [*b.shape[:axis], n, *b.shape[axis + 1 :]]
            s, t = np.ones(full), np.zeros(full)
            at = (slice(None),) * axis + (taken,)
            s[at], t[at] = b.s, b.t
            b = Affine(s, t)
        return compress(b)

    return one_input(forward, backward)


# -- several inputs -----------------------------------------------------------------------------


def concatenation(call: Call, axis: int) -> PassThrough:
    """Concatenating along an axis of the output."""
    lengths = [call.seen(value)[axis] for value in call.data]
    return PassThrough(
        lambda incoming: join(incoming, lengths, axis), lambda b: [split(b, lengths, axis)]
    )


def weighted_sum(call: Call, weights: Sequence[float]) -> PassThrough:
    """A sum over inputs: sum of w*(s*x + t) = s * (sum of w*x) + t * (sum of w)."""

    def forward(incoming: list[Affine]) -> Affine:
        if not all(np.all(a.s == incoming[0].s) for a in incoming):
            raise CannotFold("adds it to a tensor with another scale")
        s = np.broadcast_arrays(*[a.s for a in incoming])[0]
        return affine(s, sum(w * a.t for w, a in zip(weights, incoming, strict=True)))

    def backward(b: Affine) -> list[list[Affine]]:
        """Every input takes `s`. One takes `t`, and so do the inputs that are the same tensor."""
        if b.only_scales():
            return [[b for _ in call.data]]
        terms = list(zip(weights, call.data, strict=True))
        choices = []
        for taker in dict.fromkeys(call.data):
            w = sum(w for w, value in terms if value is taker)
            if w == 0:
                continue
            choices.append([affine(b.s, b.t / w if value is taker else 0.0) for _, value in terms])
        if not choices:
            raise CannotFold("cancels the offset t")
        return choices

    return _broadcast(call, PassThrough(forward, backward))


def product(call: Call, powers: Sequence[int]) -> PassThrough:
    """A product of x**p over inputs, with p = 1 or -1, lets maps without t pass: s**p of each."""

    def check(a: Affine) -> Affine:
        if not a.only_scales():
            raise CannotFold("multiplies its inputs, which would scale the offset t")
        return a

    def forward(incoming: list[Affine]) -> Affine:
        scales = [check(a).s for a in incoming]
        if any(p < 0 and not s.all() for s, p in zip(scales, powers, strict=True)):
            raise CannotFold("divides by it, and some s is 0")
        parts = [s ** float(p) for s, p in zip(scales, powers, strict=True)]
        return affine(np.prod(np.broadcast_arrays(*parts), axis=0), 0.0)

    def backward(b: Affine) -> list[list[Affine]]:
        """One input that is multiplied, and read once, takes `s`."""
        one = identity(len(check(b).shape))
        takers = [value for value, p in zip(call.data, powers, strict=True) if p > 0]
        once = [value for value in takers if call.data.count(value) == 1]
        if not once:
            raise CannotFold("multiplies its input by itself")
        return [[b if value is taker else one for value in call.data] for taker in once]

    return _broadcast(call, PassThrough(forward, backward))


def extreme(call: Call) -> PassThrough:
    """The maximum or minimum of several inputs lets the same map with s >= 0 pass on all."""

    def backward(b: Affine) -> list[list[Affine]]:
        if not b.keeps_order():
            raise CannotFold("compares its inputs, whose order a negative s would reverse")
        return [[b for _ in call.data]]

    def forward(incoming: list[Affine]) -> Affine:
        if not all(same(a, incoming[0]) for a in incoming):
            raise CannotFold("compares it to a tensor with another scale")
        return backward(incoming[0])[0][0]

    return _broadcast(call, PassThrough(forward, backward))


def _broadcast(call: Call, law: PassThrough) -> PassThrough:
    """Return the law of an operation that adds axes ahead of those of inputs of lower rank."""
    rank = len(call.seen(call.outputs[0]))
    wider = [with_axes(range(rank - len(call.seen(value)))) for value in call.data]

    def forward(incoming: list[Affine]) -> Affine:
        return law.forward([each.forward([a]) for each, a in zip(wider, incoming, strict=True)])

    def backward(b: Affine) -> list[list[Affine]]:
        choices, refusal = [], None
        for choice in law.backward(b):
            try:
                pairs = zip(wider, choice, strict=True)
                choices.append([each.backward(a)[0][0] for each, a in pairs])
            except CannotFold as reason:
                refusal = reason
        if refusal and not choices:
            raise refusal
        return choices

    return PassThrough(forward, backward)
