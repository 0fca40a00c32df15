"""Each pass-through node between an affine node and a linear node, from both sides."""

import numpy as np
import pytest
from onnx_chains import Node, X, batch_norm, chain, judge, node, only_fold, only_reason, random

from kerasbn.folding.onnx.fold import fold_plan

R = random
TANH = node("Tanh")


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


Shape = tuple[int | str, ...]
# name: the node, the shape of its input, and its opset. Channels are axis 1 of both ends.
ANY: dict[str, tuple[Node, Shape, int]] = {
    "Identity": (node("Identity"), (2, 4, 5), 21),
    "Dropout": (node("Dropout"), (2, 4, 5), 21),
    "Dropout, opset 9": (node("Dropout", ratio=0.5), (2, 4, 5), 9),
    "Cast": (node("Cast", to=1), (2, 4, 5), 21),
    "AveragePool": (node("AveragePool", kernel_shape=[2], pads=[1, 0]), (2, 4, 5), 21),
    "AveragePool, counted": (
        node("AveragePool", kernel_shape=[2], strides=[2], count_include_pad=1), (2, 4, 6), 21,
    ),
    "GlobalAveragePool": (node("GlobalAveragePool"), (2, 4, 5, 3), 21),
    "Pad, edge": (node("Pad", X, ints(0, 0, 1, 0, 0, 2), mode="edge"), (2, 4, 5), 21),
    "Pad, reflect": (node("Pad", pads=[0, 0, 1, 0, 0, 2], mode="reflect"), (2, 4, 5), 10),
    "Pad, axes": (node("Pad", X, ints(1, 2), "", ints(2), mode="edge"), (2, 4, 5), 21),
    "Resize, nearest": (
        node("Resize", X, "", np.array([1, 1, 2, 1.5], np.float64).astype("f4")), (1, 4, 3, 4), 21,
    ),
    "Resize, linear": (
        node("Resize", X, "", "", ints(1, 4, 7, 9), mode="linear"), (1, 4, 3, 4), 21,
    ),
    "Resize, cubic": (node("Resize", X, "", "", ints(1, 4, 7, 9), mode="cubic"), (1, 4, 3, 4), 21),
    "Upsample": (node("Upsample", X, np.array([1, 1, 2, 2], "f4")), (1, 4, 3, 4), 9),
    "Tile": (node("Tile", X, ints(1, 1, 3)), (2, 4, 5), 21),
    "Slice": (node("Slice", X, ints(1), ints(4), ints(2)), (2, 4, 5), 21),
    "Slice, opset 9": (node("Slice", starts=[1], ends=[9], axes=[2]), (2, 4, 5), 9),
    "Slice, backward": (node("Slice", X, ints(-1), ints(-99), ints(1), ints(-1)), (2, 4, 5), 21),
    "ReduceMean": (node("ReduceMean", axes=[2]), (2, 4, 5), 13),
    "ReduceMean, opset 18": (node("ReduceMean", X, ints(-1)), (2, 4, 5), 18),
    "ReduceMean, removed": (node("ReduceMean", X, ints(2, 3), keepdims=0), (2, 4, 5, 3), 21),
    "ReduceSum": (node("ReduceSum", X, ints(2), keepdims=0), (2, 4, 5), 21),
    "Squeeze": (node("Squeeze", X, ints(-1)), (2, 4, 5, 1), 21),
    "Squeeze, opset 11": (node("Squeeze", axes=[2]), (2, 4, 1, 5), 11),
    "Unsqueeze": (node("Unsqueeze", X, ints(3)), (2, 4, 5), 21),
    "Expand": (node("Expand", X, ints(2, 4, 3)), (2, 4, 1), 21),
    "Reshape": (node("Reshape", X, ints(0, 4, -1)), (2, 4, 5, 3), 21),
    "Reshape, a free axis": (node("Reshape", X, ints(0, 4, -1)), ("N", 4, 5, 3), 21),
    "Reshape, a free axis written": (node("Reshape", X, ints(-1, 4, 5, 3)), ("N", 4, 15), 21),
    "Transpose": (node("Transpose", perm=[2, 1, 0]), (2, 4, 5), 21),
    "DepthToSpace, one channel in each": (
        node("Slice", X, ints(0), ints(4), ints(1)), (1, 4, 3, 3), 21,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANY)
def test_any_map_passes_forward(name: str) -> None:
    made, shape, opset = ANY[name]
    rank = {"ReduceMean, removed": 2, "ReduceSum": 2, "Squeeze": 3, "Squeeze, opset 11": 3,
            "Unsqueeze": 4, "Reshape": 3, "Reshape, a free axis": 3,
            "Reshape, a free axis written": 4}.get(name, len(shape))  # fmt: skip
    ones = [1] * (rank - 2)
    last = node("Conv", X, R(3, 4, *ones)) if ones else node("Gemm", X, R(4, 3))
    fold = only_fold(chain(shape, TANH, batch_norm(4), made, last, TANH, opset=opset))
    assert (fold.direction, fold.through, fold.into) == ("forward", ("n2",), ("n3",))


@pytest.mark.parametrize("name", ANY)
def test_any_map_passes_backward(name: str) -> None:
    made, shape, opset = ANY[name]
    first = node("Conv", X, R(4, shape[1], *[1] * (len(shape) - 2)), R(4))
    fold = only_fold(chain(shape, TANH, first, made, batch_norm(4), TANH, opset=opset))
    assert (fold.direction, fold.through, fold.into) == ("backward", ("n2",), ("n1",))


LARGEST = {
    "MaxPool": node("MaxPool", kernel_shape=[2], pads=[1, 1]),
    "GlobalMaxPool": node("GlobalMaxPool"),
    "ReduceMax": node("ReduceMax", X, ints(2)),
    "ReduceMin": node("ReduceMin", X, ints(2)),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_of_several_needs_a_positive_scale(name: str) -> None:
    conv = node("Conv", X, R(3, 4, 1))
    rising = batch_norm(4, positive=True)
    assert only_fold(chain((2, 4, 5), TANH, rising, LARGEST[name], conv, TANH)).through == ("n2",)
    reason = only_reason(chain((2, 4, 5), TANH, batch_norm(4), LARGEST[name], conv, TANH))
    assert "a negative s would turn into the minimum" in reason


SCALES = {
    "Relu": node("Relu"),
    "LeakyRelu": node("LeakyRelu", alpha=-0.3),
    "PRelu": node("PRelu", X, R(4, 1)),
    "Pad": node("Pad", X, ints(0, 0, 1, 0, 0, 1)),
    "AveragePool, counted": node("AveragePool", kernel_shape=[2], pads=[1, 1], count_include_pad=1),
    "AveragePool, last window": node(
        "AveragePool", kernel_shape=[2], strides=[2], ceil_mode=1, count_include_pad=1
    ),
    "Sigmoid of itself": node("Div", R(2, 4, 5), X),
}


@pytest.mark.parametrize("name", list(SCALES)[:-1])
def test_only_a_scale_passes(name: str) -> None:
    conv = node("Conv", X, R(3, 4, 1))
    scale = node("Mul", X, np.abs(R(4, 1)))
    assert only_fold(chain((2, 4, 5), TANH, scale, SCALES[name], conv, TANH)).through == ("n2",)
    _, plan = judge(
        chain((2, 4, 5), TANH, batch_norm(4, positive=True), SCALES[name], conv, TANH), clip=False
    )
    assert plan.kept()


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("shape", [(2, 8, 3, 4), ("N", 8, "H", "W")])
def test_blocks_of_depth_pass_a_map_of_channels(mode: str, shape: Shape) -> None:
    first, last = node("Conv", X, R(8, 8, 1, 1)), node("Conv", X, R(3, 2, 1, 1))
    moved = node("DepthToSpace", blocksize=2, mode=mode)
    assert only_fold(chain(shape, TANH, first, moved, batch_norm(2), TANH)).through == ("n2",)
    groups = [np.tile(v, 4) if mode == "DCR" else np.repeat(v, 4) for v in (R(2), R(2, seed=1))]
    scale = [node(op, X, v.reshape(8, 1, 1)) for op, v in zip(("Mul", "Add"), groups, strict=True)]
    assert only_fold(chain(shape, TANH, *scale, moved, last, TANH)).through == ("n3",)
    assert only_reason(chain(shape, TANH, batch_norm(8), moved, last, TANH))


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), ("N", 3, "H", "W")])
def test_blocks_of_space_pass_a_map_of_channels(shape: Shape) -> None:
    first, last = node("Conv", X, R(3, 3, 1, 1)), node("Conv", X, R(3, 12, 1, 1))
    moved = node("SpaceToDepth", blocksize=2)
    assert only_fold(chain(shape, TANH, batch_norm(3), moved, last, TANH)).through == ("n2",)
    if "N" not in shape:
        scale = node("Mul", X, np.tile(R(3), 4).reshape(12, 1, 1))
        assert only_fold(chain(shape, TANH, first, moved, scale, TANH)).through == ("n2",)


