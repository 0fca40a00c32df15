"""Which layers let an affine pass, and what becomes of it.

A passage P lets an affine through where there are affines a (coming in) and b (going out) with

    P(a(x)) = b(P(x))

`forward` gives b for a, one a for each input; `backward` gives, for b, the choices of an a for each
input, of which any one will do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasbn.folding.affine import Affine, CannotFold, affine, join, same, split, spread, tight

Example = tuple[int | None, ...]  # a shape without the batch axis
Layer = Any  # Keras ships no types


@dataclass(frozen=True)
class Crossing:
    """One call of a passage: the layer, and the example shapes that it sees.

    `twins` tells, for each input, the first input that is the same tensor; `plain`, whether it
    reads tensors alone and no constants.
    """

    layer: Layer
    inputs: list[Example]
    output: Example
    training: bool
    twins: list[int]
    plain: bool = True


Choices = list[list[Affine]]


@dataclass(frozen=True)
class Passage:
    """What becomes of an affine that crosses a layer, either way; both may raise `CannotFold`."""

    forward: Callable[[Crossing, list[Affine]], Affine]
    backward: Callable[[Crossing, Affine], Choices]


def is_passage(layer: Layer) -> bool:
    """Whether there is a law for layers of its class."""
    return type(layer) in PASSAGES


def forward(crossing: Crossing, incoming: list[Affine]) -> Affine:
    """The affine that goes out for those that come in.

    Raises:
        CannotFold: if there is none.
    """
    return _law(crossing).forward(crossing, incoming)


def backward(crossing: Crossing, outgoing: Affine) -> Choices:
    """The choices of affines coming in that make `outgoing` go out.

    Raises:
        CannotFold: if there is none.
    """
    return _law(crossing).backward(crossing, outgoing)


def _law(crossing: Crossing) -> Passage:
    if not crossing.plain:
        raise CannotFold("combines it with a constant")
    if type(crossing.layer) not in PASSAGES:
        raise CannotFold("lets no affine cross as it is")
    return PASSAGES[type(crossing.layer)]


# -- one tensor in, the affine stays as it is, if it may cross at all ---------------------------


def _unchanged(may: Callable[[Crossing, Affine], str | None]) -> Passage:
    """A passage that hands the affine on as it is, unless `may` gives a reason against it."""

    def checked(crossing: Crossing, a: Affine) -> Affine:
        reason = may(crossing, a)
        if reason:
            raise CannotFold(reason)
        return a

    return Passage(lambda c, incoming: checked(c, incoming[0]), lambda c, b: [[checked(c, b)]])


def _always(crossing: Crossing, a: Affine) -> str | None:  # noqa: ARG001 - one signature for all
    return None


def _inactive(crossing: Crossing, a: Affine) -> str | None:  # noqa: ARG001 - one signature for all
    return "is active: it is called with training=True" if crossing.training else None


def _even(crossing: Crossing, a: Affine) -> str | None:
    """What mixes places keeps an affine that is the same at all places."""
    layer = crossing.layer
    if any(a.varies_along(axis) for axis in _spatial(layer, len(a.shape))):
        return "mixes places at which s and t differ"
    return None


def _even_and_rising(crossing: Crossing, a: Affine) -> str | None:
    if not a.keeps_order():
        return "takes the largest, and a negative s would turn that into the smallest"
    return _even(crossing, a)


def _even_and_only_scaled(crossing: Crossing, a: Affine) -> str | None:
    if not a.only_scales():
        return "adds zeros, which the offset t would miss"
    return _even(crossing, a)


def _homogeneous(crossing: Crossing, a: Affine) -> str | None:
    """f(s*x) = s*f(x) for s >= 0 is all that a rectifier promises."""
    layer = crossing.layer
    if getattr(layer, "max_value", None) is not None or getattr(layer, "threshold", None):
        return "bends elsewhere than at 0"
    if a.only_scales() and a.keeps_order():
        return None
    return "bends at 0, so only s >= 0 with t = 0 crosses it"


def _activation(crossing: Crossing, a: Affine) -> str | None:
    function = crossing.layer.activation
    if crosses_function(function, a):
        return None
    name = getattr(function, "__name__", type(function).__name__)
    return f"is the activation '{name}', which lets no such affine cross"


def crosses_function(function: object, a: Affine) -> bool:
    """Whether an affine may cross an activation function unchanged."""
    if function is keras.activations.linear:
        return True
    rectifiers = (keras.activations.relu, keras.activations.leaky_relu)
    return function in rectifiers and a.only_scales() and a.keeps_order()


def _spatial(layer: Layer, rank: int) -> list[int]:
    """The axes of an example that hold places, not channels."""
    if rank < 2:
        return []
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return list(range(1, rank)) if first else list(range(rank - 1))


# -- one tensor in, the axes change -------------------------------------------------------------


def _global(rising: bool) -> Passage:
    """Global pooling takes the places away, or keeps them with length 1."""
    may = _even_and_rising if rising else _even

    def forward(c: Crossing, incoming: list[Affine]) -> Affine:
        (a,) = incoming
        if reason := may(c, a):
            raise CannotFold(reason)
        if c.layer.keepdims:
            return a
        return a.map(lambda values: values.squeeze(tuple(_spatial(c.layer, len(a.shape)))))

    def backward(c: Crossing, b: Affine) -> Choices:
        rank = len(c.inputs[0])
        if not c.layer.keepdims:
            b = b.map(lambda values: np.expand_dims(values, tuple(_spatial(c.layer, rank))))
        if reason := may(c, b):
            raise CannotFold(reason)
        return [[b]]

    return Passage(forward, backward)


def _reshaped(a: Affine, old: Example, new: Example) -> Affine:
    """The affine of a tensor whose axes are cut anew.

    Where the last axis stays, what is the same everywhere else stays as it is; otherwise the
    affine is written out in full.
    """
    if not any(map(a.varies_along, range(len(a.shape)))):
        return a.map(lambda values: values.reshape((1,) * len(new)))
    only_last = not any(map(a.varies_along, range(len(a.shape) - 1)))
    if only_last and old[-1] is not None and old[-1] == new[-1]:
        return a.map(lambda values: values.reshape((1,) * (len(new) - 1) + (-1,)))
    if None in new:
        raise CannotFold("cuts axes of unknown length anew")
    return tight(spread(a, old).map(lambda values: values.reshape([n or 1 for n in new])))


def _flatten_order(c: Crossing) -> Callable[[Affine], Affine] | None:
    """Flatten moves the channels last before it flattens, if they are first."""
    if getattr(c.layer, "data_format", None) != "channels_first" or len(c.inputs[0]) < 2:
        return None
    return lambda a: a.map(lambda values: np.moveaxis(values, 0, -1))


def _reshape_forward(c: Crossing, incoming: list[Affine]) -> Affine:
    (a,), old = incoming, c.inputs[0]
    if turn := _flatten_order(c):
        a, old = turn(a), (*old[1:], old[0])
    return _reshaped(a, old, c.output)


def _reshape_backward(c: Crossing, b: Affine) -> Choices:
    old = c.inputs[0]
    if not _flatten_order(c):
        return [[_reshaped(b, c.output, old)]]
    a = _reshaped(b, c.output, (*old[1:], old[0]))
    return [[a.map(lambda values: np.moveaxis(values, -1, 0))]]


def _permute(c: Crossing) -> list[int]:
    return [axis - 1 for axis in c.layer.dims]


def _repeat_backward(c: Crossing, b: Affine) -> Choices:  # noqa: ARG001 - one signature for all
    if b.varies_along(0):
        raise CannotFold("repeats one vector, to which s and t differ from copy to copy")
    return [[b.map(lambda values: values[0])]]


# -- several tensors in -------------------------------------------------------------------------


def _axis(c: Crossing) -> int:
    axis = int(c.layer.axis)
    rank = len(c.output) + 1
    axis = axis % rank - 1
    if axis < 0:
        raise CannotFold("joins examples of the batch")
    return axis


def _lengths(c: Crossing) -> list[int | None]:
    return [example[_axis(c)] for example in c.inputs]


def _shares(c: Crossing, b: Affine, shares: Sequence[float], takers: Sequence[int]) -> Choices:
    """Every input takes `s`; one of `takers` takes `t`, times its share.

    Inputs that are the same tensor take `t` together.
    """
    choices, tried = [], set()
    for taker in takers:
        if c.twins[taker] in tried:
            continue
        tried.add(c.twins[taker])
        alike = [i for i, twin in enumerate(c.twins) if twin == c.twins[taker]]
        share = sum(shares[i] for i in alike)
        if share == 0:
            continue
        choices.append(
            [affine(b.s, b.t / share if i in alike else 0.0) for i in range(len(c.inputs))]
        )
        if b.only_scales():
            break
    if not choices:
        raise CannotFold("cancels the offset t")
    return choices


def _each(n: int) -> list[float]:
    return [1.0] * n


def _mean(n: int) -> list[float]:
    return [1.0 / n] * n


def _rest_taken_off(n: int) -> list[float]:
    return [1.0] + [-1.0] * (n - 1)


def _sum(shares: Callable[[int], Sequence[float]]) -> Passage:
    """A weighted sum: sum of w*(s*x + t) = s * (sum of w*x) + t * (sum of w)."""

    def forward(c: Crossing, incoming: list[Affine]) -> Affine:
        _same_rank(c)
        if not all(np.all(a.s == incoming[0].s) for a in incoming):
            raise CannotFold("adds it to something that is scaled otherwise")
        weights = shares(len(incoming))
        s = np.broadcast_arrays(*[a.s for a in incoming])[0]
        return affine(s, sum(w * a.t for w, a in zip(weights, incoming, strict=True)))

    def backward(c: Crossing, b: Affine) -> Choices:
        _same_rank(c)
        return _shares(c, b, shares(len(c.inputs)), range(len(c.inputs)))

    return Passage(forward, backward)


def _extreme() -> Passage:
    """The larger (or smaller) of several takes one affine on all of them, if s >= 0."""

    def checked(c: Crossing, a: Affine) -> Affine:
        _same_rank(c)
        if not a.keeps_order():
            raise CannotFold("chooses by order, which a negative s would turn around")
        return a

    def forward(c: Crossing, incoming: list[Affine]) -> Affine:
        if not all(same(a, incoming[0]) for a in incoming):
            raise CannotFold("compares it to something that is scaled otherwise")
        return checked(c, incoming[0])

    return Passage(forward, lambda c, b: [[checked(c, b) for _ in c.inputs]])


def _same_rank(c: Crossing) -> None:
    if any(len(example) != len(c.output) for example in c.inputs):
        raise CannotFold("combines tensors of different rank")


def _concatenate() -> Passage:
    return Passage(
        lambda c, incoming: join(incoming, _lengths(c), _axis(c)),
        lambda c, b: [split(b, _lengths(c), _axis(c))],
    )


# -- the table ----------------------------------------------------------------------------------

_ANYTHING, _DROPPED = _unchanged(_always), _unchanged(_inactive)
_AVERAGE, _LARGEST = _unchanged(_even), _unchanged(_even_and_rising)
_PADDING, _RECTIFIER = _unchanged(_even_and_only_scaled), _unchanged(_homogeneous)
_RESHAPE = Passage(_reshape_forward, _reshape_backward)


def _operation(result: keras.KerasTensor) -> type:
    """The class behind a function of `keras.ops`, which has no public name."""
    return type(result._keras_history.operation)


def _operations() -> dict[type, Passage]:
    """The same laws for `x + y`, `keras.ops.relu(x)` and the like."""
    x, ops = keras.Input((1,), name="any"), keras.ops
    return {
        _operation(ops.add(x, x)): _sum(_each),
        _operation(ops.subtract(x, x)): _sum(_rest_taken_off),
        _operation(ops.maximum(x, x)): _extreme(),
        _operation(ops.minimum(x, x)): _extreme(),
        _operation(ops.concatenate([x, x])): _concatenate(),
        _operation(ops.relu(x)): _RECTIFIER,
        _operation(ops.leaky_relu(x)): _RECTIFIER,
        _operation(keras.activations.relu(x)): _RECTIFIER,
    }


# By exact class: a subclass may compute anything, and is left alone.
PASSAGES: dict[type, Passage] = {
    keras.layers.Identity: _ANYTHING,
    keras.layers.Dropout: _DROPPED,
    keras.layers.SpatialDropout1D: _DROPPED,
    keras.layers.SpatialDropout2D: _DROPPED,
    keras.layers.SpatialDropout3D: _DROPPED,
    keras.layers.AlphaDropout: _DROPPED,
    keras.layers.GaussianDropout: _DROPPED,
    keras.layers.GaussianNoise: _DROPPED,
    keras.layers.ActivityRegularization: _ANYTHING,
    keras.layers.AveragePooling1D: _AVERAGE,
    keras.layers.AveragePooling2D: _AVERAGE,
    keras.layers.AveragePooling3D: _AVERAGE,
    keras.layers.MaxPooling1D: _LARGEST,
    keras.layers.MaxPooling2D: _LARGEST,
    keras.layers.MaxPooling3D: _LARGEST,
    keras.layers.GlobalAveragePooling1D: _global(rising=False),
    keras.layers.GlobalAveragePooling2D: _global(rising=False),
    keras.layers.GlobalAveragePooling3D: _global(rising=False),
    keras.layers.GlobalMaxPooling1D: _global(rising=True),
    keras.layers.GlobalMaxPooling2D: _global(rising=True),
    keras.layers.GlobalMaxPooling3D: _global(rising=True),
    keras.layers.UpSampling1D: _AVERAGE,
    keras.layers.UpSampling2D: _AVERAGE,
    keras.layers.UpSampling3D: _AVERAGE,
    keras.layers.Cropping1D: _AVERAGE,
    keras.layers.Cropping2D: _AVERAGE,
    keras.layers.Cropping3D: _AVERAGE,
    keras.layers.ZeroPadding1D: _PADDING,
    keras.layers.ZeroPadding2D: _PADDING,
    keras.layers.ZeroPadding3D: _PADDING,
    keras.layers.Flatten: _RESHAPE,
    keras.layers.Reshape: _RESHAPE,
    keras.layers.Permute: Passage(
        lambda c, incoming: incoming[0].map(lambda values: values.transpose(_permute(c))),
        lambda c, b: [[b.map(lambda values: values.transpose(np.argsort(_permute(c))))]],
    ),
    keras.layers.RepeatVector: Passage(
        lambda _, incoming: incoming[0].map(lambda values: values[None]), _repeat_backward
    ),
    keras.layers.ReLU: _RECTIFIER,
    keras.layers.LeakyReLU: _RECTIFIER,
    keras.layers.PReLU: _RECTIFIER,
    keras.layers.Activation: _unchanged(_activation),
    keras.layers.Add: _sum(_each),
    keras.layers.Average: _sum(_mean),
    keras.layers.Subtract: _sum(_rest_taken_off),
    keras.layers.Maximum: _extreme(),
    keras.layers.Minimum: _extreme(),
    keras.layers.Concatenate: _concatenate(),
} | _operations()
