"""Whether a folded network answers as the unfolded one does, judged in float64."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.errors import InputError, quoted
from kerasbn.folding.keras.clone import SINGLE_ONLY, is_builtin, recurrent_states
from kerasbn.folding.keras.graph import input_structure, read, training_at_inference
from kerasbn.folding.keras.randomize import given_inputs, random_inputs
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.plan import Plan

Arrays = list[np.ndarray]

EXACT = 1e-9
SINGLE = 1e-6  # where Keras, or a layer that is not known, may compute a part in float32
ROUNDING = 4.0  # times the unfolded network's own error, in its own dtype
EPSILON = {"bfloat16": 2**-7, "float16": 2**-10, "float32": 2**-23, "float64": 2**-52}
UNITS = 8.0  # rounding units of that dtype that are allowed anyhow: an error may be 0 by luck
# How TensorFlow says that it has no kernel for this dtype and order of axes on this machine.
NO_KERNEL = (
    tf.errors.UnimplementedError,
    tf.errors.NotFoundError,
    tf.errors.InvalidArgumentError,
)
# Those that read whole numbers as float32, whatever their dtype.
NORMALIZING = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)
LARGE = 2**28  # numbers in all tensors of a network together, 2 GB in float64


class Judge:
    """Compares foldings of one network with that network, on random and on given inputs."""

    def __init__(self, model: keras.Model, inputs: Any = None) -> None:  # noqa: ANN401 - arrays in the model's own structure
        """Compute the network's own answers.

        Args:
            model: the unfolded network.
            inputs: further inputs to compare on, as the network takes them.

        Raises:
            InputError: if the network cannot be run on random inputs, or on those given.
        """
        graph = read(model)
        self.model = model
        self.tolerance = SINGLE if any(map(_may_be_single, graph.calls)) else EXACT
        self.inputs = [random_inputs(model, graph)]
        if inputs is not None:
            self.inputs.append(given_inputs(model, inputs))
        self.exact = rewrite(model, Plan(()), "float64")
        self.want = [predict(self.exact, arrays) for arrays in self.inputs]
        own = [predict(model, arrays) for arrays in self.inputs]
        self.unit = max(map(_unit, own[0]), default=0.0)
        self.unfolded = [difference(a, b) for a, b in zip(own, self.want, strict=True)]

    def complaint(self, plan: Plan, folded: keras.Model) -> str | None:
        """What is wrong with a plan and the network it came to; None if nothing is."""
        exact = rewrite(self.model, plan, "float64")
        for arrays, want, unfolded in zip(self.inputs, self.want, self.unfolded, strict=True):
            error = difference(predict(exact, arrays), want)
            if not error <= self.tolerance:
                return f"in float64 they differ by {error:.1e} (allowed: {self.tolerance:.0e})"
            error = difference(predict(folded, arrays), want)
            if not error <= max(ROUNDING * unfolded, UNITS * self.unit):
                return (
                    f"in the network's own dtype the error grows from {unfolded:.1e} to {error:.1e}"
                )
        return None


def difference(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest number of each output of `want`.

    What is not finite has to be alike in both; otherwise the difference is infinite.
    """
    worst = 0.0
    for one, other in zip(got, want, strict=True):
        a, b = one.astype(np.float64), other.astype(np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(np.isfinite(a), finite):
            return float("inf")
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        if finite.any():
            scale = float(np.abs(b[finite]).max()) or 1.0
            worst = max(worst, float(np.abs(a[finite] - b[finite]).max()) / scale)
    return worst


def predict(model: keras.Model, arrays: Arrays) -> Arrays:
    """What a network answers at inference, its state left as it was.

    Raises:
        InputError: if TensorFlow cannot compute it on this machine.
    """
    packed = keras.tree.pack_sequence_as(input_structure(model), arrays)
    # Step by step Keras keeps every tensor to the end, a compiled network only what is read again.
    compute = _compiled if _numbers(model, arrays) > LARGE else _step_by_step
    with _state_kept(model):
        try:
            made = compute(model, packed)
        except NO_KERNEL:
            made = _by_xla(model, packed)
    return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(made)]


def _step_by_step(model: keras.Model, packed: Any) -> Any:  # noqa: ANN401 - tensors in the model's own structure
    return model(packed, training=training_at_inference(model))


def _compiled(model: keras.Model, packed: Any, *, xla: bool = False) -> Any:  # noqa: ANN401 - as above
    tensors = keras.tree.map_structure(tf.convert_to_tensor, packed)
    flag = training_at_inference(model)
    function = tf.function(
        lambda packed: model(packed, training=flag), autograph=False, jit_compile=xla
    )
    # Calling `function` would warn of tracing again and again.
    return function.get_concrete_function(tensors)(tensors)


def _by_xla(model: keras.Model, packed: Any) -> Any:  # noqa: ANN401 - as above
    """The answers where TensorFlow itself has no kernel.

    On a CPU it has convolutions and pools of channels_first in float32 at most; XLA has them all.
    """
    try:
        return _compiled(model, packed, xla=True)
    except Exception as error:  # a layer of the user's own, traced, may raise anything
        raise InputError(
            f"{model.name}: TensorFlow cannot compute it in every dtype on this machine "
            f"({quoted(error)}), so it cannot be checked; leave the check out with --no-check, or "
            "from Python with check=False"
        ) from error


def _numbers(model: keras.Model, arrays: Arrays) -> int:
    """How many numbers all tensors hold together on the way to the answers."""
    tensors = [value.example for call in read(model).calls for value in call.outputs]
    batch = len(arrays[0]) if arrays else 1
    return batch * sum(prod(n or 1 for n in example) for example in tensors)


@contextmanager
def _state_kept(model: keras.Model) -> Iterator[None]:
    """What a call changes is put back.

    A normalization that trains while it predicts changes its statistics, a stateful recurrent layer
    what it remembers.
    """
    states = [state for layer in model._flatten_layers() for state in recurrent_states(layer)]
    variables = [*model.non_trainable_variables, *states]
    before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, before, strict=True):
            if not np.array_equal(keras.ops.convert_to_numpy(variable), values, equal_nan=True):
                variable.assign(values)


def _may_be_single(call: Any) -> bool:  # noqa: ANN401 - a Call
    """Whether a layer may compute in float32 though its dtype is float64."""
    layer = call.layer
    if not is_builtin(layer) or isinstance(layer, keras.layers.Lambda):
        return True
    if isinstance(layer, keras.layers.Resizing) or type(layer) in SINGLE_ONLY:
        return True
    if isinstance(layer, NORMALIZING) and "float" not in call.inputs[0].dtype:
        return True
    return isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation != "nearest"


def _unit(output: np.ndarray) -> float:
    """The rounding unit of a network's answers."""
    return EPSILON.get(keras.backend.standardize_dtype(output.dtype), 0.0)
