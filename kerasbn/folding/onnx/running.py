"""Run an ONNX model in memory with onnxruntime, node by node as written, on inputs that fit."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from kerasbn.common.errors import expected, quoted
from kerasbn.folding.onnx.evaluate import Array, evaluate, is_float
from kerasbn.folding.onnx.nodes import named_axes
from kerasbn.folding.rounding import unit_of

Arrays = dict[str, Array]
LARGE = 50_000  # values in an example, of which one is enough; otherwise there are two
# What axes of unknown length are tried with. Models with many strides want a multiple of 32.
LENGTHS = (8, 32, 64, 224, 3, 1, 2, 4, 5, 7, 16, 128, 256, 512)
KERNELS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "BatchNormalization",
)  # fmt: skip


class CannotRun(Exception):  # noqa: N818 - a reason to check by other means
    """What onnxruntime says."""


class Runner:
    """A model in onnxruntime on a CPU. All tensors of its graph can be read.

    Its kernels are inputs of the session. So they need not be copied into it, where they may be too
    large, and can be changed.

    Raises:
        CannotRun: if onnxruntime cannot run the model.
    """

    def __init__(self, model: ir.Model) -> None:
        copy = model.clone()
        graph = copy.graph
        self.kernels: Arrays = {}
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            readers = [use.node.op_type for use in value.uses()]
            if tensor is None or value.is_graph_input() or not set(readers) <= set(KERNELS):
                continue
            array = tensor.numpy()
            if readers and is_float(array.dtype):
                self.kernels[name] = array
                value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
                graph.initializers.pop(name)
                value.const_value = None
                graph.inputs.append(value)
        self.outputs = [str(value.name) for value in graph.outputs]
        proto = ir.to_proto(copy)
        inside = {name for node in proto.graph.node for name in node.output if name}
        for name in sorted(inside - set(self.outputs)):
            proto.graph.output.add().name = name
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = False
        try:
            self.session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common class
            raise CannotRun(quoted(error)) from error

    def run(self, feeds: Arrays, *, everything: bool, shaken: bool = False) -> Arrays:
        """Return the outputs, or all tensors, by name.

        With `shaken`, each value of the kernels is changed by one rounding.
        """
        names = None if everything else self.outputs
        kernels = {name: _shaken(a) for name, a in self.kernels.items()} if shaken else self.kernels
        try:
            arrays = self.session.run(names, {**feeds, **kernels})
        except Exception as error:  # as above
            raise CannotRun(quoted(error)) from error
        made = names or [port.name for port in self.session.get_outputs()]
        pairs = zip(made, arrays, strict=True)
        return {name: array for name, array in pairs if isinstance(array, np.ndarray)}


def predictor(model: ir.Model) -> Callable[[list[Array]], list[Array]]:
    """Return a function from arrays for the inputs of a model to those of its outputs.

    Raises:
        CannotRun: if onnxruntime cannot run the model. So may the function.
    """
    return _in_order(model, partial(Runner(model).run, everything=False))


def evaluator(model: ir.Model) -> Callable[[list[Array]], list[Array]]:
    """Return what `predictor` does, but computed in float64, without onnxruntime.

    The function may raise `CannotEvaluate`.
    """
    nodes, outputs = list(model.graph), [str(value.name) for value in model.graph.outputs]
    return _in_order(model, lambda feeds: evaluate(nodes, feeds, outputs, model.opset_imports))


def _in_order(
    model: ir.Model, run: Callable[[Arrays], Arrays]
) -> Callable[[list[Array]], list[Array]]:
    names = [str(value.name) for value in model.graph.inputs if not value.is_initializer()]
    outputs = [str(value.name) for value in model.graph.outputs]

    def predict(arrays: list[Array]) -> list[Array]:
        made = run(dict(zip(names, arrays, strict=True)))
        return [made[name] for name in outputs]

    return predict


def _shaken(array: Array) -> Array:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], 4099)  # random enough, and fast
    factors = 1 + np.resize(signs, array.shape) * (unit_of(array.dtype) / 2)
    with np.errstate(all="ignore"):  # weights may be infinite
        return (array * factors).astype(array.dtype)


def example_inputs(model: ir.Model) -> Iterator[Arrays]:
    """Yield random inputs of several sizes; axes with the same name have the same length."""
    free = {
        n
        for value in model.graph.inputs
        for n in named_axes(value.shape)[1:]
        if not isinstance(n, int)
    }
    values = [value for value in model.graph.inputs if not value.is_initializer()]
    for length in LENGTHS if free else LENGTHS[:1]:
        sizes = [prod(_shape(value, 1, length)) for value in values]
        batch = 2 if max(sizes, default=0) < LARGE else 1
        yield {str(value.name): _example(value, _shape(value, batch, length)) for value in values}


def _shape(value: ir.Value, batch: int, length: int) -> list[int]:
    """Return a shape whose free axes have a length, and the first the length of a batch."""
    axes = enumerate(named_axes(value.shape))
    return [n if isinstance(n, int) else (length if k else batch) for k, n in axes]


def _example(value: ir.Value, shape: list[int]) -> Array:
    random = np.random.default_rng(len(str(value.name)))
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    if is_float(np.dtype(dtype)):
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, min([2, *_rows(value)]), shape).astype(dtype)


def _rows(value: ir.Value) -> Iterator[int]:
    """Yield how many rows there are where integers select some."""
    for node, place in value.uses():
        if node.op_type == "Gather" and place == 1:
            table = node.inputs[0]
            axis = node.attributes.get_int("axis", 0)
            if table is not None and table.const_value is not None:
                yield int(table.const_value.numpy().shape[axis])


def given_inputs(model: ir.Model, inputs: Any) -> Arrays:  # noqa: ANN401 - as `fold` takes them
    """Return given arrays by the names of the inputs. They are a mapping, a sequence, or one array.

    Raises:
        InputError: if they do not fit the model.
    """
    values = {str(v.name): v for v in model.graph.inputs if not v.is_initializer()}
    if not isinstance(inputs, Mapping):
        several = inputs if isinstance(inputs, list | tuple) else [inputs]
        inputs = dict(zip(values, several, strict=False)) if len(several) == len(values) else {}
    if set(inputs) != set(values):
        raise expected("inputs", f"{', '.join(inputs) or 'others'}", f"{', '.join(values)}")
    arrays = {}
    for name, value in values.items():
        array, axes = np.asarray(inputs[name]), named_axes(value.shape)
        fits = array.ndim == len(axes) and all(
            m == n for m, n in zip(array.shape, axes, strict=True) if isinstance(n, int)
        )
        if not fits or array.dtype.kind in "OUS":
            raise expected(
                f"inputs['{name}']", f"an array of shape {array.shape}", f"the shape {tuple(axes)}"
            )
        arrays[name] = array.astype((value.dtype or ir.DataType.FLOAT).numpy())
    return arrays
