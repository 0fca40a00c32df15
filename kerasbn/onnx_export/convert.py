"""A Keras model at inference as an ONNX graph: traced and converted, not yet simplified."""

import logging
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from math import prod
from typing import Any, NamedTuple

import keras
import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf

from kerasbn.common import keras_internals
from kerasbn.common.errors import InputError, expected, quoted
from kerasbn.common.keras_internals import all_layers, takes_argument
from kerasbn.folding.keras.clone import is_builtin, recurrent_states
from kerasbn.folding.keras.graph import input_structure, training_at_inference
from kerasbn.folding.onnx.nodes import subgraphs
from kerasbn.onnx_export.canonical import LAYER, free_name

# Layers that look values up, or hash them.
_TABLES = (
    keras.layers.HashedCrossing, keras.layers.Hashing, keras.layers.IntegerLookup,
    keras.layers.StringLookup, keras.layers.TextVectorization,
)  # fmt: skip

# What tf2onnx 1.17 writes, from the first opset with a Softmax along one axis.
OPSETS = range(13, 19)
OPSET = 18

# tf2onnx holds some 20 copies of each constant, so it gets kernels of so many bytes as inputs. It
# would leave changes of layout around arithmetic with other weights.
LARGE = 1 << 16
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")

Layer = Any  # TensorFlow and Keras ship no types
Tensor = Any


class Traced(NamedTuple):
    """A traced model: a ConcreteFunction, and the values of the inputs that are none of its own.

    These are large kernels, and arrays that layers hold outside of variables, such as the mean and
    variance of a Normalization layer.
    """

    function: Any
    constants: dict[str, Any]  # by the names of the inputs


def convert(clone: keras.Model, opset: int = OPSET) -> ir.Model:
    """Convert a model at inference to an ONNX graph, as tf2onnx leaves it.

    Inputs and outputs have the names and shapes of the Keras model's. The path of each node's layer
    is in its metadata under `LAYER`. Nothing else may use the clone, since `trace` changes it.

    Raises:
        InputError: if the model, or one of its layers, cannot be written as ONNX.
    """
    taken: set[str] = set()
    inputs, outputs = (named_ports(clone, side, taken) for side in ("input", "output"))
    layers = {operation.name for operation in _operations(clone)}
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what matters in the logs is raised as an error
    try:
        traced = trace(clone)
        proto = keras_internals.convert_function(traced.function, opset)
    except Exception as error:  # tf2onnx and TensorFlow raise almost anything
        raise _refusal(clone, layers, error) from error
    finally:
        logging.disable(before)
    del proto.graph.value_info[:]  # shapes are inferred anew after each change
    model: ir.Model = ir.from_proto(proto)
    for node in model.graph:
        values = [value for value in (*node.outputs, *node.inputs[1:]) if value is not None]
        names = [node.name, *(value.name for value in values)]
        paths = (layer_of(name or "", layers) for name in names)
        node.metadata_props[LAYER] = next(filter(None, paths), "")
        inner = [each for graph in subgraphs(node).values() for each in graph.all_nodes()]
        for each in (node, *inner):
            if not onnx.defs.has(each.op_type, max_inclusive_version=opset, domain=each.domain):
                raise expected(
                    f"layer '{node.metadata_props[LAYER] or node.name}'",
                    f"the operation {each.op_type}", f"one that ONNX has (opset {opset})",
                    "replace the layer by one made of plain operations",
                )  # fmt: skip
    _lift_constants(model.graph, traced)
    _name_ports(model.graph, clone, traced.function, inputs, outputs)
    return model


def check_layers(model: keras.Model) -> None:
    """Raise `InputError` for a layer that no ONNX file can have."""
    for layer in all_layers(model):
        if recurrent_states(layer):  # an ONNX file keeps no state
            raise expected(
                f"layer '{layer.name}'", "stateful=True, so that it keeps state from call to call",
                "a layer that starts anew each time", "build it with stateful=False",
            )  # fmt: skip
        if isinstance(layer, _TABLES):
            raise expected(
                f"layer '{layer.name}'", f"a {type(layer).__name__}", "a layer that ONNX has",
                "apply it to the data, and export the model behind it",
            )  # fmt: skip


def named_ports(model: keras.Model, side: str, taken: set[str]) -> dict[str, Any]:
    """Return the inputs or outputs of a model by name: the key of each, or its layer's name.

    A name that is taken gets a number: an output may be an input, or the same tensor twice.
    """
    ports, tensors = {}, getattr(model, f"{side}s", None) or []
    # A Sequential has one of each, and no attribute for their nesting.
    is_flat = isinstance(model, keras.Sequential) or not tensors
    for path, tensor in keras.tree.flatten_with_path(tensors if is_flat else getattr(model, side)):
        key = path[-1] if path else None
        name = key if isinstance(key, str) else keras_internals.operation_of(tensor).name
        ports[free_name(name, taken)] = tensor
    if not ports:
        raise expected(
            f"model '{model.name}'", "a model without fixed inputs",
            "a functional or Sequential one", "give it a keras.Input",
        )  # fmt: skip
    return ports


