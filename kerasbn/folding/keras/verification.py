"""Check in float64 that a folded Keras model predicts what the original does."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.common.errors import InputError, quoted
from kerasbn.common.keras_internals import all_layers
from kerasbn.folding.graph import Call, Graph
from kerasbn.folding.keras.clone import SINGLE_ONLY, is_builtin, recurrent_states
from kerasbn.folding.keras.graph import input_structure, read_model, training_at_inference
from kerasbn.folding.keras.randomize import check_examples, random_inputs
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.plan import Plan
from kerasbn.folding.rounding import EXACT, ROUNDING, UNITS, relative_difference, unit_of

Arrays = list[np.ndarray]
SINGLE = 1e-6  # where Keras, or a custom layer, may compute a part in float32
# How TensorFlow reports that it has no kernel for this dtype and data format on this machine.
NO_KERNEL = (tf.errors.UnimplementedError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError)
# These read integers as float32, whatever their dtype, and so do operations.
NORMALIZING = (
    keras.layers.BatchNormalization, keras.layers.LayerNormalization,
    keras.layers.GroupNormalization, keras.layers.RMSNormalization,
)  # fmt: skip
LARGE = 2**28  # values in all tensors, or weights, of a model together: 2 GB in float64


class SelfCheck:
    """Compares folded versions of a model with the model, on random and on given inputs.

    Raises:
        InputError: if the model cannot run on random inputs, or on the given ones.
    """

    def __init__(self, model: keras.Model, inputs: Any = None) -> None:  # noqa: ANN401 - arrays in the model's own structure
        graph = read_model(model)
        self.model = model
        self.size = tensor_size(graph)
        self.tolerance = SINGLE if any(map(_may_be_single, graph.calls)) else EXACT
        self.inputs = [random_inputs(model, graph)]
        if inputs is not None:
            self.inputs.append(check_examples(model, inputs))
        self.want = self._in_float64(Plan())
        own = [predict(model, arrays, self.size) for arrays in self.inputs]
        dtypes = [keras.backend.standardize_dtype(output.dtype) for output in own[0]]
        self.unit = max(map(unit_of, dtypes))
        self.errors = [relative_difference(a, b) for a, b in zip(own, self.want, strict=True)]

    def problem(self, plan: Plan, folded: keras.Model) -> str | None:
        """Return what is wrong with a plan and the model it led to, None if nothing is."""
        exact = self._in_float64(plan)
        for arrays, want, own, got in zip(self.inputs, self.want, self.errors, exact, strict=True):
            error = relative_difference(got, want)
            if not error <= self.tolerance:
                return f"in float64 they differ by {error:.1e} (allowed: {self.tolerance:.0e})"
            error = relative_difference(predict(folded, arrays, self.size), want)
            if not error <= max(ROUNDING * own, UNITS * self.unit):
                return f"in the model's own dtype the error grows from {own:.1e} to {error:.1e}"
        return None

    def _in_float64(self, plan: Plan) -> list[Arrays]:
        """Return what the model with the folds of a plan predicts in float64 for each input."""
        exact = rewrite(self.model, plan, "float64")
        made = [predict(exact, arrays, self.size) for arrays in self.inputs]
        if exact.count_params() > LARGE:  # a model is a cycle, so that only this frees it
            del exact
            gc.collect()
        return made


def predict(model: keras.Model, arrays: Arrays, size: int | None = None) -> Arrays:
    """Return the outputs of a model at inference, given an array for each of `model.inputs`.

    Its state is left as it was. `size` is the `tensor_size` of its graph, where that is known.

    Raises:
        InputError: if TensorFlow cannot compute it on this machine.
    """
    packed = keras.tree.pack_sequence_as(input_structure(model), arrays)
    size = tensor_size(read_model(model)) if size is None else size
    with _state_kept(model):
        try:
            # Eagerly, Keras keeps every tensor to the end; compiled, only those read again.
            if size * len(arrays[0]) > LARGE:
                made = _compiled(model, packed)
            else:
                made = model(packed, training=training_at_inference(model))
        except NO_KERNEL:
            made = _by_xla(model, packed)
    return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(made)]


def tensor_size(graph: Graph) -> int:
    """Return how many values all tensors of a model hold together, for one example."""
    tensors = [value.example for call in graph.calls for value in call.outputs]
    return sum(prod(n or 1 for n in example) for example in tensors)


def _compiled(model: keras.Model, packed: Any, *, xla: bool = False) -> Any:  # noqa: ANN401 - tensors in the model's own structure
    tensors = keras.tree.map_structure(tf.convert_to_tensor, packed)
    flag = training_at_inference(model)
    function = tf.function(
        lambda packed: model(packed, training=flag), autograph=False, jit_compile=xla
    )
    # Calling `function` itself would warn about repeated tracing.
    return function.get_concrete_function(tensors)(tensors)


def _by_xla(model: keras.Model, packed: Any) -> Any:  # noqa: ANN401 - as above
    """Compute what TensorFlow has no kernel for.

    On a CPU it has channels_first convolutions and pooling in float32 at most. XLA has them all.
    """
    try:
        return _compiled(model, packed, xla=True)
    except Exception as error:  # a custom layer may raise anything when traced
        raise InputError(
            f"model '{model.name}': TensorFlow cannot compute it in every dtype on this machine "
            f"({quoted(error)}), so it cannot be checked; skip the check with --no-check, or from "
            "Python with check=False"
        ) from error


@contextmanager
def _state_kept(model: keras.Model) -> Iterator[None]:
    """Restore what a call changes: statistics of BN layers that train, recurrent states, seeds."""
    states = [state for layer in all_layers(model) for state in recurrent_states(layer)]
    variables = [*model.non_trainable_variables, *states]
    before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, before, strict=True):
            if not np.array_equal(keras.ops.convert_to_numpy(variable), values, equal_nan=True):
                variable.assign(values)


def _may_be_single(call: Call) -> bool:
    """Return whether a layer may compute in float32 though its dtype is float64."""
    layer, layers = call.layer, keras.layers
    reads_single = isinstance(layer, NORMALIZING) or not isinstance(layer, layers.Layer)
    return (
        not is_builtin(layer)
        or isinstance(layer, (layers.Lambda, layers.Resizing, layers.CenterCrop, *SINGLE_ONLY))
        or (reads_single and "float" not in call.inputs[0].dtype)
        or (isinstance(layer, layers.UpSampling2D) and layer.interpolation != "nearest")
    )
