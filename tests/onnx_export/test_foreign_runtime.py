"""Exported files give equal answers in runtimes that kerasbn has nothing to do with.

OpenVINO comes with the extra `test`; onnxruntime-node runs where NODE_PATH leads to it
(`npm install --ignore-scripts onnxruntime-node`; its script fetches libraries for graphics
processors).
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

NETWORKS = ["mnist", "grouped", "sequential", "two_inputs", "residual", "embedded", "attention"]

# In a process of its own: it brings libraries that do not share one with TensorFlow gladly.
OPENVINO = """
import sys
import numpy as np
import openvino
# Its default is bfloat16 where the processor has it.
single = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model(sys.argv[1], "CPU", single)
with np.load(sys.argv[2]) as file:
    found = model({name: file[name] for name in file.files})
np.savez(sys.argv[3], **{port.get_any_name(): found[port] for port in model.outputs})
"""

NODE = """
const ort = require("onnxruntime-node");
const [path, feeds] = [process.argv.at(-1), JSON.parse(require("fs").readFileSync(0))];
const arrays = {uint8: Uint8Array, float32: Float32Array, int32: Int32Array};
(async () => {
  const session = await ort.InferenceSession.create(path);
  const given = {};
  for (const [name, {type, dims, data}] of Object.entries(feeds))
    given[name] = new ort.Tensor(type, arrays[type].from(data), dims);
  const found = {};
  for (const [name, tensor] of Object.entries(await session.run(given)))
    found[name] = {dims: tensor.dims, data: Array.from(tensor.data)};
  process.stdout.write(JSON.stringify(found));
})();
"""


def has_node_runtime() -> bool:
    node = shutil.which("node")
    return node is not None and (
        subprocess.run([node, "-e", 'require("onnxruntime-node")'], capture_output=True).returncode
        == 0
    )


@pytest.fixture
def exported(
    request: pytest.FixtureRequest, make_network: Any, make_inputs: Any, exported_file: Any
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A file, inputs for it by name, and what onnxruntime answers to them."""
    network, path = make_network(request.param), exported_file(request.param)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    feeds = dict(zip(names, make_inputs(network, 5), strict=True))
    outputs = [port.name for port in session.get_outputs()]
    return path, feeds, dict(zip(outputs, session.run(None, feeds), strict=True))


def by_openvino(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    before, after = path.with_name("feeds.npz"), path.with_name("found.npz")
    np.savez(before, **feeds)
    command = [sys.executable, "-c", OPENVINO, str(path), str(before), str(after)]
    subprocess.run(command, check=True)
    with np.load(after) as file:
        return {name: file[name] for name in file.files}


def by_node(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    as_json = {
        name: {"type": str(a.dtype), "dims": a.shape, "data": a.ravel().tolist()}
        for name, a in feeds.items()
    }
    done = subprocess.run(
        ["node", "-e", NODE, "--", str(path)],
        input=json.dumps(as_json), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return {n: np.array(f["data"], np.float32).reshape(f["dims"]) for n, f in found.items()}


RUNTIMES = [
    pytest.param(by_openvino, id="openvino"),
    pytest.param(
        by_node,
        id="onnxruntime-node",
        marks=pytest.mark.skipif(
            not has_node_runtime(), reason="onnxruntime-node is not installed"
        ),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("exported", NETWORKS, indirect=True)
def test_answers_are_equal(
    exported: tuple[Path, dict[str, Any], dict[str, Any]],
    runtime: Callable[[Path, dict[str, Any]], dict[str, Any]],
) -> None:
    path, feeds, wanted = exported
    found = runtime(path, feeds)
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        assert found[name].shape == want.shape
        assert np.abs(found[name] - want).max() <= 2e-6 * np.abs(want).max()
        assert (found[name].argmax(-1) == want.argmax(-1)).all()
