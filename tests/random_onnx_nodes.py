"""Nodes of random ONNX graphs that maps pass through, or do not pass. As in random_onnx_linear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper
from random_onnx_linear import (
    ALL,
    LINEAR,
    NEWEST,
    Add,
    Row,
    add_affine,
    along,
    batch_normalization,
    conv,
    gemm,
    matmul,
    maybe,
    one,
    padding,
    steps,
)

if TYPE_CHECKING:
    from random_onnx import Growing


# -- pass-through ---------------------------------------------------------------------------------


def reshape(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    kinds = [[0, -1], [shape[0], -1], [-1, *shape[1:]], [0, *shape[1:]], [0, *shape[:0:-1]]]
    kinds += [[-1, shape[-1]], [0, 0, -1], [0, -1, shape[-1]]] if len(shape) > 2 else []
    axis = d.int(1, len(shape) - 1)
    if shape[axis] % 2 == 0:
        kinds += [[0, *shape[1:axis], 2, shape[axis] // 2, *shape[axis + 1 :]]] * 2
    return one(g, "Reshape", [x, g.integers(*d.one(kinds))])


def flatten(g: Growing, x: str) -> str:
    axes = [None, 1, 2, 0, len(g.shape(x)) - 1]
    return one(g, "Flatten", [x], axis=g.d.one(axes + ([-1] if g.opset >= 11 else [])))


def transpose(g: Growing, x: str) -> str:
    rank, d = len(g.shape(x)), g.d
    rest = [int(k) + 1 for k in d.random.permutation(rank - 1)]
    back = [0, rank - 1, *range(1, rank - 1)]
    last = [0, *range(2, rank), 1]
    anyhow = [int(k) for k in d.random.permutation(rank)]
    return one(g, "Transpose", [x], perm=d.one([[0, *rest], back, last, last, anyhow, None]))


def squeeze(g: Growing, x: str) -> str:
    ones = [k for k, n in enumerate(g.shape(x)) if n == 1] or [9]
    return along(g, "Squeeze", x, [g.d.one(ones)])


def unsqueeze(g: Growing, x: str) -> str:
    rank = len(g.shape(x))
    options = [[1], [rank], [2], [1, 2], [0]]
    return along(g, "Unsqueeze", x, g.d.one(options + ([[-1]] if g.opset >= 11 else [])))


def slice_of(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    axis = d.int(1, len(shape) - 1) if d.chance(0.95) else 0
    n = shape[axis]
    if g.opset < 10:
        return one(g, "Slice", [x], axes=[axis], starts=[d.int(0, n - 1)], ends=[d.one([n, 999])])
    start, end, step = d.one([(1, 999, 1), (0, -1, 1), (-2, 999, 1), (0, n, 2), (-1, -999, -1)])
    inputs = [x, *(g.integers(k) for k in (start, end, axis - d.one([0, len(shape)])))]
    return one(g, "Slice", [*inputs, g.integers(step)] if step != 1 or d.chance(0.5) else inputs)


def split(g: Growing, x: str) -> list[str]:
    shape, d = g.shape(x), g.d
    axis = d.int(1, len(shape) - 1)
    n = shape[axis]
    first = d.int(1, max(1, n - 1))
    parts = [first, n - first]
    if d.chance(0.3) and n % 2 == 0:  # equal parts are not named below opset 18
        more = {"num_outputs": 2} if g.opset >= 18 else {}
        return g.node("Split", [x], 2, axis=axis, **more)
    if g.opset < 13:
        return g.node("Split", [x], 2, axis=axis, split=parts)
    return g.node("Split", [x, g.integers(*parts)], 2, axis=axis)


def concat(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    axis = d.int(1, len(shape) - 1) if d.chance(0.4) else 1

    def fits(other: str) -> bool:
        theirs = g.shape(other)
        same = [m == n for k, (m, n) in enumerate(zip(shape, theirs, strict=False)) if k != axis]
        return len(theirs) == len(shape) and all(same) and g.values[other].dtype.kind == "f"

    others = [t for t in g.tensors if fits(t)]
    parts = [x, d.one(others)] if d.chance(0.7) else [d.one(others), x, d.one(others)]
    if d.chance(0.1):
        wide = [2 if k == axis else n for k, n in enumerate(shape)]
        parts.append(g.weights(*wide, fan=1))
    return one(g, "Concat", parts, axis=axis)


def expand(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    wide = [2 if n == 1 and d.chance(0.7) else d.one([1, n]) for n in shape]
    return one(g, "Expand", [x, g.integers(*d.one([wide, wide, [2, *wide]]))])


def tile(g: Growing, x: str) -> str:
    rank = len(g.shape(x))
    repeats = [1] * rank
    repeats[g.d.int(1, rank - 1)] = 2
    return one(g, "Tile", [x, g.integers(*repeats)])


def pad(g: Growing, x: str) -> str:
    rank, d = len(g.shape(x)), g.d
    mode = d.one([None, "constant", "constant", "edge", "reflect"])
    first = 2 if d.chance(0.7) and rank > 2 else 1
    pads = [d.int(0, 1) if k % rank >= first else 0 for k in range(2 * rank)]
    value = d.one([None, None, 0.0, 0.5]) if mode in (None, "constant") else None
    if mode == "reflect" and min(g.shape(x)) < 2:
        mode = "edge"  # onnxruntime does not reflect an axis of length 1
    if g.opset < 11:
        return one(g, "Pad", [x], pads=pads, mode=mode, value=value)
    inputs = [x, g.integers(*pads)]
    return one(g, "Pad", inputs if value is None else [*inputs, g.constant(value)], mode=mode)


def resize(g: Growing, x: str) -> str:
    d = g.d
    scales = np.array([1, 1, d.one([1, 2]), 2], np.float32)
    mode = d.one(["nearest", "nearest", "linear", "cubic"])
    if g.opset == 9:
        return one(g, "Upsample", [x, g.constant(scales, as_is=True)], mode="nearest")
    if g.opset == 10:
        return one(g, "Resize", [x, g.constant(scales, as_is=True)], mode="nearest")
    how: dict[str, Any] = {"mode": mode}
    how["coordinate_transformation_mode"] = d.one(["asymmetric", "half_pixel", "align_corners"])
    if mode == "nearest":
        how["nearest_mode"] = d.one(["floor", "round_prefer_floor"])
    roi = "" if g.opset >= 13 else g.constant(np.zeros(0, np.float32), as_is=True)
    if d.chance(0.6) or g.opset < 13:
        return one(g, "Resize", [x, roi, g.constant(scales, as_is=True)], **how)
    sizes = [int(n * s) for n, s in zip(g.shape(x), scales, strict=True)]
    return one(g, "Resize", [x, "", "", g.integers(*sizes)], **how)


def pool(g: Growing, x: str) -> str:
    d, n = g.d, len(g.shape(x)) - 2
    op = d.one(["AveragePool", "AveragePool", "MaxPool", "MaxPool", "LpPool"])
    how: dict[str, Any] = {"kernel_shape": [d.int(1, 2) for _ in range(n)], "strides": steps(g, n)}
    how |= padding(g, n)
    if "auto_pad" in how:  # onnxruntime would pad by less than nothing
        how["strides"] = None
    if "pads" in how:  # onnxruntime wants them smaller than the kernel
        how["pads"] = [
            min(p, k - 1) for p, k in zip(how["pads"], how["kernel_shape"] * 2, strict=True)
        ]
    if op == "LpPool":
        return one(g, op, [x], kernel_shape=how["kernel_shape"])
    if op == "AveragePool":
        how["count_include_pad"] = d.one([None, 0, 1])
    # onnx infers other shapes than onnxruntime where a last window begins behind the tensor.
    fits = not how.keys() & {"auto_pad", "pads"} and min(how["kernel_shape"]) == 2
    if d.chance(0.4) and g.opset >= 10 and fits:
        how["ceil_mode"] = 1
    return one(g, op, [x], **how)


def global_pool(g: Growing, x: str) -> str:
    return one(g, g.d.one(["GlobalAveragePool", "GlobalMaxPool"]), [x])


def reduce(g: Growing, x: str) -> str:
    rank, d = len(g.shape(x)), g.d
    op = d.one(["ReduceMean", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
    axes = d.one([[rank - 1], [d.int(1, rank - 1)], list(range(2, rank)) or [1]])
    axes = [k - rank for k in axes] if d.chance(0.3) and g.opset >= 11 else axes
    axes = axes if d.chance(0.95) else [0]
    return along(g, op, x, axes, keepdims=d.one([None, 0, 1]))


def identity(g: Growing, x: str) -> str:
    return one(g, g.d.one(["Identity", "Dropout"]), [x])


def add_branches(g: Growing, x: str) -> str:
    d, shape = g.d, g.shape(x)
    alike = [t for t in g.tensors if g.shape(t) == shape and g.values[t].dtype.kind == "f"]
    small = [t for t in g.tensors if broadcasts(g.shape(t), shape)]
    others = small if d.chance(0.15) else ([t for t in alike if t != x] or alike)
    op = d.one(["Add", "Add", "Add", "Add", "Sub", "Mul", "Max", "Sum"])
    y = d.one(others)
    return one(g, op, [x, y] if d.chance(0.5) else [y, x])


def broadcasts(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    pairs = zip(theirs[::-1], ours[::-1], strict=False)
    return 0 < len(theirs) <= len(ours) and all(n in (1, m) for n, m in pairs)


def depth(g: Growing, x: str) -> str:
    d, (_, c, *size) = g.d, g.shape(x)
    fitting = ["DepthToSpace"] * (c % 4 == 0) + ["SpaceToDepth"] * all(n % 2 == 0 for n in size)
    op = d.one(fitting)
    modes = [None, "DCR", "CRD"] if g.opset >= 11 and op == "DepthToSpace" else [None]
    return one(g, op, [x], blocksize=2, mode=d.one(modes))


def relu(g: Growing, x: str) -> str:
    return one(g, "Relu", [x])


def leaky_relu(g: Growing, x: str) -> str:
    shape, d = g.shape(x), g.d
    if d.chance(0.5):
        return one(g, "LeakyRelu", [x], alpha=d.one([None, 0.2, 1.0, -0.5]))
    slopes: list[tuple[int, ...]] = [shape[1:], (shape[1], *[1] * (len(shape) - 2)), (1,)]
    slope = d.one(slopes)
    return one(g, "PRelu", [x, g.scale(*slope)])


def clip(g: Growing, x: str) -> str:
    low, high = g.d.one([(0.0, 1.0), (0.0, 6.0), (-0.5, 0.5), (None, 1.0), (0.0, None)])
    if g.opset < 11:
        return one(g, "Clip", [x], min=low, max=high)
    bounds = ["" if bound is None else g.constant(bound) for bound in (low, high)]
    return one(g, "Clip", [x, *bounds])


def pre_activated(g: Growing, x: str) -> Any:
    """BN, a rectifier, perhaps a pool, and a linear operation: DenseNet's pattern."""
    d = g.d
    x = add_affine(g, x)
    x = d.one([relu, relu, clip, leaky_relu])(g, x)
    if d.chance(0.4):
        g.tensors.append(x)  # may be read again
    rank = len(g.shape(x))
    if rank > 2 and d.chance(0.4):
        x = d.one([pool, reduce, transpose, concat])(g, x)
        rank = len(g.shape(x))
    last: list[Add] = [matmul, *([conv] * 3 if 3 <= rank <= 5 else []), *([gemm] * (rank == 2))]
    return d.one(last)(g, x)


