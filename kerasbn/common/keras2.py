"""The layers and the graph of a Keras 2 configuration, built in Keras 3.

What Keras 3 no longer has is written with what it has, where that computes the same. All else is
refused with the name of the layer and the reason.
"""
# ruff: noqa: ANN401 - Keras ships no types, and a configuration is any JSON value

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import keras
import numpy as np

from kerasbn.common import keras_internals
from kerasbn.common.errors import InputError, expected
from kerasbn.common.keras_internals import cause
from kerasbn.common.tensorflow_ops import Sizes, function_named

_FUNCTIONAL = ("Functional", "Model")
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
_RENAMED = {
    "SyncBatchNormalization": "BatchNormalization", "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization", "LSTMV2": "LSTM", "GRUV2": "GRU",
}  # fmt: skip
_REMOVED = (
    "ClassMethod", "CuDNNGRU", "CuDNNLSTM", "DenseFeatures", "InstanceMethod", "InstanceProperty",
    "LocallyConnected1D", "LocallyConnected2D", "RandomHeight", "RandomWidth", "TensorFlowOpLayer",
)  # fmt: skip
# Layers within layers, by the setting that holds them.
_WITHIN = ("layer", "backward_layer", "cell", "cells")
# Settings that Keras 3 dropped, with the values for which it computes what Keras 2 did; those
# without a value concern only how, or training.
_DROPPED = {
    "groups": (1,), "time_major": (False,), "causal": (False,), "ragged": (False,),
    "optional": (False,), "virtual_batch_size": (None,), "adjustment": (None,), "renorm": (False,),
    "softmax_robust_masking": (False,),
} | dict.fromkeys(
    (
        "batch_input_shape", "fused", "implementation", "input_length", "key_shape",
        "kernel_constraint", "kernel_initializer", "kernel_regularizer", "noise_shape",
        "function_type", "module", "output_shape_module", "output_shape_type", "query_shape",
        "rng_type", "synchronized", "value_shape",
    ),
    (),
)  # fmt: skip


class _NotYet(Exception):  # noqa: N818 - no error
    """The inputs of a call have not been computed yet."""


@dataclass
class Part:
    """A layer of Keras 2, and how Keras 3 computes it."""

    name: str
    kind: str  # its class in Keras 2
    call: Callable[..., Any]
    layer: Any = None  # of Keras 3; its weights are those of the part
    inner: list["Part"] = field(default_factory=list)  # of a model or a TimeDistributed

    def variables(self) -> list[Any]:
        """Return the variables in the order in which Keras 2 creates them."""
        if self.inner:
            return [variable for part in self.inner for variable in part.variables()]
        return [] if self.layer is None else list(self.layer.weights)

    def error(self, received: str, wanted: str) -> InputError:
        """Return the error for this layer."""
        return _error(self.name, self.kind, received, wanted)


def _error(name: str, kind: str, received: str, wanted: str) -> InputError:
    advice = "rebuild the model in Keras 3 and load its weights"
    return expected(f"layer '{name}' ({kind} of Keras 2)", received, wanted, advice)


def unknown_classes(config: Any) -> list[str]:
    """Return the classes of layers in a configuration that are neither Keras's nor registered."""
    known = {"Sequential", "ThresholdedReLU", *_FUNCTIONAL, *_OPERATIONS, *_RENAMED, *_REMOVED}
    return sorted({n for n in _classes(config) if n not in known and not _is_known(n)})


def _is_known(name: str) -> bool:
    return hasattr(keras.layers, name) or keras.saving.get_registered_object(name) is not None


def _classes(saved: Any) -> Iterator[str]:
    """Yield the class of every layer in a configuration, at any depth."""
    yield _class_name(saved)
    config = saved["config"]
    layers = config if isinstance(config, list) else config.get("layers", [])
    for key in _WITHIN:
        inner = {} if isinstance(config, list) else config.get(key, {})
        layers = [*layers, *(inner if isinstance(inner, list) else [inner])]
    for each in layers:
        if isinstance(each, dict) and "class_name" in each:
            yield from _classes(each)


def _class_name(saved: Any) -> str:
    """Return the name of a class, with that of a package if it was registered under one."""
    registered = saved.get("registered_name") or ""
    return str(registered if ">" in registered else saved["class_name"])


