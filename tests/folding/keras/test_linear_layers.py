"""Each linear layer between two BN layers, against the unfolded model."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.folding.plan import Fold, Kept, Plan

L = keras.layers
BN = L.BatchNormalization
pytestmark = pytest.mark.usefixtures("in_float64")
Chain = Callable[..., keras.Model]
Judged = Callable[..., Plan]

# The layer, and the example shape that comes in.
AFTER_AND_BEFORE: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "dense": (lambda **k: L.Dense(3, **k), (4,)),
    "dense over images": (lambda **k: L.Dense(3, **k), (3, 2, 4)),
    "einsum": (lambda **k: L.EinsumDense("abc,cde->abde", (5, 3, 2), bias_axes="de", **k), (5, 4)),
    "einsum, one bias axis": (
        lambda **k: L.EinsumDense("abc,cde->abde", (5, 3, 2), bias_axes="e", **k),
        (5, 4),
    ),
    "einsum, summed axis": (lambda **k: L.EinsumDense("abc,cd->ad", 3, bias_axes="d", **k), (5, 4)),
    "einsum, ellipsis": (lambda **k: L.EinsumDense("...c,dc->...d", 3, **k), (5, 4)),
    "conv1d": (lambda **k: L.Conv1D(3, 2, **k), (6, 4)),
    "conv2d": (lambda **k: L.Conv2D(3, 3, 2, **k), (7, 6, 4)),
    "conv2d, 1x1 same": (lambda **k: L.Conv2D(3, 1, 2, "same", **k), (7, 6, 4)),
    "conv2d, no padding computed": (lambda **k: L.Conv2D(3, 2, 2, "same", **k), (6, 6, 4)),
    "conv2d, same over one position": (
        lambda **k: L.Conv2D(3, 3, padding="same", **k),
        (1, 1, 4),
    ),
    "conv2d, dilated": (lambda **k: L.Conv2D(3, 2, dilation_rate=2, **k), (6, 6, 4)),
    "conv2d, grouped": (lambda **k: L.Conv2D(6, 2, groups=2, **k), (6, 6, 4)),
    "conv3d": (lambda **k: L.Conv3D(3, 2, **k), (4, 3, 3, 2)),
    "conv3d, grouped": (lambda **k: L.Conv3D(4, 2, groups=2, **k), (4, 3, 3, 2)),
    "depthwise1d": (lambda **k: L.DepthwiseConv1D(2, depth_multiplier=3, **k), (6, 4)),
    "depthwise2d": (lambda **k: L.DepthwiseConv2D(2, depth_multiplier=3, **k), (6, 5, 4)),
    "separable1d": (lambda **k: L.SeparableConv1D(5, 2, depth_multiplier=2, **k), (6, 4)),
    "separable2d": (lambda **k: L.SeparableConv2D(5, 2, depth_multiplier=2, **k), (6, 5, 4)),
    "transposed 1x1": (lambda **k: L.Conv2DTranspose(3, 1, **k), (4, 5, 2)),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", AFTER_AND_BEFORE)
def test_folds_on_both_sides(chain: Chain, judged: Judged, name: str, bias: bool) -> None:
    make, shape = AFTER_AND_BEFORE[name]
    layer = make() if "einsum" in name else make(use_bias=bias)
    if "einsum" in name and not bias:
        layer.bias_axes = None
    plan = judged(chain(shape, BN(name="a"), layer, BN(name="b"), BN(name="c", scale=False)))
    assert [type(each) for each in plan] == [Fold, Fold, Fold]
    assert {fold.layer: fold.direction for fold in plan.folds()}["a"] == "forward"


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.Conv2DTranspose(3, 3, strides=2, padding="same"),
        lambda: L.Conv2DTranspose(3, 2, strides=2),
        lambda: L.Conv2DTranspose(3, 3),
        lambda: L.Conv1DTranspose(3, 2),
        lambda: L.Conv2D(3, 3, padding="same"),
        lambda: L.DepthwiseConv2D(3, padding="same"),
        lambda: L.SeparableConv2D(3, 3, padding="same"),
    ],
)
def test_takes_s_but_not_t_where_not_all_see_the_same(
    chain: Chain, judged: Judged, make: Callable[[], Any]
) -> None:
    shape = (5, 6, 4)[: 2 if isinstance(make(), L.Conv1DTranspose) else 3]
    plan = judged(chain(shape, BN(name="a"), make(), BN(name="b")))
    assert [type(each) for each in plan] == [Kept, Fold]
    plan = judged(chain(shape, L.Rescaling(-0.7), make()))
    assert [fold.direction for fold in plan.folds()] == ["forward"]


def test_a_causal_convolution_pads(chain: Chain, judged: Judged) -> None:
    plan = judged(chain((6, 4), BN(), L.Conv1D(3, 2, padding="causal")))
    assert "pads its input with zeros" in plan.kept()[0].reason


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Conv2D(3, (2, 3)),
        lambda: L.Conv2D(3, (1, 3), padding="same", strides=(1, 3)),
        lambda: L.DepthwiseConv2D((2, 3)),
        lambda: L.SeparableConv2D(5, (2, 3), dilation_rate=1),
        lambda: L.EinsumDense("abcd,de->abce", (2, 3, 5), bias_axes="bce"),
    ],
)
def test_a_map_may_vary_between_positions_that_different_weights_see(
    chain: Chain, judged: Judged, layer: Callable[[], Any]
) -> None:
    made = layer()
    axes = (1, 2) if isinstance(made, L.EinsumDense) else (1, 2, 3)
    before = L.Normalization(axis=axes)
    plan = judged(chain((2, 3, 4), before, made))
    is_one = isinstance(made, L.EinsumDense) or made.strides == (1, 3)
    assert isinstance(plan[0], Kept if is_one else Fold)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        lambda bias: L.LSTM(3, use_bias=bias, return_sequences=True),
        lambda bias: L.GRU(3, use_bias=bias, reset_after=True),
        lambda bias: L.GRU(3, use_bias=bias, reset_after=False),
        lambda bias: L.SimpleRNN(3, use_bias=bias),
        lambda bias: L.Bidirectional(L.LSTM(3, use_bias=bias)),
        lambda bias: L.Bidirectional(L.GRU(3, use_bias=bias), merge_mode="sum"),
        lambda bias: L.Bidirectional(
            L.GRU(3, use_bias=bias), backward_layer=L.GRU(3, go_backwards=True, reset_after=False)
        ),
        lambda bias: L.RNN(L.LSTMCell(3, use_bias=bias)),
        lambda bias: L.RNN(L.GRUCell(3, use_bias=bias), return_sequences=True),
        lambda bias: L.RNN([L.SimpleRNNCell(2, use_bias=bias), L.LSTMCell(3)]),
        lambda bias: L.Bidirectional(L.RNN(L.GRUCell(3, use_bias=bias, reset_after=False))),
    ],
)
def test_recurrent_layers_fold_what_precedes(
    chain: Chain,
    judged: Judged,
    layer: Callable[[bool], Any],
    bias: bool,
) -> None:
    plan = judged(chain((6, 4), BN(name="a"), layer(bias), BN(name="b")))
    assert [type(each) for each in plan] == [Fold, Kept]


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.GRU(3, dropout=0.4),
        lambda: L.Bidirectional(L.LSTM(3, dropout=0.4)),
        lambda: L.RNN(L.LSTMCell(3, dropout=0.4)),
    ],
)
def test_a_recurrent_layer_that_drops_its_input_takes_s_but_not_t(
    judged: Judged, layer: Callable[[], Any]
) -> None:
    for training, t, folds in ((True, True, 0), (True, False, 1), (False, True, 1)):
        x = keras.Input((5, 3))
        before = BN(center=t)
        y = L.Dense(2)(layer()(before(x), training=training))
        model = keras.Model(x, y)
        before.trainable = False  # otherwise Keras lets it train too
        randomize_parameters(model, 1)
        if not t:
            before.moving_mean.assign(np.zeros(3))
        plan = judged(model)
        assert len(plan.folds()) == folds
        assert folds or "drops part of its input" in plan.kept()[0].reason


class Cell(keras.layers.SimpleRNNCell):
    """A cell that multiplies nothing by its kernel that folding knows of."""


@pytest.mark.parametrize("around", [lambda each: each, lambda each: L.Bidirectional(each)])
def test_a_custom_cell_takes_no_map(
    chain: Chain, judged: Judged, around: Callable[[Any], Any]
) -> None:
    plan = judged(chain((6, 4), BN(name="a"), around(L.RNN(L.SimpleRNNCell(3))), BN(name="b")))
    assert [type(each) for each in plan] == [Fold, Kept]
    with keras.saving.custom_object_scope({"Cell": Cell}):
        plan = judged(chain((6, 4), BN(), around(L.RNN([Cell(3), L.LSTMCell(3)]))))
    assert plan.kept()[0].reason.endswith("after it has a custom cell")


@pytest.mark.parametrize("bias", [True, False])
def test_attention_folds_by_query_key_value_and_output(judged: Judged, bias: bool) -> None:
    x, y = keras.Input((5, 4)), keras.Input((6, 3))
    q, v, k = BN(name="q")(x), BN(name="v")(y), BN(name="k")(y)
    attention = L.MultiHeadAttention(2, 3, use_bias=bias)
    plain = L.MultiHeadAttention(2, 3, use_bias=bias, name="plain")
    z = BN(name="z")(attention(q, v, k))
    model = keras.Model([x, y], [z, plain(BN(name="self")(x), BN(name="both")(y))])
    randomize_parameters(model, 2)
    plan = judged(model)
    assert sorted(fold.layer for fold in plan.folds()) == ["both", "k", "q", "self", "v", "z"]
    assert not plan.kept()


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        lambda **k: L.LayerNormalization(**k),
        lambda **k: L.LayerNormalization(axis=[1, 3], **k),
        lambda **k: L.GroupNormalization(groups=2, **k),
    ],
)
def test_other_normalization_layers_fold_what_follows(
    chain: Chain, judged: Judged, layer: Callable[..., Any], bare: bool
) -> None:
    own = layer(center=False, scale=False) if bare else layer()
    plan = judged(chain((5, 3, 4), L.Conv2D(4, 1), own, BN(name="b")))
    assert [str(each) for each in plan] == [f"b: folded backward into {own.name}"]
    plan = judged(chain((5, 3, 4), BN(name="b"), layer()))
    assert plan.kept()


def test_rms_normalization_folds_s_alone(chain: Chain, judged: Judged) -> None:
    assert judged(chain((4,), L.RMSNormalization(), L.Rescaling(-2.0))).folds()
    assert judged(chain((4,), L.RMSNormalization(), L.Rescaling(-2.0, 0.5))).kept()


def test_every_row_of_an_embedding_is_scaled(chain: Chain, judged: Judged) -> None:
    model = chain((5,), L.Embedding(7, 4), BN(), L.Flatten(), dtype="int32")
    assert [fold.direction for fold in judged(model).folds()] == ["backward"]


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_an_activation_stands_between(chain: Chain, judged: Judged, activation: str) -> None:
    model = chain((4,), L.Dense(3, activation=activation), BN(), L.Activation("tanh"))
    assert f"activation '{activation}'" in judged(model, clip=False).kept()[0].reason


def test_a_positive_scale_crosses_a_rectifier_in_the_layer(chain: Chain, judged: Judged) -> None:
    for scale, folded in ((0.5, True), (-0.5, False)):
        model = chain((4,), L.Dense(3, activation="relu"), L.Rescaling(scale))
        assert bool(judged(model, clip=False).folds()) == folded
        assert not any(fold.through for fold in judged(model, clip=False).folds())


@pytest.mark.parametrize(
    "make",
    [
        lambda **how: L.Conv1D(4, 2, **how),
        lambda **how: L.SeparableConv1D(4, 2, **how),
        lambda **how: L.EinsumDense("abc,cd->abd", (None, 4), **how),  # which gains a bias
        lambda name, **how: L.TimeDistributed(L.Dense(4, **how), name=name),
    ],
)
def test_the_activation_of_a_layer_becomes_a_clip(
    chain: Chain, judged: Judged, make: Callable[..., Any]
) -> None:
    for activation in ("relu", "relu6", "hard_sigmoid"):
        model = chain((5, 3), make(activation=activation, name="a"), BN(name="b"), L.Softmax())
        (fold,) = judged(model)
        assert str(fold).endswith("into a through the activation of a (as a clip)")


def test_the_activation_of_a_shared_layer_becomes_one_clip(judged: Judged) -> None:
    x, y = keras.Input((4,)), keras.Input((4,))
    dense, first, second = L.Dense(3, activation="relu"), BN(), BN()
    model = keras.Model([x, y], [L.Softmax()(first(dense(x))), L.Softmax()(second(dense(y)))])
    randomize_parameters(model, 1)
    assert len(judged(model).kept()) == 2
    second.set_weights(first.get_weights())
    assert len(judged(model).folds()) == 2


@pytest.mark.slow
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    k=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    size=st.integers(5, 8),
    padding=st.sampled_from(["valid", "same"]),
    kind=st.sampled_from([L.Conv2D, L.DepthwiseConv2D, L.SeparableConv2D, L.Conv2DTranspose]),
)
def test_any_geometry(
    chain: Chain,
    judged: Judged,
    k: int,
    stride: int,
    dilation: int,
    size: int,
    padding: str,
    kind: Any,
) -> None:
    channels = () if kind is L.DepthwiseConv2D else (3,)
    dilation = dilation if stride == 1 and kind is not L.Conv2DTranspose else 1  # as Keras wants
    layer = kind(*channels, k, strides=stride, padding=padding, dilation_rate=dilation)
    plan = judged(chain((size, size + 1, 2), BN(), layer, BN()))
    assert plan.folds()  # at least what follows
