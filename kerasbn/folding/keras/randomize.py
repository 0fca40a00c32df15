"""Random inputs and random parameters for a Keras model."""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.common.errors import InputError, expected
from kerasbn.common.keras_internals import all_layers, own_variables
from kerasbn.folding.affine import CannotFold, Shape
from kerasbn.folding.graph import Call, Graph, Layer, Value
from kerasbn.folding.keras.graph import read_model

BATCH = 3
# Lengths for unknown axes, by the number of such axes: images need room for all the pooling of a
# classifier, sequences and volumes don't.
LENGTHS = {1: 12, 2: 96, 3: 16}
VOCABULARIES = {keras.layers.Embedding: "input_dim", keras.layers.CategoryEncoding: "num_tokens"}
_GLOBAL = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
SHARE_NEGATIVE = 0.25  # of gammas
SHARE_ZERO = 0.05
# Of normally and of uniformly distributed parameters; alpha is that of a PReLU.
DEVIATIONS = {"beta": 0.3, "bias": 0.3, "moving_mean": 0.5, "mean": 0.5}
_RANGES = {"moving_variance": (0.3, 2.0), "variance": (0.3, 2.0), "alpha": (0.0, 0.4)}


def random_inputs(
    model: keras.Model, graph: Graph | None = None, seed: int = 0, *, small: bool = False
) -> list[np.ndarray]:
    """Return a batch for each input of a model, in the order of `model.inputs`.

    With `small`, their shapes are `small_examples`. Token numbers are within the Embedding that
    reads them, uint8 pixels are 0 to 255, and the input of a scaling is such that its output is
    normally distributed.

    Raises:
        InputError: if an input takes no numbers, e.g. strings.
    """
    graph = graph or read_model(model)
    rng = np.random.default_rng(seed)
    examples = small_examples(graph) if small else [value.example for value in graph.inputs]
    each = zip(model.inputs, graph.inputs, examples, strict=True)
    return [_random_input(tensor, value, example, rng) for tensor, value, example in each]


