"""Random inputs of the kind that a network takes."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kerasbn.errors import InputError, expected
from kerasbn.folding.graph import Call, Graph, Value, read
from kerasbn.folding.norms import affine_of, is_scaling
from kerasbn.folding.passages import is_passage

BATCH = 3
# Lengths for axes that the network leaves open, by the number of such axes: pictures need room
# for all the pooling of a classifier, sequences and volumes don't.
OPEN = {1: 12, 2: 96, 3: 16}


def random_inputs(
    model: keras.Model, graph: Graph | None = None, seed: int = 0
) -> list[np.ndarray]:
    """A batch for each input of `model`, in the order of `model.inputs`.

    Numbers of tokens lie within the Embedding that reads them, pixels are 0 to 255 where uint8 is
    read, and in front of a scaling numbers are such that they are normal behind it.

    Raises:
        InputError: if an input takes no numbers, such as strings.
    """
    graph = graph or read(model)
    dice = np.random.default_rng(seed)
    return [
        _random(tensor, value, dice)
        for tensor, value in zip(model.inputs, graph.inputs, strict=True)
    ]


def given_inputs(model: keras.Model, inputs: Any) -> list[np.ndarray]:  # noqa: ANN401 - arrays in the model's own structure
    """What the caller gave, as one array for each of `model.inputs`.

    Raises:
        InputError: if these are not as many arrays of the right shape.
    """
    arrays = [np.asarray(leaf) for leaf in keras.tree.flatten(inputs)]
    wanted = [tuple(tensor.shape) for tensor in model.inputs]
    got = [array.shape for array in arrays]
    fits = len(got) == len(wanted) and all(
        len(a) == len(b) and all(n in (None, m) for m, n in zip(a, b, strict=True))
        for a, b in zip(got, wanted, strict=True)
    )
    if not fits:
        raise expected(
            "inputs", f"arrays of shape {got}", f"{wanted}, None standing for any length"
        )
    return arrays


def _random(tensor: keras.KerasTensor, value: Value, dice: np.random.Generator) -> np.ndarray:
    unknown = sum(n is None for n in tensor.shape[1:])
    lengths = [OPEN.get(unknown, 8) if n is None else n for n in tensor.shape[1:]]
    shape = (tensor.shape[0] or BATCH, *lengths)
    readers = list(_readers(value))
    tokens = [n for call in readers for n in _tokens(call.layer)]
    if tensor.dtype in ("string", "object"):
        raise InputError(
            f"input '{tensor.name}' takes {tensor.dtype}, for which no inputs can be drawn; "
            "give some with inputs=, or leave the check out with check=False"
        )
    if tokens:
        return dice.integers(0, min(tokens), shape).astype(tensor.dtype)
    if tensor.dtype == "uint8":
        return dice.integers(0, 256, shape).astype(np.uint8)
    if "float" not in tensor.dtype:
        return dice.integers(0, 2, shape).astype(tensor.dtype)
    values = dice.normal(size=shape)
    for call in readers:
        if is_scaling(call.layer) and call.inputs[0] is value:
            a = affine_of(call.layer, len(shape) - 1, training=False)
            values = (values - a.t) / np.where(a.s == 0, 1.0, a.s)
            break
    return values.astype(np.float64)


def _readers(value: Value) -> Iterator[Call]:
    """Who reads an input, directly or through passages."""
    pending, seen = [value], set()
    while pending:
        for call in pending.pop().readers:
            if call not in seen:
                seen.add(call)
                yield call
                if is_passage(call.layer):
                    pending += call.outputs


def _tokens(layer: Any) -> list[int]:  # noqa: ANN401 - Keras ships no types
    """How many different numbers a layer that looks numbers up knows."""
    names = {keras.layers.Embedding: "input_dim", keras.layers.CategoryEncoding: "num_tokens"}
    return [getattr(layer, name) for kind, name in names.items() if isinstance(layer, kind)]