def build(saved: Any) -> Part:
    """Return the part for the configuration of a layer or a model.

    Raises:
        InputError: if Keras 3 has nothing that computes the same.
    """
    kind, config = _class_name(saved), saved["config"]
    if isinstance(config, list):  # a Sequential before Keras 2.2.3
        config = {"name": "sequential", "layers": config}
    name = config["name"]
    if kind == "InputLayer":
        return Part(name, kind, lambda: _input(name, config))
    if kind == "Sequential":
        return _sequential(kind, config, [build(each) for each in config["layers"]])
    if kind in _FUNCTIONAL:
        return _functional(kind, config, [build(each) for each in config["layers"]])
    if kind in _OPERATIONS:
        return Part(name, kind, _operation(name, kind, config["function"]))
    if kind == "ThresholdedReLU":
        theta = float(config["theta"])
        return Part(name, kind, lambda x: x * keras.ops.cast(x > theta, x.dtype))
    if kind in _REMOVED:
        raise _error(name, kind, "a layer that Keras 3 does not have", "one that it has")
    if kind == "TimeDistributed":
        part = build(config["layer"])
        if part.call is not part.layer:
            raise part.error("a layer that Keras 3 computes in steps", "none in a TimeDistributed")
        layer = keras.layers.TimeDistributed(part.layer, name=_legal(name))
        return Part(name, kind, layer, layer, [part])
    return _layer(name, kind, config)


def _input(name: str, config: Any) -> Any:
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    for key in ("sparse", "ragged"):
        if config.get(key):
            raise _error(name, "InputLayer", f"{key}=True", "a dense input")
    return keras.Input(batch_shape=tuple(shape), dtype=config.get("dtype"), name=_legal(name))


def _legal(name: str) -> str:
    """Return a name that Keras 3 allows."""
    return name.replace("/", "_")


def _layer(name: str, kind: str, config: Any) -> Part:
    """Return the part for a layer that Keras 3 has, or a custom one."""
    axes, is_hard = config.get("axis"), config.get("activation") == "hard_sigmoid"
    changed: dict[str, Any] = {}
    is_joint = _RENAMED.get(kind, kind) == "BatchNormalization" and len(np.atleast_1d(axes)) > 1
    if is_joint:
        changed["axis"] = -1
    if is_hard and kind != "SimpleRNN" and "recurrent_activation" not in config:
        changed["activation"] = "linear"
    try:
        translated = translate({"class_name": kind, "config": {**config, **changed}})
        layer = keras.saving.deserialize_keras_object(
            translated, safe_mode=keras_internals.in_safe_mode()
        )
    except Exception as error:  # of any class and its settings
        if kind == "Lambda":
            raise
        raise _error(name, kind, f"what Keras 3 refuses ({cause(error)})", "another") from error
    hard = keras.activations.hard_sigmoid
    if any(getattr(each, "activation", None) is hard for each in keras_internals.all_layers(layer)):
        wanted = "another: in Keras 2 it was 0.2x + 0.5, in Keras 3 it is x/6 + 0.5"
        raise _error(name, kind, "activation='hard_sigmoid'", wanted)
    if is_joint:
        return Part(name, kind, _over_axes(layer, axes), layer)
    if "activation" in changed:  # of Keras 2 it is 0.2x + 0.5, of Keras 3 x/6 + 0.5
        return Part(name, kind, lambda x, **k: keras.ops.hard_sigmoid(1.2 * layer(x, **k)), layer)
    return Part(name, kind, layer, layer)


def translate(saved: Any) -> Any:
    """Return the configuration of a layer without what Keras 3 has under another name, or lacks."""
    kind = _RENAMED.get(saved["class_name"], saved["class_name"])
    cls = getattr(keras.layers, kind, None)
    taken = inspect.signature(cls).parameters if cls else {}
    dropped = _DROPPED if "kwargs" in taken else {**_DROPPED, "trainable": ()}
    config = {}
    for key, value in saved["config"].items():
        values = dropped.get(key) if cls and key not in taken else None
        if values is not None and (value in values or not values):
            continue
        if key == "dtype" and isinstance(value, dict):  # a policy
            value = value["config"]["name"]
        elif key == "name":
            value = _legal(value)
        elif key == "axis" and kind == "BatchNormalization" and isinstance(value, list | tuple):
            (value,) = value
        elif key in _WITHIN:
            value = [*map(translate, value)] if isinstance(value, list) else translate(value)
        config[key] = value
    if kind == "Lambda" and isinstance(config["function"], list):
        code = dict(zip(("code", "defaults", "closure"), config["function"], strict=True))
        config["function"] = {"class_name": "__lambda__", "config": code}
    module = "keras.layers" if cls else None
    return {"module": module, "class_name": kind, "registered_name": kind, "config": config}


