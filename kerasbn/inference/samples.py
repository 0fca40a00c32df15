"""Samples to ask an ONNX file for: those a user gives, or random ones of the right kind."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from kerasbn.errors import expected
from kerasbn.inference.session import Port, Session

Array = NDArray[Any]
Arrays = list[Array]

# Numbers in all samples of an input, about, at most.
_MOST_ELEMENTS = 1 << 26
# The length of an axis that is free.
_FREE = 16


def samples_for(
    session: Session, model: ir.Model, given: Path | str | Sequence[Array] | None, most: int
) -> Arrays:
    """Up to `most` samples for each input, in the file's order.

    Args:
        session: the network in the file.
        model: the same as a graph.
        given: arrays in the file's order, or an .npz file with one for each input by its name;
            None for random ones.
        most: how many samples to give; the first ones if there are more.

    Raises:
        InputError: if the file cannot be read, or its arrays do not fit the network.
    """
    if not session.inputs:
        raise expected(session.path, "a network without inputs", "one that answers to something")
    if given is None:
        return random_samples(session, model, most)
    if isinstance(given, str | Path):
        arrays = _read(Path(given), session)
        subject = str(given)
    else:
        arrays, subject = [np.asarray(array) for array in given], "inputs"
    if len(arrays) != len(session.inputs):
        raise expected(
            subject, f"{len(arrays)} arrays",
            f"{len(session.inputs)}, for {', '.join(port.name for port in session.inputs)}",
        )  # fmt: skip
    fitting = [_fit(subject, a, p) for a, p in zip(arrays, session.inputs, strict=True)]
    counts = [len(array) for array in fitting]
    if len(set(counts)) > 1:
        raise expected(
            subject, f"arrays of {', '.join(map(str, counts))} samples", "as many for each input"
        )
    return [array[:most] for array in fitting]


def _read(path: Path, session: Session) -> Arrays:
    """The arrays in an .npz file, one for each of the network's inputs."""
    names = [port.name for port in session.inputs]
    try:
        with np.load(path, allow_pickle=False) as file:
            held = list(file.files)
            arrays = [file[name] for name in names if name in held]
    except OSError as error:
        reason = error.strerror or "damaged"
        raise expected(
            path, f"a file that cannot be read ({reason})", "an .npz file of arrays"
        ) from error
    except (
        Exception
    ) as error:  # an array alone, pickled objects, a damaged archive: all other kinds
        raise expected(
            path, "a file that is no .npz of arrays of numbers",
            f"one with an array for each input ({', '.join(names)})", "write it with numpy.savez",
        ) from error  # fmt: skip
    missing = [name for name in names if name not in held]
    if missing:
        raise expected(
            path, f"no array '{missing[0]}' but {', '.join(held) or 'none'}",
            f"arrays named {', '.join(names)}",
        )  # fmt: skip
    return arrays


def _fit(subject: str, array: Array, port: Port) -> Array:
    """A given array in the type of an input.

    Raises:
        InputError: if its shape is another, or its numbers are not of that type.
    """
    fits = len(array.shape) == len(port.shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape[1:], port.shape[1:], strict=True)
    )
    if not fits or not len(array):
        axes = ", ".join("any" if axis is None else str(axis) for axis in port.shape)
        raise expected(
            f"{subject}, array '{port.name}'", f"the shape {array.shape}", f"({axes}), not empty"
        )
    if array.dtype.kind in "biuf" and port.kind is not None:
        with np.errstate(all="ignore"):
            typed: Array = array.astype(port.kind)
        if np.can_cast(array.dtype, port.kind, "same_kind") or np.array_equal(typed, array):
            return typed
    kind = np.dtype(port.kind).name if port.kind is not None else "no numbers"
    raise expected(
        f"{subject}, array '{port.name}'", f"numbers of type {array.dtype}", f"{kind}",
        f"numbers that {kind} does not hold exactly are not rounded",
    )  # fmt: skip


def random_samples(session: Session, model: ir.Model, count: int, seed: int = 0) -> Arrays:
    """Up to `count` samples, fewer where they are very large, for the inputs in order.

    Pixels for bytes, numbers within every table's range for integers, else standard normals.

    Raises:
        InputError: if an input takes no numbers.
    """
    random = np.random.default_rng(seed)
    read = [node.inputs[0] for node in model.graph if node.op_type == "Gather"]
    weights = [v.const_value for v in read if v is not None and v.const_value is not None]
    tables = [len(weight.numpy()) for weight in weights if len(weight.shape) == 2]
    axes = [[size or _FREE for size in port.shape[1:]] for port in session.inputs]
    count = min(count, max(16, _MOST_ELEMENTS // max(map(prod, axes))))
    made = []
    for port, sizes in zip(session.inputs, axes, strict=True):
        shape = (count, *sizes)
        if port.kind is None:
            raise expected(session.path, f"an input '{port.name}' of no number type", "numbers")
        if port.kind == np.bool_ or np.issubdtype(port.kind, np.integer):
            top = min(tables, default=256 if port.kind == np.uint8 else 2)
            made.append(random.integers(0, top, shape).astype(port.kind))
        else:
            made.append(random.standard_normal(shape, np.float32).astype(port.kind))
    return made
