"""Fold a network: plan, carry out, check, and take back what does not hold."""

from dataclasses import dataclass
from typing import Any

import keras

from kerasbn.errors import CheckFailedError
from kerasbn.folding.check import Judge
from kerasbn.folding.plan import Plan, planned
from kerasbn.folding.rewrite import rewrite


@dataclass(frozen=True)
class Folded:
    """A folded network, and the plan that it came from."""

    model: keras.Model
    plan: Plan


def fold(model: keras.Model, *, check: bool = True, inputs: Any = None) -> keras.Model:  # noqa: ANN401 - arrays in the model's own structure
    """Give a network without the normalizations that can be folded away exactly.

    At inference a BatchNormalization, a Normalization and a Rescaling are affine maps, which a
    linear layer beside them can absorb (Jacob et al. 2018, section 3.2, for a convolution followed
    by a normalization; the other laws are in `kerasbn.folding.linear`). The result is made of plain
    Keras layers under their old names, and not compiled; `model` stays as it is.

    Args:
        model: a functional or sequential Keras network.
        check: whether to compare the result with `model` in float64 (at most 1e-9 apart, relative
            to the largest answer) and in the network's own dtype (at most 4 times its own error).
            A fold that fails is undone.
        inputs: further inputs to compare on, as `model` takes them.

    Raises:
        InputError: if `model` is no such network or a layer of it cannot be built anew, or `inputs`
            don't fit.
        CheckFailedError: if even without any fold the copy answers differently.
    """
    return fold_with_plan(model, check=check, inputs=inputs).model


def fold_with_plan(model: keras.Model, *, check: bool = True, inputs: Any = None) -> Folded:  # noqa: ANN401 - arrays in the model's own structure
    """`fold`, together with the plan that was carried out in the end."""
    plan = planned(model)
    folded = rewrite(model, plan)
    if not check:
        return Folded(folded, plan)
    judge = Judge(model, inputs)
    refused: dict[str, str] = {}
    while complaint := judge.complaint(plan, folded):
        if not plan.folds():
            raise CheckFailedError(
                f"{model.name}: a copy without any fold answers otherwise than the network itself "
                f"({complaint}); does it hold a layer whose answers are not repeatable?"
            )
        for name in _culprits(model, judge, plan, refused):
            refused[name] = f"folded, it would change the answers: {complaint}"
        plan = planned(model, refused)
        folded = rewrite(model, plan)
    return Folded(folded, plan)


def _culprits(model: keras.Model, judge: Judge, plan: Plan, refused: dict[str, str]) -> set[str]:
    """The folds after which, made one after another, the check fails for the first time."""
    good, bad = 0, len(plan.folds())
    while bad - good > 1:
        middle = (good + bad) // 2
        tried = planned(model, refused, limit=middle)
        if judge.complaint(tried, rewrite(model, tried)):
            bad = middle
        else:
            good = middle
    without = {fold.norm for fold in planned(model, refused, limit=good).folds()}
    names = {fold.norm for fold in planned(model, refused, limit=bad).folds()} - without
    return names or {fold.norm for fold in plan.folds()}
