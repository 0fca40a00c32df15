"""A Keras model as an ONNX graph, by tf2onnx: traced, frozen and converted, not yet simplified."""

import logging
from typing import Any

import keras
import onnx
import onnx_ir as ir
import tensorflow as tf

from kerasbn.common.errors import InputError, expected
from kerasbn.common.keras_internals import all_layers, convert_function, operation_of
from kerasbn.folding.keras.clone import recurrent_states
from kerasbn.onnx_export.canonical import LAYER, free_name, subgraphs
from kerasbn.onnx_export.trace import all_layer_names, layer_of, trace

# What tf2onnx 1.17 writes, from the first opset with a Softmax along one axis.
OPSETS = range(13, 19)
OPSET = 18


def convert(clone: keras.Model, opset: int = OPSET) -> ir.Model:
    """Convert a model at inference to an ONNX graph, as tf2onnx leaves it.

    Inputs and outputs have the names and shapes of the Keras model's. The path of each node's layer
    is in its metadata under `LAYER`.

    Args:
        clone: a model with fixed inputs (functional, Sequential or nested) that nothing else uses;
            `trace` changes it.
        opset: the version of ONNX's operations, one of `OPSETS`.

    Raises:
        InputError: if the model, or one of its layers, cannot be written as ONNX.
    """
    for layer in all_layers(clone):
        if recurrent_states(layer):  # an ONNX file keeps no state
            raise expected(
                f"layer '{layer.name}'", "stateful=True, so that it keeps state from call to call",
                "a layer that starts anew each time", "build it with stateful=False",
            )  # fmt: skip
    taken: set[str] = set()
    inputs, outputs = (_named_ports(clone, side, taken) for side in ("input", "output"))
    layers = all_layer_names(clone)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what matters in the logs is raised as an error
    try:
        traced = trace(clone)
        proto = convert_function(traced, opset)
    except Exception as error:
        raise _refusal(clone, error) from error
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
    _lift_captured(model.graph, traced)
    _name_ports(model.graph, clone, traced, inputs, outputs)
    return model


def _named_ports(model: keras.Model, side: str, taken: set[str]) -> dict[str, Any]:
    """Return the inputs or outputs of a model by name: the key of each, or its layer's name.

    A name that is taken gets a number: an output may be an input, or the same tensor twice.
    """
    ports, tensors = {}, getattr(model, f"{side}s", None) or []
    # A Sequential has one of each, and no attribute for their nesting.
    is_flat = isinstance(model, keras.Sequential) or not tensors
    for path, tensor in keras.tree.flatten_with_path(tensors if is_flat else getattr(model, side)):
        key = path[-1] if path and isinstance(path[-1], str) else operation_of(tensor).name
        ports[free_name(str(key), taken)] = tensor
    if not ports:
        raise expected(
            f"model '{model.name}'", "a model without fixed inputs",
            "a functional or Sequential one", "give it a keras.Input",
        )  # fmt: skip
    return ports


def _refusal(model: keras.Model, error: Exception) -> InputError:
    """Return one line for what tracing or tf2onnx raised, with the layer if it names one."""
    said = str(error)
    names = sorted(all_layer_names(model), key=len, reverse=True)
    marks = ("'{}'", "/{}_", "name={},")
    layer = next((n for n in names if any(mark.format(n) in said for mark in marks)), None)
    subject = f"model '{model.name}'" + (f", layer '{layer}'" if layer else "")
    first = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
    return InputError(f"{subject}: cannot be written as ONNX ({first[:200]})")


def _lift_captured(graph: ir.Graph, traced: Any) -> None:  # noqa: ANN401 - a ConcreteFunction
    """Make constants of the arrays that layers hold outside of variables.

    The mean and variance of a Normalization layer are such; tf2onnx leaves them as extra inputs.
    """
    values = {value.name: value for value in graph.inputs}
    internal = traced.inputs[len(traced.inputs) - len(traced.captured_inputs) :]
    for inner, outer in zip(internal, traced.captured_inputs, strict=True):
        if outer.dtype != tf.resource and inner.name in values:
            value = values[inner.name]
            graph.inputs.remove(value)
            value.const_value = ir.tensor(outer.numpy(), name=inner.name)
            graph.register_initializer(value)


def _name_ports(
    graph: ir.Graph,
    model: keras.Model,
    traced: Any,  # noqa: ANN401 - a ConcreteFunction
    inputs: dict[str, Any],
    outputs: dict[str, Any],
) -> None:
    """Give inputs and outputs the names, order and shapes of the Keras model's.

    Axis 0 is the batch and free. All other values get names that no layer has.
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
            free = (size or f"{name}_{at}" for at, size in enumerate(tensor.shape[1:], 1))
            value.name, value.shape = name, ir.Shape(["batch", *free])
