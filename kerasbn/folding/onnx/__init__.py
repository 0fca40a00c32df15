"""The front end for ONNX files: what each node can do with an affine map, and how to rewrite it."""
