"""Inputs to verify an ONNX file with: arrays of the user, or random ones of the right type."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx

from kerasbn.common.errors import ArgumentError, expected
from kerasbn.data.arrays import Array, Arrays, check_inputs, read_inputs
from kerasbn.inference.session import Port, Session

_MOST_ELEMENTS = 1 << 26  # of an input, in about all its samples together
_FREE = 16  # the length of a free axis in random samples


def samples_for(
    session: Session, proto: onnx.ModelProto, given: Path | str | Sequence[Array] | None, most: int
) -> Arrays:
    """Return the first `most` samples for each input, in the order of the file.

    Args:
        session: The ONNX file.
        proto: The same file as a message.
        given: An array per input, or an .npz file as `read_inputs` takes; None for random samples.
        most: The largest number of samples.

    Raises:
        InputError: If the arrays cannot be read, or do not fit the model.
    """
    if not session.inputs:
        raise expected(session.path, "a model without inputs", "one with at least one input")
    if given is None:
        return random_samples(session, proto, most)
    ports, shapes = session.inputs, {port.name: port.shape for port in session.inputs}
    if isinstance(given, str | Path):
        arrays, _ = read_inputs(Path(given), shapes)
    elif not isinstance(given, Sequence):
        raise ArgumentError(
            "inputs", type(given), "a list with an array per input, or the path of an .npz file"
        )
    elif len(given) != len(ports):
        wanted = f"{len(ports)}, for {', '.join(shapes)}"
        raise expected("inputs", f"{len(given)} arrays", wanted)
    else:
        arrays = [np.asarray(array) for array in given]
        check_inputs("inputs", arrays, shapes)
    subject = str(given) if isinstance(given, str | Path) else "inputs"
    return [_typed(subject, a, port)[:most] for a, port in zip(arrays, ports, strict=True)]


def random_samples(session: Session, proto: onnx.ModelProto, count: int) -> Arrays:
    """Return up to `count` random samples for each input; fewer if they are very large.

    Floats are standard normal, bytes are pixels, other integers are valid indices of every
    embedding.

    Raises:
        InputError: If an input takes no numbers.
    """
    random = np.random.default_rng(0)
    weights = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    constants = [node for node in proto.graph.node if node.op_type == "Constant"]
    weights |= {node.output[0]: node.attribute[0].t.dims for node in constants}
    indexed = [weights.get(n.input[0], ()) for n in proto.graph.node if n.op_type == "Gather"]
    lengths = [shape[0] for shape in indexed if len(shape) == 2]
    sizes = [[size or _FREE for size in port.shape[1:]] for port in session.inputs]
    count = min(count, max(16, _MOST_ELEMENTS // max(map(prod, sizes))))
    samples = []
    for port, axes in zip(session.inputs, sizes, strict=True):
        if port.dtype is None:
            raise expected(session.path, f"an input '{port.name}' without a number type", "numbers")
        if port.dtype == np.bool_ or np.issubdtype(port.dtype, np.integer):
            top = min(lengths, default=256 if port.dtype == np.uint8 else 2)
            samples.append(random.integers(0, top, (count, *axes)).astype(port.dtype))
        else:
            samples.append(random.standard_normal((count, *axes), np.float32).astype(port.dtype))
    return samples


def _typed(subject: str, array: Array, port: Port) -> Array:
    """Return an array in the type of an input. Raises `InputError` if that is not exact."""
    if array.dtype.kind in "biuf" and port.dtype is not None:
        with np.errstate(all="ignore"):
            typed: Array = array.astype(port.dtype)
        if np.can_cast(array.dtype, port.dtype, "same_kind") or np.array_equal(typed, array):
            return typed
    dtype = np.dtype(port.dtype).name if port.dtype is not None else "no numbers"
    raise expected(
        f"{subject}, array '{port.name}'", f"numbers of type {array.dtype}", dtype,
        f"numbers that {dtype} cannot hold exactly are not rounded",
    )  # fmt: skip