def twice(g: Growing, x: str) -> list[str]:
    """Two convolutions that share a kernel, each with a BatchNormalization of its own, or not."""
    _, c, *size = g.shape(x)
    kernel, bias = g.weights(c, c, *[1 for _ in size]), maybe(g, lambda: g.weights(c, fan=1))
    made = [one(g, "Conv", [x, kernel, *bias])]
    made.append(one(g, "Conv", [g.d.one([made[0], x]), kernel, *bias]))
    return [batch_normalization(g, y) if g.d.chance(0.7) else y for y in made]


# -- other operations, through which no map passes ------------------------------------------------


def other(g: Growing, x: str) -> str:
    rank, d = len(g.shape(x)), g.d
    op = d.one(["Sigmoid", "Tanh", "Softmax", "HardSigmoid", "Elu", "Abs", "Neg", "Exp", "Sqrt"])
    if op == "Softmax":
        return one(g, op, [x], axis=rank - 1)
    return one(g, op, [x])


def condition(g: Growing, x: str) -> str:
    """An If that reads a tensor from outside its branches."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, [x], [f"{name}_{g.count}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_{g.count}", TensorProto.UNDEFINED, None)],
        )
        for name, op in (("then_branch", "Relu"), ("else_branch", "Tanh"))
    }
    for branch in branches.values():
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(g.dtype))
        branch.output[0].type.tensor_type.elem_type = kind
    return one(g, "If", [g.constant(np.array(g.d.chance(0.5)))], **branches)


PASS_THROUGH: list[Row] = [
    (reshape, ALL, 5, NEWEST, 2), (flatten, ALL, 9, NEWEST, 1), (transpose, ALL, 1, NEWEST, 2),
    (squeeze, (3, 4, 5), 1, NEWEST, 2), (unsqueeze, (2, 3, 4), 1, NEWEST, 1),
    (slice_of, ALL, 1, NEWEST, 2), (split, ALL, 2, NEWEST, 3), (concat, ALL, 4, NEWEST, 3),
    (expand, ALL, 8, NEWEST, 2), (tile, ALL, 6, NEWEST, 2), (pad, ALL, 2, NEWEST, 2),
    (resize, (4,), 9, NEWEST, 4), (pool, (3, 4), 7, NEWEST, 5),
    (global_pool, (3, 4), 1, NEWEST, 2), (reduce, ALL, 1, NEWEST, 4),
    (identity, ALL, 7, NEWEST, 2), (add_branches, ALL, 8, NEWEST, 4),
    (depth, (4,), 1, NEWEST, 5), (relu, ALL, 6, NEWEST, 2), (leaky_relu, ALL, 9, NEWEST, 2),
    (clip, ALL, 6, NEWEST, 1),
]  # fmt: skip
OTHERS: list[Row] = [
    (pre_activated, ALL, 1, NEWEST, 5), (twice, (3, 4), 1, NEWEST, 1), (other, ALL, 6, NEWEST, 2),
    (condition, ALL, 7, NEWEST, 1),
]  # fmt: skip


def choices(g: Growing, x: str, rows: list[Row]) -> list[Add]:
    """The functions that fit a tensor, as often as they come."""
    rank = len(g.shape(x))
    return [
        add
        for add, ranks, first, last, times in rows
        if rank in ranks and first <= g.opset <= last
        for _ in range(times)
    ]


def add_foldable(g: Growing, x: str) -> Any:
    """A linear node and an affine one behind it or ahead of it, with others between them."""
    d = g.d

    def add(rows: list[Row], x: str) -> str:
        made = d.one(choices(g, x, rows))(g, x)
        first, *others = [made] if isinstance(made, str) else made
        for other in others:  # a map passes a Split only if all its readers take it
            g.tensors.append(add(LINEAR, other) if d.chance(0.7) else other)
        if d.chance(0.06):
            g.tensors.append(first)  # may be read again
        return str(first)

    is_behind = d.chance(0.5)
    x = add(LINEAR, x) if is_behind else add_affine(g, x)
    for _ in range(d.one([0, 1, 1, 2])):
        x = add(PASS_THROUGH, x)
    return add_affine(g, x) if is_behind else d.one(choices(g, x, LINEAR))(g, x)
