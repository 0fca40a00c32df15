"""Check in float64 that a folded Keras model predicts what the original does.

Both are computed layer by layer, side by side. What is equal in both is computed once.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from kerasbn.common.keras_internals import all_layers
from kerasbn.folding.graph import Call, Graph
from kerasbn.folding.keras.clone import SINGLE_ONLY, is_builtin, recurrent_states
from kerasbn.folding.keras.float64 import InFloat64
from kerasbn.folding.keras.graph import read_model
from kerasbn.folding.keras.randomize import check_examples, check_size, random_inputs
from kerasbn.folding.keras.running import Perform, as_inputs, call_own, predict, run, to_numpy
from kerasbn.folding.plan import Plan
from kerasbn.folding.rounding import EXACT, ROUNDING, UNITS, relative_difference, unit_of

Arrays = list[np.ndarray]
SINGLE = 1e-6  # where Keras, or a custom layer, may compute a part in float32
# These read integers as float32, whatever their dtype, and so do operations.
NORMALIZING = (
    keras.layers.BatchNormalization, keras.layers.LayerNormalization,
    keras.layers.GroupNormalization, keras.layers.RMSNormalization,
)  # fmt: skip


class SelfCheck:
    """Compares folded versions of a model with the model, on random and on given inputs."""

    def __init__(self, model: keras.Model, inputs: Any = None) -> None:  # noqa: ANN401 - arrays in the model's own structure
        graph = read_model(model)
        self.model = model
        self.tolerance = SINGLE if any(map(_may_be_single, graph.calls)) else EXACT
        full, small = (random_inputs(model, graph, small=is_small) for is_small in (False, True))
        self.full = full
        self.small: Arrays | None = small if _shapes(small) != _shapes(full) else None
        self.given = [] if inputs is None else [check_examples(model, inputs)]

    def problem(self, plan: Plan, folded: keras.Model) -> str | None:
        """Return what is wrong with a plan and the model it led to, None if nothing is.

        Raises:
            InputError: if one of the two cannot run on random inputs, or on the given ones.
        """
        found = (self._problem_on(arrays, plan, folded) for arrays in self.given)
        return self._problem_on_random(plan, folded) or next(filter(None, found), None)

    def _problem_on_random(self, plan: Plan, folded: keras.Model) -> str | None:
        if self.small is not None:
            with suppress(Exception):  # a layer that needs larger images may raise anything
                if self._problem_on(self.small, plan, folded, _call_if_large_enough) is None:
                    return None
            self.small = None  # images of the model's own size have the last word
        return self._problem_on(self.full, plan, folded)

    def _problem_on(
        self, arrays: Arrays, plan: Plan, folded: keras.Model, perform: Perform = call_own
    ) -> str | None:
        made = predict(folded, arrays, perform)
        want, got = _both_in_float64(self.model, plan, arrays)
        error = relative_difference(got, want)
        if not error <= self.tolerance:
            return f"in float64 they differ by {error:.1e} (allowed: {self.tolerance:.0e})"
        error = relative_difference(made, want)
        if error <= max(self.tolerance, UNITS * max(unit_of(output.dtype) for output in made)):
            return None
        before = relative_difference(predict(self.model, arrays), want)
        if not error <= ROUNDING * before:
            return f"in the model's own dtype the error grows from {before:.1e} to {error:.1e}"
        return None


def _call_if_large_enough(node: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
    """Call a layer unless images are smaller than the window that it moves over them."""
    for tensor in keras.tree.flatten((args, kwargs)):
        check_size(node.operation, tensor)
    return call_own(node, args, kwargs)


def _both_in_float64(model: keras.Model, plan: Plan, arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Return the outputs of a model in float64, as it is and as a plan changes it."""
    inputs = [_Pair(x, x) for x in as_inputs(model, arrays, "float64")]
    pairs = run(model, inputs, _Both(model, plan).call)
    return [to_numpy(each.want) for each in pairs], [to_numpy(each.got) for each in pairs]


@dataclass(frozen=True, eq=False)
class _Pair:
    """A tensor of the model as it is, and of the changed model."""

    want: Any
    got: Any

    @cached_property
    def is_equal(self) -> bool:
        """Whether the two are equal up to rounding.

        They are compared channel by channel. Channels may be along the first axis of an example or
        along the last.
        """
        if self.got is self.want:
            return True
        a, b = to_numpy(self.want), to_numpy(self.got)
        if a.shape != b.shape or a.dtype != b.dtype or a.dtype.kind != "f":
            return False
        gap, size = np.abs(a - b), np.abs(a)
        others = [tuple({*range(a.ndim)} - {axis}) for axis in {1, a.ndim - 1}]
        return all((gap.max(axes) <= EXACT * size.max(axes)).all() for axes in others)


class _Both:
    """Computes each layer as it is and, unless that is the same, as a plan changes it."""

    def __init__(self, model: keras.Model, plan: Plan) -> None:
        self.old = InFloat64(model, Graph())
        self.new = InFloat64(model, plan.graph)

    def call(self, node: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
        """Return the pairs that a node of Keras's graph makes of others."""
        pairs = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, _Pair)]
        want = got = self.old.call(node, *_each(args, kwargs, lambda pair: pair.want))
        is_same = _is_repeatable(node.operation) and not (self.new.changes(node) or self.new.trains)
        if not (is_same and all(pair.is_equal for pair in pairs)):
            got = self.new.call(node, *_each(args, kwargs, lambda pair: pair.got))
        return keras.tree.map_structure(_Pair, want, got)


def _is_repeatable(operation: Any) -> bool:  # noqa: ANN401 - a layer or operation
    """Return whether the same inputs are known to give the same outputs."""
    if not isinstance(operation, keras.layers.Layer):
        return True
    return not recurrent_states(operation) and all(
        is_builtin(layer) and type(layer) is not keras.layers.Lambda
        for layer in all_layers(operation)
    )


def _shapes(arrays: Arrays) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]


def _each(args: Any, kwargs: Any, side: Callable[[_Pair], Any]) -> Any:  # noqa: ANN401 - as Keras has them
    """Return arguments with one side in the place of each pair."""
    return keras.tree.map_structure(
        lambda x: side(x) if isinstance(x, _Pair) else x, (args, kwargs)
    )


def _may_be_single(call: Call) -> bool:
    """Return whether a layer may compute in float32 though its dtype is float64."""
    layer, layers = call.layer, keras.layers
    reads_single = isinstance(layer, NORMALIZING) or not isinstance(layer, layers.Layer)
    return (
        not is_builtin(layer)
        or isinstance(layer, (layers.Lambda, layers.Resizing, layers.CenterCrop, *SINGLE_ONLY))
        or (reads_single and "float" not in call.inputs[0].dtype)
        or (isinstance(layer, layers.UpSampling2D) and layer.interpolation != "nearest")
    )
