"""Fold a Keras model: plan, rewrite and check."""

from functools import partial
from pathlib import Path
from typing import Any

import keras

from kerasbn.common.errors import expected
from kerasbn.common.saved_models import load_model
from kerasbn.folding.agreement import Agreement, Arrays, in_batches, measure_agreement
from kerasbn.folding.carry_out import Folded, carry_out
from kerasbn.folding.keras.graph import read_model
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.running import predict
from kerasbn.folding.keras.verification import SelfCheck
from kerasbn.folding.plan import Plan, plan_folds
from kerasbn.runs import find_model


def fold_plan(model: keras.Model | Path | str, *, clip: bool) -> Plan:
    """Plan like `kerasbn.fold_plan`."""
    return plan_folds(read_model(_load(model)), clip=clip, excluded={})


def fold_with_plan(
    model: keras.Model | Path | str,
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> Folded[keras.Model]:
    """Fold a model like `kerasbn.fold`, and return the plan with it."""
    model = _load(model)
    return carry_out(
        lambda: read_model(model),
        lambda plan: rewrite(model, plan),
        SelfCheck(model, inputs).problem if check else None,
        clip=clip,
        name=f"model '{model.name}'",
    )


def compare(original: keras.Model, folded: keras.Model, samples: Arrays) -> Agreement:
    """Return how far the predictions of a folded model are from those of the original."""
    size = original.inputs[0].shape[0]
    got, want = (in_batches(partial(predict, model), samples, size) for model in (folded, original))
    return measure_agreement(got, want, len(samples[0]))


def _load(model: keras.Model | Path | str) -> keras.Model:
    """Return the model itself, or the one in a file or run."""
    if isinstance(model, keras.Model):
        return model
    if isinstance(model, str | Path):
        return load_model(find_model(str(model)))
    raise expected("model", f"a {type(model).__name__}", "a Keras model, a .keras file or a run")
