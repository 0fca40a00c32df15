"""The graph: readers, outputs, shared layers, nested models, flags; and the plan as data."""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import kerasbn
from kerasbn.common.errors import InputError
from kerasbn.folding.affine import CannotFold
from kerasbn.folding.fold import fold_plan
from kerasbn.folding.keras import graph
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.folding.plan import Fold, Kept, Plan
from kerasbn.folding.search import by_scale, find_fold

L = keras.layers
BN = L.BatchNormalization
pytestmark = pytest.mark.usefixtures("in_float64")
Chain = Callable[..., keras.Model]
Judged = Callable[..., Plan]


def randomized(inputs: Any, outputs: Any, **more: Any) -> keras.Model:
    model = keras.Model(inputs, outputs, **more)
    randomize_parameters(model, 7)
    return model


def opaque(x: Any) -> Any:
    return L.Activation("tanh")(x)


# -- who reads whom -----------------------------------------------------------------------------


def test_a_second_reader_keeps_it(judged: Judged) -> None:
    x = keras.Input((4,))
    y = L.Dense(3)(x)
    plan = judged(randomized(x, L.Add(name="add_3")([opaque(BN(name="bn")(y)), y])))
    assert plan.kept()[0].reason.startswith("its input is also read by `add_3`, ")


def test_an_output_of_the_model_keeps_it(judged: Judged) -> None:
    x = keras.Input((4,))
    y = L.Dense(3)(x)
    plan = judged(randomized(x, [opaque(BN()(y)), y]))
    assert "its input is also a model output" in plan.kept()[0].reason
    y = BN()(opaque(x))
    plan = judged(randomized(x, [y, L.Dense(2)(y)]))
    assert "its output is a model output" in plan.kept()[0].reason
    y = L.Flatten(name="flat")(BN()(opaque(x)))
    plan = judged(randomized(x, [y, L.Dense(2)(y)]))
    assert "and the output of `flat` is a model output" in plan.kept()[0].reason


def test_readers_that_want_the_same_fold_together(judged: Judged) -> None:
    x = keras.Input((4,))
    y = L.Dense(3)(x)
    first, second = BN(), BN()
    model = randomized(x, [first(y), opaque(second(y))])
    assert len(judged(model).kept()) == 2
    second.set_weights(first.get_weights())
    assert len(judged(model).folds()) == 2


def test_every_reader_has_to_fold_it(judged: Judged) -> None:
    x = keras.Input((4,))
    y = BN(name="a")(opaque(x))
    (fold,) = judged(randomized(x, [L.Dense(2, name="d1")(y), L.Dense(3, name="d2")(y)])).folds()
    assert sorted(fold.into) == ["d1", "d2"]
    plan = judged(randomized(x, [L.Dense(2)(y), L.Activation("gelu", name="g")(y)]))
    assert "`g` after it has the activation 'gelu'" in plan.kept()[0].reason


def test_two_in_a_row_merge_where_nothing_else_takes_them(chain: Chain, judged: Judged) -> None:
    plan = judged(chain((4,), L.Activation("tanh"), BN(name="a"), BN(name="b", scale=False)))
    assert sorted(type(each).__name__ for each in plan) == ["Fold", "Kept"]
    assert plan.folds()[0].direction == "merge"
    plan = judged(chain((4,), L.Rescaling(0.5, 0.1), L.Rescaling(-2.0), BN(), L.Activation("tanh")))
    assert (len(plan.folds()), len(plan.kept())) == (2, 1)
    plan = judged(chain((4,), L.Dense(3), BN(), L.Rescaling(-2.0), BN(center=False)))
    assert len(plan.folds()) == 3


