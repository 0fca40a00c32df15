"""Batch normalization in Keras: see what it does, then fold it away exactly.

Public names load on first use (PEP 562), so ``import kerasbn`` is fast and loads no TensorFlow.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if "keras" not in sys.modules:  # whatever keras.json says
    os.environ["KERAS_BACKEND"] = "tensorflow"

_NAMES = {
    "common.errors": ("KerasbnError",),
    "data.datasets": ("Dataset", "load_dataset"),
    "experiments.compare": ("compare",),
    "experiments.comparison": ("Comparison",),
    "experiments.recalibrate": ("recalibrate",),
    "experiments.train": ("train",),
    "experiments.trained_model": ("TrainedModel",),
    "folding.fold": ("fold", "fold_plan"),
    "folding.plan": ("Fold", "Kept"),
    "inference.classifier": ("Classifier", "Prediction"),
    "inference.verify": ("Check", "Verification", "verify"),
    "onnx_export.export": ("Exported", "export"),
    "reports.report": ("report",),
    "runs": ("find_run",),
    "sweeps.study": ("Study",),
    "sweeps.sweep": ("sweep",),
    "training.models": ("mlp",),
    "training.settings": ("ModelSettings", "TrainingSettings"),
}
_HOMES = {name: f"kerasbn.{module}" for module, names in _NAMES.items() for name in names}
_NEED_TENSORFLOW = {"compare", "export", "mlp", "recalibrate", "train", "verify"}

__all__ = [
    "Check", "Classifier", "Comparison", "Dataset", "Exported", "Fold", "Kept", "KerasbnError",
    "ModelSettings", "Prediction", "Study", "TrainedModel", "TrainingSettings", "Verification",
    "__version__", "compare", "export", "find_run", "fold", "fold_plan", "load_dataset", "mlp",
    "recalibrate", "report", "sweep", "train", "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from kerasbn.common.errors import KerasbnError
    from kerasbn.data.datasets import Dataset, load_dataset
    from kerasbn.experiments.compare import compare
    from kerasbn.experiments.comparison import Comparison
    from kerasbn.experiments.recalibrate import recalibrate
    from kerasbn.experiments.train import train
    from kerasbn.experiments.trained_model import TrainedModel
    from kerasbn.folding.fold import fold, fold_plan
    from kerasbn.folding.plan import Fold, Kept
    from kerasbn.inference.classifier import Classifier, Prediction
    from kerasbn.inference.verify import Check, Verification, verify
    from kerasbn.onnx_export.export import Exported, export
    from kerasbn.reports.report import report
    from kerasbn.runs import find_run
    from kerasbn.sweeps.study import Study
    from kerasbn.sweeps.sweep import sweep
    from kerasbn.training.models import mlp
    from kerasbn.training.settings import ModelSettings, TrainingSettings


__version__: str


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type is that of the requested name
    if name == "__version__":
        return import_module("kerasbn.common.records").own_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'kerasbn' has no attribute '{name}'")
    if name in _NEED_TENSORFLOW:
        import_module("kerasbn.common.keras_internals").require_tensorflow()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
