"""Run an ONNX model with onnxruntime. Keras is not loaded."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from kerasbn.common.errors import ArgumentError, InputError, expected, quoted
from kerasbn.common.files import check_file
from kerasbn.data.arrays import Array, Shape
from kerasbn.inference.metadata import Metadata, check_intact, read_metadata

# The default logger also writes some errors to standard error; they are raised anyway.
onnxruntime.set_default_logger_severity(4)

# onnxruntime's names of the element types.
_DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16, "tensor(uint32)": np.uint32, "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64, "tensor(int64)": np.int64, "tensor(bool)": np.bool_,
}  # fmt: skip

MOST_ELEMENTS = 1 << 27  # of an input with all its fixed axes: half a gigabyte of float32
MOST_AXES = 64  # of an input: NumPy has no arrays with more

_GPU_PROVIDERS = (
    "CUDAExecutionProvider", "ROCMExecutionProvider", "CoreMLExecutionProvider",
    "DmlExecutionProvider",
)  # fmt: skip

# What onnxruntime puts ahead of a reason: the file, and where in its source the reason was found.
_LOCATION = re.compile(r"^Load model from .*? failed:\s*|/\S+\.(?:h|cc):\d+ [^(]*\([^)]*\) ")


@dataclass(frozen=True)
class Port:
    """An input or output of a model."""

    name: str
    dtype: Any  # of NumPy; None if it holds no numbers
    shape: Shape


class Session:
    """An ONNX model loaded by onnxruntime, on "cpu" or "gpu", with so many threads per operation.

    Raises:
        InputError: If there is no such file, it is no ONNX model or damaged, or there is no such
            device.
    """

    def __init__(self, path: Path | str, device: str = "cpu", threads: int = 0) -> None:
        if not isinstance(path, str | PathLike):
            raise ArgumentError("path", path, "the path of a file")
        self.path = Path(path)
        providers = _providers(device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised below
        options.intra_op_num_threads = threads
        _check_file(self.path)
        try:
            # The fallback would print to standard output and try the same again.
            self._session = onnxruntime.InferenceSession(
                str(self.path), options, providers=providers, enable_fallback=0
            )
            used = self._session.get_providers()
            self.inputs = [_port(port) for port in self._session.get_inputs()]
            self.outputs = [_port(port) for port in self._session.get_outputs()]
            properties = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime's errors have no common class
            check_intact(self.path)  # says so if the file is damaged
            what, wanted = "file that onnxruntime cannot read", "an intact ONNX model"
            if _is_model(self.path):
                what = f"model that onnxruntime {onnxruntime.__version__} cannot load"
                wanted = "a valid one whose opset, operations and types it supports"
            found = f"a {what} ({runtime_message(error)})"
            raise expected(self.path, found, wanted, "kerasbn export writes one") from error
        if providers[0] not in used:  # onnxruntime only warns, and computes on the CPU
            raise ArgumentError(
                "device", device, "a GPU with the driver and libraries that it needs",
                "install what it needs, or use cpu",
                received=f"an onnxruntime whose {providers[0]} does not start",
            )  # fmt: skip
        if not self.outputs:
            raise expected(self.path, "a model without outputs", "an ONNX model that has some")
        for port in self.inputs:
            if (axes := len(port.shape)) > MOST_AXES:
                raise expected(
                    self.path, f"an input '{port.name}' of {axes} axes", f"at most {MOST_AXES}"
                )
            if (size := prod(axis or 1 for axis in port.shape)) > MOST_ELEMENTS:
                raise expected(
                    self.path, f"an input '{port.name}' of {size:,} numbers",
                    f"at most {MOST_ELEMENTS:,}",
                )  # fmt: skip
        self.metadata: Metadata | None = read_metadata(properties)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for inputs, both in the file's order.

        Raises:
            InputError: If the arrays do not fit the model.
        """
        names = [port.name for port in self.inputs]
        if len(arrays) != len(names):
            wanted = f"{len(names)} ({', '.join(names)})"
            raise expected(self.path, f"{len(arrays)} arrays", wanted)
        try:
            return list(self._session.run(None, dict(zip(names, arrays, strict=True))))
        except Exception as error:
            raise InputError(
                f"{self.path}: the model cannot process these inputs ({runtime_message(error)})"
            ) from error


def _is_model(path: Path) -> bool:
    """Return whether a file holds an ONNX graph, of any version."""
    import onnx  # only here, where a file is refused

    with suppress(Exception):  # a damaged file makes onnx raise many types
        return bool(onnx.load(path, load_external_data=False).graph.node)
    return False


def run_unoptimized(
    content: bytes, arrays: Sequence[Array], folder: Path | None = None
) -> list[Array]:
    """Return the outputs of a model in memory for inputs in its order, node by node as written.

    Weights that are not in the model itself are read from files in `folder`.
    """
    options = onnxruntime.SessionOptions()
    if folder:
        place = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(place, str(folder))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return list(session.run(None, dict(zip(names, arrays, strict=True))))


def runtime_message(error: BaseException) -> str:
    """Return the message of an onnxruntime error in one line, without its source locations."""
    message = quoted(error, longest=None)
    if "[ONNXRuntimeError]" in message:
        message = _LOCATION.sub("", message.rpartition(" : ")[2])
    return message[:200]


def _check_file(path: Path) -> None:
    advice = "make one with: kerasbn train --bn && kerasbn export model.onnx"
    check_file(path, "an ONNX file", advice)
    if path.stat().st_size == 0:
        raise expected(path, "an empty file", "an ONNX file", advice)


def _providers(device: str) -> list[str]:
    if device not in ("cpu", "gpu"):
        raise ArgumentError("device", device, "cpu or gpu")
    available = onnxruntime.get_available_providers() if device == "gpu" else []
    found = [name for name in _GPU_PROVIDERS if name in available]
    if device == "gpu" and not found:
        raise ArgumentError(
            "device", device, "one with GPU support", "install onnxruntime-gpu, or use cpu",
            received="an onnxruntime without GPU support",
        )  # fmt: skip
    return [*found[:1], "CPUExecutionProvider"]


def _port(port: Any) -> Port:  # noqa: ANN401 - onnxruntime's NodeArg
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in port.shape or ())
    return Port(port.name, _DTYPES.get(port.type), shape)
