"""A Keras model as a list of calls, read apart from the package's own graph."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import keras

from kerasbn.common.keras_internals import nodes_in_order


@dataclass
class FlatCall:
    """A call: the name of its layer with those of the models around it, and tensors as numbers."""

    name: str
    layer: Any
    reads: list[int]
    makes: list[int]
    training: bool | None
    node: Any


@dataclass
class FlatGraph:
    """The calls of a model in order, nested models written out."""

    calls: list[FlatCall] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def named(self, name: str) -> list[FlatCall]:
        """The calls of a layer, or of the clip that it became."""
        pattern = re.escape(name) + r"(_(clip|max|min)(_\d+)?)?"
        return [call for call in self.calls if re.fullmatch(pattern, call.name)]

    def readers(self, tensor: int) -> list[FlatCall]:
        return [call for call in self.calls if tensor in call.reads]

    def is_shared(self, tensor: int) -> bool:
        """Whether the layer that makes a tensor is called more than once."""
        makers = [call.layer for call in self.calls if tensor in call.makes]
        return sum(call.layer in makers for call in self.calls) > 1

    def behind(self, tensors: list[int], stops: tuple[type, ...] = ()) -> set[int]:
        """The tensors that are computed from some, not through layers of certain classes."""
        found = set(tensors)
        for call in self.calls:
            if found & set(call.reads) and not isinstance(call.layer, stops):
                found |= set(call.makes)
        return found


def flatten(model: keras.Model) -> FlatGraph:
    numbers = count()
    graph = FlatGraph(inputs=[next(numbers) for _ in model.inputs])
    graph.outputs = list(_walk(model, graph.inputs, "", None, graph, numbers))
    return graph


def _walk(
    model: Any,
    given: list[int],
    prefix: str,
    training: bool | None,
    graph: FlatGraph,
    numbers: Iterator[int],
) -> list[int]:
    known = {id(tensor): number for tensor, number in zip(model.inputs, given, strict=True)}
    for node in nodes_in_order(model):
        layer, name = node.operation, prefix + node.operation.name
        while isinstance(layer, keras.layers.TimeDistributed):
            layer = layer.layer
        flag = node.arguments.kwargs.get("training") if training is None else training
        reads = [known[id(tensor)] for tensor in node.input_tensors]
        if isinstance(layer, keras.Model) and len(layer.inputs) == len(reads):
            makes = _walk(layer, reads, f"{name}/", flag, graph, numbers)
        else:
            makes = [next(numbers) for _ in node.outputs]
            graph.calls.append(FlatCall(name, layer, reads, makes, flag, node))
        known.update({id(t): number for t, number in zip(node.outputs, makes, strict=True)})
    return [known[id(tensor)] for tensor in model.outputs]
