"""A Keras model at inference as one TensorFlow graph, whose operations are named after layers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from kerasbn.common.keras_internals import all_layers, takes_argument
from kerasbn.folding.keras.clone import is_builtin
from kerasbn.folding.keras.graph import input_structure, training_at_inference

Layer = Any  # TensorFlow and Keras ship no types
Tensor = Any


def trace(clone: keras.Model) -> Any:  # noqa: ANN401 - a ConcreteFunction
    """Trace a model at inference as a TensorFlow function of flat inputs with a free batch axis.

    Every operation is named after its layer, which `layer_of` reads.

    Args:
        clone: a copy of the model that nothing else uses: some of its layers get a `call` that
            computes the same with fewer operations.

    Raises:
        Exception: of any kind, if a layer cannot be traced.
    """
    nested = input_structure(clone)
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input_{at}")
        for at, tensor in enumerate(keras.tree.flatten(nested))
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def predict(*arrays: Tensor) -> list[Tensor]:
        packed = keras.tree.pack_sequence_as(nested, list(arrays))
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
        return predict.get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(before)


def all_layer_names(model: keras.Model) -> set[str]:
    """Return the names of all layers and operations, including those within layers."""
    return {operation.name for operation in _operations(model)}


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
