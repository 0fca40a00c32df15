"""Fixtures for tests of exported files."""

from sample_models import exported_file, make_inputs, make_network

__all__ = ["exported_file", "make_inputs", "make_network"]