def test_blocks_of_a_free_height_carry_a_map_along_the_width() -> None:
    """The height before and after is not the same, so one name cannot stand for both."""
    first, last = node("Mul", X, R(6, 1, 4)), node("Mul", X, R(24, 1, 2))
    moved = node("SpaceToDepth", blocksize=2)
    _, plan = judge(chain(("N", 6, "H", 4), TANH, first, moved, last, TANH))
    assert [type(each).__name__ for each in plan] == ["Fold", "Kept"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (node("Cast", to=10), "rounds"),
        (node("Slice", X, ints(0), ints(2), ints(1)), ""),
        (node("Reshape", X, ints(2, 5, 4)), "shares its kernel along an axis"),
        (node("Tile", X, ints(1, 2, 1)), "mixes positions"),
        (node("LpPool", kernel_shape=[2]), "is a LpPool, which no map folds into"),
        (node("Dropout", X, np.array(0.0, "f4"), np.array(True)), "is in training mode"),
        (node("Pad", X, ints(0, 0, 1, 0, 0, 1), np.array(2, "f4")), "pads with 2, which s and t"),
    ],
)
def test_what_stops_a_map_says_why(made: Node, reason: str) -> None:
    last = [node("Cast", to=1)] if made.op == "Cast" else []
    channels = {"Slice": 2, "Tile": 8, "Reshape": 5}.get(made.op, 4)
    conv = node("Conv", X, R(3, channels, 1))
    model = chain((2, 4, 5), TANH, batch_norm(4), made, *last, conv, TANH)
    if not reason:
        assert only_fold(model).through == ("n2",)
    else:
        assert reason in only_reason(model, tolerance=1e-2)


def test_a_negative_scale_passes_max_pooling_in_part() -> None:
    ends = node("Conv", X, R(4, 3, 3), R(4)), node("Conv", X, R(3, 4, 3), pads=[1, 1])
    pool = node("MaxPool", kernel_shape=[2])
    fold = only_fold(chain((2, 3, 9), TANH, ends[0], node("Relu"), pool, batch_norm(4), ends[1]))
    assert (fold.direction, fold.into, fold.clips) == ("both", ("n1", "n5"), ("n2",))


def test_no_map_passes_an_order_of_other_axes() -> None:
    conv, turned = node("Conv", X, R(4, 4, 1)), node("Transpose", perm=[0, 1, 2])
    model = chain((2, 4, 5), TANH, conv, turned, batch_norm(4), TANH)
    (node_,) = (each for each in model.graph.node if each.op_type == "Transpose")
    node_.attribute[0].ints[:] = [0, 1]
    plan = fold_plan(model, clip=False)
    assert not plan.folds()
