"""The node at which an answer begins to depend on what else is in its batch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from kerasbn.deploy.session import Session

Array = NDArray[Any]

_COUNT = 8


def first_that_differs(
    path: Path, model: onnx.ModelProto, samples: list[Array], mates: list[Array]
) -> str:
    """The name of the first node whose result for the first sample changes with its mates.

    The graph runs twice with every tensor given out: once among its own kind, once among others.
    """
    inputs = [array[:_COUNT] for array in samples]
    mixed = [np.concatenate([a[:1], b[1:_COUNT]]) for a, b in zip(samples, mates, strict=True)]
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
        if not np.allclose(_of_first(a), _of_first(b), rtol=1e-5, atol=1e-7):
            return node.name or node.output[0]
    return "unknown"


def _of_first(value: Array) -> Array:
    """What belongs to the first sample: its row, or all of what has no axis for the batch."""
    value = np.asarray(value)
    return value[0] if value.ndim and value.shape[0] == _COUNT else value
