"""The samples that a file is checked with."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kerasbn.inference.samples import random_samples
from kerasbn.inference.session import Session


@pytest.fixture(params=["UINT8", "INT8", "BOOL", "INT64"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    """A model that looks up one of 1,000 rows for each number of its input."""
    kind = getattr(TensorProto, request.param)
    table = onnx.numpy_helper.from_array(np.zeros((1000, 2), np.float32), "table")
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    made = [helper.make_tensor_value_info("x", kind, ["N", 1000, 20])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1000, 20, 2])]
    graph = helper.make_graph(nodes, "g", made, out, [table])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    return Session(tmp_path / "m.onnx", threads=1)


def test_integers_are_valid_indices_and_need_no_more_memory_than_they_have(
    session: Session,
) -> None:
    tracemalloc.start()
    (samples,) = random_samples(session, onnx.load(session.path), 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.shape == (256, 1000, 20)
    assert samples.min() == 0
    largest = 1 if samples.dtype == bool else min(np.iinfo(samples.dtype).max, 999)
    assert samples.max() == largest
    assert peak < 1.5 * samples.nbytes + 10**6
