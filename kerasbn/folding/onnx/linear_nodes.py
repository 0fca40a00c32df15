"""ONNX nodes that an affine map can be folded into, and how.

A linear node has a kernel with named axes and a bias (see `kerasbn.folding.linear`), both of them
constants. `LINEAR_NODES` gives, for each operation, where they are and under which conditions the
equations hold.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from kerasbn.folding.affine import Array, CannotFold
from kerasbn.folding.linear import Edit, LinearMap, Side
from kerasbn.folding.onnx.constants import constant, in_float64, is_constant
from kerasbn.folding.onnx.nodes import NodeCall
from kerasbn.folding.windows import SHARED, Steps, Window, convolution, transposed


@dataclass(frozen=True)
class Part(LinearMap):
    """The kernel and bias of a node, by their inputs, and the names of their axes.

    `view` separates kernel axes that are stored as one. A missing bias counts as zeros. There is
    none where `bias` is None; where it is -1, it is the constant of an Add behind the node, which
    is written if need be.
    """

    call: NodeCall = field(kw_only=True)
    kernel: int = field(kw_only=True)
    bias: int | None = field(default=None, kw_only=True)
    view: Sequence[int] | None = field(default=None, kw_only=True)
    factors: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)  # of kernel and bias
    share: int | None = field(default=None, kw_only=True)  # the part of the bias that is added

    def read(self) -> tuple[Array, Array]:
        """Return K in named axes, and b in the axes of the output, in float64."""
        k = in_float64(self.call.constant(self.kernel, "a kernel")) * self.factors[0]
        if self.view is not None:
            k = np.broadcast_to(k, self.view) if k.size < prod(self.view) else k.reshape(self.view)
        return k, self.read_bias(k.shape)

    def read_bias(self, shape: Sequence[int]) -> Array:
        """Return b, given the shape of K. Raises `CannotFold` if it does not fit."""
        b = self._bias()
        if b is None:
            return np.zeros((1,) * len(self.outputs))
        if self.loose:
            return b.reshape((1,) * (len(self.outputs) - b.ndim) + b.shape)
        lengths = self.lengths(shape, self.outputs)
        named = [n for n, names in zip(lengths, self.outputs, strict=True) if names]
        if self.share is not None:
            b = b[..., : self.share]
        try:
            return np.broadcast_to(b, named).reshape(lengths)
        except ValueError:
            raise CannotFold(f"has a bias of shape {b.shape} where {tuple(named)} fits") from None

    def write(self, k: Array, b: Array) -> dict[int, Array]:
        """Return the new inputs of the node, by place, with factors of 1."""
        shape = self.call.constant(self.kernel, "a kernel")
        new = {self.kernel: k if shape is None or shape.size < k.size else k.reshape(shape.shape)}
        if self.bias is None or (self._bias() is None and not b.any()):
            return new
        lengths = self.lengths(k.shape, self.outputs)
        if self.loose:
            full = np.broadcast_to(b, np.broadcast_shapes(b.shape, lengths))
            while full.ndim > 1 and full.shape[0] == 1:
                full = full[0]
            return new | {self.bias: full}
        named = [n for n, names in zip(lengths, self.outputs, strict=True) if names]
        full = np.broadcast_to(b, lengths).reshape(named)
        if self.share is not None:
            old = self._bias()
            rest = np.zeros_like(full) if old is None else old[..., self.share :]
            full = np.concatenate([full, rest], -1)
        return new | {self.bias: full}

    def _bias(self) -> Array | None:
        if self.bias == -1:
            add = self.call.offset
            value = next((v for v in add.inputs if is_constant(v)), None) if add else None
            return None if value is None else in_float64(constant(value))
        array = None if self.bias is None else self.call.constant(self.bias, "a bias")
        return None if array is None else in_float64(array) * self.factors[1]


# -- the parts of each operation -----------------------------------------------------------------


def _kernel(call: NodeCall, slot: int) -> tuple[int, ...]:
    """Return the shape of a kernel. Raises `CannotFold` if it is not constant."""
    array = call.constant(slot, "a kernel")
    if array is None or call.slots[0] != (1 - slot if slot < 2 else 0):
        raise CannotFold("multiplies it in another way than by a constant kernel")
    return array.shape


def _channels(names: str, rank: int) -> tuple[str, ...]:
    """Name the channel axis of an image, a sequence or a volume."""
    return ("", names, *[""] * (rank - 2))


def _last(name: str, rank: int) -> tuple[str, ...]:
    return (*[""] * (rank - 1), name)


def _conv(call: NodeCall) -> Part:
    # The outputs gp read the inputs gj of their own group g.
    is_transposed = call.type_name == "ConvTranspose"
    first, second, *taps = _kernel(call, 1)
    groups = call.layer.attributes.get_int("group", 1)
    rank, letters = 2 + len(taps), _TAPS[: len(taps)]
    return Part(
        ("gjp" if is_transposed else "gpj") + letters, _channels("gj", rank), _channels("gp", rank),
        call=call, kernel=1, bias=2, view=(groups, first // groups, second, *taps),
        windows=dict(enumerate(_windows(call, taps, letters, is_transposed=is_transposed), 2)),
    )  # fmt: skip


def _windows(
    call: NodeCall, taps: Sequence[int], letters: str, *, is_transposed: bool
) -> Iterator[Window]:
    """Yield what the kernel of a convolution sees along each axis."""
    get, count = call.layer.attributes, len(taps)
    strides, dilations = (get.get_ints(name, [1] * count) for name in ("strides", "dilations"))
    auto = get.get_string("auto_pad", "NOTSET")
    zeros = [0] * 2 * count
    pads = get.get_ints("pads", zeros) if auto == "NOTSET" else zeros
    more = get.get_ints("output_padding", zeros)
    is_same = auto.startswith("SAME") or "output_shape" in get
    ranks = len(call.inputs[0].example) - 2, len(call.outputs[0].example) - 2
    if {len(strides), len(dilations), *ranks} != {count} or len(pads) != len(zeros):
        raise CannotFold(f"has {count} axes of taps for an input, output or steps of other axes")
    for axis, letter in enumerate(letters):
        lengths = call.inputs[0].example[2 + axis], call.outputs[0].example[2 + axis]
        steps = Steps(
            taps[axis], strides[axis], dilations[axis],
            None if is_same else (pads[axis], pads[count + axis]), auto != "SAME_UPPER", more[axis],
        )  # fmt: skip
        see = transposed if is_transposed else convolution
        yield see(letter, lengths, steps)


def _gemm(call: NodeCall) -> Part:
    get = call.layer.attributes
    slot = 1 - call.slots[0]
    _kernel(call, slot)
    turned = get.get_int("transA", 0), get.get_int("transB", 0)
    x_turned, k_turned = turned[1 - slot], turned[slot]
    factors = get.get_float("alpha", 1.0), get.get_float("beta", 1.0)
    # y = x K, or K x where the constant comes first.
    inputs, outputs, axes = ("n", "i"), ("n", "o"), "io"
    if slot == 0:
        inputs, outputs, axes = inputs[::-1], outputs[::-1], axes[::-1]
    if x_turned:
        inputs = inputs[::-1]
    if k_turned:
        axes = axes[::-1]
    return Part(axes, inputs, outputs, call=call, kernel=slot, bias=2, loose=True, factors=factors)


def _matmul(call: NodeCall) -> Part:
    slot = 1 - call.slots[0]
    ranks = [0, 0]
    ranks[slot], ranks[1 - slot] = len(_kernel(call, slot)), len(call.inputs[0].example)
    batch = [_EXTRA[len(_EXTRA) - max(0, rank - 2) :] for rank in ranks]
    left = batch[0] + ("mi" if ranks[0] > 1 else "i")
    right = batch[1] + ("io" if ranks[1] > 1 else "i")
    out = max(batch, key=len) + left[len(batch[0]) : -1] + right[len(batch[1]) + 1 :]
    return _contraction(call, slot, (left, right), out)


def _einsum(call: NodeCall) -> Part:
    incoming, outgoing = _equation(call)
    return _contraction(call, 1 - call.slots[0], incoming, outgoing)


def _equation(call: NodeCall) -> tuple[tuple[str, str], str]:
    """Return the labels of both inputs and of the output, with digits in place of an ellipsis."""
    equation = call.layer.attributes["equation"].as_string().replace(" ", "")
    incoming, arrow, outgoing = equation.partition("->")
    terms = incoming.split(",")
    if not arrow:  # the labels that occur once, in alphabetical order
        once = [c for c in sorted(set(incoming) - set(",.")) if incoming.count(c) == 1]
        outgoing = ("..." if "..." in incoming else "") + "".join(once)
    if len(terms) != 2 or len(call.layer.inputs) != 2:
        raise CannotFold(f"computes '{equation}', which has other than two inputs")
    ranks = [len(call.shape(value)) for value in call.layer.inputs]
    extra = [
        _EXTRA[len(_EXTRA) - max(0, rank - len(term) + 3) :] if "..." in term else ""
        for rank, term in zip(ranks, terms, strict=True)
    ]
    left, right = (t.replace("...", e) for t, e in zip(terms, extra, strict=True))
    outgoing = outgoing.replace("...", max(extra, key=len))
    if any(len(set(labels)) < len(labels) for labels in (left, right, outgoing)):
        raise CannotFold(f"computes '{equation}', which takes a diagonal")
    return (left, right), outgoing


def _contraction(call: NodeCall, slot: int, incoming: tuple[str, str], outgoing: str) -> Part:
    """Return the part of a product whose axes have labels, summed over those not in `outgoing`.

    Along an axis of length 1, a tensor is broadcast against the other.
    """
    labels, sizes = incoming[1 - slot], _kernel(call, slot)
    ranks = len(call.inputs[0].example), len(call.outputs[0].example)
    if ranks != (len(labels), len(outgoing)):
        raise CannotFold("has another rank than its labels")
    own = {c: n for c, n in zip(incoming[slot], sizes, strict=True) if n > 1 or c not in labels}
    lengths = zip(labels, call.inputs[0].example, strict=True)
    return Part(
        "".join(own), tuple(labels), tuple(outgoing), call=call, kernel=slot, bias=-1, loose=True,
        view=list(own.values()), summed={c: n for c, n in lengths if c not in {*own, *outgoing}},
    )  # fmt: skip


def _gather(call: NodeCall) -> Part:
    rank = len(_kernel(call, 0))
    axis = call.layer.attributes.get_int("axis", 0) % rank
    names = list(_LETTERS[:rank])
    outputs = (*names[:axis], *[""] * len(call.inputs[0].example), *names[axis + 1 :])
    return Part("".join(names), (), outputs, call=call, kernel=0, one_hot=True)


def _layer_norm(call: NodeCall) -> Part:
    """Gamma is a kernel without inputs, beta a bias."""
    shape = call.inputs[0].example
    rank, own = len(shape), _kernel(call, 1)
    first = call.layer.attributes.get_int("axis", -1) % rank
    scale = (1,) * (rank - len(own)) + own
    names = tuple(_LETTERS[axis] if axis >= first else "" for axis in range(rank))
    view = [shape[axis] or scale[axis] for axis in range(first, rank)]
    bias = None if call.layer.op_type == "RMSNormalization" else 2
    return Part("".join(names), (), names, call=call, kernel=1, bias=bias, view=view)


def _channel_norm(call: NodeCall) -> Part:
    # Below opset 21, a GroupNormalization has one gamma and beta for each group of channels.
    shape, (own,) = call.inputs[0].example, _kernel(call, 1)
    channels = np.arange(shape[1] or own)
    if len(channels) % own:
        raise CannotFold("has a scale for other channels than its input")
    groups = {1: Window("c", shape[1], channels.reshape(own, -1), SHARED)}
    names = _channels("c", len(shape))
    return Part("c", (), names, call=call, kernel=1, bias=2, groups=groups)


def _recurrent(call: NodeCall) -> Part:
    # The bias of the inputs comes first, and behind it that of the state.
    (_, rows, _) = _kernel(call, 1)
    return Part("doi", ("", "", "i"), ("d", "o"), call=call, kernel=1, bias=3, share=rows)


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearNode:
    """How maps are folded into nodes of one operation."""

    part: Callable[[NodeCall], Part]
    sides: tuple[Side, ...] = ("after", "before")  # of the maps that can be folded


_TAPS, _LETTERS, _EXTRA = "uvwxyz", "abcdefghijklmnopqrstuvwxyz", "0123456789"
_RECURRENT = LinearNode(_recurrent, ("before",))
LINEAR_NODES = {
    "Conv": LinearNode(_conv),
    "ConvTranspose": LinearNode(_conv),
    "Gemm": LinearNode(_gemm),
    "MatMul": LinearNode(_matmul),
    "Einsum": LinearNode(_einsum),
    "Gather": LinearNode(_gather, ("after",)),
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "LayerNormalization": LinearNode(_layer_norm, ("after",)),
    "RMSNormalization": LinearNode(_layer_norm, ("after",)),
    "GroupNormalization": LinearNode(_channel_norm, ("after",)),
    "InstanceNormalization": LinearNode(_channel_norm, ("after",)),
}


def check(call: NodeCall, edit: Edit) -> None:
    """Raise `CannotFold` if an edit cannot be made. The reason begins with a verb."""
    law = LINEAR_NODES[call.layer.op_type]
    if edit.side not in law.sides:
        where = "follows" if edit.side == "after" else "precedes"
        raise CannotFold(f"cannot fold a map that {where} it")
    part = law.part(call)
    part.check(edit.affine, edit.side)
    part.read_bias(part.view or _kernel(call, part.kernel))
    is_lost = edit.side == "after" and part.bias is None and not part.one_hot
    if is_lost and not edit.affine.only_scales():
        raise CannotFold("has no bias for the offset t")


def fold_into(call: NodeCall, edits: Sequence[Edit]) -> dict[int, Array]:
    """Return the inputs of a node that change with all edits, by place, in float64."""
    part = LINEAR_NODES[call.layer.op_type].part(call)
    k, b = part.read()
    for edit in edits:
        k, b = (
            part.after(k, b, edit.affine)
            if edit.side == "after"
            else part.before(k, b, edit.affine)
        )
    return part.write(k, b)
