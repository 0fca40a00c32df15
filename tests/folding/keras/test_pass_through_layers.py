"""Each pass-through layer between a BN layer and a linear layer, from both sides."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn.folding.affine import affine
from kerasbn.folding.keras.graph import read_model
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.folding.plan import Plan

L = keras.layers
BN = L.BatchNormalization
pytestmark = pytest.mark.usefixtures("in_float64")
Chain = Callable[..., keras.Model]
Judged = Callable[..., Plan]

ANY_AFFINE: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "identity": (L.Identity, (4,)),
    "dropout": (lambda: L.Dropout(0.5), (4,)),
    "noise": (lambda: L.GaussianNoise(0.5), (4,)),
    "linear": (lambda: L.Activation("linear"), (4,)),
    "average": (lambda: L.AveragePooling2D(2, padding="same"), (5, 5, 4)),
    "average, strided": (lambda: L.AveragePooling2D(3, 2), (6, 5, 4)),
    "average 1d": (lambda: L.AveragePooling1D(2), (5, 4)),
    "global average": (L.GlobalAveragePooling2D, (5, 5, 4)),
    "global average, kept": (lambda: L.GlobalAveragePooling2D(keepdims=True), (5, 5, 4)),
    "crop": (lambda: L.Cropping2D(((1, 2), (0, 1))), (5, 5, 4)),
    "center crop": (lambda: L.CenterCrop(3, 4), (5, 5, 4)),
    "augmentation": (lambda: L.RandomRotation(0.2), (5, 5, 4)),
    "upsample": (lambda: L.UpSampling2D(2), (3, 2, 4)),
    "repeat": (lambda: L.RepeatVector(3), (4,)),
    "permute": (lambda: L.Permute((2, 3, 1)), (3, 5, 4)),
    "reshape": (lambda: L.Reshape((2, 6)), (3, 4)),
    "reshape, last axis kept": (lambda: L.Reshape((6, 4)), (2, 3, 4)),
    "flatten": (L.Flatten, (2, 3, 4)),
}


def linear(rank: int) -> Any:
    """A linear layer that folds a map before it, whatever axes it varies along."""
    letters = "xyzw"[:rank]
    return L.EinsumDense(f"a{letters},{letters}o->ao", output_shape=(3,), bias_axes="o")


@pytest.mark.parametrize("name", ANY_AFFINE)
def test_any_map_passes_forward(chain: Chain, judged: Judged, name: str) -> None:
    make, shape = ANY_AFFINE[name]
    rank = len(make()(keras.Input(shape)).shape) - 1
    stop = L.Activation("tanh")
    plan = judged(chain(shape, stop, BN(name="a"), make(), linear(rank)))
    (fold,) = plan.folds()
    assert (fold.layer, fold.direction, len(fold.through)) == ("a", "forward", 1)


@pytest.mark.parametrize("name", [name for name in ANY_AFFINE if name != "permute"])
def test_any_map_passes_backward(chain: Chain, judged: Judged, name: str) -> None:
    make, shape = ANY_AFFINE[name]
    made = make()
    plan = judged(chain(shape, L.Dense(4), made, BN(name="a"), L.Activation("tanh")))
    if name in ("flatten", "reshape"):  # per element: more than one kernel per channel can hold
        assert "shares its kernel along an axis" in plan.kept()[0].reason
    else:
        (fold,) = plan.folds()
        assert (fold.direction, fold.through) == ("backward", (made.name,))


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "reshape": lambda x: keras.ops.reshape(x, (-1, 4, 3, 2)),
    "transpose": lambda x: keras.ops.transpose(x, (0, 3, 1, 2)),
    "swapaxes": lambda x: keras.ops.swapaxes(x, 1, -1),
    "moveaxis": lambda x: keras.ops.moveaxis(x, -1, 1),
    "expand_dims": lambda x: keras.ops.expand_dims(x, 2),
    "flip": lambda x: keras.ops.flip(x, -1),
    "slices": lambda x: x[:, 1:, ..., ::-2],
    "number": lambda x: x[..., -1],
    "mean": lambda x: keras.ops.mean(x, (1, 2)),
    "mean, kept": lambda x: keras.ops.mean(x, 2, keepdims=True),
    "cast": lambda x: keras.ops.cast(x, "float64"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_map_passes_operations(chain: Chain, judged: Judged, name: str) -> None:
    operation, shape = OPERATIONS[name], (2, 3, 4)
    rank = len(operation(keras.Input(shape)).shape) - 1
    plan = judged(chain(shape, L.Activation("tanh"), BN(name="a"), operation, linear(rank)))
    (fold,) = plan.folds()
    assert (fold.direction, len(fold.through)) == ("forward", 1)


def test_operations_pass_a_map_backward(chain: Chain, judged: Judged) -> None:
    for name in ("swapaxes", "slices", "mean", "expand_dims", "flip"):
        axis = 1 if name == "swapaxes" else -1
        plan = judged(chain((2, 3, 4), L.Dense(4), OPERATIONS[name], BN(axis=axis)))
        assert [fold.direction for fold in plan.folds()] == ["backward"], name


def test_operations_keep_examples_apart(judged: Judged) -> None:
    x = keras.Input((2, 3), batch_size=3)
    changes: list[tuple[Callable[[Any], Any], str]] = [
        (lambda y: keras.ops.reshape(y, (6, 3)), "moves values from one example to another"),
        (lambda y: keras.ops.swapaxes(y, 0, 1), "moves the batch axis"),
        (lambda y: keras.ops.mean(y, 0), "works along the batch axis"),
        (lambda y: y[:2, :], "takes a part of the batch"),
    ]
    for change, reason in changes:
        model = keras.Model(x, L.Dense(2)(change(BN()(x))))
        assert reason in str(judged(model)[0])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: L.MaxPooling2D(2), (5, 5, 4)),
        (lambda: L.MaxPooling2D(2, padding="same"), (5, 5, 4)),
        (L.GlobalMaxPooling2D, (5, 5, 4)),
        (L.GlobalMaxPooling1D, (5, 4)),
    ],
)
def test_the_largest_of_several_needs_a_positive_scale(
    chain: Chain, judged: Judged, make: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    pool: Any = make()
    rising, falling = L.Rescaling(0.5, 0.3), L.Rescaling(-0.5, 0.3)
    assert judged(chain(shape, L.Dense(3), pool, rising)).folds()
    assert judged(chain(shape, L.Activation("tanh"), rising, pool, L.Dense(3))).folds()
    plan = judged(chain(shape, L.Dense(3), pool, falling))
    assert "a negative s would turn" in plan.kept()[0].reason


def test_zero_padding_needs_an_offset_of_zero(chain: Chain, judged: Judged) -> None:
    pad = [L.ZeroPadding2D(1), L.Conv2D(3, 3)]
    assert judged(chain((5, 5, 4), L.Rescaling(-0.5), *pad)).folds()
    plan = judged(chain((5, 5, 4), L.Rescaling(-0.5, 0.1), *pad))
    assert "pads with zeros" in plan.kept()[0].reason


def test_resizing_mixes_or_pads(chain: Chain, judged: Judged) -> None:
    stop, scaling = L.Activation("tanh"), L.Rescaling(0.5, 0.3)
    # The ratio 3 : 4 of a map of 5 x 6 would need 6.7 columns, and Keras rounds down on each side.
    for pads, width, folded in ((False, 8, 1), (True, 8, 0), (True, 4, 1), (True, 5, 0)):
        resize = L.Resizing(3, width, "nearest", pad_to_aspect_ratio=pads)
        plan = judged(chain((5, 6, 4), stop, scaling, resize, L.Dense(3)))
        assert len(plan.folds()) == folded, width


def test_a_difference_of_a_tensor_and_itself_passes_scales(judged: Judged) -> None:
    x = keras.Input((4,))
    for offset, folded in ((0.0, 1), (0.1, 0)):
        y = L.Dense(3)(x)
        scaled = L.Rescaling(-2.0, offset)(y - y)
        plan = judged(keras.Model(x, L.Concatenate()([scaled, x])))
        assert len(plan.folds()) == folded


@pytest.mark.parametrize(
    "make",
    [
        L.ReLU,
        lambda: L.ReLU(negative_slope=0.1),
        lambda: L.LeakyReLU(0.2),
        L.PReLU,
        lambda: L.Activation("relu"),
        lambda: keras.ops.relu,
        lambda: keras.activations.relu,
    ],
)
def test_rectifiers_let_a_positive_scale_pass(
    chain: Chain, judged: Judged, make: Callable[[], Any]
) -> None:
    assert judged(chain((4,), L.Dense(5), make(), L.Rescaling(0.5))).folds()
    assert judged(chain((4,), L.Activation("tanh"), L.Rescaling(0.5), make(), L.Dense(5))).folds()
    for other in (L.Rescaling(-0.5), L.Rescaling(0.5, 0.1)):
        model = chain((4,), L.Dense(5), make(), other)
        assert judged(model, clip=False).kept()
        is_clip = any(fold.clips for fold in judged(model).folds())
        assert is_clip or judged(model).kept()


@pytest.mark.parametrize("make", [lambda: L.ReLU(max_value=1.0), lambda: L.ReLU(threshold=0.2)])
def test_other_kinks_let_nothing_pass(
    chain: Chain, judged: Judged, make: Callable[[], Any]
) -> None:
    model = chain((4,), L.Dense(5), make(), L.Rescaling(0.5))
    assert "has a kink away from 0" in judged(model, clip=False).kept()[0].reason


def test_active_dropout_lets_nothing_pass(judged: Judged) -> None:
    x = keras.Input((4,))
    y = L.Dropout(0.5, seed=1)(L.Dense(5)(x), training=True)
    model = keras.Model(x, L.Rescaling(0.5, 0.2)(y))
    assert "is active" in judged(model).kept()[0].reason


def two(shape: tuple[int, ...] = (4,)) -> tuple[Any, Any, Any, Any]:
    """Two inputs and a linear layer after each."""
    x, y = keras.Input(shape), keras.Input(shape)
    return x, y, L.Dense(3, name="left")(x), L.Dense(3, name="right")(y)


def randomized(inputs: Any, outputs: Any) -> keras.Model:
    model = keras.Model(inputs, outputs)
    randomize_parameters(model, 5)
    return model


@pytest.mark.parametrize(
    "combine",
    [
        lambda pair: L.Add()(pair),
        lambda pair: L.Subtract()(pair),
        lambda pair: L.Average()(pair),
        lambda pair: pair[0] + pair[1],
        lambda pair: pair[0] - pair[1],
    ],
)
def test_every_term_of_a_sum_takes_s_and_one_takes_t(judged: Judged, combine: Any) -> None:
    x, y, a, b = two()
    (fold,) = judged(randomized([x, y], BN()(combine([a, b])))).folds()
    assert sorted(fold.into) == ["left", "right"]


def test_t_goes_where_it_can(judged: Judged) -> None:
    x, y, a, b = two()
    for pair in ([L.ReLU()(a), b], [b, L.ReLU()(a)]):
        assert judged(randomized([x, y], L.Rescaling(0.5, 0.3)(L.Add()(pair)))).folds()
    rectified = L.Add()([L.ReLU()(a), L.ReLU()(b)])
    model = randomized([x, y], L.Rescaling(0.5, 0.3)(rectified))
    assert judged(model, clip=False).kept()
    (fold,) = judged(model).folds()
    assert len(fold.clips) == 1  # of the one that takes t


def test_a_tensor_added_to_itself_takes_half(judged: Judged) -> None:
    x, _, a, _ = two()
    assert judged(randomized(x, BN()(L.Add()([a, a])))).folds()
    assert judged(randomized(x, L.Dense(2)(L.Activation("tanh")(BN()(L.Add()([a, a, a])))))).folds()
    plan = judged(randomized(x, [BN()(L.Subtract()([a, a])), a]))
    assert plan.kept()


def test_a_term_of_lower_rank_is_broadcast_behind_the_batch_axis(judged: Judged) -> None:
    x, y = keras.Input((4,), batch_size=2), keras.Input((2, 4), batch_size=2)
    for layer, last, folded in (
        (L.Add(), BN(), 1),
        (L.Multiply(), L.Rescaling(np.array([0.5, -2.0, 3.0])), 1),
        (L.Maximum(), L.Rescaling(0.5, 0.3), 1),
        (keras.ops.add, BN(), 0),  # which would broadcast it against the batch
        (L.Add(), BN(axis=1), 0),
    ):
        pair = [L.Dense(3)(x), L.Dense(3)(y)]
        arguments = pair if layer is keras.ops.add else [pair]
        assert len(judged(randomized([x, y], last(layer(*arguments)))).folds()) == folded


def test_a_term_that_is_broadcast_takes_what_is_even(judged: Judged) -> None:
    x, y = keras.Input((3, 2, 4)), keras.Input((1, 1, 4))
    model = randomized([x, y], BN()(L.Add()([L.Dense(3)(x), L.Dense(3)(y)])))
    assert judged(model).folds()
    y = keras.Input((3, 2, 1))
    model = randomized([x, y], BN()(L.Add()([L.Dense(3)(x), L.Dense(1)(y)])))
    assert "broadcast" in judged(model).kept()[0].reason


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_concatenation_takes_a_slice_each(judged: Judged, axis: int) -> None:
    x, y, a, b = two((3, 4))
    c = L.Dense(3 if axis == 1 else 5)(y)
    (fold,) = judged(randomized([x, y], BN(axis=-1)(L.Concatenate(axis)([a, b, c])))).folds()
    assert len(fold.into) == 3
    join = L.Concatenate(axis)([BN()(L.Activation("tanh")(a)), L.Activation("tanh")(b)])
    reader = L.EinsumDense("axy,xyo->ao", output_shape=(2,), bias_axes="o")
    assert [f.direction for f in judged(randomized([x, y], reader(join))).folds()] == ["forward"]


def test_the_larger_of_two_takes_a_rising_affine_on_both(judged: Judged) -> None:
    x, y, a, b = two()
    assert judged(randomized([x, y], L.Rescaling(0.5, 0.2)(L.Maximum()([a, b])))).folds()
    assert judged(randomized([x, y], L.Rescaling(-0.5, 0.2)(L.Maximum()([a, b])))).kept()


def test_a_constant_beside_it_stops_it(judged: Judged) -> None:
    x, _, a, _ = two()
    plan = judged(randomized(x, BN()(keras.ops.maximum(a, 1.0))))
    assert "combines it with a constant" in plan.kept()[0].reason


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_a_stack_takes_a_slice_each(judged: Judged, axis: int) -> None:
    x, y, a, b = two((3, 4))
    (fold,) = judged(randomized([x, y], BN(axis=axis)(keras.ops.stack([a, b], axis)))).folds()
    assert sorted(fold.into) == ["left", "right"]
    stop = L.Activation("tanh")
    made = keras.ops.stack([BN()(stop(a)), stop(b)], axis)
    reader = L.EinsumDense("axyz,xyzo->ao", output_shape=(2,), bias_axes="o")
    assert [f.direction for f in judged(randomized([x, y], reader(made))).folds()] == ["forward"]


@pytest.mark.parametrize(
    ("pad", "scale", "shift"),
    [
        (lambda x: keras.ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]), True, False),
        (lambda x: keras.ops.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]], "reflect"), True, True),
        (lambda x: keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 0]]), False, False),
        (
            lambda x: keras.ops.pad(x, [[0, 0], [1, 0], [0, 0], [0, 0]], constant_values=1.0),
            False,
            False,
        ),
    ],
)
def test_padding_by_an_operation(
    chain: Chain, judged: Judged, pad: Callable[[Any], Any], scale: bool, shift: bool
) -> None:
    scales = np.array([0.5, -2.0, 3.0])
    for offset, folds in ((0.0, scale), (np.array([1.0, 0.3, 0.0]), shift)):
        stop, scaling = L.Activation("tanh"), L.Rescaling(scales, offset)
        plan = judged(chain((5, 4, 3), stop, scaling, pad, L.Conv2D(2, 2)))
        assert bool(plan.folds()) == folds


def test_a_product_takes_s_and_a_quotient_too(judged: Judged) -> None:
    x, y, a, b = two()
    scaling = L.Rescaling(np.array([0.5, -2.0, 3.0]))
    for made in (a * b, L.Multiply()([a, b]), a / b, keras.ops.divide(a, b)):
        (fold,) = judged(randomized([x, y], scaling(made))).folds()
        assert fold.into == ("left",)
    stop = L.Activation("tanh")
    for made in (stop(a) * scaling(stop(b)), stop(a) / scaling(stop(b))):
        assert judged(randomized([x, y], L.Dense(2)(made))).folds()
    plan = judged(randomized([x, y], L.Rescaling(0.5, 0.1)(a * b)))
    assert "would scale the offset t" in plan.kept()[0].reason


def test_an_extreme_that_starts_from_a_number_lets_nothing_pass(
    chain: Chain, judged: Judged
) -> None:
    largest = chain(
        (5, 4), L.Dense(3), lambda x: keras.ops.max(x, 1, initial=0.0), L.Rescaling(0.5, 0.1)
    )
    assert "compares it to a number" in judged(largest).kept()[0].reason


def test_a_cast_to_whole_numbers_lets_nothing_pass(judged: Judged) -> None:
    x = keras.Input((4,))
    whole = keras.ops.cast(BN()(x), "int32")
    model = randomized(x, L.Dense(2)(keras.ops.cast(whole, "float64")))
    assert "rounds to whole numbers" in judged(model).kept()[0].reason


@pytest.mark.parametrize(
    ("kind", "out"),
    [(L.MaxPooling2D, (2, 2, 2)), (L.AveragePooling2D, (2, 2, 2)), (L.GlobalMaxPooling2D, (2,))],
)
def test_channels_first(kind: Callable[..., Any], out: tuple[int, ...]) -> None:
    size = {} if len(out) == 1 else {"pool_size": 2}
    x = keras.Input((2, 4, 4))
    model = keras.Model(x, kind(data_format="channels_first", **size)(x))
    shape = (2,) + (1,) * (len(out) - 1)
    a = affine(np.reshape([2.0, 3.0], shape), 1.0)
    (call,) = read_model(model).calls
    ((back,),) = call.backward(a)
    assert back.shape == (2, 1, 1)
