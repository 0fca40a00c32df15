"""Batch normalization in Keras: see what it does, then fold it away exactly.

The public names below load on first use (PEP 562), so that ``import kerasbn`` costs nothing and
brings in no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "kerasbn.deploy.classifier",
    "Fold": "kerasbn.folding.plan",
    "Kept": "kerasbn.folding.plan",
    "KerasbnError": "kerasbn.errors",
    "NetworkSettings": "kerasbn.training.settings",
    "TrainingSettings": "kerasbn.training.settings",
    "compare": "kerasbn.study.compare",
    "compare_seeds": "kerasbn.study.ensemble",
    "export": "kerasbn.deploy.export",
    "find_run": "kerasbn.runs",
    "fold": "kerasbn.folding.fold",
    "fold_plan": "kerasbn.folding.plan",
    "mlp": "kerasbn.training.networks",
    "recalibrate": "kerasbn.training.recalibrate",
    "train": "kerasbn.study.experiment",
    "verify": "kerasbn.deploy.verify",
}

__all__ = [
    "Classifier",
    "Fold",
    "Kept",
    "KerasbnError",
    "NetworkSettings",
    "TrainingSettings",
    "__version__",
    "compare",
    "compare_seeds",
    "export",
    "find_run",
    "fold",
    "fold_plan",
    "mlp",
    "recalibrate",
    "train",
    "verify",
]

if TYPE_CHECKING:
    from kerasbn.deploy.classifier import Classifier
    from kerasbn.deploy.export import export
    from kerasbn.deploy.verify import verify
    from kerasbn.errors import KerasbnError
    from kerasbn.folding.fold import fold
    from kerasbn.folding.plan import Fold, Kept, fold_plan
    from kerasbn.runs import find_run
    from kerasbn.study.compare import compare
    from kerasbn.study.ensemble import compare_seeds
    from kerasbn.study.experiment import train
    from kerasbn.training.networks import mlp
    from kerasbn.training.recalibrate import recalibrate
    from kerasbn.training.settings import NetworkSettings, TrainingSettings


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type is that of the name asked for
    if name not in _HOMES:
        raise AttributeError(f"module 'kerasbn' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
