"""Run a Keras model layer by layer, in its own dtype or with layers made for it on the way."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.common.errors import InputError, quoted
from kerasbn.common.keras_internals import all_layers, has_mask, nodes_in_order, takes_argument
from kerasbn.folding.keras.clone import float_dtype, recurrent_states
from kerasbn.folding.keras.graph import is_graph, is_plain_call, training_at_inference

# What a node of Keras's graph becomes, given its arguments.
Perform = Callable[[Any, Any, Any], Any]
# How TensorFlow reports that it has no kernel for this dtype and data format on this machine.
NO_KERNEL = (tf.errors.UnimplementedError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError)


def walk(model: keras.Model, values: Sequence[Any], perform: Perform) -> list[Any]:
    """Return what the outputs of a model become where its inputs are `values`.

    The values may be symbolic tensors, real ones, or anything else that `perform` can take as
    arguments and returns. Each is held until its last use.
    """
    nodes = nodes_in_order(model)
    uses = Counter(
        id(tensor) for tensor in chain(model.outputs, *(node.input_tensors for node in nodes))
    )
    held = {id(tensor): value for tensor, value in zip(model.inputs, values, strict=True)}

    def translate(leaf: Any) -> Any:  # noqa: ANN401 - an argument of any kind
        return held[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

    for node in nodes:
        args = keras.tree.map_structure(translate, node.arguments.args)
        kwargs = keras.tree.map_structure(translate, node.arguments.kwargs)
        made = keras.tree.flatten(perform(node, args, kwargs))
        held |= {id(tensor): value for tensor, value in zip(node.outputs, made, strict=True)}
        uses.subtract(map(id, node.input_tensors))
        for tensor in chain(node.input_tensors, node.outputs):
            if not uses[id(tensor)]:
                held.pop(id(tensor), None)
    return [held[id(tensor)] for tensor in model.outputs]


def run(model: keras.Model, values: Sequence[Any], perform: Perform) -> list[Any]:
    """Return the outputs of a model at inference, where `perform` calls its layers.

    The layers of nested models are called one by one as well.
    """
    return _run(model, values, perform, {"training": training_at_inference(model)})


def call_own(node: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
    """Return what a node makes of tensors."""
    return compute(node.operation, args, kwargs)


def predict(
    model: keras.Model, arrays: Sequence[np.ndarray], perform: Perform = call_own
) -> list[np.ndarray]:
    """Return the outputs of a model at inference, given an array for each of `model.inputs`.

    Unlike the model itself, it takes images of other sizes where the layers do, and holds no tensor
    longer than needed. The model's state is left as it was.

    Raises:
        InputError: if TensorFlow cannot compute it on this machine.
    """
    with _state_kept(model):
        made = run(model, as_inputs(model, arrays), perform)
    return list(map(to_numpy, made))


def to_numpy(tensor: Any) -> np.ndarray:  # noqa: ANN401 - a tensor
    """Return a tensor as an array."""
    array: np.ndarray = keras.ops.convert_to_numpy(tensor)
    return array


def as_inputs(
    model: keras.Model, arrays: Sequence[np.ndarray], floats: str | None = None
) -> list[Any]:
    """Return arrays as tensors of the dtypes of a model's inputs, or of `floats` for float ones."""
    dtypes = (float_dtype(tensor.dtype, floats) for tensor in model.inputs)
    return [keras.ops.convert_to_tensor(*each) for each in zip(arrays, dtypes, strict=True)]


def compute(operation: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - tensors in any structure
    """Call a layer or operation on tensors, by XLA where TensorFlow has no kernel for it.

    On a CPU it has channels_first convolutions and pooling in float32 at most. XLA has them all.

    Raises:
        InputError: if TensorFlow cannot compute it on this machine.
    """
    try:
        return operation(*args, **kwargs)
    except NO_KERNEL:
        pass
    try:
        compiled = tf.function(
            lambda: operation(*args, **kwargs), autograph=False, jit_compile=True
        )
        # Calling `compiled` itself would warn about repeated tracing.
        return compiled.get_concrete_function()()
    except Exception as error:  # a custom layer may raise anything when traced
        raise InputError(
            f"layer '{operation.name}': TensorFlow cannot compute it in every dtype on this "
            f"machine ({quoted(error)}), so it cannot be checked; skip the check with --no-check, "
            "or from Python with check=False"
        ) from error


class _Surroundings(keras.layers.Layer):
    """A layer around others. In its call, Keras passes `training` on as in that of a model."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False)

    def call(self, *, work: Callable[[Any], Any], training: Any = None) -> Any:  # noqa: ANN401 - a flag, and what `work` returns
        return work(training)


def _run(
    model: keras.Model, values: Sequence[Any], perform: Perform, flags: dict[str, Any]
) -> list[Any]:
    def work(flag: Any) -> list[Any]:  # noqa: ANN401 - a flag
        def call(node: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
            operation = node.operation
            is_layer = isinstance(operation, keras.layers.Layer)
            if flag is not None and is_layer and takes_argument(operation, "training"):
                kwargs = {**kwargs, "training": flag}
            if not _is_transparent(node):
                return perform(node, args, kwargs)
            given = keras.tree.flatten([*args, *kwargs.values()][0])
            own = {name: value for name, value in kwargs.items() if name == "training"}
            return _run(operation, given, perform, own)

        return walk(model, values, call)

    made: list[Any] = _Surroundings()(work=work, **flags)
    return made


def _is_transparent(node: Any) -> bool:  # noqa: ANN401 - a node of Keras's graph
    """Return whether a node runs the nodes of another model, and Keras does nothing else there.

    It may also cast the inputs, add axes, or pass masks on.
    """
    model, given = node.operation, node.input_tensors
    if not is_graph(model) or not is_plain_call(model, node, [len(t.shape) for t in given]):
        return False
    return not any(map(has_mask, given)) and all(
        tensor.dtype == own.dtype and ("float" not in own.dtype or own.dtype == model.compute_dtype)
        for tensor, own in zip(given, model.inputs, strict=True)
    )


@contextmanager
def _state_kept(model: keras.Model) -> Iterator[None]:
    """Restore what a call changes: statistics of BN layers that train, recurrent states, seeds."""
    states = [state for layer in all_layers(model) for state in recurrent_states(layer)]
    variables = [*model.non_trainable_variables, *states]
    before = [to_numpy(v).copy() for v in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, before, strict=True):
            if not np.array_equal(to_numpy(variable), values, equal_nan=True):
                variable.assign(values)
