"""Exported models in onnxruntime: classify images, and check parity and determinism."""