def small_examples(graph: Graph) -> list[Shape]:
    """Return the shape of an example of each input, with images smaller than they have to be.

    Every window that a convolution or pooling moves still fits into its image. A length n is
    reduced by a multiple of the strides on the way to any tensor. So all layers pad as before:
    "same" padding of a window of k adds max(k - 1 - (n - 1) mod stride, 0).
    """
    shapes = [value.example for value in graph.inputs]
    windows = [call for call in graph.calls if hasattr(call.layer, "strides")]
    kinds = {(len(call.inputs[0].example), call.layer.data_format) for call in windows}
    if [rank for rank, _ in kinds] != [3]:
        return shapes
    axes = (0, 1) if ("channels_last" in kinds.pop()) else (1, 2)
    strides = {value: 1 for value in graph.inputs if len(value.example) == 3}  # of all images
    step = 1  # in pixels of the inputs, as what they have to spare
    spare = {axis: min([(v.example[axis] or 1) - 1 for v in strides], default=0) for axis in axes}
    for call in graph.calls:
        images = [value for value in call.inputs if value in strides]
        if not images or isinstance(call.layer, _GLOBAL):
            continue
        stride = math.lcm(*(strides[value] for value in images))
        if call in windows:
            for axis in axes:
                n = images[0].example[axis] or 0
                spare[axis] = min(spare[axis], stride * (n - _window(call.layer)))
        down, up = _scales(call.layer)
        stride = max(1, stride * down // up)
        strides |= {value: stride for value in call.outputs if len(value.example) == 3}
        step = math.lcm(step, stride)
    less = {axis: max(0, n // step * step) for axis, n in spare.items()}
    return [
        tuple(n - less.get(axis, 0) if n else n for axis, n in enumerate(shape))
        if len(shape) == 3 else shape
        for shape in shapes
    ]  # fmt: skip


def check_size(layer: Layer, tensor: Any) -> None:  # noqa: ANN401 - any argument of the layer
    """Raise `ValueError` if images are too small for the window that a layer moves over them."""
    if hasattr(layer, "strides"):
        sides = tensor.shape[1:-1] if layer.data_format == "channels_last" else tensor.shape[2:]
        if min(sides) < _window(layer):
            raise ValueError("images are too small")


def _window(layer: Layer) -> int:
    """Return the longest side of the window that a layer moves over images."""
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    dilations = getattr(layer, "dilation_rate", (1,) * len(sizes))
    return int(max((n - 1) * d + 1 for n, d in zip(sizes, dilations, strict=True)))


def _scales(layer: Layer) -> tuple[int, int]:
    """Return how many times smaller and how many times larger a layer makes an image."""
    factor = max(getattr(layer, "strides", (1,)))
    if isinstance(layer, keras.layers.UpSampling2D):
        return 1, max(layer.size)
    return (1, factor) if isinstance(layer, keras.layers.Conv2DTranspose) else (factor, 1)


def check_examples(model: keras.Model, inputs: Any) -> list[np.ndarray]:  # noqa: ANN401 - arrays in the model's own structure
    """Return the caller's inputs as one array for each of `model.inputs`.

    Raises:
        InputError: if number or shapes don't fit the model.
    """
    arrays = [np.asarray(leaf) for leaf in keras.tree.flatten(inputs)]
    wanted = [tuple(tensor.shape) for tensor in model.inputs]
    got = [array.shape for array in arrays]
    if len(got) != len(wanted) or not all(
        tf.TensorShape(b).is_compatible_with(a) for a, b in zip(got, wanted, strict=True)
    ):
        raise expected("inputs", f"arrays of shape {got}", f"{wanted}, where None is any length")
    return arrays


def _random_input(
    tensor: keras.KerasTensor, value: Value, example: Shape, rng: np.random.Generator
) -> np.ndarray:
    unknown = sum(n is None for n in example)
    lengths = [LENGTHS.get(unknown, 8) if n is None else n for n in example]
    shape = (tensor.shape[0] or BATCH, *lengths)
    readers = list(_readers(value))
    tokens = [
        getattr(call.layer, name)
        for call in readers
        for kind, name in VOCABULARIES.items()
        if isinstance(call.layer, kind)
    ]
    if tensor.dtype in ("string", "object"):
        raise InputError(
            f"input '{tensor.name}': takes {tensor.dtype}, for which random inputs are not "
            "possible; pass inputs=..., or skip the check with check=False"
        )
    if tokens or "float" not in tensor.dtype:
        top = min(tokens, default=256 if tensor.dtype == "uint8" else 2)
        return rng.integers(0, top, shape).astype(tensor.dtype)
    values = rng.normal(size=shape)
    for call in readers:
        if call.kind == "scaling" and call.inputs[0] is value:
            with suppress(CannotFold):  # then the scaling is no affine map
                a = call.lift(call.affine())
                values = (values - a.t) / np.where(a.s == 0, 1.0, a.s)
            break
    return values.astype(np.float64)


def _readers(value: Value) -> Iterator[Call]:
    """Yield the calls that read an input, directly or through pass-through layers."""
    pending, seen = [value], set()
    while pending:
        for call in pending.pop().readers:
            if call not in seen:
                seen.add(call)
                yield call
                if call.is_pass_through:
                    pending += call.outputs


def randomize_parameters(model: keras.Model, seed: int = 0) -> None:
    """Set statistics, gammas, betas and biases of a model to random values, in place.

    A fresh model hides every mistake of folding: with mean 0, variance 1, gamma 1, beta 0 and zero
    biases, a missing bias or a wrong order changes nothing. Here a quarter of the gammas is
    negative and one in twenty is zero. Kernels are not changed. The same model and seed give the
    same values.
    """
    rng = np.random.default_rng(seed)
    for layer in all_layers(model):
        for variable in own_variables(layer):
            values = _random_parameter(layer, variable.name, tuple(variable.shape), rng)
            if values is not None:
                variable.assign(values)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it derives constants from its variables


def _random_parameter(
    layer: Layer, name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray | None:
    """Return random values for a variable of that name, None for a kernel and the like."""
    if name == "gamma":
        gamma = rng.uniform(0.4, 1.6, shape)
        gamma *= np.where(rng.random(shape) < SHARE_NEGATIVE, -1, 1)
        return gamma * (rng.random(shape) >= SHARE_ZERO)
    if name in DEVIATIONS:
        return rng.normal(0, DEVIATIONS[name], shape)
    if name in _RANGES or (name == "scale" and isinstance(layer, keras.layers.RMSNormalization)):
        return rng.uniform(*_RANGES.get(name, (0.4, 1.6)), shape)
    return None