def test_a_negative_scale_passes_max_pooling_in_part(chain: Chain, judged: Judged) -> None:
    """Its size and shift go backward, since padding stops a shift, and its sign goes forward."""
    conv, padded = L.Conv2D(4, 3, name="a"), L.Conv2D(2, 3, padding="same", name="b")
    pool, act = L.MaxPooling2D(2, name="pool"), L.ReLU(name="act")
    model = chain((8, 8, 3), conv, act, pool, BN(name="bn"), padded)
    (fold,) = judged(model)
    assert isinstance(fold, Fold)
    assert fold.direction == "both"
    assert str(fold) == "bn: folded backward and forward into a, b through pool, act (as a clip)"
    (kept,) = judged(model, clip=False)
    assert "a negative s would turn" in str(kept)
    assert "pads its input with zeros" in str(kept)
    model = chain((8, 8, 3), L.Conv2D(4, 3), L.GlobalMaxPooling2D(), BN(), opaque)
    assert "has the activation 'tanh'" in str(*judged(model))


def test_a_shift_goes_backward_into_one_term_where_no_scale_does(judged: Judged) -> None:
    x, other = keras.Input((5, 5, 3)), keras.Input((5, 5, 3))
    padded, bn = L.Conv2D(2, 3, padding="same", name="b"), BN()
    y = bn(L.Add()([L.Conv2D(3, 1, name="a")(x), other]))
    model = randomized([x, other], padded(L.ReLU()(y)))
    bn.gamma.assign([-1.0, 0.5, 2.0])
    (fold,) = judged(model)
    assert isinstance(fold, Fold)
    assert (fold.direction, fold.into) == ("both", ("a", "b"))
    bn.gamma.assign([-1.0, 0.0, 2.0])  # the other input would have to be 0 as well
    assert "it follows a model input" in str(*judged(model))


def test_layers_that_go_forward_in_part_go_together(judged: Judged) -> None:
    """A shared convolution takes one sign."""
    padded, first, second = L.Conv2D(2, 3, padding="same"), BN(), BN()
    inputs = [keras.Input((6, 6, 3)) for _ in range(2)]
    pooled = [L.MaxPooling2D(2)(L.Conv2D(4, 1)(x)) for x in inputs]
    model = randomized(inputs, [padded(first(pooled[0])), padded(second(pooled[1]))])
    for bn in (first, second):
        bn.gamma.assign(np.random.default_rng(0).uniform(0.5, 2.0, 4) * [1, -1, -1, 1])
    plan = judged(model)
    assert [fold.direction for fold in plan.folds()] == ["both", "both"]
    second.gamma.assign([1.0, 1.0, -1.0, 1.0])
    assert len(judged(model).kept()) == 2


def test_no_activation_becomes_a_clip_for_both_parts(judged: Judged) -> None:
    """`bn` is called twice. Its t goes backward through `act`, and its s meets it forward."""
    x, bn = keras.Input((5, 5, 3)), BN(name="bn")
    scaled = bn(L.Conv2D(4, 1)(x))[..., 2:]
    joined = [L.Concatenate()([scaled, L.Conv2D(2, 1)(x)]) for _ in range(2)]
    added = L.Add()([L.ReLU(name="act")(joined[0]), joined[1]])
    model = randomized(x, L.Conv2D(3, 3, padding="same")(bn(added)))
    bn.gamma.assign([2.0, 2.0, -3.0, -0.5])
    bn.moving_mean.assign([0.0, 0.0, 0.3, 0.4])
    bn.beta.assign([0.0, 0.0, 0.5, 0.2])
    (layer,) = [call.layer for call in graph.read_model(model).calls if call.name == "bn"][:1]
    with pytest.raises(CannotFold, match="`act` after it becomes a clip"):
        find_fold(graph.read_model(model), layer, by_scale, clip=True)
    assert judged(model).kept()


# -- shared layers ------------------------------------------------------------------------------


def test_a_shared_layer_folds_if_all_its_calls_agree(judged: Judged) -> None:
    x, y = keras.Input((4,)), keras.Input((4,))
    dense, bn = L.Dense(3), BN()
    assert judged(randomized([x, y], [opaque(bn(dense(x))), bn(dense(y))])).folds()
    dense = L.Dense(3)
    plan = judged(randomized([x, y], [opaque(BN()(dense(x))), opaque(dense(y))]))
    assert plan.kept()
    dense = L.Dense(3)
    assert judged(randomized([x, y], [opaque(BN()(dense(x))), opaque(BN()(dense(y)))])).kept()


