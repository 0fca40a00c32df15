"""Fold a model: plan, rewrite, check, and undo the folds that fail the check."""

from bisect import bisect_left
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import keras

from kerasbn.common.errors import CheckFailedError, expected
from kerasbn.common.saved_models import load_model
from kerasbn.folding.keras.graph import read_model
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.verification import SelfCheck
from kerasbn.folding.plan import Plan, plan_folds
from kerasbn.runs import find_model


class Folded(NamedTuple):
    """A folded model and the plan that was carried out."""

    model: keras.Model
    plan: Plan


def fold(
    model: keras.Model | Path | str,
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> keras.Model:
    """Fold the BN layers of a model into their neighboring layers.

    At inference, BatchNormalization, Normalization and Rescaling layers are affine maps, which a
    neighboring linear layer can take into its weights (Jacob et al. 2018, section 3.2, for a
    convolution followed by BN; `kerasbn.folding.linear` has the equations). The result consists of
    plain Keras layers with their old names and is not compiled. The given model is not changed.

    Args:
        model: a functional or sequential Keras model, a .keras or .h5 file, or a run.
        check: whether to compare the result with the model in float64 (relative difference at most
            1e-9) and in the model's own dtype (at most 4 times its own rounding error). A fold that
            fails is undone.
        inputs: further inputs to compare on, as the model takes them.
        clip: whether a ReLU may become a clip where a BN layer before it cannot be folded
            otherwise (see `kerasbn.folding.clips`).

    Returns:
        The folded model.

    Raises:
        InputError: if the model cannot be read or rebuilt, or `inputs` don't fit.
        CheckFailedError: if even a copy without any fold predicts something else.

    Examples:
        >>> import keras, kerasbn
        >>> x = keras.Input((4,))
        >>> y = keras.layers.BatchNormalization()(keras.layers.Dense(3)(x))
        >>> folded = kerasbn.fold(keras.Model(x, y))
        >>> [type(layer).__name__ for layer in folded.layers]
        ['InputLayer', 'Dense']
    """
    return fold_with_plan(model, check=check, inputs=inputs, clip=clip).model


def fold_plan(model: keras.Model | Path | str, *, clip: bool = True) -> Plan:
    """Plan for each BN layer and scaling of a model whether and where it is folded.

    The model is not changed. `kerasbn.fold` carries out the same plan and checks the result.

    Args:
        model: a functional or sequential Keras model, a .keras or .h5 file, or a run.
        clip: whether a ReLU may become a clip where a BN layer cannot be folded otherwise.

    Returns:
        A decision for each layer, a `Fold` or a `Kept`.

    Raises:
        InputError: if the model cannot be read.

    Examples:
        >>> import keras, kerasbn
        >>> x = keras.Input((4,))
        >>> y = keras.layers.Dense(3, name="dense")(x)
        >>> model = keras.Model(x, keras.layers.BatchNormalization(name="bn")(y))
        >>> for decision in kerasbn.fold_plan(model):
        ...     print(decision)
        bn: folded backward into dense
    """
    return plan_folds(read_model(_load(model)), clip=clip, excluded={})


def fold_with_plan(
    model: keras.Model | Path | str,
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> Folded:
    """Fold a model like `fold`, and return the plan with it."""
    model = _load(model)
    excluded: dict[str, str] = {}

    def plan_first(limit: float = inf) -> Plan:
        return plan_folds(read_model(model), clip=clip, excluded=excluded, limit=limit)

    plan = plan_first()
    folded = rewrite(model, plan)
    self_check = SelfCheck(model, inputs) if check else None
    while self_check and (problem := self_check.problem(plan, folded)):
        if not plan.folds():
            raise CheckFailedError(
                f"model '{model.name}': a copy without any fold predicts something else "
                f"({problem}); it may have a layer whose output is not repeatable"
            )
        for name in _culprits(self_check, plan, plan_first):
            excluded[name] = f"folding it would change the predictions: {problem}"
        plan = plan_first()
        folded = rewrite(model, plan)
    return Folded(folded, plan)


def _culprits(check: SelfCheck, plan: Plan, plan_first: Callable[[int], Plan]) -> set[str]:
    """Return the layers of a failing plan whose folding makes it fail first, by bisection."""

    def fails(limit: int) -> bool:
        first = plan_first(limit)
        return check.problem(first, rewrite(check.model, first)) is not None

    names = [fold.layer for fold in plan.folds()]
    bad = bisect_left(range(len(names)), True, lo=1, key=fails)
    without, failing = ({fold.layer for fold in plan_first(n).folds()} for n in (bad - 1, bad))
    return failing - without or set(names)


def _load(model: keras.Model | Path | str) -> keras.Model:
    """Return the model itself, or the one in a file or run."""
    if isinstance(model, keras.Model):
        return model
    if isinstance(model, str | Path):
        return load_model(find_model(str(model)))
    raise expected("model", f"a {type(model).__name__}", "a Keras model, a .keras file or a run")
