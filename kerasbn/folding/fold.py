"""Fold a network: plan, carry out, check, and take back what does not hold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from kerasbn.errors import CheckFailedError
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.verification import Judge
from kerasbn.folding.plan import Plan, planned


@dataclass(frozen=True)
class Folded:
    """A folded network, and the plan that it came from."""

    model: keras.Model
    plan: Plan


def fold(
    model: keras.Model,
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> keras.Model:
    """Give a network without the normalizations that can be folded away exactly.

    At inference a BatchNormalization, a Normalization and a Rescaling are affine maps, which a
    linear layer beside them can absorb (Jacob et al. 2018, section 3.2, for a convolution followed
    by a BN layer; the other laws are in `kerasbn.folding.keras.linear_layers`). The result is made
    of plain Keras layers under their old names, and not compiled; `model` stays as it is.

    Args:
        model: a functional or sequential Keras network.
        check: whether to compare the result with `model` in float64 (at most 1e-9 apart, relative
            to the largest answer) and in the network's own dtype (at most 4 times its own error).
            A fold that fails is undone.
        inputs: further inputs to compare on, as `model` takes them.
        clip: whether an activation may become a clip between constants where a normalization
            before it cannot be folded otherwise (see `kerasbn.folding.clips`).

    Raises:
        InputError: if `model` is no such network or a layer of it cannot be built anew, or `inputs`
            don't fit.
        CheckFailedError: if even without any fold the copy answers differently.
    """
    return fold_with_plan(model, check=check, inputs=inputs, clip=clip).model


def fold_with_plan(
    model: keras.Model,
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> Folded:
    """`fold`, together with the plan that was carried out in the end."""
    plan = planned(model, clip=clip)
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
        for name in _culprits(judge, plan, partial(planned, model, refused, clip=clip)):
            refused[name] = f"folded, it would change the answers: {complaint}"
        plan = planned(model, refused, clip=clip)
        folded = rewrite(model, plan)
    return Folded(folded, plan)


def _culprits(judge: Judge, plan: Plan, planned: Callable[[int], Plan]) -> set[str]:
    """The folds after which, made one after another, the check fails for the first time."""
    good, bad = 0, len(plan.folds())
    while bad - good > 1:
        middle = (good + bad) // 2
        tried = planned(middle)
        if judge.complaint(tried, rewrite(judge.model, tried)):
            bad = middle
        else:
            good = middle
    without = {fold.layer for fold in planned(good).folds()}
    return {fold.layer for fold in planned(bad).folds()} - without or {
        fold.layer for fold in plan.folds()
    }


def fold_plan(model: keras.Model, *, clip: bool = True) -> Plan:
    """Decide for each normalization and scaling of a network whether and where it is folded.

    Nothing is computed but affines, and the network stays as it is; `kerasbn.fold` carries the
    same plan out and checks it.

    Args:
        model: a functional or sequential Keras network.
        clip: whether an activation may become a clip between constants where nothing else helps
            (see `kerasbn.folding.clips`).

    Raises:
        InputError: if it is no such network, or was not built.
    """
    return planned(model, clip=clip)