def test_a_shared_layer_behind_agrees_too(judged: Judged) -> None:
    x, y = keras.Input((4,)), keras.Input((4,))
    dense, bn = L.Dense(3), BN()
    assert judged(randomized([x, y], [dense(bn(opaque(x))), dense(bn(opaque(y)))])).folds()
    dense, first, second = L.Dense(3), BN(), BN()
    model = randomized([x, y], [dense(first(opaque(x))), dense(second(opaque(y)))])
    assert len(judged(model).kept()) == 2
    second.set_weights(first.get_weights())
    assert len(judged(model).folds()) == 2
    dense = L.Dense(3)
    plan = judged(randomized([x, y], [dense(BN()(opaque(x))), dense(opaque(y))]))
    assert "is shared" in plan.kept()[0].reason


def test_a_model_called_twice_passes_the_same_map_in_both_calls(judged: Judged) -> None:
    for act in ("linear", "relu"):
        layers = (
            L.Dense(3, name="dense"),
            L.Dropout(0.5),
            L.Activation(act),
            BN(name="bn"),
            L.Softmax(),
        )
        inner = keras.Sequential([keras.Input((4,)), *layers], name="tower")
        x, y = keras.Input((4,)), keras.Input((4,))
        (fold,) = judged(randomized([x, y], [inner(x), inner(y)])).folds()
        assert (fold.into, bool(fold.clips)) == (("tower/dense",), act == "relu")


def test_a_layer_called_on_its_own_output(judged: Judged) -> None:
    x = keras.Input((4,))
    bn, dense = BN(), L.Dense(4)
    assert judged(randomized(x, dense(bn(bn(opaque(x)))))).folds()
    assert judged(randomized(x, opaque(bn(dense(opaque(bn(dense(x)))))))).folds()


def test_a_layer_that_reads_itself_cannot_fold_for_both(judged: Judged) -> None:
    x = keras.Input((4,))
    for layer in (L.LayerNormalization(), L.Dense(4)):
        assert judged(randomized(x, opaque(BN()(layer(layer(x)))))).kept()


def test_a_sum_does_not_let_another_scale_what_it_leaves_alone(judged: Judged) -> None:
    x, y = keras.Input((4,)), keras.Input((4,))
    dense = L.Dense(3)
    a, b = dense(x), dense(y)
    plan = judged(randomized([x, y], opaque(L.Rescaling(1.0, 0.5)(L.Add()([a, b])))))
    assert plan.kept()  # t would go into `dense`, and so into both terms


# -- nested models ------------------------------------------------------------------------------


def test_a_map_passes_the_border_of_nested_models(judged: Judged) -> None:
    i = keras.Input((4,))
    inner = keras.Model(
        i, BN(name="bn")(L.Dense(3, name="d")(L.Activation("tanh")(i))), name="deep"
    )
    middle = keras.Sequential([keras.Input((4,)), inner, BN(name="after")], name="middle")
    x = keras.Input((4,))
    plan = judged(randomized(x, opaque(middle(BN(name="before")(L.Dense(4, name="first")(x))))))
    assert [str(each) for each in plan] == [
        "before: folded backward into first",
        "middle/deep/bn: folded backward into middle/deep/d",
        "middle/after: folded backward into middle/deep/d",
    ]


def test_a_nested_model_called_twice_has_one_set_of_weights(judged: Judged) -> None:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3), BN(), L.Activation("tanh")])
    x, y = keras.Input((4,)), keras.Input((4,))
    assert judged(randomized([x, y], L.Add()([inner(x), inner(y)]))).folds()
    tower = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    plan = judged(randomized([x, y], L.Add()([opaque(BN()(tower(x))), tower(y)])))
    assert plan.kept()


