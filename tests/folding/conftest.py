from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from kerasbn.folding.fold import fold_plan
from kerasbn.folding.plan import Plan

if TYPE_CHECKING:  # the fixtures import it, since the tests of ONNX need no Keras
    import keras

Judged = Callable[..., Plan]

settings.register_profile("full", max_examples=2000)  # see test_pre_activation_models.py


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Layers made in a test compute in float64, where a fold is exact or wrong."""
    import keras

    keras.config.set_floatx("float64")  # inputs of nested models round to this one
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def chain() -> "Callable[..., keras.Model]":
    """A model of layers one after the other, with randomized parameters."""
    import keras

    from kerasbn.folding.keras.randomize import randomize_parameters

    def build(
        shape: tuple[int | None, ...], *layers: Any, dtype: str | None = None
    ) -> "keras.Model":
        x = tensor = keras.Input(shape, dtype=dtype)
        for layer in layers:
            tensor = layer(tensor)
        model = keras.Model(x, tensor)
        randomize_parameters(model, 1)
        return model

    return build


@pytest.fixture
def judged() -> Judged:
    """Fold a float64 model without its own check, compare, and give the plan."""
    from kerasbn.folding.keras.randomize import random_inputs
    from kerasbn.folding.keras.rewrite import rewrite
    from kerasbn.folding.keras.running import predict
    from kerasbn.folding.rounding import relative_difference

    def judge(model: "keras.Model", allowed: float = 1e-9, *, clip: bool = True) -> Plan:
        plan = fold_plan(model, clip=clip)
        folded = rewrite(model, plan)
        arrays = random_inputs(model)
        want = predict(model, arrays)
        assert relative_difference(predict(folded, arrays), want) <= allowed
        assert all(
            np.isfinite(each).all() and np.ptp(each) > 0 for each in want
        )  # a judge that can fail
        return plan

    return judge
