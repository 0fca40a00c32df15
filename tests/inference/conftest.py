"""Fixtures for tests of exported files."""

from sample_models import make_inputs, make_network, network

__all__ = ["make_inputs", "make_network", "network"]