def test_a_nested_model_of_which_nothing_is_left_is_gone(judged: Judged) -> None:
    inner = keras.Sequential([keras.Input((4,)), BN(), L.Rescaling(0.5)], name="scales")
    x = keras.Input((4,))
    model = randomized(x, L.Dense(2)(inner(opaque(x))))
    assert len(judged(model).folds()) == 2
    assert "scales" not in [layer.name for layer in kerasbn.fold(model).layers]


def test_time_distributed(judged: Judged) -> None:
    x = keras.Input((3, 6, 4))
    inner = keras.Sequential([keras.Input((6, 4)), L.Conv1D(3, 2), BN(), L.ReLU()])
    timed = L.TimeDistributed
    y = timed(inner)(timed(BN())(timed(L.Dense(4))(x)))
    y = timed(L.Dense(2))(timed(BN())(L.Activation("tanh")(y)))
    plan = judged(randomized(x, BN()(y)))
    assert (len(plan.folds()), len(plan.kept())) == (4, 0)
    y = timed(L.Dense(4))(BN(axis=1)(opaque(x)))
    plan = judged(randomized(x, y))
    assert "the same for all time steps" in plan.kept()[0].reason


# -- training=True ------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_called_with_training_it_normalizes_by_the_batch(judged: Judged, nested: bool) -> None:
    x = keras.Input((4,))
    bn = BN(name="bn")
    called = keras.Sequential([keras.Input((3,)), bn]) if nested else bn
    model = randomized(x, opaque(called(L.Dense(3)(x), training=True)))
    assert "uses batch statistics" in judged(model).kept()[0].reason
    bn.trainable = False
    assert judged(model).folds()


def test_keras_hands_training_on_to_the_layers_behind(judged: Judged) -> None:
    x = keras.Input((4,))
    y = L.Dropout(0.5, seed=1)(L.Dense(4)(BN(name="before")(opaque(x))), training=True)
    plan = judged(randomized(x, opaque(BN(name="behind")(L.Dense(3)(y)))))
    assert [fold.layer for fold in plan.folds()] == ["before"]
    assert "or a layer before it" in plan.kept()[0].reason


# -- what folding doesn't know ------------------------------------------------------------------


def test_nothing_is_folded_where_predictions_depend_on_the_order_of_calls(judged: Judged) -> None:
    x = keras.Input((4,))
    twice = BN(name="twice")
    y = L.Dense(4)(L.Rescaling(2.0, 1.0)(twice(x, training=True)))
    plan = judged(randomized(x, L.Add()([y, twice(x, training=False)])))
    assert not plan.folds()
    assert "`twice` is called both with and without training=True" in plan.kept()[1].reason


def test_a_model_whose_predictions_depend_on_the_order_of_calls_is_copied(judged: Judged) -> None:
    """Keras decides call by call whether a layer trains, which a copy must leave to it."""
    part = keras.Input((3,))
    trains = keras.Sequential([L.Dense(3), BN()])
    inside = keras.Model(part, trains(BN()(part), training=True))
    steps, x, y = L.TimeDistributed(inside), keras.Input((2, 3)), keras.Input((2, 3))
    plan = judged(randomized([x, y], L.Maximum()([steps(x), steps(L.Add()([x, y]))])))
    assert not plan.folds()


class Own(keras.layers.BatchNormalization):
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return 2 * super().call(inputs, training=training, mask=mask)


class Block(keras.layers.Layer):
    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.bn = BN(name="inside")

    def call(self, x: Any) -> Any:
        return self.bn(x) + 1


class OwnDense(keras.layers.Dense):
    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs) ** 2


