"""What the probes of a pair recorded over its training, for the script that plays it back."""

import math
from collections.abc import Sequence

import msgspec

from kerasbn.probes.readings import MODEL, ProbedRun, has_probes, read_probes
from kerasbn.probes.topics.activations import HISTOGRAM
from kerasbn.runs import Run

Values = list[float | None]  # one per step; None where a value is missing or not finite


class ModelTraining(msgspec.Struct):
    """One model over the steps; lists are in the order of its Dense layers."""

    loss: Values
    gradients: list[Values]  # norm of the kernel's gradient
    percentiles: list[list[Values]]  # of the pre-activations, one for each of `Training.levels`


class Training(msgspec.Struct):
    """The training of the models with and without BN, at the same steps."""

    steps: list[int]
    steps_per_epoch: int
    layers: list[str]
    levels: list[int]  # which percentiles there are; none if the probes are older than they
    bn: ModelTraining
    plain: ModelTraining


def training(pair: Sequence[Run]) -> Training | None:
    """Return what was recorded of a model with BN and of one without, or None without probes.

    Raises:
        InputError: If the probes are damaged.
    """
    if not pair or not all(map(has_probes, pair)):
        return None
    bn, plain = map(read_probes, pair)
    losses = (run.series(MODEL, "loss") for run in (bn, plain))
    steps = sorted({int(step) for loss in losses for step in loss.steps})
    recorded = bn.series(bn.layers[0], "preactivation_percentile", HISTOGRAM[0])
    levels = HISTOGRAM if len(recorded.steps) else ()
    record = pair[0].record
    return Training(
        steps,
        max(1, record.data.train // record.training.batch_size),
        bn.layers,
        list(levels),
        _model_training(bn, steps, levels),
        _model_training(plain, steps, levels),
    )


def _model_training(run: ProbedRun, steps: Sequence[int], levels: Sequence[int]) -> ModelTraining:
    return ModelTraining(
        _values(run, MODEL, "loss", steps),
        [_values(run, layer, "kernel_gradient", steps) for layer in run.layers],
        [
            [_values(run, layer, "preactivation_percentile", steps, level) for level in levels]
            for layer in run.layers
        ],
    )


def _values(
    run: ProbedRun, layer: str, quantity: str, steps: Sequence[int], which: object = ""
) -> Values:
    """Return a quantity at each step, with the digits that a drawing needs."""
    found = dict(zip(*run.series(layer, quantity, which), strict=True))
    values = (found.get(step, math.nan) for step in steps)
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]
