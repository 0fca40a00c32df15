"""Random inputs and random parameters for a model."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kerasbn.errors import InputError, expected
from kerasbn.folding.keras.affine_layers import affine_of, is_scaling
from kerasbn.folding.keras.graph import Call, Graph, Value, read
from kerasbn.folding.keras.pass_through_layers import is_passage

BATCH = 3
SHARE_NEGATIVE = 0.25
SHARE_ZERO = 0.05
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


def randomize_parameters(model: keras.Model, seed: int = 0) -> None:
    """Set the statistics, gammas, betas and biases of all layers of `model`, in place.

    A quarter of the gammas is negative, one in twenty is zero; kernels stay as they are. The same
    model and seed give the same numbers, whatever the names of the layers.
    """
    dice = np.random.default_rng(seed)
    for layer in model._flatten_layers():  # Keras has no public way to the layers of a layer
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            values = _values(layer, variable.name, tuple(variable.shape), dice)
            if values is not None:
                variable.assign(values)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it keeps its variables in a second form


def _values(
    layer: Any,  # noqa: ANN401 - Keras ships no types
    name: str,
    shape: tuple[int, ...],
    dice: np.random.Generator,
) -> np.ndarray | None:
    """Worn-in values for a variable of that name; None if it stays as it is."""
    if name == "gamma":
        gamma = dice.uniform(0.4, 1.6, shape)
        gamma *= np.where(dice.random(shape) < SHARE_NEGATIVE, -1, 1)
        return gamma * (dice.random(shape) >= SHARE_ZERO)
    if name in ("beta", "bias"):
        return dice.normal(0, 0.3, shape)
    if name in ("moving_mean", "mean"):
        return dice.normal(0, 0.5, shape)
    if name in ("moving_variance", "variance"):
        return dice.uniform(0.3, 2.0, shape)
    if name == "scale" and isinstance(layer, keras.layers.RMSNormalization):
        return dice.uniform(0.4, 1.6, shape)
    if name == "alpha":  # PReLU
        return dice.uniform(0.0, 0.4, shape)
    return None
