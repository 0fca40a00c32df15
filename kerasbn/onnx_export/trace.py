"""A Keras model at inference as one TensorFlow graph, whose operations are named after layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from kerasbn.common.keras_internals import all_layers, takes_argument
from kerasbn.folding.keras.clone import is_builtin
from kerasbn.folding.keras.graph import training_at_inference

Tensor = Any  # TensorFlow and Keras ship no types
Call = Callable[..., Tensor]


def trace(clone: keras.Model) -> Any:  # noqa: ANN401 - a ConcreteFunction
    """Trace a model at inference as a TensorFlow function of flat inputs with a free batch axis.

    Every operation is named after its layer, which `layer_of` reads.

    Args:
        clone: a copy of the model that nothing else uses: some of its layers get a `call` that
            computes the same with fewer operations.

    Raises:
        Exception: of any kind, if a layer cannot be traced.
    """
    nested = structure(clone, "input")
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input_{at}")
        for at, tensor in enumerate(keras.tree.flatten(nested))
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def predict(*arrays: Tensor) -> list[Tensor]:
        packed = keras.tree.pack_sequence_as(nested, list(arrays))
        given = arrays[0] if isinstance(clone, keras.Sequential) else packed
        outputs = clone(given, training=training_at_inference(clone))
        return list(keras.tree.flatten(outputs))

    for operation in _operations(clone):
        call = _shorter_call(operation)
        if call is not None:
            operation.call = call
    with _inlined():
        return predict.get_concrete_function()


def structure(model: keras.Model, side: str) -> Any:  # noqa: ANN401 - nested tensors
    """Return the `input` or `output` of a model, nested as it was given; empty if it has none."""
    tensors = getattr(model, f"{side}s", None) or []
    # A Sequential has one of each, and no attribute for their nesting.
    return tensors if isinstance(model, keras.Sequential) or not tensors else getattr(model, side)


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
    layers = all_layers(model, include_self=False)
    yield from layers
    for each in (model, *layers):
        for operation in getattr(each, "operations", ()):
            if not isinstance(operation, keras.Layer):
                yield operation


@contextmanager
def _inlined() -> Iterator[None]:
    """Trace functions within layers in place instead of as calls.

    Keras compiles grouped convolutions with a `tf.function` of their own, which tf2onnx would leave
    as a call of a function that no file defines.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _shorter_call(operation: Any) -> Call | None:  # noqa: ANN401 - a layer or operation
    """Return a `call` that computes the same with a better graph, None where there is none."""
    if not isinstance(operation, keras.Layer):
        return _in_scope(operation)
    if type(operation) is keras.layers.TimeDistributed and _is_per_example(operation.layer):
        return _all_steps_at_once(operation)
    if type(operation) is keras.layers.Embedding:
        return _single_lookup(operation)
    if type(operation) is keras.layers.Dense and operation.quantization_mode is None:
        return _single_product(operation)
    return None


def _in_scope(operation: Any) -> Call:  # noqa: ANN401 - an Operation
    """Enter a scope with the name of the operation, as Keras does for a layer."""
    call = operation.call

    def in_scope(*args: Tensor, **kwargs: Tensor) -> Tensor:
        with tf.name_scope(f"{operation.name}_1"):
            return call(*args, **kwargs)

    return in_scope


def _is_per_example(layer: Any) -> bool:  # noqa: ANN401 - the layer within a TimeDistributed
    """Return whether a layer's output for an example is independent of the rest of the batch."""
    return not isinstance(layer, keras.layers.RNN | keras.layers.Lambda) and all(
        map(is_builtin, all_layers(layer))
    )


def _all_steps_at_once(layer: Any) -> Call:  # noqa: ANN401 - a TimeDistributed
    """Compute a TimeDistributed with its steps as examples of one batch.

    Keras calls the inner layer once for each step, and each call would be a node of its own.
    """
    step_by_step, inner = layer.call, layer.layer

    def at_once(inputs: Tensor, training: Tensor = None, mask: Tensor = None) -> Tensor:
        if mask is not None and takes_argument(inner, "mask"):
            return step_by_step(inputs, training=training, mask=mask)
        if isinstance(inner, keras.layers.Dense):
            return inner(inputs)
        kwargs = {"training": training} if takes_argument(inner, "training") else {}
        sizes = keras.ops.shape(inputs)
        made = inner(keras.ops.reshape(inputs, (-1, *sizes[2:])), **kwargs)
        return keras.ops.reshape(made, (-1, sizes[1], *keras.ops.shape(made)[1:]))

    return at_once


def _single_lookup(layer: Any) -> Call:  # noqa: ANN401 - an Embedding
    """Compute an Embedding as one lookup.

    Negative indices count from the end. Keras adds the length to them; ONNX does so by itself.
    """

    def lookup(inputs: Tensor) -> Tensor:
        indices = inputs if inputs.dtype in ("int32", "int64") else keras.ops.cast(inputs, "int32")
        return keras.ops.cast(tf.gather(layer.embeddings, indices), layer.compute_dtype)

    return lookup


def _single_product(layer: Any) -> Call:  # noqa: ANN401 - a Dense
    """Compute a Dense as one product.

    Keras multiplies with `tf.tensordot`, which reshapes the tensor to a matrix and back by a shape
    that is computed at run time.
    """

    def product(inputs: Tensor, training: Tensor = None) -> Tensor:  # noqa: ARG001 - as Keras calls it
        made = tf.matmul(inputs, keras.ops.convert_to_tensor(layer.kernel))
        if layer.bias is not None:
            made = keras.ops.add(made, layer.bias)
        return made if layer.activation is None else layer.activation(made)

    return product
