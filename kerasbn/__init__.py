"""Batch normalization in Keras: see what it does, then fold it away exactly.

The public names below load on first use (PEP 562), so that ``import kerasbn`` costs nothing and
brings in no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "KerasbnError": "kerasbn.errors",
    "export": "kerasbn.deploy.export",
}

__all__ = ["KerasbnError", "__version__", "export"]

if TYPE_CHECKING:
    from kerasbn.deploy.export import export
    from kerasbn.errors import KerasbnError


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type is that of the name asked for
    if name not in _HOMES:
        raise AttributeError(f"module 'kerasbn' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
