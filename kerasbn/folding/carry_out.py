"""Carry out a plan, check the result, and undo the folds that fail the check."""

from bisect import bisect_left
from collections.abc import Callable
from math import inf
from typing import Generic, NamedTuple, TypeVar

from kerasbn.common.errors import CheckFailedError
from kerasbn.folding.graph import Graph
from kerasbn.folding.plan import Plan, plan_folds

Model = TypeVar("Model")


class Folded(NamedTuple, Generic[Model]):
    """A folded model and the plan that was carried out."""

    model: Model
    plan: Plan


def carry_out(
    read: Callable[[], Graph],
    build: Callable[[Plan], Model],
    problem: Callable[[Plan, Model], str | None] | None,
    *,
    clip: bool,
    name: str,
) -> Folded[Model]:
    """Return the folded model and its plan.

    Args:
        read: returns the graph of the model, newly read.
        build: returns the model with the folds of a plan.
        problem: returns what is wrong with a plan and the model it led to, None if nothing is. It
            is None where nothing shall be checked.
        clip: whether an activation may become a clip.
        name: the model, for messages.

    Raises:
        CheckFailedError: if even a model without any fold fails the check.
    """
    excluded: dict[str, str] = {}

    def plan_first(limit: float = inf) -> Plan:
        return plan_folds(read(), clip=clip, excluded=excluded, limit=limit)

    def fails(plan: Plan) -> bool:
        return problem is not None and problem(plan, build(plan)) is not None

    plan = plan_first()
    model = build(plan)
    while problem and (reason := problem(plan, model)):
        if not plan.folds():
            raise CheckFailedError(
                f"{name}: a copy without any fold predicts something else ({reason}); it may have "
                "a layer whose output is not repeatable"
            )
        for culprit in _culprits(plan, plan_first, fails):
            excluded[culprit] = f"folding it would change the predictions: {reason}"
        plan = plan_first()
        model = build(plan)
    return Folded(model, plan)


def _culprits(
    plan: Plan, plan_first: Callable[[int], Plan], fails: Callable[[Plan], bool]
) -> set[str]:
    """Return the layers of a failing plan whose folding makes it fail first, by bisection."""
    names = [fold.layer for fold in plan.folds()]
    bad = bisect_left(range(len(names)), True, lo=1, key=lambda n: fails(plan_first(n)))
    without, failing = ({fold.layer for fold in plan_first(n).folds()} for n in (bad - 1, bad))
    return failing - without or set(names)
