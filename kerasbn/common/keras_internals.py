"""Every use of something that Keras, TensorFlow or tf2onnx does not document, one function each.

Importing this module loads none of them. Each function has a test of its own, which fails when a
new version of the library changes what it relies on; `pyproject.toml` bounds those versions.
"""
# ruff: noqa: ANN401 - neither library ships types

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import cache, partial
from pathlib import Path
from typing import Any

from kerasbn.common.errors import expected, quoted


def require_tensorflow() -> None:
    """Import TensorFlow quietly. Raises `InputError` if Keras runs on another backend."""
    keras = sys.modules.get("keras")
    if keras is not None and (backend := keras.config.backend()) != "tensorflow":
        raise expected(
            "keras", f"the backend {backend}", "tensorflow",
            "import kerasbn before keras, or set KERAS_BACKEND=tensorflow",
        )  # fmt: skip
    # TensorFlow's native libraries print at import, which a notebook would show.
    quiet_tensorflow()


def quiet_tensorflow(verbose: bool = False) -> None:
    """Import TensorFlow, silencing what its native libraries print unless `verbose`.

    `TF_CPP_MIN_LOG_LEVEL` alone leaves lines that are written before logging is set up, straight
    to file descriptor 2. So while TensorFlow is imported that descriptor is the null device and
    `sys.stderr` writes to a duplicate of the old one: Python's own errors and tracebacks stay
    visible. Call it before anything else imports TensorFlow; a second call does nothing.
    """
    if verbose or "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(tensorflow|keras|tf2onnx|h5py)(\..*)?$")
    collects_garbage = gc.isenabled()
    gc.disable()  # while modules load, collecting frees nothing and takes half a second
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        python_stderr = os.fdopen(os.dup(saved), "w", buffering=1)
        with python_stderr, redirect_stderr(python_stderr), hide_package("sklearn"):
            os.dup2(null, 2)
            import tensorflow  # noqa: F401 - imported for its effect
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
        if collects_garbage:
            gc.enable()


@contextmanager
def deterministic_operations(wanted: bool) -> Iterator[None]:
    """Let TensorFlow use only deterministic operations within the block, if `wanted`.

    In XLA as well: TensorFlow compiles with `xla_gpu_deterministic_ops` then. The public
    `enable_op_determinism` cannot be undone.
    """
    from tensorflow.python.framework import config

    if not wanted or config.is_op_determinism_enabled():
        yield
        return
    config.enable_op_determinism()
    try:
        yield
    finally:
        config.disable_op_determinism()


