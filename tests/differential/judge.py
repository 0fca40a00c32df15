"""Fold one random model and say what is wrong with the result."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerasbn.folding.fold import fold_plan
from kerasbn.folding.keras.randomize import random_inputs
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.running import predict
from kerasbn.folding.plan import Kept, Plan
from kerasbn.folding.rounding import relative_difference

from .flat_graph import flatten
from .models import random_model
from .proofs import unproved
from .refusals import recorded

LEAST = 1e-6  # the mean of a normalized tensor is 0 but for rounding, which says nothing


@dataclass
class Result:
    """What became of a model."""

    counts: Counter[tuple[str, ...]]
    plan: Plan = field(default_factory=Plan)
    wrong: list[str] = field(default_factory=list)


def judge(seed: int) -> Result:
    """Fold the model of a seed, compare its predictions, and have the plan's reasons shown."""
    model = random_model(seed)
    arrays = random_inputs(model)
    try:
        want = predict(model, arrays)
    except Exception:  # noqa: BLE001 - Keras built what it cannot run
        return Result(Counter({("models", "skipped"): 1}))
    result = Result(Counter({("models", "compared"): 1}))
    try:
        _compare(model, arrays, want, result, clip=seed % 16 != 0)
    except Exception as error:  # noqa: BLE001 - a crash is counted, and the rest goes on
        result.wrong.append(f"raised {type(error).__name__}: {error}")
    result.counts["models", "wrong"] += bool(result.wrong)
    return result


def _compare(
    model: keras.Model,
    arrays: list[np.ndarray],
    want: list[np.ndarray],
    result: Result,
    clip: bool,
) -> None:
    with recorded() as record:
        result.plan = plan = fold_plan(model, clip=clip)
    folded = rewrite(model, plan)
    made = zip(predict(folded, arrays), want, strict=True)
    known = [np.where(np.isfinite(own), got, own) for got, own in made]  # 0/0 may be anything
    error = relative_difference(known, want, LEAST)
    text = str(model.get_config())
    single = any(word in text for word in ("bilinear", "Resizing", "CenterCrop", "float32"))
    allowed = 1e-6 if single else 1e-9
    if not error <= allowed and _is_repeatable(model, want, arrays):
        result.wrong.append(f"error {error:.1e}")
    extra = _leaves(folded) - (_leaves(model) - _folded_layers(model, plan))
    fewer = sum(len(fold.clips) for fold in plan.folds())  # a relu that became a clip is no layer
    if not -fewer <= extra <= 0:
        result.wrong.append(f"{extra} layers too many")
    result.counts += record.counts
    for decision in plan:
        way = "kept" if isinstance(decision, Kept) else decision.direction
        result.counts["decision", way] += 1
    result.counts["decision", "clips"] += sum(bool(fold.clips) for fold in plan.folds())
    for pattern, problem in unproved(record, folded, clip):
        result.counts["reason", pattern] += 1
        if problem:
            result.wrong.append(problem)


def _folded_layers(model: keras.Model, plan: Plan) -> int:
    """How many of the folds are of layers, not of operations."""
    graph = flatten(model)
    return sum(
        isinstance(graph.named(fold.layer)[0].layer, keras.layers.Layer) for fold in plan.folds()
    )


def _is_repeatable(model: keras.Model, want: list[np.ndarray], arrays: list[np.ndarray]) -> bool:
    """Whether a plain copy predicts the same; active noise in a shared layer may differ."""
    return relative_difference(predict(rewrite(model, Plan(())), arrays), want) == 0


def _leaves(model: keras.Model) -> int:
    """How many layers compute something themselves."""
    layers: list[Any] = model._flatten_layers()
    return sum(
        len(layer._flatten_layers()) == 1 and not isinstance(layer, keras.layers.InputLayer)
        for layer in layers
    )
