"""Parity: does an ONNX file match its Keras model? The model in float64 is the judge."""

from dataclasses import dataclass
from functools import partial
from itertools import chain

import keras
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.keras_internals import operation_of
from kerasbn.data.arrays import Array
from kerasbn.folding.agreement import Agreement, batch_size, in_batches, measure_agreement
from kerasbn.folding.keras.float64 import predict_in_float64
from kerasbn.folding.keras.running import predict
from kerasbn.folding.rounding import relative_difference
from kerasbn.inference.session import Session, run_unoptimized

# Compared with float64, a file may be off by this multiple of the Keras model's own error, or by
# this many rounding units of its type, whichever is larger.
_MULTIPLE, _ROUNDINGS = 4, 32
# Keras computes parts of some layers in float32, whatever the type of the model.
_FLOAT64 = 1e-6
_LARGEST = 2**30 - 2**24  # bytes of weights that are widened to float64, in one message


@dataclass(frozen=True)
class Parity(Agreement):
    """Differences between the outputs of an ONNX file and of its Keras model.

    Attributes:
        from_float64: The largest relative difference of the file from the model in float64.
        keras_from_float64: That of the Keras model in its own type.
        allowed: The largest `from_float64` that passes.
    """

    from_float64: float
    keras_from_float64: float
    allowed: float

    @property
    def is_close(self) -> bool:
        """Whether the file matches the model up to rounding."""
        return self.from_float64 <= self.allowed


def measure_parity(session: Session, model: keras.Model, inputs: list[Array]) -> Parity:
    """Compare an ONNX file with the Keras model it was exported from, which is not folded.

    On one batch, both are judged by the model rebuilt in float64. Rounding errors are no mistakes,
    and the model's own error says how large they may be. Inputs are in the order of the model.

    Raises:
        InputError: If the inputs or outputs of the two do not correspond, or the model has layers
            that cannot be rebuilt.
    """
    _check_ports(session, model)
    size = model.inputs[0].shape[0]
    outputs, own = (
        in_batches(each, inputs, size) for each in (session.run, partial(predict, model))
    )
    count, first, got, want = size or batch_size(inputs), inputs, outputs, own
    if len(inputs[0]) > count:
        first, got, want = ([array[:count] for array in each] for each in (inputs, outputs, own))
    exact = in_batches(partial(predict_in_float64, model), first, size)
    kinds = [value.dtype for value in own if np.issubdtype(value.dtype, np.floating)]
    rounding = max((float(np.finfo(kind).eps) for kind in kinds), default=0.0)
    floor = _FLOAT64 if rounding < 1e-9 else _ROUNDINGS * rounding
    found = measure_agreement(outputs, own, len(inputs[0]))
    is_finite = np.isfinite(found.absolute)
    keras_from_float64 = relative_difference(want, exact)
    return Parity(
        **vars(found),
        from_float64=relative_difference(got, exact) if is_finite else float("inf"),
        keras_from_float64=keras_from_float64,
        allowed=max(_MULTIPLE * keras_from_float64, floor),
    )


def error_in_float64(
    proto: onnx.ModelProto, model: keras.Model, inputs: list[Array]
) -> float | None:
    """Return the largest relative difference between file and model, both computed in float64.

    It is the error of folding and of storing the weights, without rounding by onnxruntime. None if
    onnxruntime has an operation in float32 only, or the model is too large to be widened in memory.
    """
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > _LARGEST:
        return None
    wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in inputs]
    try:
        outputs = run_unoptimized(_widened(proto).SerializeToString(), wide)
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no common class
        return None
    return relative_difference(outputs, predict_in_float64(model, inputs))


def with_softmax(model: keras.Model) -> keras.Model:
    """Return the model with a softmax after its one output.

    Raises:
        InputError: If it has several outputs, or ends in a softmax already.
    """
    last = operation_of(model.outputs[0])
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] in (None, 1):
        found = f"a model with outputs {', '.join(map(str, shapes))}"
        wanted = "one output (batch, classes)"
    elif (
        isinstance(last, keras.layers.Softmax)
        or getattr(last, "activation", None) is keras.activations.softmax
    ):
        found = f"a model that ends in a softmax, '{last.name}'"
        wanted = "one that gives logits"
    else:
        softmax = keras.layers.Softmax(name="probabilities", dtype=last.dtype_policy)
        inputs = model.inputs if isinstance(model, keras.Sequential) else model.input
        return keras.Model(inputs, softmax(model.outputs[0]), name=model.name)
    raise ArgumentError("probabilities", True, wanted, "leave it out", received=found)


def _check_ports(session: Session, model: keras.Model) -> None:
    """Raise `InputError` unless inputs and outputs are as many as the model's, of equal shapes."""
    for what, ports, tensors in (
        ("inputs", session.inputs, model.inputs),
        ("outputs", session.outputs, model.outputs),
    ):
        ours, theirs = [port.shape for port in ports], [tuple(tensor.shape) for tensor in tensors]
        fits = [len(shape) for shape in ours] == [len(shape) for shape in theirs] and all(
            a == b or None in (a, b) for a, b in zip(chain(*ours), chain(*theirs), strict=True)
        )
        if not fits:
            raise expected(
                session.path, f"{what} of shape {', '.join(map(str, ours))}",
                f"those of model '{model.name}': {', '.join(map(str, theirs))}",
                "give the model the file was exported from",
            )  # fmt: skip


def _widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that computes in float64 wherever the original computes in float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    del wide.graph.value_info[:]
    for port in (*wide.graph.input, *wide.graph.output):
        if port.type.tensor_type.elem_type == TensorProto.FLOAT:
            port.type.tensor_type.elem_type = TensorProto.DOUBLE
    tensors = list(wide.graph.initializer)
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return wide
