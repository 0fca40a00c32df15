"""A Keras network at inference as one TensorFlow graph, whose operations tell their layers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from kerasbn.folding.keras.clone import is_builtin
from kerasbn.folding.keras.graph import training_at_inference


def trace(model: keras.Model) -> Any:  # noqa: ANN401 - a ConcreteFunction; TensorFlow ships no types
    """The network at inference as a TensorFlow function of flat inputs, the batch axis free.

    Every operation is named after its layer, which `layer_of` reads.

    Raises:
        Exception: of any kind, where a layer cannot be traced.
    """
    nested = structure(model, "input")
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input_{at}")
        for at, tensor in enumerate(keras.tree.flatten(nested))
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator] # TensorFlow ships no types
    def predict(*arrays: Any) -> Any:  # noqa: ANN401 - symbolic tensors
        packed = keras.tree.pack_sequence_as(nested, list(arrays))
        given = arrays[0] if isinstance(model, keras.Sequential) else packed
        outputs = model(given, training=training_at_inference(model))
        return keras.tree.flatten(outputs)

    with _inlined(), _matrices_multiplied(), _called_otherwise(model):
        return predict.get_concrete_function()


def structure(model: keras.Model, side: str) -> Any:  # noqa: ANN401 - nested tensors
    """The model's `input` or `output` as nested as it was given, nothing if it has none."""
    tensors = getattr(model, f"{side}s", None) or []
    # A Sequential has one of each, and no attribute of its own for their nesting.
    return tensors if isinstance(model, keras.Sequential) or not tensors else getattr(model, side)


def all_layer_names(model: keras.Model) -> set[str]:
    """The names of all layers and operations, those within layers included."""
    return {layer.name for layer in _all_operations(model)}


def layer_of(tensorflow_name: str, layers: set[str]) -> tuple[str, str]:
    """The layer a TensorFlow operation belongs to, as a path, and what is left of its name.

    Keras enters the scope of a layer's name twice at every call, to build and to call it, and
    TensorFlow makes the second entry unique: ``mnist_1/dense_1_3/MatMul`` is the second call of
    the layer ``dense_1``, if there is one, in the model ``mnist``.
    """
    parts = tensorflow_name.split("/")
    path: list[str] = []
    for part in parts[1:-1]:
        name = part.rpartition("_")[0]
        if name not in layers:
            break
        path.append(name)
    return "/".join(path), "/".join(parts[len(path) + 1 :])


def _all_operations(model: keras.Model) -> Iterator[Any]:
    """Every layer, at any depth, and every operation (`keras.ops`) of a functional model."""
    layers = list(model._flatten_layers(include_self=False))
    yield from layers
    for network in (model, *layers):
        for operation in getattr(network, "operations", ()):
            if not isinstance(operation, keras.Layer):
                yield operation


@contextmanager
def _inlined() -> Iterator[None]:
    """Trace functions within layers in place, not as calls.

    Keras compiles grouped convolutions by a `tf.function` of their own, which tf2onnx would leave
    as a call of a function that no file defines.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextmanager
def _matrices_multiplied() -> Iterator[None]:
    """Let a product of any tensor with a matrix be one operation.

    Keras asks for a `tf.tensordot`, which makes a matrix of the tensor, by its shape as the network
    runs, and a tensor of the product.
    """
    plain = tf.tensordot

    def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Any:  # noqa: ANN401 - tensors
        if axes == [[-1], [0]] and len(b.shape) == 2:
            return tf.matmul(a, b)
        return plain(a, b, axes, name)

    tf.tensordot = tensordot
    try:
        yield
    finally:
        tf.tensordot = plain


@contextmanager
def _called_otherwise(model: keras.Model) -> Iterator[None]:
    """Let some layers and operations be called in a form that makes a better graph.

    For this one trace their `call` is another, which computes the same.
    """
    with ExitStack() as undone:
        for operation in _all_operations(model):
            if not isinstance(operation, keras.Layer):
                operation.call = _in_scope(operation)
            elif type(operation) is keras.layers.TimeDistributed and _is_per_sample(operation):
                operation.call = _all_steps_at_once(operation)
            elif type(operation) is keras.layers.Embedding:
                operation.call = _looked_up(operation)
            else:
                continue
            undone.callback(operation.__dict__.pop, "call")
        yield


def _in_scope(operation: Any) -> Any:  # noqa: ANN401 - an Operation and its `call`
    """The call of an operation in a scope of its name, entered as Keras enters a layer's."""
    plain = operation.call

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the operation has them
        with tf.name_scope(f"{operation.name}_1"):
            return plain(*args, **kwargs)

    return call


def _is_per_sample(layer: Any) -> bool:  # noqa: ANN401 - a TimeDistributed
    """Whether what is distributed over time answers each sample alone, whatever the others."""
    inner = layer.layer
    return (
        is_builtin(inner)
        and not isinstance(inner, keras.layers.RNN | keras.layers.Lambda)
        and all(map(is_builtin, inner._flatten_layers()))
    )


def _all_steps_at_once(layer: Any) -> Any:  # noqa: ANN401 - a TimeDistributed and its `call`
    """The call of a TimeDistributed with its steps as samples of one batch.

    Keras calls the layer once for each step, and each call would be a node of its own.
    """
    plain, inner = layer.call, layer.layer

    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ANN401 - tensors
        if mask is not None and inner._call_has_mask_arg:
            return plain(inputs, training=training, mask=mask)
        if isinstance(inner, keras.layers.Dense):
            return inner(inputs)
        kwargs = {"training": training} if inner._call_has_training_arg else {}
        sizes = keras.ops.shape(inputs)
        made = inner(keras.ops.reshape(inputs, (-1, *sizes[2:])), **kwargs)
        steps = sizes[1]
        return keras.ops.reshape(made, (-1, steps, *keras.ops.shape(made)[1:]))

    return call


def _looked_up(layer: Any) -> Any:  # noqa: ANN401 - an Embedding and its `call`
    """The call of an Embedding as one look-up.

    Numbers below 0 count from the end. Keras adds the length to them; ONNX counts so itself.
    """

    def call(inputs: Any) -> Any:  # noqa: ANN401 - tensors
        numbers = inputs if inputs.dtype in ("int32", "int64") else keras.ops.cast(inputs, "int32")
        return keras.ops.cast(tf.gather(layer.embeddings, numbers), layer.compute_dtype)

    return call