def _over_axes(bn: Any, axes: list[int]) -> Callable[..., Any]:
    """Return the call of BN over several axes: Keras 3 has it over one, so they become one."""
    steps: dict[str, Any] = {}

    def step(kind: Any, sizes: list[int], role: str) -> Any:
        return steps.setdefault(role, kind(sizes, name=f"{bn.name}_{role}"))

    def call(x: Any, **kwargs: Any) -> Any:
        rank = len(x.shape)
        joint = sorted(axis % rank for axis in axes)
        order = [axis for axis in range(1, rank) if axis not in joint] + joint
        kept, is_moved = [x.shape[axis] or -1 for axis in order], order != sorted(order)
        if is_moved:
            x = step(keras.layers.Permute, order, "last")(x)
        cut = len(kept) - len(joint)
        x = step(keras.layers.Reshape, [*kept[:cut], prod(kept[cut:])], "join")(x)
        x = step(keras.layers.Reshape, kept, "part")(bn(x, **kwargs))
        if is_moved:
            back = [order.index(axis) + 1 for axis in range(1, rank)]
            x = step(keras.layers.Permute, back, "back")(x)
        return x

    return call


def _operation(name: str, kind: str, function: str) -> Callable[..., Any]:
    """Return the call of a TensorFlow function that Keras 2 stored as a layer."""
    called = function_named(function)

    def call(x: Any, /, **kwargs: Any) -> Any:
        given = {k: v for k, v in kwargs.items() if k != "name" and v is not None}
        if called is None:
            raise _error(name, kind, f"the function tf.{function}", "one that keras.ops has")
        try:
            return called(x, **given)
        except Exception as error:  # of any function and its arguments
            said = cause(error)
            found = f"tf.{function} with arguments that have no counterpart ({said})"
            raise _error(name, kind, found, "one that keras.ops has") from error

    return call


def _sequential(kind: str, config: Any, parts: list[Part]) -> Part:
    """Return the part for a Sequential; with what is no layer in it, it becomes a graph."""
    first = config["layers"][0]["config"] if config["layers"] else {}
    shape = first.get(
        "batch_input_shape", first.get("batch_shape", config.get("build_input_shape"))
    )
    layers = [part for part in parts if part.kind != "InputLayer"]
    dtype = first.get("dtype") if len(layers) < len(parts) else None
    name = _legal(config["name"])
    if all(part.call is part.layer for part in layers):
        model = keras.Sequential([part.layer for part in layers], name=name)
        if shape is not None:
            start = keras.Input(batch_shape=tuple(shape), dtype=dtype)
            model = keras.Sequential([start, *model.layers], name=name)
    elif shape is None:
        raise _error(config["name"], kind, "a model without the shape of its input", "one with it")
    else:
        start = x = keras.Input(batch_shape=tuple(shape), dtype=dtype)
        for part in layers:
            x = part.call(x)
        model = keras.Model(start, x, name=name)
    return Part(config["name"], kind, model, model, layers)


def _functional(kind: str, config: Any, parts: list[Part]) -> Part:
    """Return the part for a functional model: every layer called on what it was called on."""
    made: dict[str, list[list[Any]]] = {part.name: [] for part in parts}
    read = [config["output_layers"], *(saved["inbound_nodes"] for saved in config["layers"])]
    last = {leaf[0]: leaf[1] for leaf in sorted(_leaves(read), key=lambda leaf: leaf[1])}
    pending = []
    for part, saved in zip(parts, config["layers"], strict=True):
        if part.kind == "InputLayer":
            made[part.name].append([part.call()])
        elif last.get(part.name, 0) >= len(saved["inbound_nodes"]):
            made[part.name].append([])  # that of building it, which models count as a call
        pending += [(part, node) for node in saved["inbound_nodes"]]
    while pending:
        waiting, blocked = [], set()
        for part, node in pending:
            try:
                if part.name in blocked:  # its calls keep their order
                    raise _NotYet
                made[part.name].append(_called(part, node, made))
            except _NotYet:
                blocked.add(part.name)
                waiting.append((part, node))
        if len(waiting) == len(pending):
            part = waiting[0][0]
            raise part.error("inputs that no layer computes", "a graph without cycles")
        pending = waiting
    inputs, outputs = (_value(config[key], made) for key in ("input_layers", "output_layers"))
    inputs, outputs = (
        each[0] if isinstance(each, list) and len(each) == 1 else each for each in (inputs, outputs)
    )
    model = keras.Model(inputs, outputs, name=_legal(config["name"]))
    _name_operations(model, made)
    return Part(config["name"], kind, model, model, parts)


