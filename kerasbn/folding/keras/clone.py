"""Rebuild Keras layers from their configuration, and copy their state."""

import re
from collections import Counter
from typing import Any

import keras

from kerasbn.common import keras_internals
from kerasbn.common.errors import InputError, quoted
from kerasbn.folding.graph import Layer

# Python objects among the attributes of a layer are passed to its clone unchanged, so that custom
# functions need not be registered with Keras.
OBJECTS = ("activation", "_initializer", "_regularizer", "_constraint")
# Where the layer is that reads the input of one around it; of several cells it is the first.
WITHIN = {
    "Bidirectional": ("layer", "backward_layer"), "RNN": ("cell",), "StackedRNNCells": ("cells",),
}  # fmt: skip
# TensorFlow has this layer's kernel for float16, bfloat16 and float32, on no device for float64.
SINGLE_ONLY = (keras.layers.MaxPooling3D,)


def clone_layer(old: Layer, dtype: str | None, changes: dict[str, Any]) -> Layer:
    """Return an unbuilt layer or operation with the configuration of `old`, except for `changes`.

    With a float `dtype`, its weights and results have that one, and its weights are zeros at first.

    Raises:
        InputError: if its class cannot be built from its own configuration.
    """
    if not is_builtin(old):
        dtype = None  # it may compute in its own dtype only
    elif dtype is not None and type(old) in SINGLE_ONLY:
        dtype = "float32"
    try:
        if type(old) is keras.layers.Lambda:
            return keras.layers.Lambda(  # from_config would refuse its code
                old.function, keras_internals.lambda_output_shape(old), old.mask, old.arguments,
                name=old.name, dtype=float_dtype(old.dtype, dtype),
            )  # fmt: skip
        config = {**old.get_config(), **_objects(old)}
        if dtype is not None:
            config = _with_dtype(config, dtype)
        config = _changed(type(old).__name__, config, changes)
        if type(old) is keras.layers.TimeDistributed:
            return keras.layers.TimeDistributed(**config)
        made = type(old).from_config(config)
        made.name = old.name  # a class without a get_config of its own leaves it out
        return made
    except Exception as error:  # a custom class may raise anything
        raise InputError(
            f"layer '{old.name}': class {type(old).__name__} cannot be rebuilt from its "
            f"configuration ({quoted(error)}); complete the class's get_config"
        ) from error


def _changed(kind: str, config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a class with changes where the layer inside has its weights."""

    def change(saved: Any) -> Any:  # noqa: ANN401 - a serialized layer, or a list of them
        if isinstance(saved, list):
            return [change(saved[0]), *saved[1:]]
        inner = _changed(saved["class_name"], saved["config"], changes)
        return {**saved, "config": inner}

    if kind not in WITHIN:
        return {**config, **changes}
    return {**config, **{name: change(config[name]) for name in WITHIN[kind]}}


def is_builtin(layer: Layer) -> bool:
    """Return whether a layer or operation is part of Keras. Then it computes in its own dtype."""
    return type(layer).__module__.split(".")[0] == "keras"


def clone_input(tensor: keras.KerasTensor, dtype: str | None) -> keras.KerasTensor:
    """Return a new input like the one behind `tensor`, with another float dtype if given."""
    config = keras_internals.operation_of(tensor).get_config()
    return keras.layers.InputLayer(**{**config, "dtype": float_dtype(tensor.dtype, dtype)}).output


def float_dtype(dtype: str, floats: str | None) -> str:
    """Return `floats` in the place of a float dtype, other dtypes unchanged."""
    return floats if floats and "float" in dtype else dtype


def copy_state(old: Layer, new: Layer, *, lenient: bool = False) -> None:
    """Assign to every variable of `new`, a built layer, the value that it has in `old`.

    The layers inside it get the names that they have in `old`.

    Raises:
        InputError: if the two don't have the same variables, unless `lenient`.
    """
    values, variables = _variables(old), _variables(new)
    alike = {
        key for key in values.keys() & variables.keys() if values[key].shape == variables[key].shape
    }
    if not lenient and alike != values.keys() | variables.keys():
        raise InputError(
            f"layer '{old.name}': class {type(old).__name__}, rebuilt from its configuration, has "
            "other variables; complete the class's get_config"
        )
    for key in alike:
        variables[key].assign(values[key])
    inside = [keras_internals.all_layers(layer) for layer in (old, new)]
    if len(inside[0]) == len(inside[1]):
        for before, after in zip(*inside, strict=True):
            after.name = before.name  # where a class gives none, Keras counts
    keras_internals.restore_layer_state(new, old)


def recurrent_states(layer: Layer) -> list[Any]:
    """Return the states of a stateful recurrent layer, which are no variables of its model."""
    stateful = isinstance(layer, keras.layers.RNN) and layer.stateful and layer.states is not None
    return keras.tree.flatten(layer.states) if stateful else []


def _objects(old: Layer) -> dict[str, Any]:
    found = {}
    for name in old.get_config():
        value = getattr(old, name, None)
        if name.endswith(OBJECTS) and callable(value) and not isinstance(value, keras.layers.Layer):
            found[name] = value
    if type(old) is keras.layers.Normalization and old.input_mean is not None:
        found |= {"mean": old.input_mean, "variance": old.input_variance}
    return found


def _with_dtype(config: Any, dtype: str) -> Any:  # noqa: ANN401 - any part of a configuration
    """Return a configuration with every float dtype in it replaced, and every initializer.

    Random initial weights, which take long, would be replaced by those of another layer anyway.
    """
    if isinstance(config, list):
        return [_with_dtype(value, dtype) for value in config]
    if not isinstance(config, dict):
        return config
    replaced = {
        name: "zeros" if name.endswith("_initializer") else _with_dtype(value, dtype)
        for name, value in config.items()
    }
    policy = config.get("dtype")
    if isinstance(policy, dict):
        policy = policy.get("config", {}).get("name")
    if "float" in str(policy):
        replaced["dtype"] = dtype
    return replaced


def _variables(layer: Layer) -> dict[tuple[int, str, int], Any]:
    """Return the variables of a layer, keyed by the place of their owner, name and repetition."""
    found: dict[tuple[int, str, int], Any] = {}
    repetitions: Counter[tuple[int, str]] = Counter()
    for place, owner in enumerate(keras_internals.all_layers(layer)):
        for variable in [*keras_internals.own_variables(owner), *recurrent_states(owner)]:
            name = re.sub(r"^variable_\d+$", "variable", variable.name)  # Keras counts those
            found[place, name, repetitions[place, name]] = variable
            repetitions[place, name] += 1
    return found
