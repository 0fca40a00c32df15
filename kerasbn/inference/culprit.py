"""The node at which an answer begins to depend on what else is in its batch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from kerasbn.inference.determinism import halves
from kerasbn.inference.session import Session

Array = NDArray[Any]


def first_that_differs(path: Path, model: onnx.ModelProto, samples: list[Array]) -> str:
    """The name of the first node whose result for the first sample changes with its batch-mates.

    The graph runs twice with every tensor given out: once among some samples, once among others.
    """
    fixed = Session(path).inputs[0].shape[0]
    inputs, mixed = halves([array[: fixed or 16] for array in samples], fixed)
    count = len(inputs[0])
    names = [port.name for port in Session(path).inputs]
    made = [(node, out) for node in model.graph.node for out in node.output if out]
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    del open_model.graph.output[:]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=out) for _, out in made)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        open_model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    first, second = (
        session.run(None, dict(zip(names, arrays, strict=True))) for arrays in (inputs, mixed)
    )
    for (node, _), a, b in zip(made, first, second, strict=True):
        if not np.allclose(_first(a, count), _first(b, count), rtol=1e-5, atol=1e-7):
            return str(node.name or node.output[0])
    return "unknown"


def _first(value: Array, count: int) -> Array:
    """What belongs to the first sample: its row, or all of what has no axis for the batch."""
    value = np.asarray(value)
    return value[0] if value.ndim and value.shape[0] == count else value
