"""A Keras network as ONNX, by tf2onnx: traced, frozen, converted; not yet in canonical form."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from kerasbn.errors import InputError, expected
from kerasbn.folding.keras.clone import recurrent_states
from kerasbn.inference.onnx_graph import Graph, read_graph
from kerasbn.onnx_export.trace import all_layer_names, layer_of, structure, trace

# What tf2onnx 1.17 can write, from the first with a per-axis Softmax.
OPSETS = range(13, 19)
OPSET = 18


def convert(model: keras.Model, opset: int = OPSET) -> Graph:
    """The network at inference as an ONNX graph, as tf2onnx leaves it.

    The graph's inputs and outputs carry the names of the Keras model's; every node still has the
    name TensorFlow gave it, which `layer_of` reads.

    Args:
        model: a network with fixed inputs: functional, Sequential or nested.
        opset: the version of ONNX's operations, one of `OPSETS`.

    Raises:
        InputError: if the network, or one of its layers, cannot be written as ONNX.
    """
    if opset not in OPSETS:
        raise expected(f"--opset {opset}", opset, f"{OPSETS[0]} to {OPSETS[-1]}")
    _check_memory(model)
    inputs = port_names(structure(model, "input"), model)
    outputs = port_names(structure(model, "output"), model, inputs)
    try:
        with _silent():
            traced = trace(model)
    except Exception as error:
        raise _refusal(model, error) from error
    graph = read_graph(_tf2onnx(model, traced, opset))
    _lift_captured(graph, traced)
    names = [tensor.name for tensor in traced.inputs[: len(inputs)]]
    return _named(graph, dict(zip(names, inputs, strict=True)), outputs, model)


def port_names(
    structure: Any,  # noqa: ANN401 - nested tensors
    model: keras.Model,
    taken: Iterable[str] = (),
) -> list[str]:
    """The name of each tensor in a model's inputs or outputs: its key, or else its layer's.

    A name that is taken gets a number: an output may be an input, or the same tensor twice.

    Raises:
        InputError: if the model has no fixed inputs and outputs.
    """
    names: list[str] = []
    for path, tensor in keras.tree.flatten_with_path(structure):
        key = path[-1] if path and isinstance(path[-1], str) else _layer_name(tensor)
        wanted, count = key, 2
        while key in names or key in taken:
            key, count = f"{wanted}_{count}", count + 1
        names.append(key)
    if not names:
        raise expected(
            f"model '{model.name}'", "a network without fixed inputs",
            "a functional or Sequential one", "give it a keras.Input",
        )  # fmt: skip
    return names


def _layer_name(tensor: Any) -> str:  # noqa: ANN401 - a KerasTensor
    return str(tensor._keras_history.operation.name)


def _check_memory(model: keras.Model) -> None:
    """Refuse layers that remember from call to call, since an ONNX file keeps nothing."""
    for layer in model._flatten_layers():
        if recurrent_states(layer):
            raise expected(
                f"layer '{layer.name}'", "stateful=True, so that it remembers from call to call",
                "a layer that begins anew each time", "build it with stateful=False",
            )  # fmt: skip


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the libraries' logs quiet: what matters of them is said by the errors raised here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _erfc(ctx: Any, node: Any, name: str, args: Any, **_: Any) -> None:  # noqa: ANN401, ARG001
    """erfc(x) = 1 - erf(x), which is how tf2onnx is taught TensorFlow's exact GELU."""
    kind = ctx.get_dtype(node.output[0])
    one = ctx.make_const(
        f"{name}/one", np.array(1, onnx.helper.tensor_dtype_to_np_dtype(kind))
    ).output[0]
    shape, outputs, source = ctx.get_shape(node.output[0]), node.output, node.input[0]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [source], name=f"{name}/erf", shapes=[shape], dtypes=[kind])
    ctx.make_node(
        "Sub", [one, erf.output[0]], name=name, outputs=outputs, shapes=[shape], dtypes=[kind]
    )


