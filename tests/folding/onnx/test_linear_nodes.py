"""Each linear node, with a map after it and a map before it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_chains import (
    Node,
    X,
    batch_norm,
    chain,
    feeds_of,
    folded,
    judge,
    node,
    only_fold,
    only_reason,
    random,
    run,
)  # fmt: skip

from kerasbn.folding.onnx.fold import fold_plan

R = random
TANH = node("Tanh")
# name: the node, the shape of its input, and the channels of its output
BOTH: dict[str, tuple[Node, tuple[int, ...], int]] = {
    "Conv": (node("Conv", X, R(4, 6, 3, 3), R(4)), (2, 6, 7, 8), 4),
    "Conv, no bias": (node("Conv", X, R(4, 6, 3)), (2, 6, 7), 4),
    "Conv, grouped": (node("Conv", X, R(9, 2, 3, 2), R(9), group=3), (2, 6, 7, 8), 9),
    "Conv, depthwise": (node("Conv", X, R(12, 1, 3), R(12), group=6), (2, 6, 7), 12),
    "Conv, dilated": (
        node("Conv", X, R(4, 6, 2, 2, 2), R(4), dilations=[2, 1, 2], strides=[1, 2, 1]),
        (1, 6, 5, 5, 5), 4,
    ),
    "Conv, SAME of kernel 1": (
        node("Conv", X, R(4, 6, 1, 1), R(4), auto_pad="SAME_UPPER", strides=[2, 2]),
        (1, 6, 5, 4), 4,
    ),
    "Conv, SAME without padding": (
        node("Conv", X, R(4, 6, 2), R(4), auto_pad="SAME_LOWER", strides=[2]), (1, 6, 4), 4,
    ),
    "Conv, VALID": (node("Conv", X, R(4, 6, 2), R(4), auto_pad="VALID"), (1, 6, 4), 4),
    "ConvTranspose, kernel 1": (node("ConvTranspose", X, R(6, 4, 1, 1), R(4)), (2, 6, 3, 4), 4),
    "ConvTranspose, grouped": (
        node("ConvTranspose", X, R(6, 4, 1), group=2), (2, 6, 3), 8,
    ),
    "Gemm": (node("Gemm", X, R(6, 4), R(4)), (3, 6), 4),
    "Gemm, no bias": (node("Gemm", X, R(6, 4)), (3, 6), 4),
    "Gemm, factors": (node("Gemm", X, R(6, 4), R(4), alpha=0.3, beta=-1.7), (3, 6), 4),
    "Gemm, transB": (node("Gemm", X, R(4, 6), R(1, 4), transB=1, alpha=2.0), (3, 6), 4),
    "Gemm, a bias for each row": (node("Gemm", X, R(6, 4), R(3, 4)), (3, 6), 4),
    "Gemm, a scalar bias": (node("Gemm", X, R(6, 4), R()), (3, 6), 4),
    "MatMul": (node("MatMul", X, R(6, 4)), (3, 6), 4),
    "Einsum": (node("Einsum", X, R(6, 4), equation="bi,io->bo"), (3, 6), 4),
    "Einsum, implicit": (node("Einsum", X, R(6, 4), equation=" ab, bc"), (3, 6), 4),
    "Einsum, ellipsis": (node("Einsum", X, R(6, 4), equation="...i,io->...o"), (3, 6), 4),
    "Einsum, constant first": (node("Einsum", R(4, 6), X, equation="oi,bi->bo"), (3, 6), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_a_map_after_a_node_folds_into_it(name: str) -> None:
    made, shape, channels = BOTH[name]
    fold = only_fold(chain(shape, TANH, made, batch_norm(channels), TANH))
    assert (fold.direction, fold.into) == ("backward", ("n1",))


@pytest.mark.parametrize("name", BOTH)
def test_a_map_before_a_node_folds_into_it(name: str) -> None:
    made, shape, _ = BOTH[name]
    fold = only_fold(chain(shape, TANH, batch_norm(shape[1]), made, TANH))
    assert (fold.direction, fold.into) == ("forward", ("n2",))


AFTER = {
    "ConvTranspose": (
        node("ConvTranspose", X, R(6, 2, 3, 2), R(4), group=2, strides=[2, 3],
             output_padding=[1, 1], pads=[1, 0, 1, 1], dilations=[2, 1]),
        (2, 6, 3, 4), 4,
    ),
    "Conv, padded": (node("Conv", X, R(4, 6, 3), R(4), pads=[1, 1]), (2, 6, 5), 4),
    "Gather": (node("Gather", R(3, 5), X), (2, 3), None),
    "Gather, axis 1": (node("Gather", R(5, 3, 4), X, axis=1), (2, 2), None),
    "LayerNormalization": (
        node("LayerNormalization", X, R(4, 5), R(4, 5), axis=1), (3, 4, 5), 4,
    ),
    "LayerNormalization, no bias": (node("LayerNormalization", X, R(5)), (3, 5), 5),
    "InstanceNormalization": (node("InstanceNormalization", X, R(4), R(4)), (2, 4, 5), 4),
    "GroupNormalization": (
        node("GroupNormalization", X, R(4), R(4), num_groups=2), (2, 4, 5), 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER)
def test_a_map_after_these_folds_into_them(name: str) -> None:
    made, shape, channels = AFTER[name]
    start = [] if channels is None else [TANH]
    after = batch_norm(channels) if channels else node("Mul", X, R(1))
    integers = onnx.TensorProto.INT64 if channels is None else None
    model = chain(shape, *start, made, after, TANH, input_type=integers)
    fold = only_fold(model)
    assert (fold.direction, fold.into) == ("backward", (f"n{len(start)}",))


def recurrent(op: str, gates: int, *, bias: bool = True, both: bool = False, **more: int) -> Node:
    directions = 2 if both else 1
    weights = R(directions, gates * 3, 5), R(directions, gates * 3, 3)
    biases = [R(directions, 2 * gates * 3)] if bias else []
    direction = "bidirectional" if both else "reverse"
    return node(op, X, *weights, *biases, hidden_size=3, direction=direction, **more)


RECURRENT = {
    "LSTM": recurrent("LSTM", 4),
    "LSTM, no bias": recurrent("LSTM", 4, bias=False, both=True),
    "GRU": recurrent("GRU", 3, both=True),
    "GRU, linear_before_reset": recurrent("GRU", 3, linear_before_reset=1),
    "RNN": recurrent("RNN", 1, both=True),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_a_map_before_a_recurrent_node_folds_into_it(name: str) -> None:
    scale = node("Mul", X, R(5)), node("Add", X, R(5, seed=1))
    fold = only_fold(chain((4, 2, 5), TANH, *scale, RECURRENT[name], TANH))
    assert (fold.layer, fold.into) == ("n1 + n2", ("n3",))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (X, R(5, 6)), (X, R(2, 5, 6)), (X, R(1, 5, 6)), (X, R(3, 1, 5, 6)),
        (R(6, 4), X), (R(2, 6, 4), X), (X, R(5)), (R(4), X),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_before", [True, False])
def test_a_constant_on_either_side_of_a_product(
    left: object, right: object, *, is_before: bool
) -> None:
    product = node("MatMul", left, right)
    k = left if isinstance(left, np.ndarray) else right
    assert isinstance(k, np.ndarray)
    varies = k.ndim > 2 and k.shape[-3] > 1  # along the batch axis
    first = k is left
    if is_before:
        shape = [1, 4, 1] if first else [1, 1, 5]
        shape[0] = 2 if varies else 1
    else:
        shape = [1] * (2 if k.ndim == 1 else 3 if k.ndim < 4 else 4)
        if k.ndim > 1:
            shape[-2 if first else -1] = 6
    scale = node("Mul", X, R(*shape)), node("Add", X, R(*shape, seed=1))
    steps = (*scale, product) if is_before else (product, *scale)
    made, plan = judge(chain((2, 4, 5), TANH, *steps, TANH))
    (fold,) = plan.folds()
    assert not plan.kept()
    assert fold.into == (("n3",) if is_before else ("n1",))
    assert [each.op_type for each in made.graph.node] == ["Tanh", "MatMul", "Add", "Tanh"]


def test_the_bias_of_a_product_is_part_of_it() -> None:
    product = node("MatMul", X, R(6, 4)), node("Add", R(4), X)
    made, plan = judge(chain((3, 6), TANH, batch_norm(6), *product, batch_norm(4), TANH))
    assert [fold.into for fold in plan.folds()] == [("n2",), ("n2",)]
    assert [each.name for each in made.graph.node] == ["n0", "n2", "n3", "n5"]


EVERY_SECOND = np.tile(R(1, 6, 2), (1, 1, 3))


@pytest.mark.parametrize(
    ("made", "shape", "s", "t"),
    [
        # The kernel sees all positions at once, or every so many.
        (node("Conv", X, R(4, 6, 5)), (2, 6, 5), R(1, 6, 5), R(5, seed=1)),
        (node("Conv", X, R(4, 6, 5), pads=[1, 1], strides=[3]), (2, 6, 5), R(6, 1), R(1)),
        (node("Conv", X, R(6, 3, 2), group=2, strides=[2]), (2, 6, 6), EVERY_SECOND, EVERY_SECOND),
        (node("Conv", X, R(4, 6, 2, 1), dilations=[2, 1]), (2, 6, 3, 2), R(3, 1), R(6, 1, 1)),
        # Some taps see nothing but padding.
        (node("Conv", X, R(4, 6, 3), pads=[1, 1]), (2, 6, 1), R(6, 1), R(6, 1, seed=1)),
        (node("Conv", X, R(4, 6, 3), auto_pad="SAME_LOWER"), (2, 6, 1), R(6, 1), R(6, 1, seed=1)),
        (node("Conv", X, R(4, 6, 1), pads=[1, 1], strides=[2]), (2, 6, 1), R(6, 1), R(6, 1)),
        (node("ConvTranspose", X, R(6, 4, 2), pads=[1, 0]), (2, 6, 1), R(6, 1), R(6, 1, seed=1)),
        # What is added may differ between positions where the bias may.
        (node("MatMul", X, R(5, 6)), (2, 4, 5), R(5), R(4, 5)),
        (node("MatMul", R(3, 4), X), (2, 4, 5), R(4, 1), R(4, 5)),
        (node("MatMul", X, R(1, 5, 6)), (2, 4, 5), R(1), R(2, 4, 1)),
        (node("Gemm", X, R(5, 6), R(6), alpha=0.5, beta=2.0), (3, 5), R(5), R(3, 1)),
        (node("Gemm", X, R(3, 6), transA=1), (3, 5), R(3, 1), R(3, 5)),
        (node("Einsum", X, R(5, 3), equation="bti,io->bto"), (2, 4, 5), R(5), R(4, 5)),
        (node("Einsum", X, R(5), equation="bti,i->bi"), (2, 4, 5), R(5), R(1)),
        (node("Einsum", X, R(5, 3), equation="bti,io->bo"), (2, 4, 5), R(5), R(4, 5)),
    ],
)
def test_a_map_may_vary_where_the_kernel_or_bias_may(
    made: Node, shape: tuple[int, ...], s: np.ndarray, t: np.ndarray
) -> None:
    scale = node("Mul", X, s), node("Add", X, t)
    assert only_fold(chain(shape, TANH, *scale, made, TANH)).into == ("n3",)


@pytest.mark.parametrize(
    ("made", "shape", "s", "t"),
    [
        (node("Conv", X, R(4, 6, 2)), (2, 6, 6), EVERY_SECOND, R(1)),
        (node("Conv", X, R(4, 6, 3), pads=[1, 1]), (2, 6, 2), R(6, 1), R(6, 1)),
        (node("MatMul", X, R(5, 6)), (2, 4, 5), R(4, 1), R(1)),
        (node("LayerNormalization", X, R(5)), (2, 4, 5), R(4, 1), R(1)),
    ],
)
def test_no_map_varies_where_neither_may(
    made: Node, shape: tuple[int, ...], s: np.ndarray, t: np.ndarray
) -> None:
    model = chain(shape, TANH, node("Mul", X, s), node("Add", X, t), made, TANH)
    _, plan = judge(model)
    assert len(plan.kept()) == 1


PAIRS = np.repeat(R(3, 1), 2, 0)  # alike in both channels of a group


@pytest.mark.parametrize(
    ("scale", "is_folded"), [(R(1), True), (R(6, 1), False), (PAIRS, True), (PAIRS[::-1], True)]
)
def test_before_opset_21_groups_share_a_scale(scale: np.ndarray, *, is_folded: bool) -> None:
    norm = node("GroupNormalization", X, R(3), R(3, seed=1), num_groups=3)
    affine = node("Mul", X, scale), node("Add", X, scale)
    model = chain((2, 6, 5), TANH, norm, *affine, TANH, opset=18)
    made, plan = folded(model)
    assert len(plan.folds()) == is_folded
    feeds = feeds_of(model)
    np.testing.assert_allclose(run(made, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("made", "shape", "reason"),
    [
        (node("Conv", X, R(4, 6, 3), pads=[1, 0]), (2, 6, 5), "pads its input with zeros"),
        (node("Conv", X, R(4, 6, 3), auto_pad="SAME_UPPER"), (2, 6, 5), "pads its input"),
        (node("Conv", X, R(4, 6, 1), pads=[1, 1]), (2, 6, 5), "pads its input"),
        (node("ConvTranspose", X, R(6, 4, 2), strides=[2]), (2, 6, 5), "other kernel taps"),
        (node("ConvTranspose", X, R(6, 4, 1), strides=[2]), (2, 6, 5), "other kernel taps"),
        (node("Einsum", X, R(6), equation="bit,i->bi"), (2, 6, "T"), "an axis of unknown length"),
        (node("LayerNormalization", X, R(6)), (2, 6), "cannot fold a map that precedes it"),
        (node("MatMul", X, X), (6, 6), "a kernel that is not constant"),
        (node("Einsum", X, R(6, 6), equation="ii,io->o"), (6, 6), "takes a diagonal"),
    ],
)
def test_what_cannot_be_folded_before_a_node_says_why(
    made: Node, shape: tuple[int, ...], reason: str
) -> None:
    assert reason in only_reason(chain(shape, TANH, batch_norm(6), made, TANH))


@pytest.mark.parametrize(
    ("made", "shape", "channels", "reason"),
    [
        (node("Gemm", X, R(6, 4)), (3, 6), (3, 1), "shares its kernel along an axis"),
        (node("Conv", X, R(4, 6, 3)), (2, 6, 5), (4, 3), "shares its kernel along an axis"),
        (node("GRU", X, R(1, 9, 6), R(1, 9, 3), hidden_size=3), (2, 6, 6), (1,), "that follows it"),
    ],
)
def test_what_cannot_be_folded_after_a_node_says_why(
    made: Node, shape: tuple[int, ...], channels: tuple[int, ...], reason: str
) -> None:
    assert reason in only_reason(chain(shape, TANH, made, node("Mul", X, R(*channels)), TANH))


@pytest.mark.parametrize("shape", [(5,), (2, 4)])
def test_a_node_with_a_bias_of_another_shape_takes_no_map(shape: tuple[int, ...]) -> None:
    conv = node("Conv", X, R(4, 6, 1), R(4))
    model = chain((2, 6, 5), TANH, conv, batch_norm(4), TANH)
    name = model.graph.node[1].input[2]
    (bias,) = (each for each in model.graph.initializer if each.name == name)
    bias.CopyFrom(numpy_helper.from_array(R(*shape), name))
    plan = fold_plan(model, clip=False)
    assert f"has a bias of shape {shape} where (4,) fits" in repr(plan)


@pytest.mark.parametrize("name", ["strides", "dilations", "pads", "kernel"])
def test_a_convolution_along_other_axes_than_its_steps_takes_no_map(name: str) -> None:
    steps = {"strides": [1], "dilations": [1], "pads": [0, 0]}
    model = chain((2, 6, 5), TANH, node("Conv", X, R(4, 6, 1), **steps), batch_norm(4), TANH)
    conv = model.graph.node[1]
    for attribute in conv.attribute:
        if attribute.name == name:
            del attribute.ints[:]
    kernel = next(each for each in model.graph.initializer if each.name == conv.input[1])
    if name == "kernel":
        kernel.dims.append(1)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(conv.output[0], 1, [2, 4, 5]))
    assert "axes of taps for an input, output" in repr(fold_plan(model, clip=False))


@pytest.mark.parametrize("shape", [(2,) * 70, (2, 6, 2**33)])
def test_a_shape_that_no_array_can_have_is_unknown(shape: tuple[int, ...]) -> None:
    model = chain((2, 6, 5), TANH, node("Mul", X, R()), node("Conv", X, R(4, 6, 1)), TANH)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    del dims[:]
    for n in shape:
        dims.add().dim_value = n
    del model.graph.value_info[:], model.graph.output[0].type.tensor_type.shape.dim[:]
    assert not fold_plan(model, clip=False).folds()
