"""How far the answers of an ONNX file are from its Keras network's, with float64 as the judge."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from kerasbn.errors import expected
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.keras.verification import predict
from kerasbn.folding.plan import Plan
from kerasbn.inference.session import Session

Array = NDArray[Any]

# Against float64, a file may be this many times as far off as the Keras network itself, or this
# many roundings of its type, whichever is more.
_TIMES, _ROUNDINGS = 4, 32
# Keras computes parts of some layers in float32, whatever the network's type.
_FLOAT64 = 1e-6


@dataclass(frozen=True)
class Difference:
    """Two sets of answers, compared; relative differences are to the largest true output.

    Attributes:
        absolute: the largest difference from the Keras network.
        relative: the same as a part of the largest output.
        changed: how many decisions (the largest of the last axis) differ from the Keras network's.
        decisions: how many were compared.
        from_float64: the file's largest relative difference from the network in float64.
        keras_from_float64: the Keras network's own, in its own type.
        allowed: how much `from_float64` may be.
    """

    absolute: float
    relative: float
    changed: int
    decisions: int
    from_float64: float
    keras_from_float64: float
    allowed: float

    @property
    def is_close(self) -> bool:
        """Whether the file answers as the network does, but for rounding."""
        return self.from_float64 <= self.allowed


def compare(session: Session, model: keras.Model, inputs: list[Array]) -> Difference:
    """Compare an ONNX file with the Keras network it should be, on `inputs` in the model's order.

    Both are judged by the network rebuilt in float64: a rounding error is no mistake, and how large
    it may be is told by the network's own.

    Raises:
        InputError: if the two have other inputs or outputs.
    """
    check_ports(session, model)
    given = session.run(inputs)
    own = predict(model, inputs)
    truth = predict(in_float64(model), inputs)
    pairs = list(zip(given, own, strict=True))
    scales = [max(_largest(value), np.finfo(np.float64).tiny) for value in truth]
    from_float64 = _worst(given, truth, scales)
    keras_from_float64 = _worst(own, truth, scales)
    kinds = [value.dtype for value in own if np.issubdtype(value.dtype, np.floating)]
    rounding = max((float(np.finfo(kind).eps) for kind in kinds), default=0.0)
    floor = _FLOAT64 if rounding < 1e-9 else _ROUNDINGS * rounding
    decided = [(a.argmax(-1), b.argmax(-1)) for a, b in pairs if a.ndim > 1 and a.shape[-1] > 1]
    return Difference(
        absolute=max(_largest(_minus(a, b)) for a, b in pairs),
        relative=_worst(given, own, scales),
        changed=sum(int((a != b).sum()) for a, b in decided),
        decisions=sum(a.size for a, _ in decided),
        from_float64=from_float64,
        keras_from_float64=keras_from_float64,
        allowed=max(_TIMES * keras_from_float64, floor),
    )


def check_ports(session: Session, model: keras.Model) -> None:
    """Raise `InputError` unless file and network have as many inputs and outputs, shaped alike."""
    for what, ports, tensors in (
        ("inputs", session.inputs, model.inputs),
        ("outputs", session.outputs, model.outputs),
    ):
        theirs = [tuple(tensor.shape) for tensor in tensors]
        ours = [port.shape for port in ports]
        if len(ours) != len(theirs) or any(map(_unlike, ours, theirs)):
            raise expected(
                session.path, f"{what} of shape {', '.join(map(str, ours))}",
                f"those of model '{model.name}': {', '.join(map(str, theirs))}",
                "give the network the file was exported from",
            )  # fmt: skip


def _unlike(ours: tuple[int | None, ...], theirs: tuple[int | None, ...]) -> bool:
    return len(ours) != len(theirs) or any(
        None not in (a, b) and a != b for a, b in zip(ours, theirs, strict=True)
    )


def in_float64(model: keras.Model) -> keras.Model:
    """The same network with all its arithmetic in float64.

    Raises:
        InputError: if it has layers that cannot be rebuilt.
    """
    return rewrite(model, Plan(()), "float64")


def own_error(file: ir.Model, model: keras.Model, inputs: list[Array]) -> float | None:
    """How far the file's network is from `model` if both compute in float64.

    What is left then is the error of folding and of storing the weights, without onnxruntime's
    rounding. None where onnxruntime has an operation in float32 only.
    """
    wide = in_double(file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            ir.to_proto(wide).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feeds = {
            port.name: array.astype(np.float64) if array.dtype == np.float32 else array
            for port, array in zip(wide.graph.inputs, inputs, strict=True)
        }
        given = session.run(None, feeds)
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no public class
        return None
    truth = predict(in_float64(model), inputs)
    scales = [max(_largest(value), np.finfo(np.float64).tiny) for value in truth]
    return _worst(given, truth, scales)


def in_double(file: ir.Model) -> ir.Model:
    """Return a copy of an ONNX model with every float32 in its graph made a float64."""
    copy = file.clone()
    single, double = ir.DataType.FLOAT, ir.DataType.DOUBLE
    for value in copy.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == single:
            value.const_value = ir.tensor(
                value.const_value.numpy().astype(np.float64), name=value.name
            )
            value.dtype = double
    for value in (*copy.graph.inputs, *copy.graph.outputs):
        if value.dtype == single:
            value.dtype = double
    for node in copy.graph:
        if node.attributes.get_int("to", 0) == single:
            node.attributes["to"] = ir.AttrInt64("to", double)
    return copy


def _worst(given: list[Array], truth: list[Array], scales: list[float]) -> float:
    """The largest relative difference; NaN counts as infinite."""
    worst = max(
        _largest(_minus(a, b)) / scale for a, b, scale in zip(given, truth, scales, strict=True)
    )
    return float("inf") if np.isnan(worst) else float(worst)


def _minus(a: Array, b: Array) -> Array:
    return a.astype(np.float64) - b.astype(np.float64)


def _largest(values: Array) -> float:
    return float(np.abs(values.astype(np.float64)).max(initial=0))


def with_softmax(model: keras.Model) -> keras.Model:
    """The network with its one output as probabilities.

    Raises:
        InputError: if it has several outputs, or they are probabilities already.
    """
    outputs = model.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] in (None, 1):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in outputs)
        raise expected(
            "--probabilities", f"a network with outputs {shapes}", "one output [batch, classes]",
            "leave the option out",
        )  # fmt: skip
    last = outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax) or _is_softmax(getattr(last, "activation", None)):
        raise expected(
            "--probabilities", f"a network whose last layer '{last.name}' is a softmax already",
            "one that gives logits", "leave the option out",
        )  # fmt: skip
    softmax = keras.layers.Softmax(name="probabilities", dtype=last.dtype_policy)
    inputs = model.inputs if isinstance(model, keras.Sequential) else model.input
    return keras.Model(inputs, softmax(outputs[0]), name=model.name)


def _is_softmax(activation: object) -> bool:
    return activation is keras.activations.softmax
