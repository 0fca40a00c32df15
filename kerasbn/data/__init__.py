"""Datasets and the order of their batches; images of handwritten digits."""
