"""Inputs to compare models on: arrays and images of the user, or random ones that fit."""

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from kerasbn.common.errors import ArgumentError, expected
from kerasbn.data.arrays import Array, Arrays, check_inputs
from kerasbn.data.inputs import read_samples
from kerasbn.inference.session import Port, Session

if TYPE_CHECKING:
    import keras

_MOST_ELEMENTS = 1 << 26  # of an input, in about all its samples together
_FREE = 16  # the length of a free axis in random samples

Given = Path | str | Sequence[Array]


def samples_for(session: Session, proto: onnx.ModelProto, given: Given | None, most: int) -> Arrays:
    """Return up to `most` samples for each input of a file, in its order.

    Args:
        session: The ONNX file.
        proto: The same file as a message.
        given: The samples, as `given_samples` takes them; None for random ones.
        most: The largest number of samples.

    Raises:
        InputError: If the samples cannot be read, or do not fit the model.
    """
    if not session.inputs:
        raise expected(session.path, "a model without inputs", "one with at least one input")
    if given is None:
        return random_samples(session, proto, most)
    digits = session.metadata is not None and session.metadata.is_for_mnist
    return given_samples(given, session.inputs, most, digits=digits)


def samples_for_model(
    model: "keras.Model", names: Iterable[str], given: Given, *, digits: bool
) -> Arrays:
    """Return the user's samples for a Keras model whose inputs have such names."""
    ports = [
        Port(name, np.dtype(tensor.dtype), tuple(tensor.shape))
        for name, tensor in zip(names, model.inputs, strict=True)
    ]
    return given_samples(given, ports, digits=digits)


def given_samples(
    given: Given, ports: Sequence[Port], most: int | None = None, *, digits: bool = False
) -> Arrays:
    """Return up to `most` of the user's samples for each input, in the type that it takes.

    Args:
        given: An array per input; or a file or folder, as `read_samples` takes it.
        ports: The inputs of the model.
        most: The largest number of samples; None for as many as the memory holds.
        digits: Whether images are handwritten digits, to be converted to the form of MNIST.

    Raises:
        InputError: If they cannot be read, or do not fit the model.
    """
    if not ports:
        raise expected("inputs", "samples for a model without inputs", "none")
    shapes = {port.name: port.shape for port in ports}
    sizes = [prod(size or _FREE for size in port.shape[1:]) for port in ports]
    most = min(most or _MOST_ELEMENTS, max(16, _MOST_ELEMENTS // max(sizes)))
    if isinstance(given, str | Path):
        arrays = read_samples(Path(given), shapes, most, digits=digits)
    elif not isinstance(given, Sequence):
        raise ArgumentError(
            "inputs", type(given), "a list with an array per input, or the path of an .npz file "
            "or of a folder of images",
        )  # fmt: skip
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
            top = min(top, 2 if port.dtype == np.bool_ else np.iinfo(port.dtype).max + 1)
            samples.append(random.integers(0, top, (count, *axes), port.dtype))
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
