"""Fold an ONNX model: plan, rewrite and check."""
# ruff: noqa: ANN401 - `inputs` are arrays in any structure

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from kerasbn.folding.carry_out import Folded, carry_out
from kerasbn.folding.onnx.files import load_model
from kerasbn.folding.onnx.graph import read_model
from kerasbn.folding.onnx.rewrite import rewrite
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
        InputError: if the model cannot be checked, or `inputs` don't fit.
        CheckFailedError: if even a copy without any fold predicts something else.
    """

    def build(plan: Plan) -> ir.Model:
        folded, plan.added_bytes = rewrite(model, plan)
        return folded

    problem = SelfCheck(model, inputs).problem if check else None
    name = f"model '{model.graph.name}'"
    return carry_out(lambda: read_model(model), build, problem, clip=clip, name=name)