def _refusal(model: keras.Model, layers: set[str], error: Exception) -> InputError:
    """Return one line for what tracing or tf2onnx raised, with the layer if it names one."""
    said = str(error)
    names = sorted(layers, key=len, reverse=True)
    marks = ("'{}'", "/{}_", "name={},")
    named = [n for n in names if any(mark.format(n) in said for mark in marks)][:1]
    if not named and (called := re.search(r"when calling (\w+)\.call", said)):
        kind = called.group(1)
        named = [each.name for each in all_layers(model) if type(each).__name__ == kind]
    subject = f"model '{model.name}'" + (f", layer '{named[0]}'" if len(named) == 1 else "")
    if "symbolic `tf.Tensor` as a Python `bool`" in said:
        return expected(
            subject, "a size that is free, by which the layer decides what it computes",
            "a fixed one", "give all axes but the batch a size in keras.Input",
        )  # fmt: skip
    lines = (line.strip() for line in said.splitlines())
    causes = (line for line in lines if line and not line.startswith("Exception encountered when"))
    first = quoted(next(causes, type(error).__name__))
    return InputError(f"{subject}: cannot be written as ONNX ({first})")


def _lift_constants(graph: ir.Graph, traced: Traced) -> None:
    """Make constants of what tf2onnx leaves as extra inputs."""
    for value in list(graph.inputs):
        if value.name in traced.constants:
            graph.inputs.remove(value)
            array = keras.ops.convert_to_numpy(traced.constants[value.name])
            value.const_value = ir.tensor(array, name=value.name)
            graph.register_initializer(value)


def _name_ports(
    graph: ir.Graph,
    model: keras.Model,
    traced: Any,  # noqa: ANN401 - a ConcreteFunction
    inputs: dict[str, Any],
    outputs: dict[str, Any],
) -> None:
    """Give inputs and outputs the names, order and shapes of the Keras model's.

    Axis 0 is the batch, free unless the model fixes it. All other values get names no layer has.
    """
    found = {value.name.partition(":")[0]: value for value in graph.inputs if value.name}
    wanted = [tensor.name.partition(":")[0] for tensor in traced.inputs[: len(inputs)]]
    for name, traced_name in zip(inputs, wanted, strict=True):
        if traced_name not in found:
            raise expected(
                f"model '{model.name}'", f"an input '{name}' that no layer uses",
                "inputs that the outputs depend on", "leave it out of the model",
            )  # fmt: skip
    graph.inputs[:] = [found[name] for name in wanted]
    inner = (value for node in graph for value in node.outputs)
    for at, value in enumerate([*inner, *graph.initializers.values()]):
        value.name = f"#{at}"
    for values, ports in ((graph.inputs, inputs), (graph.outputs, outputs)):
        for value, (name, tensor) in zip(values, ports.items(), strict=True):
            free = (f"{name}_{at}" if at else "batch" for at in range(len(tensor.shape)))
            sizes = [size or each for size, each in zip(tensor.shape, free, strict=True)]
            value.name, value.shape = name, ir.Shape(sizes)


def trace(clone: keras.Model) -> Traced:
    """Trace a model at inference as a TensorFlow function of flat inputs with a free batch axis.

    Every operation is named after its layer, which `layer_of` reads. Some layers of the clone get a
    `call` that computes the same with fewer operations.
    """
    nested, large = input_structure(clone), _large_kernels(clone)
    tensors = keras.tree.flatten(nested)
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input_{at}")
        for at, tensor in enumerate(tensors)
    ] + [tf.TensorSpec(v.shape, v.dtype, name=f"weight_{at}") for at, v in enumerate(large)]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def predict(*arrays: Tensor) -> list[Tensor]:
        packed = keras.tree.pack_sequence_as(nested, list(arrays[: len(tensors)]))
        with keras.StatelessScope(zip(large, arrays[len(tensors) :], strict=True)):
            outputs = clone(packed, training=training_at_inference(clone))
        return list(keras.tree.flatten(outputs))

    for operation in _operations(clone):
        call = _shorter_call(operation)
        if call is not None:
            operation.call = call
    # Keras compiles grouped convolutions with a function of their own. tf2onnx would leave that as
    # a call of a function that no file defines, so functions within layers are traced in place.
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        function = predict.get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(before)
    captured = [tensor for tensor in function.captured_inputs if tensor.dtype != tf.resource]
    names = [tensor.name for tensor in function.inputs if tensor.dtype != tf.resource]
    return Traced(function, dict(zip(names[len(tensors) :], [*large, *captured], strict=True)))


def _large_kernels(model: keras.Model) -> list[Any]:
    """Return the large kernels, but for those of recurrent layers.

    tf2onnx recognizes the loop of an LSTM or GRU only by its constants.
    """
    recurrent = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN)]
    kept = {id(variable) for layer in recurrent for variable in layer.variables}
    return [
        variable
        for variable in model.variables
        if variable.name in _KERNELS
        and id(variable) not in kept
        and prod(variable.shape) * np.dtype(variable.dtype).itemsize >= LARGE
    ]


