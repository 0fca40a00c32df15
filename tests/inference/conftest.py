"""Fixtures for tests of exported files."""

import pytest
from sample_models import make_inputs, make_network, network

from kerasbn.inference import determinism
from kerasbn.inference.session import Session

__all__ = ["make_inputs", "make_network", "network"]


@pytest.fixture(autouse=True)
def no_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare `verify` the start of a process; `monkeypatch.undo` brings it back."""
    monkeypatch.setattr(
        determinism, "_in_new_process", lambda path, batch: Session(path, threads=1).run(batch)
    )
