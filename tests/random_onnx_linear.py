"""Affine and linear nodes of random ONNX graphs. Each function adds nodes behind a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random_onnx import Growing

NEWEST = 99
ALL = (2, 3, 4, 5)
Add = Callable[["Growing", str], Any]
Row = tuple[Add, tuple[int, ...], int, int, int]


# -- affine ---------------------------------------------------------------------------------------


def add_affine(g: Growing, x: str) -> str:
    """A BatchNormalization, or arithmetic with constants."""
    if g.d.chance(0.5):
        return batch_normalization(g, x)
    shape = layout(g, x)
    if g.d.chance(0.15):  # rectifiers let it pass
        return one(g, "Mul", [x, g.positive(*shape)])
    if g.d.chance(0.3):  # BN written out
        x = one(g, "Sub", [x, g.weights(*shape, fan=1)])
        x = one(g, "Div", [x, g.positive(*shape)])
    for op in g.d.one([["Mul"], ["Add"], ["Sub"], ["Div"], ["Mul", "Add"], ["Mul", "Add"]]):
        x = arithmetic(g, op, x, shape)
        shape = layout(g, x) if g.d.chance(0.2) else shape
    return x


def batch_normalization(g: Growing, x: str) -> str:
    c = g.shape(x)[1]
    inputs = [x, g.scale(c), g.weights(c, fan=2), g.weights(c, fan=2), g.positive(c)]
    return one(g, "BatchNormalization", inputs, epsilon=g.d.one([None, 1e-3, 0.1]))


def arithmetic(g: Growing, op: str, x: str, shape: tuple[int, ...]) -> str:
    factors = {"Mul": g.scale, "Div": g.positive}
    constant = factors[op](*shape) if op in factors else g.weights(*shape, fan=1)
    return one(g, op, [x, constant] if g.d.chance(0.7) else [constant, x])


def layout(g: Growing, x: str) -> Any:
    """The shape of a constant: per channel, for all alike, along several axes, beyond them."""
    shape, d = g.shape(x), g.d
    rank = len(shape)
    kind = d.int(1, 20)
    if kind <= 9:
        axis = 1 if d.chance(0.6) else d.int(1, rank - 1)
    elif kind <= 12:
        return d.one([(), (1,), (1,) * rank])
    elif kind <= 14:
        return shape[-1:]
    elif kind <= 16:
        return d.one([(1, *shape[1:]), shape[1:]])
    elif kind == 17:
        return shape  # differs between the examples of a batch
    elif kind == 18:
        return (d.one([1, 2]), *(1,) * rank)  # adds an axis
    else:
        wide = [n if d.chance(0.5) else 1 for n in shape[1:]]
        return d.one([tuple(wide), (1, *wide)])
    along = [n if k == axis else 1 for k, n in enumerate(shape)]
    return d.one([tuple(along), tuple(along[axis:])])


# -- linear ---------------------------------------------------------------------------------------


def conv(g: Growing, x: str) -> str:
    (_, c, *size), d = g.shape(x), g.d
    n = len(size)
    group = d.one([k for k in (1, 1, 2, 3, c) if c % k == 0])
    out = group * d.int(1, 3)
    kernel = [d.int(1, 3) if d.chance(0.7) else 1 for _ in size]
    inputs = [x, g.weights(out, c // group, *kernel), *maybe(g, lambda: g.weights(out, fan=1))]
    strides, dilations, around = steps(g, n), None, padding(g, n)
    if "auto_pad" not in around and d.chance(0.4):  # onnxruntime refuses both together
        dilations = [d.int(1, 2) for _ in size]
    return one(
        g, "Conv", inputs, group=group if group > 1 or d.chance(0.5) else None, strides=strides,
        kernel_shape=d.one([kernel, None]), dilations=dilations, **around,
    )  # fmt: skip


def conv_transpose(g: Growing, x: str) -> str:
    (_, c, *size), d = g.shape(x), g.d
    n = len(size)
    group = d.one([k for k in (1, 1, 2, c) if c % k == 0])
    out = d.int(1, 2)
    kernel = [d.int(1, 3) for _ in size]
    inputs = [
        x,
        g.weights(c, out, *kernel, fan=c),
        *maybe(g, lambda: g.weights(out * group, fan=1)),
    ]
    strides = steps(g, n)
    how: dict[str, Any] = d.one([{}, {"pads": [d.int(0, k - 1) for k in kernel * 2]}])
    if d.chance(0.2) and strides:
        how["output_padding"] = [d.int(0, s - 1) for s in strides]
    elif d.chance(0.1):
        how = {"auto_pad": "VALID"}
    return one(g, "ConvTranspose", inputs, group=group, strides=strides, kernel_shape=kernel, **how)


def steps(g: Growing, n: int) -> Any:
    return g.d.one([None, [1] * n, [2] * n, [g.d.int(1, 2) for _ in range(n)]])


def padding(g: Growing, n: int) -> Any:
    kinds: list[dict[str, Any]] = [
        {}, {}, {"pads": [0] * 2 * n}, {"pads": [1] * 2 * n},
        {"pads": [g.d.int(0, 1) for _ in range(2 * n)]},
        {"auto_pad": g.d.one(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])},
    ]  # fmt: skip
    return g.d.one(kinds)


def gemm(g: Growing, x: str) -> str:
    (m, k), d = g.shape(x), g.d
    n = d.int(3, 6)
    left, trans_a, trans_b = d.chance(0.12), d.chance(0.08), d.chance(0.5)
    if left:  # the constant is A, so that examples are mixed
        b = (m, k)[::-1] if trans_b else (m, k)
        pair = [g.weights(*((b[0], n) if trans_a else (n, b[0]))), x]
        rows, columns = n, b[1]
    else:
        rows, inner = (k, m) if trans_a else (m, k)
        pair = [x, g.weights(*((n, inner) if trans_b else (inner, n)), fan=inner)]
        columns = n
    shape = d.one([(columns,), (columns,), (1, columns), (), (1,), (rows, columns), (rows, 1)])
    c = maybe(g, lambda: g.weights(*shape, fan=1)) if g.opset >= 11 or d.chance(0.5) else []
    c = c or ([] if g.opset >= 11 else [g.weights(columns, fan=1)])
    alpha, beta = d.one([(None, None), (0.5, None), (-1.5, 0.7)])
    return one(
        g, "Gemm", pair + c, transA=int(trans_a), transB=int(trans_b), alpha=alpha, beta=beta
    )


def matmul(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    k = shape[-1]
    rights: list[tuple[int, ...]] = [(k, d.int(2, 5))] * 4 + [(k,)]
    if len(shape) > 2:
        rights += [(1, k, 3), (*shape[1:-2], k, 3), (shape[0], *shape[1:-2], k, 2)]
    y = one(g, "MatMul", [x, g.weights(*(right := d.one(rights)), fan=right[-2:][0])])
    return one(g, "Add", [y, g.weights(g.shape(y)[-1], fan=1)]) if d.chance(0.5) else y


def matmul_left(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    k = shape[-2]
    lefts: list[tuple[int, ...]] = [(3, k), (2, k), (1, 3, k), (*shape[1:-2], 2, k), (k,)]
    left = d.one(lefts)
    return one(g, "MatMul", [g.weights(*left, fan=left[-1]), x])


def einsum(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    names = "abcde"[: len(shape)]
    sizes = dict(zip(names, shape, strict=True)) | {"x": 3}
    last = names[-1]
    kinds = [(f"{last}x", f"{names[:-1]}x"), (f"x{last}", f"{names[:-1]}x")]
    if d.chance(0.2):
        return one(g, "Einsum", [x, g.weights(shape[-1], 3)], equation="...i,ij->...j")
    if len(shape) > 2:
        middle = names[-2]
        kinds += [
            (f"{middle}x", f"{names[:-2]}x{last}"), (f"{middle}{last}x", f"{names[:-1]}x"),
            (f"{middle}{last}x", f"{names[:-2]}x"), (f"{last}x", f"{names[:-2]}x"),
            (last, names), (f"{middle}x", f"x{last}{names[:-2]}"),
        ]  # fmt: skip
    kernel, out = d.one(kinds)
    weights = g.weights(*(sizes[c] for c in kernel), fan=sizes[last])
    if d.chance(0.3):
        return one(g, "Einsum", [weights, x], equation=f"{kernel},{names}->{out}")
    space = d.one(["", " "])
    return one(g, "Einsum", [x, weights], equation=f"{names},{kernel}{space}->{space}{out}")


def gather(g: Growing, _: str) -> str:
    d = g.d
    shape, axis = d.one([((7, 4), 0), ((4, 7), 1), ((7,), 0), ((7, 3, 2), 0)])
    rows = g.source(d.one([(2, 5), (2,), (2, 3)]), below=7)
    return one(g, "Gather", [g.weights(*shape, fan=1), rows], axis=axis)


def recurrent(g: Growing, x: str) -> list[str]:
    d = g.d
    if d.chance(0.6):
        x = one(g, "Transpose", [x], perm=[1, 0, 2])
    _, batch, features = g.shape(x)
    op, gates = d.one([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    direction = d.one(["forward", "forward", "reverse", "bidirectional"])
    n, hidden = 1 + (direction == "bidirectional"), 3
    inputs = [x, g.weights(n, gates * hidden, features, fan=features)]
    inputs.append(g.weights(n, gates * hidden, hidden, fan=hidden))
    initial = d.chance(0.2)
    inputs += [g.weights(n, 2 * gates * hidden, fan=4)] if d.chance(0.7) else [""] * initial
    inputs += ["", g.weights(n, batch, hidden, fan=4)] if initial else []
    how: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    if op == "GRU":
        how["linear_before_reset"] = d.int(0, 1)
    y, last = g.node(op, inputs, 2, **how)
    if d.chance(0.3):
        return [one(g, "Transpose", [last], perm=[1, 0, 2])]
    if n == 1 and d.chance(0.5):
        return [along(g, "Squeeze", y, [1])]
    y = one(g, "Transpose", [y], perm=[2, 0, 1, 3])
    return [one(g, "Reshape", [y, g.integers(0, 0, n * hidden)])]


def layer_normalization(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    axis = d.one([-1, -1, len(shape) - 1, d.int(1, len(shape) - 1)])
    own = shape[axis:] if axis > 0 else shape[-1:]
    op = d.one(["LayerNormalization", "LayerNormalization", "RMSNormalization"])
    if op == "RMSNormalization" and g.opset >= 23:
        return one(g, op, [x, g.scale(*own)], axis=axis)
    bias = maybe(g, lambda: g.weights(*own, fan=1))
    return one(g, "LayerNormalization", [x, g.scale(*own), *bias], axis=axis)


def group_normalization(g: Growing, x: str) -> str:
    c = g.shape(x)[1]
    groups = g.d.one([k for k in (1, 2, 3) if c % k == 0])
    inputs = [x, g.scale(c), g.weights(c, fan=1)]
    return one(g, "GroupNormalization", inputs, num_groups=groups)


def instance_normalization(g: Growing, x: str) -> str:
    c = g.shape(x)[1]
    return one(g, "InstanceNormalization", [x, g.scale(c), g.weights(c, fan=1)])


def along(g: Growing, op: str, x: str, axes: list[int], **how: Any) -> str:
    """Add a node that has its axes as an attribute at first, and as an input since some opset."""
    since = 13 if op in ("Squeeze", "Unsqueeze", "ReduceSum") else 18
    if g.opset < since:
        return one(g, op, [x], axes=axes, **how)
    return one(g, op, [x, g.integers(*axes)], **how)


def maybe(g: Growing, add: Callable[[], str], p: float = 0.6) -> list[str]:
    return [add()] if g.d.chance(p) else []


def one(g: Growing, op: str, inputs: list[str], **attributes: Any) -> str:
    """Add a node with one output."""
    return g.node(op, inputs, **attributes)[0]


# With the ranks and opsets that they are for, and how often they come.
LINEAR: list[Row] = [
    (conv, (3, 4, 5), 1, NEWEST, 10), (conv_transpose, (3, 4), 1, NEWEST, 4),
    (gemm, (2,), 1, NEWEST, 8), (matmul, ALL, 1, NEWEST, 3), (matmul_left, (2, 3, 4), 1, NEWEST, 2),
    (einsum, (2, 3, 4), 12, NEWEST, 3), (gather, ALL, 1, NEWEST, 1),
    (recurrent, (3,), 7, NEWEST, 8), (layer_normalization, ALL, 17, NEWEST, 3),
    (group_normalization, (3, 4), 21, NEWEST, 4),
    (instance_normalization, (3, 4), 6, NEWEST, 2),
]  # fmt: skip
