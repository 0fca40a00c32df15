"""Layers built anew from their configuration, with the weights of the old ones."""

from typing import Any

import keras

from kerasbn.errors import InputError, quoted
from kerasbn.keras_internals import restore_layer_state

Layer = Any  # Keras ships no types

# What Python objects a configuration holds is handed over as it is: functions of one's own need
# not be registered with Keras for that.
OBJECTS = ("activation", "_initializer", "_regularizer", "_constraint")
# TensorFlow has it in float16, bfloat16 and float32, and on no machine in float64.
SINGLE_ONLY = (keras.layers.MaxPooling3D,)


def renewed(old: Layer, dtype: str | None, changes: dict[str, Any]) -> Layer:
    """A layer (or operation) like `old`, not built, its configuration changed by `changes`.

    Args:
        old: what to copy; its own weights are not copied here.
        dtype: the float dtype of the copy, by default that of `old`.
        changes: what replaces entries of the configuration.

    Raises:
        InputError: if its class cannot be built from its own configuration.
    """
    if not is_builtin(old):
        dtype = None  # it may compute in its own dtype only
    elif dtype is not None and type(old) in SINGLE_ONLY:
        dtype = "float32"
    try:
        if type(old) is keras.layers.Lambda:
            return _renewed_lambda(old, dtype)  # from_config would refuse its code
        config = {**_retyped_config(old.get_config(), dtype), **_objects(old), **changes}
        if type(old) is keras.layers.TimeDistributed:
            return keras.layers.TimeDistributed(**config)
        if type(old) is keras.layers.Bidirectional:
            config = _both_directions(config, changes)
        return type(old).from_config(config)
    except Exception as error:  # a class of the user's own may raise anything
        raise InputError(
            f"layer '{old.name}' of class {type(old).__name__} cannot be built anew from its own "
            f"configuration ({quoted(error)}); give the class a get_config that holds all it needs"
        ) from error


def is_builtin(layer: Layer) -> bool:
    """Whether a layer or operation is Keras's own, so that its dtype is all that it computes in."""
    return type(layer).__module__.split(".")[0] == "keras"


def _objects(old: Layer) -> dict[str, Any]:
    found = {}
    for name in old.get_config():
        value = getattr(old, name, None)
        if name.endswith(OBJECTS) and callable(value) and not isinstance(value, keras.layers.Layer):
            found[name] = value
    if type(old) is keras.layers.Normalization and old.input_mean is not None:
        found |= {"mean": old.input_mean, "variance": old.input_variance}
    return found


def _renewed_lambda(old: Layer, dtype: str | None) -> Layer:
    return keras.layers.Lambda(
        old.function,
        output_shape=old._output_shape,  # the argument, which has no public name
        mask=old.mask,
        arguments=old.arguments,
        name=old.name,
        dtype=retyped(old.dtype, dtype),
    )


def _both_directions(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The changes of a Bidirectional are those of the two layers in it."""
    kept = {name: value for name, value in config.items() if name not in changes}
    for side in ("layer", "backward_layer"):
        if side in kept:
            kept[side] = {**kept[side], "config": {**kept[side]["config"], **changes}}
    return kept


def renewed_input(tensor: keras.KerasTensor, dtype: str | None) -> keras.KerasTensor:
    """An input like the one that `tensor` comes from."""
    config = tensor._keras_history.operation.get_config()
    return keras.layers.InputLayer(**{**config, "dtype": retyped(tensor.dtype, dtype)}).output


def retyped(dtype: str, floats: str | None) -> str:
    """`dtype`, or `floats` in its place if it is a float dtype."""
    return floats if floats and "float" in dtype else dtype


def _retyped_config(config: Any, dtype: str | None) -> Any:  # noqa: ANN401 - any part of a configuration
    """A configuration with every float dtype in it replaced by `dtype`."""
    if dtype is None:
        return config
    if isinstance(config, dict):
        return {name: _retyped_entry(name, value, dtype) for name, value in config.items()}
    if isinstance(config, list):
        return [_retyped_config(value, dtype) for value in config]
    return config


def _retyped_entry(name: str, value: Any, dtype: str) -> Any:  # noqa: ANN401 - any part of a configuration
    if name == "dtype" and isinstance(value, dict):
        policy = value.get("config", {}).get("name") or ""
        return dtype if "float" in str(policy) else value
    if name == "dtype" and isinstance(value, str):
        return retyped(value, dtype)
    return _retyped_config(value, dtype)


def copied_state(old: Layer, new: Layer, *, lenient: bool = False) -> None:
    """Give every variable of `new` the value of its counterpart in `old`.

    Args:
        old: the layer to copy from.
        new: a built layer of the same class.
        lenient: whether variables may be missing or differ in shape; they are left alone.

    Raises:
        InputError: if they don't have the same variables.
    """
    values, variables = _variables(old), _variables(new)
    alike = {
        key for key in values.keys() & variables.keys() if values[key].shape == variables[key].shape
    }
    if not lenient and alike != values.keys() | variables.keys():
        raise InputError(
            f"layer '{old.name}' of class {type(old).__name__}, built anew from its configuration, "
            "has other variables; give the class a get_config that holds all it needs"
        )
    for key in alike:
        variables[key].assign(values[key])
    restore_layer_state(new, old)


def _variables(layer: Layer) -> dict[tuple[int, str, int], Any]:
    """The variables of a layer by the place of their holder within it, name and repetition."""
    found: dict[tuple[int, str, int], Any] = {}
    for place, holder in enumerate(layer._flatten_layers()):  # Keras has no public way to these
        seeds = [generator.state for generator in holder._seed_generators]
        own = [*holder._trainable_variables, *holder._non_trainable_variables]
        for variable in [*own, *seeds, *recurrent_states(holder)]:
            repetition = 0
            while (place, variable.name, repetition) in found:
                repetition += 1
            found[place, variable.name, repetition] = variable
    return found


def recurrent_states(layer: Layer) -> list[Any]:
    """What a stateful recurrent layer remembers from call to call.

    Keras doesn't count these among the variables of a network.
    """
    stateful = isinstance(layer, keras.layers.RNN) and layer.stateful and layer.states is not None
    return keras.tree.flatten(layer.states) if stateful else []