def _called(part: Part, node: Any, made: Mapping[str, Any]) -> list[Any]:
    """Return the tensors that a call of a layer makes.

    Raises:
        _NotYet: if what it is called on is still missing.
    """
    leaf = next(_leaves(node))
    kwargs = {key: _value(each, made) for key, each in (leaf[3] if len(leaf) > 3 else {}).items()}
    given = _value(node, made)
    if part.kind in _OPERATIONS:
        result = part.call(given, **kwargs)
    else:
        kwargs = {key: each for key, each in kwargs.items() if each is not None}
        if isinstance(given, list) and len(given) == 1:
            (given,) = given
        if isinstance(part.layer, keras.layers.RNN | keras.layers.Bidirectional) and isinstance(
            given, list
        ):
            given, *kwargs["initial_state"] = given
        try:
            result = part.call(given, **kwargs)
        except InputError:
            raise
        except Exception as error:  # of any layer and what it is called on
            said = f"a call that Keras 3 refuses ({cause(error)})"
            raise part.error(said, "another") from error
    return [result] if isinstance(result, Sizes | int | None) else keras.tree.flatten(result)


def _is_leaf(value: Any) -> bool:
    """Return whether a value names a tensor: its layer, the call and the output."""
    return (
        isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)
        and isinstance(value[1], int)
    )  # fmt: skip


def _leaves(saved: Any) -> Iterator[Any]:
    """Yield what names a tensor, at any depth."""
    if _is_leaf(saved):
        yield saved
        saved = saved[3:]
    if isinstance(saved, list | tuple | dict):
        for each in saved.values() if isinstance(saved, dict) else saved:
            yield from _leaves(each)


def _value(saved: Any, made: Mapping[str, Any]) -> Any:
    """Return a value of a configuration with the tensors that it names."""
    if _is_leaf(saved) and saved[0] == "_CONSTANT_VALUE":
        return saved[2]
    if _is_leaf(saved) and saved[0] in made:
        calls = made[saved[0]]
        if saved[1] >= len(calls):
            raise _NotYet
        return calls[saved[1]][saved[2]]
    if isinstance(saved, list | tuple):
        return type(saved)(_value(each, made) for each in saved)
    if isinstance(saved, dict) and saved.keys() == {"start", "stop", "step"}:
        return slice(*(_value(saved[key], made) for key in ("start", "stop", "step")))
    if isinstance(saved, dict):
        return {key: _value(each, made) for key, each in saved.items()}
    return saved


def _name_operations(model: Any, made: Mapping[str, list[list[Any]]]) -> None:
    """Name operations after the layers they come from: Keras counts them through the process."""
    named = {
        keras_internals.operation_of(tensor): name
        for name, calls in reversed(list(made.items()))
        for tensor in (each for call in calls for each in call)
        if isinstance(tensor, keras.KerasTensor)
    }
    count: Counter[str] = Counter()
    for operation in model.operations:
        if not isinstance(operation, keras.Layer):
            name = re.sub(r"_\d+$", "", operation.name)
            count[name] += 1
            operation.name = _legal(named.get(operation, f"{name}.{count[name]}"))


def decode(saved: Any) -> Any:
    """Return a configuration with what JSON cannot hold: tuples, shapes, arrays and `...`."""
    if isinstance(saved, list):
        return [decode(each) for each in saved]
    if not isinstance(saved, dict):
        return saved
    kind = saved.get("class_name")
    if kind in ("__tuple__", "TensorShape"):
        return tuple(decode(each) for each in saved["items"])
    if kind == "__ellipsis__":
        return ...
    if kind in ("__numpy__", "__tensor__"):
        return np.asarray(saved["config"]["value"], saved["config"]["dtype"])
    return {key: decode(each) for key, each in saved.items()}