@contextmanager
def hide_package(package: str) -> Iterator[None]:
    """Make `import package` fail within the block, unless it is already imported.

    Keras imports scikit-learn, if installed, for wrappers that nothing here uses. That is a fifth
    of the time that TensorFlow and Keras take to import.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # makes `import` raise ImportError
    try:
        yield
    finally:
        del sys.modules[package]


def restore_layer_state(new: Any, old: Any) -> None:
    """Complete a layer that was given the variables of `old`, a layer of the same class.

    Some layers keep state outside their variables: a Normalization layer computes constants from
    them, and lookup layers hold their vocabulary in a table.
    """
    from keras import layers

    if isinstance(new, layers.Normalization):
        new.finalize_state()
    if isinstance(new, layers.StringLookup | layers.IntegerLookup | layers.TextVectorization):
        new.set_vocabulary(old.get_vocabulary(include_special_tokens=False))


def all_layers(layer: Any) -> list[Any]:
    """Return every layer within a layer or model, at any depth, itself first."""
    return list(layer._flatten_layers())


def operation_of(tensor: Any) -> Any:
    """Return the layer or operation that a symbolic tensor of a functional model is made by."""
    return tensor._keras_history.operation


def takes_argument(layer: Any, name: str) -> bool:
    """Return whether Keras passes `training` or `mask` on to the `call` of a layer."""
    return bool(getattr(layer, f"_call_has_{name}_arg"))


def has_mask(tensor: Any) -> bool:
    """Return whether Keras passes a mask on with a tensor, symbolic or not."""
    return getattr(tensor, "_keras_mask", None) is not None


def convert_function(function: Any, opset: int) -> Any:
    """Convert a ConcreteFunction to a ModelProto with the optimizers of tf2onnx that help.

    Its own entry point, `tf2onnx.convert.from_function`, copies the whole graph before each of its
    optimizers, merges equal nodes in the order of a set, which changes from process to process, and
    makes a dozen nodes of an Einsum. Constants are as they were in the function's variables; arrays
    that it captured are inputs. In particular, no factor behind a convolution is multiplied into
    its kernel, which both TensorFlow and tf2onnx would do, in float32 and without a word.
    """
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx  # takes seconds, and only this needs it

    class TransposeOptimizer(optimizer.TransposeOptimizer):
        """Folds no factor into a kernel, which it does where the factor comes second."""

        def _mul_handler(self, transpose: Any, node: Any) -> Any:
            is_second = node.inputs[1].is_const()
            if is_second:
                self._g.replace_inputs(node, node.input[::-1])
            done = super()._mul_handler(transpose, node)
            if is_second:
                self._g.replace_inputs(node, node.input[::-1])
            return done

    kinds = ("Upsample", "ConstFold", "Loop", "Identity", "BackToBack")
    steps = {"Transpose": TransposeOptimizer}
    steps |= {kind: getattr(optimizer, f"{kind}Optimizer") for kind in kinds}
    inputs, outputs = (
        [tensor.name for tensor in tensors if tensor.dtype != tf.resource]
        for tensors in (function.inputs, function.outputs)
    )
    # TensorFlow leaves the kernel of a convolution as it is if its result is an output. It drops
    # what no output needs.
    needed, pending = set(), [tensor.op for tensor in function.outputs]
    while pending:
        operation = pending.pop()
        if operation not in needed:
            needed.add(operation)
            pending += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    convolutions = [
        operation.outputs[0].name
        for operation in function.graph.get_operations()
        if "Conv" in operation.type and operation in needed
    ]
    with tf.device("/cpu:0"):
        frozen = tf_loader.from_function(function, inputs, [*outputs, *convolutions])
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            converted = tfonnx.process_tf_graph(
                graph, continue_on_error=True, opset=opset, input_names=inputs,
                output_names=outputs, custom_op_handlers={"Erfc": (_erfc, [])},
            )  # fmt: skip
            converted = optimizer.optimize_graph(converted, False, steps)
        return converted.make_model("model")


def _erfc(ctx: Any, node: Any, name: str, args: Any, **_: Any) -> None:  # noqa: ARG001
    """Convert erfc(x) to 1 - erf(x): tf2onnx does not know it, and the exact GELU needs it."""
    import numpy as np
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = ctx.get_dtype(node.output[0])
    one = ctx.make_const(f"{name}/one", np.array(1, tensor_dtype_to_np_dtype(kind))).output[0]
    shape, outputs, source = ctx.get_shape(node.output[0]), node.output, node.input[0]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [source], name=f"{name}/erf", shapes=[shape], dtypes=[kind])
    ctx.make_node(
        "Sub", [one, erf.output[0]], name=name, outputs=outputs, shapes=[shape], dtypes=[kind]
    )


@contextmanager
def record_calls(layers: Sequence[Any]) -> Iterator[list[tuple[Any, Any, Any]]]:
    """Append every call of these layers to a list, in order: the layer, its input and the mask.

    A layer inside another model, or one that is called several times, has no single input tensor in
    the graph. So within the block its `call` is replaced: use it on layers of your own, such as
    those of a clone.
    """
    calls: list[tuple[Any, Any, Any]] = []

    def listen(layer: Any, call: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append((layer, inputs, kwargs.get("mask")))
        return call(inputs, *args, **kwargs)

    for layer in layers:
        layer.call = partial(listen, layer, layer.call)
    try:
        yield calls
    finally:
        for layer in layers:
            del layer.call


def nodes_in_order(model: Any) -> list[Any]:
    """Return the calls of a model's graph in the order in which Keras runs them, without inputs.

    Each has the `operation` called, its `arguments` (`args` and `kwargs`), and its `input_tensors`
    and `outputs`.
    """
    import keras

    graph = model._functional if isinstance(model, keras.Sequential) else model
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]


@cache
def functional_class() -> type:
    """Return the class of functional models, which has no public name."""
    import keras

    tensor = keras.Input((1,), name="any")
    return type(keras.Model(tensor, tensor, name="any"))


def operation_class(function: Callable[..., Any]) -> type:
    """Return the class of operation behind a function of one tensor, such as `keras.ops.relu`."""
    import keras

    return type(operation_of(function(keras.Input((1,), name="any"))))


def own_variables(layer: Any) -> list[Any]:
    """Return the variables of a layer without those of the layers inside it, seeds last."""
    seeds = [generator.state for generator in layer._seed_generators]
    return [*layer._trainable_variables, *layer._non_trainable_variables, *seeds]


def attention_projections(layer: Any) -> dict[str, list[Any]]:
    """Return the EinsumDense layers of a MultiHeadAttention by argument, "" for the output."""
    gate = [layer._gate_dense] if layer._use_gate else []
    return {
        "": [layer.output_dense],
        "query": [layer.query_dense, *gate],
        "key": [layer.key_dense],
        "value": [layer.value_dense],
    }


def lambda_output_shape(layer: Any) -> Any:
    """Return the argument `output_shape` of a Lambda layer."""
    return layer._output_shape


def normalization_statistics(layer: Any) -> tuple[Any, Any] | None:
    """Return the variables of an adapted Normalization layer, or None if they were arguments.

    The layer's own `mean` and `variance` are rounded to its dtype.
    """
    return None if layer.input_mean is not None else (layer.adapt_mean, layer.adapt_variance)


def cause(error: Exception) -> str:
    """Return the first sentence of an error, or of the innermost one that Keras quotes in it."""
    text = quoted(error, longest=None).rpartition("Exception encountered: ")[2]
    named = f"{type(error).__name__}: " if isinstance(error, LookupError) else ""
    return named + text.partition(". ")[0][:200]


def in_safe_mode() -> bool:
    """Return whether Keras refuses code in files, which is its default."""
    from keras.src.saving.serialization_lib import in_safe_mode

    return in_safe_mode() is not False


def configuration_of_saved_model(folder: Path) -> str:
    """Return the configuration, as JSON, that Keras 2 wrote into a SavedModel folder.

    Raises:
        OSError: if it wrote none.
        ValueError: if it cannot be read.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # no stubs
    from tensorflow.python.keras.protobuf.saved_metadata_pb2 import SavedMetadata

    try:
        nodes = SavedMetadata.FromString((folder / "keras_metadata.pb").read_bytes()).nodes
    except DecodeError as error:
        raise ValueError(f"a damaged keras_metadata.pb ({error})") from error
    roots = [str(node.metadata) for node in nodes if node.node_path == "root"]
    if not roots:
        raise ValueError("a keras_metadata.pb without a root")
    return roots[0]


def weights_in_hdf5(group: Any, layer: str) -> list[Any]:
    """Return the arrays that Keras 2 saved for a layer in an HDF5 group, none if it is not there.

    Links that lead out of the file are refused.
    """
    from keras.src.legacy.saving import legacy_h5_format as h5

    if layer not in group:
        return []
    return list(h5.load_subset_weights_from_hdf5_group(h5.safe_get_h5_group(group, layer)))


def dataset_in_hdf5(group: Any, name: str) -> Any:
    """Return a dataset within an HDF5 group; one that leads out of the file is refused."""
    from keras.src.saving.saving_lib import safe_get_h5_dataset

    return safe_get_h5_dataset(group, name)