def layer_of(tensorflow_name: str, layers: set[str]) -> str:
    """Return the path of the layer that a TensorFlow operation belongs to, "" if to none.

    Keras enters the name scope of a layer twice at every call, to build and to call it, and
    TensorFlow makes the second entry unique: ``mnist_1/dense_1_3/MatMul`` is the second call of
    the layer ``dense_1``, if there is one, in the model ``mnist``.
    """
    path: list[str] = []
    for part in tensorflow_name.split("/")[1:-1]:
        name = part.rpartition("_")[0]
        if name not in layers:
            break
        path.append(name)
    return "/".join(path)


def _operations(model: keras.Model) -> Iterator[Any]:
    """Yield every layer, at any depth, and every operation (`keras.ops`) of a functional model."""
    layers = all_layers(model)[1:]
    yield from layers
    for each in (model, *layers):
        for operation in getattr(each, "operations", ()):
            if not isinstance(operation, keras.Layer):
                yield operation


def _shorter_call(operation: Layer) -> Callable[..., Tensor] | None:
    """Return a `call` that computes the same with a better graph, None where there is none."""
    kind, call = type(operation), operation.call
    if not isinstance(operation, keras.Layer):
        if kind in _extremes():
            call = partial(_position, _extremes()[kind], operation)
        return partial(_in_scope, operation.name, call)
    if kind is keras.layers.TimeDistributed and _is_per_example(operation.layer):
        return partial(_all_steps_at_once, operation.layer, call)
    if kind is keras.layers.Embedding:
        return partial(_single_lookup, operation)
    if kind is keras.layers.Dense and operation.quantization_mode is None:
        return partial(_single_product, operation)
    return None


def _is_per_example(layer: Layer) -> bool:
    """Return whether a layer's output for an example is independent of the rest of the batch."""
    return not isinstance(layer, keras.layers.RNN | keras.layers.Lambda) and all(
        map(is_builtin, all_layers(layer))
    )


def _in_scope(name: str, call: Tensor, *args: Tensor, **kwargs: Tensor) -> Tensor:
    """Enter a scope with the name of the operation, as Keras does for a layer."""
    with tf.name_scope(f"{name}_1"):
        return call(*args, **kwargs)


@cache
def _extremes() -> dict[type, Callable[..., Tensor]]:
    """Return the functions of TensorFlow that compute an argmax or argmin of Keras."""
    known = {keras.ops.argmax: tf.argmax, keras.ops.argmin: tf.argmin}
    return {keras_internals.operation_class(each): made for each, made in known.items()}


def _position(function: Callable[..., Tensor], operation: Layer, x: Tensor) -> Tensor:
    """Compute an argmax or argmin; Keras tells 0 from -0 by their bits, which ONNX cannot read."""
    if operation.axis is not None:
        made = function(x, operation.axis, output_type=tf.int32)
        return tf.expand_dims(made, operation.axis) if operation.keepdims else made
    made = function(tf.reshape(x, [-1]), 0, output_type=tf.int32)  # among all numbers
    return tf.reshape(made, [1] * x.shape.rank) if operation.keepdims else made


def _all_steps_at_once(
    inner: Layer, step_by_step: Tensor, inputs: Tensor, training: Tensor = None, mask: Tensor = None
) -> Tensor:
    """Compute a TimeDistributed with its steps as examples of one batch.

    Keras calls the inner layer once for each step, and each call would be a node of its own.
    """
    if mask is not None and takes_argument(inner, "mask"):
        return step_by_step(inputs, training=training, mask=mask)
    if isinstance(inner, keras.layers.Dense):
        return inner(inputs)
    kwargs = {"training": training} if takes_argument(inner, "training") else {}
    sizes = keras.ops.shape(inputs)
    made = inner(keras.ops.reshape(inputs, (-1, *sizes[2:])), **kwargs)
    return keras.ops.reshape(made, (-1, sizes[1], *keras.ops.shape(made)[1:]))


def _single_lookup(layer: Layer, inputs: Tensor) -> Tensor:
    """Compute an Embedding as one lookup.

    Negative indices count from the end. Keras adds the length to them; ONNX does so by itself.
    """
    indices = inputs if inputs.dtype in ("int32", "int64") else keras.ops.cast(inputs, "int32")
    return keras.ops.cast(tf.gather(layer.embeddings, indices), layer.compute_dtype)


def _single_product(layer: Layer, inputs: Tensor, **_: Tensor) -> Tensor:
    """Compute a Dense as one product.

    Keras multiplies with `tf.tensordot`, which reshapes the tensor to a matrix and back by a shape
    that is computed at run time.
    """
    made = tf.matmul(inputs, keras.ops.convert_to_tensor(layer.kernel))
    if layer.bias is not None:
        made = keras.ops.add(made, layer.bias)
    return made if layer.activation is None else layer.activation(made)
