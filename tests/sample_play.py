"""A page to play with: its models are those of `kerasbn.mlp` with random weights.

Scales have both signs, and the moving statistics differ from those of any batch.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sample_runs import write_comparison

from kerasbn.data.datasets import Dataset
from kerasbn.data.examples import write_examples
from kerasbn.reports.report import report
from kerasbn.training.settings import ModelSettings, TrainingSettings


class Playable(NamedTuple):
    page: Path
    bn: Any  # the Keras models
    plain: Any


def playable(
    folder: Path, data: Dataset, hidden: tuple[int, ...] = (12, 9), **settings: Any
) -> Playable:
    """A page of a comparison whose models have random weights."""
    from kerasbn.training.models import mlp

    root = folder / "saved_models"
    both = ModelSettings(hidden=hidden, **settings)
    comparison = write_comparison(root, both, TrainingSettings(epochs=1))
    random = np.random.default_rng(5)
    models = []
    for run in comparison.probed_runs:
        model = mlp(run.record.model.bn, hidden, **settings)
        for variable in model.variables:
            size = variable.shape
            value = random.normal(0, 0.3 if len(size) == 1 else 1.5 / np.sqrt(size[0]), size)
            if "variance" in variable.path:
                value = random.uniform(0.1, 3, size)
            if "gamma" in variable.path:
                value = random.uniform(0.5, 2, size) * random.choice([-1, 1], size)
            variable.assign(value)
        model.save(run.model_path)
        models.append(model)
    assert comparison.path is not None
    write_examples(comparison.path, data.test)
    return Playable(report(comparison, output=folder / "page.html"), *models)


def with_batch_statistics(
    model: Any, images: np.ndarray, moving: tuple[str, ...] = ()
) -> np.ndarray:
    """The logits of a batch where only the BN layers `moving` use their moving statistics."""
    weights = model.get_weights()
    for name in moving:
        model.get_layer(name).trainable = False
    logits: np.ndarray = model(images, training=True).numpy()
    for name in moving:
        model.get_layer(name).trainable = True
    model.set_weights(weights)
    return logits