def test_custom_layers_are_left_alone(judged: Judged) -> None:
    x = keras.Input((4,))
    y = Own(name="own")(L.Dense(3)(x))
    y = BN(name="bn")(OwnDense(3)(y))
    plan = judged(randomized(x, Block(name="block")(y)))
    assert [type(each) for each in plan] == [Kept] * 3
    reasons = {kept.layer: kept.reason for kept in plan.kept()}
    assert "class Own" in reasons["own"]
    assert "a OwnDense" in reasons["bn"] or "an OwnDense" in reasons["bn"]
    assert "inside the Block layer `block`" in reasons["block/inside"]


class Pair(keras.layers.Layer):
    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.blocks = [Block(), Block()]

    def call(self, x: Any) -> Any:
        return self.blocks[1](self.blocks[0](x))


def test_each_bn_layer_within_a_custom_layer_counts_once(judged: Judged) -> None:
    x = keras.Input((4,))
    pair = Pair(name="pair")
    plan = judged(randomized(x, OwnDense(3)(pair(pair(L.Dense(4)(x))))))
    assert [kept.layer for kept in plan.kept("BN layer")] == ["pair/inside", "pair/inside"]
    assert plan.summary() == "0 of 2 BN layers folded."


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(x)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (Subclassed, r"subclassed model \(Subclassed\)"),
        (lambda: keras.Sequential([L.Dense(3)]), "not built yet"),
        (lambda: 3, "received a int, expected a Keras model"),
    ],
)
def test_what_has_no_graph_is_refused_in_one_line(model: Callable[[], Any], line: str) -> None:
    for function in (fold_plan, kerasbn.fold):
        with pytest.raises(InputError, match=line) as caught:
            function(model())
        assert "\n" not in str(caught.value)


# -- the plan -----------------------------------------------------------------------------------


def test_the_plan_is_data(chain: Chain) -> None:
    x = keras.Input((4,), name="x")
    y = L.Rescaling(0.5, name="pixels")(x)
    y = L.Dropout(0.1, name="drop")(BN(name="bn")(L.Dense(3, name="d")(y)))
    plan = fold_plan(randomized(x, L.Activation("tanh")(y)))
    assert list(plan) == [
        Fold("pixels", ("d",), "forward", kind="scaling"),
        Fold("bn", ("d",), "backward"),
    ]
    assert json.loads(json.dumps(plan.to_json()))[1] == {
        "decision": "fold",
        "layer": "bn",
        "into": ["d"],
        "direction": "backward",
        "through": [],
        "clips": [],
        "kind": "BN layer",
    }
    assert plan.summary() == "1 of 1 BN layers folded, 1 of 1 scalings folded."
    assert (plan[0].layer, len(plan[:2]), len(plan)) == ("pixels", 2, 2)
    assert len(fold_plan(chain((4,), L.Dense(3)))) == 0


def test_a_long_chain_of_sums_takes_work_that_grows_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Every sum may put t into either term, and no term takes it: tried blindly, that is 2**n ways.
    crossed = 0

    def counted(call: Any, *arguments: Any) -> Any:
        nonlocal crossed
        crossed += 1
        return backward(call, *arguments)

    backward = graph._KerasCall.backward
    monkeypatch.setattr(graph._KerasCall, "backward", counted)

    def work(n: int) -> int:
        nonlocal crossed
        x = keras.Input((4,))
        y = L.LeakyReLU()(L.Dense(4)(x))
        for _ in range(n):
            y = L.Add()([y, L.LeakyReLU()(L.Dense(4)(x))])
        crossed = 0
        assert fold_plan(randomized(x, opaque(L.Rescaling(0.5, 0.2)(y)))).kept()
        return crossed

    short, long = work(12), work(36)
    assert 12 < short < long <= 3 * short + 20


def test_a_layer_shared_over_tensors_of_different_rank_is_left() -> None:
    x, y, dense = keras.Input((3,)), keras.Input((2, 3)), keras.layers.Dense(4)
    scaling = keras.layers.Rescaling(0.5, 1.0)
    plan = fold_plan(keras.Model([x, y], [scaling(dense(x)), scaling(dense(y))]))
    assert "is shared, and its calls need different maps" in str(plan[0])
