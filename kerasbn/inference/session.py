"""A network in an ONNX file, by onnxruntime: arrays in, answers out. Keras is not loaded here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kerasbn.errors import InputError, expected, quoted
from kerasbn.inference.metadata import Metadata, read_metadata

Array = NDArray[Any]

# onnxruntime's names for the element types an input can have.
_KINDS = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16, "tensor(uint32)": np.uint32, "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64, "tensor(int64)": np.int64, "tensor(bool)": np.bool_,
}  # fmt: skip

_GPU_PROVIDERS = (
    "CUDAExecutionProvider", "ROCMExecutionProvider", "CoreMLExecutionProvider",
    "DmlExecutionProvider",
)  # fmt: skip


@dataclass(frozen=True)
class Port:
    """An input or output: its name, NumPy type (None if it has none) and shape, free axes None."""

    name: str
    kind: Any
    shape: tuple[int | None, ...]


class Session:
    """A network ready to answer.

    Args:
        path: the ONNX file.
        device: `cpu`, or `gpu` for a graphics processor, which needs onnxruntime-gpu or the like.
        threads: how many threads compute one operation; 0 leaves it to onnxruntime.

    Raises:
        InputError: if there is no such file, it is no ONNX file or damaged, or there is no such
            device.
    """

    def __init__(self, path: Path | str, device: str = "cpu", threads: int = 0) -> None:
        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters of the log is said by the errors raised here
        options.intra_op_num_threads = threads
        _check_file(self.path)
        with _in_words(self.path):
            # Its fallback would print to standard output, and try the same again.
            self._session = onnxruntime.InferenceSession(
                str(self.path), options, providers=_providers(device), enable_fallback=0
            )
            self.inputs = [_port(port) for port in self._session.get_inputs()]
            self.outputs = [_port(port) for port in self._session.get_outputs()]
            properties = self._session.get_modelmeta().custom_metadata_map
        self.metadata: Metadata | None = read_metadata(properties)

    def run(self, arrays: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """The outputs, in the file's order, for inputs by name or in the file's order.

        Raises:
            InputError: if they do not fit the network.
        """
        named = arrays if isinstance(arrays, Mapping) else self._by_name(arrays)
        try:
            return list(self._session.run(None, dict(named)))
        except Exception as error:
            raise InputError(
                f"{self.path}: the network cannot compute this ({what_it_says(error)})"
            ) from error

    def _by_name(self, arrays: Sequence[Array]) -> dict[str, Array]:
        if len(arrays) != len(self.inputs):
            raise expected(
                self.path, f"{len(arrays)} arrays",
                f"{len(self.inputs)} ({', '.join(port.name for port in self.inputs)})",
            )  # fmt: skip
        return {port.name: array for port, array in zip(self.inputs, arrays, strict=True)}


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turn what onnxruntime raises over a damaged file, errors of many kinds, into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise expected(
            path,
            f"a file that onnxruntime cannot read ({what_it_says(error)})",
            "a whole ONNX network",
            "kerasbn export OUT.onnx makes one",
        ) from error


def _check_file(path: Path) -> None:
    advice = "kerasbn export OUT.onnx makes one"
    if path.is_dir():
        raise expected(path, "a folder", "an ONNX file", advice)
    if not path.exists():
        raise expected(path, "no such file", "an ONNX file", advice)
    if path.stat().st_size == 0:
        raise expected(path, "an empty file", "an ONNX file", advice)


def _providers(device: str) -> list[str]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    found = [name for name in _GPU_PROVIDERS if name in onnxruntime.get_available_providers()]
    if not found:
        raise expected(
            f"--device {device}", "an onnxruntime without a graphics processor",
            "one that has it", "install onnxruntime-gpu, or leave the option out",
        )  # fmt: skip
    return [found[0], "CPUExecutionProvider"]


def _port(port: Any) -> Port:  # noqa: ANN401 - onnxruntime's NodeArg
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in port.shape or ())
    return Port(port.name, _KINDS.get(port.type), shape)


def what_it_says(error: BaseException) -> str:
    """What onnxruntime says, on one line and without its own source lines."""
    said = quoted(error, longest=None)
    return said.rpartition(" : ")[2][:200] if "[ONNXRuntimeError]" in said else said[:200]
