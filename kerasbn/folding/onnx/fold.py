"""Fold an ONNX model: plan, rewrite and check."""
# ruff: noqa: ANN401 - `inputs` are arrays in any structure

from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from kerasbn.common.errors import expected
from kerasbn.folding.agreement import Agreement, Arrays, in_batches, measure_agreement
from kerasbn.folding.carry_out import Folded, carry_out
from kerasbn.folding.onnx.evaluate import CannotEvaluate
from kerasbn.folding.onnx.files import load_model
from kerasbn.folding.onnx.graph import read_model
from kerasbn.folding.onnx.nodes import named_axes, plain
from kerasbn.folding.onnx.rewrite import rewrite
from kerasbn.folding.onnx.running import CannotRun, evaluator, predictor
from kerasbn.folding.onnx.verification import SelfCheck
from kerasbn.folding.plan import Plan, plan_folds


def fold_plan(model: onnx.ModelProto | Path | str, *, clip: bool) -> Plan:
    """Plan like `kerasbn.fold_plan`."""
    loaded = load_model(model)
    plan = plan_folds(read_model(loaded), clip=clip, excluded={})
    _, plan.added_bytes = rewrite(loaded, plan)
    return plan


def fold_with_plan(
    model: onnx.ModelProto | Path | str, *, check: bool, inputs: Any, clip: bool
) -> Folded[onnx.ModelProto]:
    """Fold like `kerasbn.fold`, and return the plan with it."""
    folded, plan = fold_model(load_model(model), clip=clip, check=check, inputs=inputs)
    return Folded(ir.to_proto(ir.external_data.load_to_model(folded)), plan)


def fold_model(
    model: ir.Model, *, clip: bool = True, check: bool = True, inputs: Any = None
) -> Folded[ir.Model]:
    """Return a folded copy of a model and the plan that was carried out.

    Raises:
        InputError: if something is folded and cannot be checked, or `inputs` don't fit.
    """

    def build(plan: Plan) -> ir.Model:
        folded, plan.added_bytes = rewrite(model, plan)
        return folded

    @cache
    def self_check() -> SelfCheck:
        return SelfCheck(model, inputs)

    def problem(plan: Plan, folded: ir.Model) -> str | None:
        if not plan.folds():  # the copy is equal node by node
            return None
        plan.unrun = self_check().runner is None
        return self_check().problem(plan, folded)

    name = f"model '{model.graph.name}'"
    read = partial(read_model, model)
    return carry_out(read, build, problem if check else None, clip=clip, name=name)


def compare(original: ir.Model, folded: ir.Model, samples: Arrays) -> Agreement:
    """Return how far the predictions of a folded model are from those of the original.

    Where onnxruntime cannot run them, they are computed in float64.

    Raises:
        InputError: if they cannot process the samples.
    """
    ports = [value for value in original.graph.inputs if not value.is_initializer()]
    size = plain(named_axes(ports[0].shape))[0]
    try:
        predictors = [predictor(model) for model in (folded, original)]
    except CannotRun:
        predictors = [evaluator(model) for model in (folded, original)]
    try:
        got, want = (in_batches(predict, samples, size) for predict in predictors)
    except (CannotRun, CannotEvaluate) as error:
        found = f"samples that the model cannot process ({error})"
        raise expected("inputs", found, "others") from error
    return measure_agreement(got, want, len(samples[0]))
