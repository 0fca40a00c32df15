"""The front end for ONNX files: what each node can do with an affine map, and how to rewrite it."""

import logging

# It prints tracebacks about what it leaves out; what matters here is raised as an error.
logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)
