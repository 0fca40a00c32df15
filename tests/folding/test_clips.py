"""Rectifiers that become clips so that a map passes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kerasbn.folding.affine import CannotFold, affine
from kerasbn.folding.clips import Clip, pass_clip, pass_clip_backward
from kerasbn.folding.fold import fold, fold_plan, fold_with_plan
from kerasbn.folding.keras.activations import clip_of
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.running import predict
from kerasbn.folding.plan import Plan
from kerasbn.folding.rounding import relative_difference

L = keras.layers
BN = L.BatchNormalization
Chain = Callable[..., keras.Model]
Judged = Callable[..., Plan]

CLIPS: dict[str, Callable[[], Any]] = {
    "relu": L.ReLU,
    "relu6": lambda: L.ReLU(max_value=6.0),
    "activation relu": lambda: L.Activation("relu"),
    "activation relu6": lambda: L.Activation("relu6"),
    "hard sigmoid": lambda: L.Activation("hard_sigmoid"),
    "ops.relu": lambda: keras.ops.relu,
    "ops.relu6": lambda: keras.ops.relu6,
    "activations.relu": lambda: keras.activations.relu,
}
NO_CLIPS: dict[str, Callable[[], Any]] = {
    "threshold": lambda: L.ReLU(threshold=0.2),
    "slope": lambda: L.ReLU(negative_slope=0.2),
    "leaky": L.LeakyReLU,
    "hard swish": lambda: L.Activation("hard_swish"),
    "gelu": lambda: L.Activation("gelu"),
}
values = arrays(np.float64, 4, elements=st.sampled_from([-2.0, -0.5, 0.0, 0.3, 1.0, 4.0]))


def test_a_map_goes_on_ahead_of_a_clip() -> None:
    s, t = np.repeat([-2.0, 0.0, 0.3], 3), np.tile([-0.5, 0.0, 4.0], 3)
    known = Clip(np.asarray(0.0), np.asarray(6.0), (0.5, 1.0))
    clip, before = pass_clip_backward(known, affine(s, t), "float64")
    y = np.linspace(-20, 20, 41)[:, None]
    want = s * np.clip(0.5 * y + 1.0, 0.0, 6.0) + t
    made = np.clip(before.s * y + before.t, clip.lower, clip.upper)
    np.testing.assert_allclose(made, want, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
@settings(max_examples=40)
@given(s=values, t=values)
def test_a_clip_and_an_affine_are_the_activation_of_the_affine(
    name: str, s: np.ndarray, t: np.ndarray
) -> None:
    activation = CLIPS[name]()
    tensor = keras.Input((4,))
    maker = activation(tensor)._keras_history.operation
    clip = clip_of(maker)
    assert clip is not None
    new, out = pass_clip(clip, affine(s, t), "float64")
    x = np.linspace(-20, 20, 4 * 201).reshape(201, 4)
    want = keras.ops.convert_to_numpy(activation(keras.ops.convert_to_tensor(s * x + t)))
    got = out.s * np.minimum(np.maximum(x, new.lower), new.upper) + out.t
    np.testing.assert_allclose(got, want, atol=1e-6 if "sigmoid" in name else 1e-12)
    again, behind = pass_clip(new, affine(t, s), "float64")  # what became a clip is one too
    middle = t * x + s
    want = out.s * np.minimum(np.maximum(middle, new.lower), new.upper)
    got = out.s * (behind.s * np.minimum(np.maximum(x, again.lower), again.upper) + behind.t)
    np.testing.assert_allclose(got, want, atol=1e-9)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", CLIPS)
def test_every_clip_lets_a_bn_layer_be_folded(chain: Chain, judged: Judged, name: str) -> None:
    model = chain((5, 5, 6), L.Activation("tanh"), BN(name="a"), CLIPS[name](), L.Conv2D(3, 3))
    (fold,) = judged(model).folds()
    assert (fold.layer, fold.direction, len(fold.clips)) == ("a", "forward", 1)
    assert str(fold).endswith(" (as a clip)")
    assert fold_plan(model, clip=False).kept()


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("name", NO_CLIPS)
def test_other_activations_stay(chain: Chain, judged: Judged, name: str) -> None:
    model = chain((5, 5, 6), L.Activation("tanh"), BN(), NO_CLIPS[name](), L.Conv2D(3, 3))
    assert judged(model).kept()


@pytest.mark.usefixtures("in_float64")
def test_a_padded_convolution_behind_it_keeps_it(chain: Chain, judged: Judged) -> None:
    conv = L.Conv2D(3, 3, padding="same")
    plan = judged(chain((5, 5, 6), L.Activation("tanh"), BN(), L.ReLU(), conv))
    assert "pads its input with zeros" in plan.kept()[0].reason


@pytest.mark.usefixtures("in_float64")
def test_plain_folding_wins(chain: Chain, judged: Judged) -> None:
    (fold,) = judged(chain((5,), L.Dense(4), BN(), L.ReLU(), L.Dense(3))).folds()
    assert (fold.direction, fold.clips) == ("backward", ())


@pytest.mark.usefixtures("in_float64")
def test_a_dense_block(judged: Judged) -> None:
    x = y = keras.Input((6, 6, 3))
    relu = L.ReLU()  # shared, called in each step: its calls become clips one by one
    for i in range(4):
        step = L.Conv2D(4, 1, name=f"conv_{i}")(relu(BN(name=f"bn_{i}")(y)))
        y = L.Concatenate()([y, L.Conv2D(2, 3, padding="same")(L.Activation("tanh")(step))])
    z = L.AveragePooling2D(2)(relu(BN(name="last")(y)))
    model = keras.Model(x, [L.Conv2D(3, 1)(z), L.Dense(2)(L.GlobalAveragePooling2D()(z))])
    randomize_parameters(model, 4)
    plan = judged(model)
    assert not plan.kept()
    assert all(
        fold.clips == ("re_lu",) or fold.clips[0].startswith("re_lu") for fold in plan.folds()
    )


@pytest.mark.usefixtures("in_float64")
def test_in_a_model_called_twice_both_calls_become_the_same_clip(judged: Judged) -> None:
    inner = keras.Sequential(
        [keras.Input((4,)), L.Activation("tanh"), BN(), L.ReLU(), L.Dense(3)], name="tower"
    )
    x, y = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x, y], L.Add()([inner(x), inner(y)]))
    randomize_parameters(model, 2)
    (fold,) = judged(model).folds()
    assert fold.clips == ("tower/" + inner.layers[2].name,)


@pytest.mark.usefixtures("in_float64")
def test_a_rectifier_that_is_fed_twice_stays(judged: Judged) -> None:
    inner = keras.Sequential([keras.Input((4,)), L.ReLU(), L.Dense(3)], name="tower")
    x, y = keras.Input((4,)), keras.Input((4,))
    tanh = L.Activation("tanh")
    model = keras.Model([x, y], L.Add()([inner(BN()(tanh(x))), inner(BN()(tanh(y)))]))
    randomize_parameters(model, 2)
    assert len(judged(model).kept()) == 2


def test_a_bound_that_the_dtype_cannot_hold_is_refused() -> None:
    clip = clip_of(L.ReLU())
    assert clip is not None
    pass_clip(clip, affine([1e-3], [1.0]), "float16")
    with pytest.raises(CannotFold, match="too large for float16"):
        pass_clip(clip, affine([1e-6], [1.0]), "float16")
    pass_clip(clip, affine([0.0], [1.0]), "float16")


@pytest.mark.usefixtures("in_float64")
def test_what_a_kernel_cannot_make_up_for_is_refused(chain: Chain, judged: Judged) -> None:
    model = chain((5,), L.Activation("tanh"), BN(), L.ReLU(), L.Dense(3))
    model.layers[2].gamma.assign([1.0, 1e-290, -1.0, 0.0, 1.0])
    assert judged(model).folds()
    # Bounds that float64 holds; but s times a weight would be 0, and the bound is 1e307.
    model.layers[2].gamma.assign([1.0, 1e-307, -1.0, 0.0, 1.0])
    assert "because some s is tiny" in judged(model).kept()[0].reason


@pytest.mark.parametrize("policy", ["float32", "float16", "mixed_float16", "mixed_bfloat16"])
def test_clips_keep_the_dtype_and_are_saved(tmp_path: Path, policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input((6,))
        y = L.Dense(5)(L.ReLU(max_value=2.0, name="act")(BN()(L.Activation("tanh")(x))))
        model = keras.Model(x, y)
    finally:
        keras.config.set_dtype_policy("float32")
    randomize_parameters(model, 3)
    folded = fold(model)
    names = [operation.name for operation in folded.operations]
    assert "act_max" in names
    assert "act_min" in names
    assert folded.output.dtype == model.output.dtype
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    arrays = [np.random.default_rng(0).normal(size=(9, 6))]
    assert relative_difference(predict(loaded, arrays), predict(folded, arrays)) == 0
    assert {operation.__class__.__module__.split(".")[0] for operation in loaded.operations} == {
        "keras"
    }


def test_one_sign_needs_one_bound() -> None:
    x = keras.Input((4,))
    bn = BN()
    model = keras.Model(x, L.Dense(3)(L.ReLU(name="act")(bn(L.Activation("tanh")(x)))))
    randomize_parameters(model, 1)
    for gamma, kinds in (([1, 2, 0.5, 1], {"act_max"}), ([-1, -2, 0, -1], {"act_min"})):
        bn.gamma.assign(np.asarray(gamma, np.float32))
        names = {operation.name for operation in fold_with_plan(model).model.operations}
        assert {name for name in names if name.startswith("act_")} == kinds
    bn.gamma.assign(np.zeros(4))
    folded = rewrite(model, fold_plan(model))
    assert not [op for op in folded.operations if op.name.startswith("act_")]
