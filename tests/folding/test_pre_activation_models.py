"""Random models with BN before the activation, each against itself unfolded, in float64.

A dozen in the suite, and 2,000 by

    pytest tests/folding/test_pre_activation_models.py --hypothesis-profile=full

with ``--hypothesis-show-statistics`` to see what was drawn.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from kerasbn.folding.fold import fold_plan
from kerasbn.folding.keras.randomize import random_inputs, randomize_parameters
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.running import predict
from kerasbn.folding.plan import Fold
from kerasbn.folding.rounding import relative_difference

L = keras.layers
Tensor = Any  # Keras ships no types
EXAMPLES = settings().max_examples if settings.get_current_profile_name() == "full" else 12

# What a channel is scaled by: either sign, nothing at all, little, and so little that a bound,
# which is divided by it, is more than float64 holds or a kernel can make up for.
GAMMAS = [1.0, 0.7, 1.6, -1.0, -0.4, 0.0, 1e-3, -1e-6, 1e-30]
TINY = [3e-309, -1e-310, 1e-300]
ACTIVATIONS = {
    "relu": L.ReLU,
    "relu, shared": None,
    "relu as an activation": lambda: L.Activation("relu"),
    "relu as a function": lambda: keras.activations.relu,
    "ops.relu": lambda: keras.ops.relu,
    "relu with a maximum": lambda: L.ReLU(max_value=1.5),
    "relu6": lambda: L.Activation("relu6"),
    "ops.relu6": lambda: keras.ops.relu6,
    "hard sigmoid": lambda: L.Activation("hard_sigmoid"),
}
NO_CLIPS = {
    "threshold": lambda: L.ReLU(threshold=0.2),
    "threshold and maximum": lambda: L.ReLU(max_value=1.5, threshold=0.2),
    "slope": lambda: L.ReLU(negative_slope=0.3),
    "leaky relu": lambda: L.LeakyReLU(0.3),
    "hard swish": lambda: L.Activation("hard_swish"),
}


@dataclass
class Drawn:
    """A model while it is drawn; `open` are the BN layers that nothing keeps from going."""

    draw: Any
    relu: Any
    outputs: list[Tensor] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    gammas: dict[str, list[float]] = field(default_factory=dict)
    model: Any = None

    def chance(self, one_in: int) -> bool:
        return bool(self.draw(st.integers(1, one_in)) == one_in)

    def one(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def activated(self, x: Tensor, *, rising: bool = False) -> tuple[Tensor, str, bool]:
        """A BN layer and an activation; whether nothing here is in the way of a clip.

        With `rising` it is in the way if a channel falls.
        """
        name = f"bn_{len(self.gammas)}"
        tiny = TINY if self.chance(20) else []
        gammas = self.draw(st.lists(st.sampled_from(GAMMAS + tiny), min_size=2, max_size=5))
        self.gammas[name] = gammas
        y = L.BatchNormalization(name=name)(x)
        kinds = NO_CLIPS if self.chance(12) else ACTIVATIONS
        kind = self.one(kinds)
        made = kinds[kind]
        y = (self.relu if made is None else made())(y)
        falls = rising and any(gamma < 0 for gamma in gammas)
        return y, name, kinds is ACTIVATIONS and not falls and not set(gammas) & set(TINY)

    def unit(self, x: Tensor, width: int) -> Tensor:
        """DenseNet's and ResNet's unit: what is new in it, as large as `x`."""
        y, name, free = self.activated(x)
        if self.chance(4):  # another reader of the clipped map
            self.outputs.append(L.Dense(2)(L.GlobalAveragePooling2D()(y)))
        if self.chance(15):
            self.outputs.append(y)
            free = False
        padded = self.chance(8)
        if self.chance(3):  # a bottleneck
            y = L.Conv2D(3, 1, use_bias=self.chance(2))(y)
            y = L.BatchNormalization(name=f"{name}_inner")(y)
            self.open.add(f"{name}_inner")  # into the convolution before it
            y = L.Conv2D(width, 3, padding="same", use_bias=False)(L.ReLU()(y))
        else:
            y = L.Conv2D(width, 3 if padded else 1, padding="same", use_bias=self.chance(2))(y)
            free &= not padded
        if free:
            self.open.add(name)
        return y

    def transition(self, x: Tensor) -> Tensor:
        """A smaller map: a pool before or after the convolution, or a stride."""
        how = self.one(["average", "average after", "largest", "valid", "depthwise", "joined"])
        y, name, free = self.activated(x, rising=how == "largest")
        if how == "average":
            y = L.Conv2D(4, 1)(L.AveragePooling2D(2)(y))
        elif how == "average after":
            y = L.AveragePooling2D(2)(L.Conv2D(4, 1, use_bias=False)(y))
        elif how == "largest":
            y = L.Conv2D(4, 1)(L.MaxPooling2D(2, padding="same")(y))
        elif how == "valid":
            y = L.Conv2D(4, 2, strides=2)(y)
        elif how == "depthwise":
            y = L.Conv2D(3, 1)(L.DepthwiseConv2D(2, use_bias=False)(y))
        else:  # two clipped maps as one
            other, another, also = self.activated(x)
            y = L.Conv2D(4, 1)(L.Concatenate()([y, other]))
            if free and also:
                self.open |= {name, another}
            free = False
        if free:
            self.open.add(name)
        return L.Activation("tanh")(y)  # folds nothing, like the pooled map of a ResNet


def pre_activated(draw: Any) -> Drawn:
    """A model of dense or residual blocks, whose outputs several layers read."""
    drawn = Drawn(draw, L.ReLU())
    x = keras.Input((6, 6, draw(st.integers(2, 4))))
    y = L.Activation("tanh")(x)
    for _ in range(draw(st.integers(1, 2))):
        dense = draw(st.booleans())
        for _ in range(draw(st.integers(1, 4))):
            width = draw(st.integers(1, 3)) if dense else y.shape[-1]
            new = drawn.unit(y, width)
            y = L.Concatenate()([y, new]) if dense else L.Add()([y, new])
        if min(y.shape[1:3]) > 2 and draw(st.booleans()):
            y = drawn.transition(y)
    y, last, free = drawn.activated(y)
    if free:
        drawn.open.add(last)
    pool = L.GlobalAveragePooling2D() if draw(st.booleans()) else L.Flatten()
    drawn.outputs.append(L.Dense(3)(pool(y)))
    drawn.model = keras.Model(x, drawn.outputs)
    randomize_parameters(drawn.model, draw(st.integers(0, 2**16)))
    for name, gammas in drawn.gammas.items():
        layer = drawn.model.get_layer(name)
        layer.gamma.assign(np.resize(gammas, layer.gamma.shape))
    return drawn


@pytest.mark.slow
@pytest.mark.usefixtures("in_float64")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # The fixture is the same for all examples; a model takes a moment to draw.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_pre_activation_models(data: st.DataObject) -> None:
    drawn = pre_activated(data.draw)
    model = drawn.model
    plan = fold_plan(model)
    arrays = random_inputs(model)
    want = predict(model, arrays)
    assert all(np.isfinite(each).all() for each in want)
    assert any(np.ptp(each) > 0 for each in want)
    assert relative_difference(predict(rewrite(model, plan), arrays), want) <= 1e-9
    kept = {each.layer for each in plan.kept()}
    assert not kept & drawn.open, list(map(str, plan.kept()))
    for each in plan:
        event(
            f"folded {each.direction}, {len(each.clips)} clips"
            if isinstance(each, Fold)
            else "kept: " + re.sub("`[^`]*`", "...", each.reason)
        )
