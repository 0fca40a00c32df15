"""The weights of a trained model for the scripts of a page, read without Keras.

A ``.keras`` file is a zip archive: ``config.json`` lists the layers, and ``model.weights.h5`` holds
their variables by class and order, as ``layers/dense_1/vars/0`` for the kernel of the second Dense.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import h5py
import msgspec
import numpy as np
from numpy.typing import NDArray

from kerasbn.training.settings import ACTIVATIONS

MOST_BYTES = 2**28  # of weights, with what the optimizer keeps
TOO_LARGE = "is too large"
_WEIGHTS = "model.weights.h5"

Variables = list[NDArray[np.float32]]
Config = dict[str, Any]


class Rescaling(msgspec.Struct, tag_field="kind", tag="rescaling"):
    """``x * scale + offset``."""

    scale: float
    offset: float


class Dense(msgspec.Struct, tag_field="kind", tag="dense"):
    """``x @ kernel + bias``; the kernel is `inputs` rows of `units` numbers."""

    name: str
    inputs: int
    units: int
    kernel: bytes
    bias: bytes | None


class BatchNormalization(msgspec.Struct, tag_field="kind", tag="batch_normalization"):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, with the moving statistics."""

    name: str
    gamma: bytes
    beta: bytes
    mean: bytes
    variance: bytes
    epsilon: float


class Activation(msgspec.Struct, tag_field="kind", tag="activation"):
    """One of the `ACTIVATIONS` that kerasbn trains with."""

    name: str
    function: str


Layer = Rescaling | Dense | BatchNormalization | Activation


class NotPlayableError(ValueError):
    """The scripts of a page cannot compute a model; the message is why: ``is too large``."""


class _Saved(NamedTuple):
    name: str
    config: Config
    variables: Variables


def read_layers(path: Path) -> list[Layer]:
    """Return the layers of a ``.keras`` file in their order; arrays are little-endian float32.

    Raises:
        NotPlayableError: If the file is too large or cannot be read, holds other layers than these
            or branches, a BN layer has no Dense layer beside it, or a weight is not finite.
    """
    try:
        with ZipFile(path) as archive, archive.open(_WEIGHTS) as file:
            _require(archive.getinfo(_WEIGHTS).file_size <= MOST_BYTES, TOO_LARGE)
            config = json.loads(archive.read("config.json"))
            saved = list(_saved_layers(config, h5py.File(file, "r")["layers"]))
            layers = [layer for kind, each in saved for layer in _READERS[kind](each)]
    except NotPlayableError:
        raise
    except Exception as error:  # a damaged file raises many types
        raise NotPlayableError("has no file that can be read") from error
    for i, layer in enumerate(layers):
        beside = layers[max(i - 1, 0) : i + 2]
        has_taker = any(isinstance(each, Dense) for each in beside)
        _require(has_taker or not isinstance(layer, BatchNormalization))
    return layers


def floats(array: bytes) -> NDArray[np.float64]:
    """Return the numbers of an array of a layer."""
    return np.frombuffer(array, "<f4").astype(np.float64)


def _saved_layers(config: Config, weights: h5py.Group) -> Iterator[tuple[str, _Saved]]:
    """Yield the class of each layer with its name, configuration and variables."""
    _require(config["class_name"] == "Functional")
    layers, seen = config["config"]["layers"], Counter[str]()
    for before, layer in zip([None, *layers], layers, strict=False):
        kind, name = layer["class_name"], layer["config"]["name"]
        _require(kind in _READERS)
        _require(_inputs_of(layer) == ([before["config"]["name"]] if before else []))
        key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
        group = f"{key}_{seen[key]}" if seen[key] else key
        seen[key] += 1
        stored = weights[group]["vars"]
        variables = [np.asarray(stored[str(i)], "<f4") for i in range(len(stored))]
        is_finite = all(np.isfinite(each).all() for each in variables)
        _require(is_finite, "has weights that are not finite")
        yield kind, _Saved(name, layer["config"], variables)


def _inputs_of(layer: Config) -> list[str]:
    """Return the names of the layers whose outputs a layer takes."""
    return re.findall(r"'keras_history': \['(.*?)', 0, 0\]", str(layer["inbound_nodes"]))


def _dense(saved: _Saved) -> Iterator[Layer]:
    kernel, *bias = saved.variables
    inputs, units = kernel.shape
    _require(len(bias) == saved.config["use_bias"])
    shift = bias[0].tobytes() if bias else None
    yield Dense(saved.name, inputs, units, kernel.tobytes(), shift)
    yield from _activation(saved)


def _batch_normalization(saved: _Saved) -> Iterator[Layer]:
    config, variables = saved.config, iter(saved.variables)
    size = len(saved.variables[-1])
    gamma = next(variables) if config["scale"] else np.ones(size, "<f4")
    beta = next(variables) if config["center"] else np.zeros(size, "<f4")
    mean, variance = variables
    yield BatchNormalization(
        saved.name,
        gamma.tobytes(),
        beta.tobytes(),
        mean.tobytes(),
        variance.tobytes(),
        config["epsilon"],
    )


def _activation(saved: _Saved) -> Iterator[Layer]:
    function = saved.config["activation"]
    _require(function in ACTIVATIONS)
    if function != "linear":
        yield Activation(saved.name, function)


def _relu(saved: _Saved) -> Iterator[Layer]:
    config = saved.config
    _require((config["max_value"], config["negative_slope"], config["threshold"]) == (None, 0, 0))
    yield Activation(saved.name, "relu")


def _rescaling(saved: _Saved) -> Iterator[Layer]:
    yield Rescaling(saved.config["scale"], saved.config["offset"])


_READERS: dict[str, Callable[[_Saved], Iterator[Layer]]] = {
    "InputLayer": lambda _: iter(()),
    "Flatten": lambda _: iter(()),
    "Rescaling": _rescaling,
    "Dense": _dense,
    "BatchNormalization": _batch_normalization,
    "ReLU": _relu,
    "Activation": _activation,
}


def _require(
    condition: bool, otherwise: str = "is no chain of Dense, BN and activation layers"
) -> None:
    if not condition:
        raise NotPlayableError(otherwise)