def _tf2onnx(model: keras.Model, traced: Any, opset: int) -> onnx.ModelProto:  # noqa: ANN401
    """What tf2onnx makes of a traced function.

    Its own entry point, `convert.from_function`, copies the whole graph before each of its
    optimizers, merges equal nodes in the order of a set, which changes from process to process, and
    makes a dozen nodes of an Einsum.
    """
    from tf2onnx import optimizer, tf_loader, tfonnx  # takes seconds, and only this needs it

    steps = {
        "transpose": optimizer.TransposeOptimizer,
        "upsample": optimizer.UpsampleOptimizer,
        "constants": optimizer.ConstFoldOptimizer,
        "loops": optimizer.LoopOptimizer,
        "identity": optimizer.IdentityOptimizer,
        "pairs": optimizer.BackToBackOptimizer,
    }
    inputs, outputs = (
        [tensor.name for tensor in tensors if tensor.dtype != tf.resource]
        for tensors in (traced.inputs, traced.outputs)
    )
    try:
        with _silent(), tf.device("/cpu:0"):
            frozen = tf_loader.from_function(traced, inputs, outputs)
            with tf.Graph().as_default() as tensorflow_graph:
                tf.import_graph_def(frozen, name="")
                converted = tfonnx.process_tf_graph(
                    tensorflow_graph,
                    continue_on_error=True,
                    opset=opset,
                    input_names=inputs,
                    output_names=outputs,
                    custom_op_handlers={"Erfc": (_erfc, [])},
                )
                converted = optimizer.optimize_graph(converted, False, steps)
            written: onnx.ModelProto = converted.make_model(model.name)
    except Exception as error:
        raise _refusal(model, error) from error
    for node in _all_nodes(written.graph):
        known = onnx.defs.has(node.op_type, max_inclusive_version=opset, domain=node.domain)
        if not known:
            layer, _ = layer_of(node.name, all_layer_names(model))
            raise expected(
                f"layer '{layer or node.name}'",
                f"the operation {node.op_type}",
                f"one that ONNX has (opset {opset})",
                "replace the layer by one made of plain operations",
            )
    return written


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs within them; a node after those within it."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                # What a converter calls a node within a graph begins with other names.
                yield from (_at(inner, node.name) for inner in _all_nodes(attribute.g))
        yield node


def _at(node: onnx.NodeProto, name: str) -> onnx.NodeProto:
    """A node of the same operation under another name."""
    return onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=name)


def _refusal(model: keras.Model, error: Exception) -> InputError:
    """One line for what tracing or tf2onnx raised, with the layer where it names one."""
    said = str(error)
    layer = next(
        (
            name
            for name in sorted(all_layer_names(model), key=len, reverse=True)
            if f"'{name}'" in said or f"/{name}_" in said or f"name={name}," in said
        ),
        None,
    )
    subject = f"model '{model.name}'" + (f", layer '{layer}'" if layer else "")
    first = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
    return InputError(f"{subject}: cannot be written as ONNX ({first[:200]})")


def _lift_captured(graph: Graph, traced: Any) -> None:  # noqa: ANN401 - a ConcreteFunction
    """Make constants of the arrays that layers hold outside of variables.

    A Normalization layer's mean and variance are such; tf2onnx leaves them as extra inputs.
    """
    count = len(traced.captured_inputs)
    internal = traced.inputs[len(traced.inputs) - count :]
    for inner, outer in zip(internal, traced.captured_inputs, strict=True):
        if outer.dtype != tf.resource:
            graph.constants[inner.name] = outer.numpy()
    graph.inputs = [port for port in graph.inputs if port.tensor not in graph.constants]


def _named(graph: Graph, inputs: dict[str, str], outputs: list[str], model: keras.Model) -> Graph:
    """The graph with the Keras model's names at its ports, in the Keras model's order.

    Axis 0 is the batch and free; the other axes are Keras's.
    """
    sides = {port.tensor: port for port in graph.inputs}
    missing = [n for n in inputs if n not in sides and n.partition(":")[0] not in sides]
    if missing:
        raise expected(
            f"model '{model.name}'", f"an input '{inputs[missing[0]]}' that no layer uses",
            "inputs that matter to the output", "leave it out of the model",
        )  # fmt: skip
    made = [sides.get(tensor) or sides[tensor.partition(":")[0]] for tensor in inputs]
    graph.inputs = [
        replace(port, name=name, shape=_axes(tensor, name))
        for port, name, tensor in zip(
            made, inputs.values(), keras.tree.flatten(structure(model, "input")), strict=True
        )
    ]
    graph.outputs = [
        replace(port, name=name, shape=_axes(tensor, name))
        for port, name, tensor in zip(
            graph.outputs, outputs, keras.tree.flatten(structure(model, "output")), strict=True
        )
    ]
    return graph


def _axes(tensor: Any, name: str) -> tuple[int | str, ...]:  # noqa: ANN401 - a KerasTensor
    """A Keras tensor's shape with a name for each free axis; the first is the batch."""
    return ("batch", *(size or f"{name}_{at}" for at, size in enumerate(tensor.shape[1:], 1)))


def scaling_paths(model: keras.Model, prefix: str = "") -> tuple[str, ...]:
    """The paths of all Rescaling and Normalization layers, as `layer_of` gives them."""
    found: list[str] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            found.append(prefix + layer.name)
        elif isinstance(layer, keras.Model) and hasattr(layer, "layers"):
            found.extend(scaling_paths(layer, f"{prefix}{layer.name}/"))
    return tuple(found)
