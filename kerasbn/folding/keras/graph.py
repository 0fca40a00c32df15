"""The functional graph, flat: who reads whom, through nested models and TimeDistributed.

Nested models are written out, once for each time they are called, so that an affine crosses their
borders; what is shared is told by `Call.layer` (one set of weights) and `Call.spot` (one place in
the model to change), which several calls may have in common.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras

from kerasbn.errors import expected
from kerasbn.folding.affine import Affine, compose
from kerasbn.folding.clips import Clip, clip_of
from kerasbn.folding.keras.absorb import Edit
from kerasbn.folding.keras.affine_layers import affine_of

Shape = tuple[int | None, ...]


@dataclass(eq=False)
class Value:
    """One tensor: its shape (batch first), who makes it, who reads it."""

    shape: Shape
    dtype: str
    producer: "Call | None" = None
    readers: "dict[Call, None]" = field(default_factory=dict)  # a set that keeps its order
    is_output: bool = False

    @property
    def example(self) -> Shape:
        """The shape without the batch axis."""
        return self.shape[1:]


@dataclass(eq=False)
class Call:
    """One call of a layer or an operation.

    Attributes:
        layer: what is called; for TimeDistributed, the layer within.
        wraps: how many TimeDistributed are around it: so many axes after the batch are not seen
            by the layer.
        name: the layer's name, with those of the models around it.
        spot: the node of the Keras graph that this call comes from.
        training: whether it runs with training=True.
        inputs: the tensors it reads; `slots` names the argument that each is given as.
        index: its place in topological order.
        plain: whether it reads tensors alone, and no constants beside them.
    """

    layer: Any
    wraps: int
    name: str
    spot: Any
    training: bool
    inputs: list[Value]
    slots: list[str]
    index: int
    plain: bool = True
    outputs: list[Value] = field(default_factory=list)

    @property
    def data(self) -> list[Value]:
        """The tensors it computes with: those of its first argument, and for operations all."""
        if not isinstance(self.layer, keras.layers.Layer):
            return self.inputs
        return [
            value
            for value, slot in zip(self.inputs, self.slots, strict=True)
            if slot == self.slots[0]
        ]

    def seen(self, value: Value) -> Shape:
        """The example shape of `value` as the layer within TimeDistributed sees it."""
        return value.example[self.wraps :]


class Graph:
    """All calls of a model in topological order, and what its layers are to absorb so far."""

    def __init__(self) -> None:
        self.calls: dict[Call, None] = {}  # a set that keeps its order
        self.inputs: list[Value] = []
        self.training: bool | None = None  # what the last call was made with, while reading
        self.trains = False  # whether any call was made with training=True
        self.effective: dict[
            int, set[bool | None]
        ] = {}  # by `id` of the node, for calls that don't say
        self.edits: dict[int, list[Edit]] = {}
        self.clips: dict[int, Clip] = {}  # by `id` of the spot
        self._by_layer: dict[int, list[Call]] = {}
        self._by_spot: dict[int, list[Call]] = {}

    def calls_of(self, layer: object) -> list[Call]:
        """Every call of one layer."""
        return self._by_layer.get(id(layer), [])

    def calls_at(self, spot: object) -> list[Call]:
        """Every call that comes from one place of the model: several in a model called twice."""
        return self._by_spot.get(id(spot), [])

    def is_restless(self, call: Call) -> bool:
        """Whether it is of a normalization that trains in one call and is asked in another.

        The first changes the statistics that the second uses.
        """
        if type(call.layer) is not keras.layers.BatchNormalization or not call.layer.trainable:
            return False
        return len({other.training for other in self.calls_of(call.layer)}) > 1

    def clip_of(self, call: Call) -> Clip | None:
        """The clip that a call of an activation is, or became."""
        return self.clips.get(id(call.spot)) or clip_of(call.layer)

    def affine_of(self, call: Call) -> Affine:
        """The affine of a call of a normalization, with what it absorbed of others."""
        a = affine_of(call.layer, len(call.seen(call.inputs[0])), call.training)
        for edit in self.edits.get(id(call.layer), []):
            a = compose(edit.affine, a) if edit.side == "after" else compose(a, edit.affine)
        return a

    def add(self, call: Call) -> None:
        """Append a call, and make its inputs know it."""
        for value in call.inputs:
            value.readers[call] = None
        self.calls[call] = None
        self._by_layer.setdefault(id(call.layer), []).append(call)
        self._by_spot.setdefault(id(call.spot), []).append(call)

    def training_of(self, node: Any, enclosing: bool | None) -> bool | None:  # noqa: ANN401 - Keras ships no types
        """The value of `training` that Keras runs a node with.

        What the enclosing model is called with overrules what the node says. If neither says
        anything, Keras takes the value of the call before it, whichever layer that was: one
        Dropout with training=True makes the normalizations after it train.
        """
        if not isinstance(node.operation, keras.layers.Layer):
            return None
        says = node.arguments.kwargs
        if enclosing is not None:
            self.training = enclosing
        elif "training" in says:
            self.training = says["training"]
        else:
            if self.training is None:
                self.training = _default(node.operation)
            self.effective.setdefault(id(node), set()).add(self.training)
        self.trains |= self.training is True
        return self.training

    def pins(self) -> dict[int, bool | None]:
        """For nodes that don't say so, the value of `training` that they depend on others for.

        Folding takes calls out and so changes which comes before which.
        """
        if not self.trains:
            return {}
        return {node: one for node, (one, *rest) in self.effective.items() if not rest}

    def bypass(self, call: Call) -> None:
        """Take a call of one input and one output out: who read its output reads its input."""
        (source, *_), (gone,) = call.inputs, call.outputs
        for value in call.inputs:
            value.readers.pop(call, None)
        for reader in gone.readers:
            reader.inputs = [source if value is gone else value for value in reader.inputs]
            source.readers[reader] = None
        source.is_output |= gone.is_output
        del self.calls[call]
        self._by_layer[id(call.layer)].remove(call)


def read(model: keras.Model) -> Graph:
    """The flat graph of a functional or sequential model.

    Raises:
        InputError: if `model` is neither, or was not built.
    """
    require_graph(model)
    graph = Graph()
    inputs = [Value(tuple(t.shape), t.dtype) for t in model.inputs]
    graph.inputs = inputs
    flag = training_at_inference(model)
    for value in _write_out(graph, model, inputs, prefix="", lead=(), training=flag):
        value.is_output = True
    return graph


def training_at_inference(model: keras.Model) -> bool | None:
    """The value of `training` that a network is called with for its answers at inference.

    It is False, as with `predict`: image preprocessing (Resizing, RandomFlip and the like) trains
    by default, and Keras hands that on to the normalizations behind it. But it is None where the
    network calls a layer with training=True on purpose, which False would overrule.
    """
    models = [one for one in (model, *model._flatten_layers()) if is_graph(one)]
    return None if any(map(_asks_to_train, models)) else False


def _asks_to_train(model: keras.Model) -> bool:
    return any(
        node.arguments.kwargs.get("training") is True and _default(node.operation) is not True
        for node in ordered_nodes(model)
    )


def _default(operation: Any) -> Any:  # noqa: ANN401 - Keras ships no types
    """What `training` is by default where an operation is called; None if it has no such flag."""
    parameter = inspect.signature(operation.call).parameters.get("training")
    return parameter.default if parameter else None


def require_graph(model: keras.Model) -> None:
    """Raise `InputError` unless `model` is a built Functional or Sequential model."""
    if not isinstance(model, keras.Model):
        raise expected("model", f"a {type(model).__name__}", "a Keras network")
    if is_graph(model):
        return
    if isinstance(model, keras.Sequential):
        raise expected(
            model.name,
            "a network that was not built yet",
            "one whose input shape is known",
            "begin it with keras.Input(shape)",
        )
    raise expected(
        model.name,
        f"a network of the class {type(model).__name__} that computes in Python code",
        "a functional or sequential network",
        "build it as keras.Model(inputs, outputs)",
    )


def is_graph(layer: object) -> bool:
    """Whether it is a model whose answers come from its graph alone, and the graph is there."""
    kind: Any = type(layer)
    plain: Any
    for plain in (keras.Sequential, _functional_class()):
        if isinstance(layer, plain) and kind.call is plain.call and kind.__call__ is plain.__call__:
            return bool(getattr(layer, "inputs", None)) and bool(getattr(layer, "outputs", None))
    return False


@cache
def _functional_class() -> type:
    """Keras's class of functional models, which has no public name."""
    tensor = keras.Input((1,), name="any")
    return type(keras.Model(tensor, tensor, name="any"))


def input_structure(model: keras.Model) -> Any:  # noqa: ANN401 - any structure of tensors
    """The inputs in the structure that the model is called with."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def ordered_nodes(model: keras.Model) -> list[Any]:
    """The nodes from a model's inputs to its outputs, in the order in which Keras runs them."""
    # Keras has no public way to the nodes of a model; a Sequential one has a functional one within.
    graph = model._functional if isinstance(model, keras.Sequential) else model
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]


def unwrap(layer: Any) -> tuple[Any, int]:  # noqa: ANN401 - Keras ships no types
    """The layer within TimeDistributed, and how many are around it."""
    wraps = 0
    while type(layer) is keras.layers.TimeDistributed:
        layer, wraps = layer.layer, wraps + 1
    return layer, wraps


def _write_out(
    graph: Graph,
    model: keras.Model,
    inputs: Sequence[Value],
    prefix: str,
    lead: Shape,
    training: bool | None,
) -> list[Value]:
    """Add a model's calls to `graph`; give its outputs.

    `lead` are the axes after the batch that TimeDistributed around the model adds to every tensor;
    `training` is what the model itself is called with.
    """
    table = {id(t): value for t, value in zip(model.inputs, inputs, strict=True)}
    for node in ordered_nodes(model):
        layer, wraps = unwrap(node.operation)
        given = [table[id(tensor)] for tensor in node.input_tensors]
        flag = graph.training_of(node, training)
        name = prefix + node.operation.name
        if is_graph(layer) and _fits(layer, node, given, len(lead) + wraps):
            inner = given[0].shape[1 : 1 + len(lead) + wraps]
            made = _write_out(graph, layer, given, f"{name}/", inner, flag)
        else:
            call = Call(
                layer=layer,
                wraps=wraps + len(lead),
                name=name,
                spot=node,
                training=flag is True,
                inputs=given,
                slots=list(_slots(node)),
                index=len(graph.calls),
                plain=_is_plain(node),
            )
            call.outputs = [
                Value((t.shape[0], *lead, *t.shape[1:]), t.dtype, call) for t in node.outputs
            ]
            graph.add(call)
            made = call.outputs
        table.update({id(t): value for t, value in zip(node.outputs, made, strict=True)})
    return [table[id(t)] for t in model.outputs]


def _fits(model: keras.Model, node: Any, given: Sequence[Value], wraps: int) -> bool:  # noqa: ANN401 - Keras ships no types
    """Whether a nested model is called with just its inputs, in their order and rank."""
    arguments = node.arguments
    first = arguments.args[0] if arguments.args else next(iter(arguments.kwargs.values()))
    wanted = input_structure(model)
    if isinstance(first, dict) != isinstance(wanted, dict):
        return False
    if isinstance(first, dict) and set(first) != set(wanted):
        return False
    return [len(t.shape) for t in model.inputs] == [len(value.shape) - wraps for value in given]


def _is_plain(node: Any) -> bool:  # noqa: ANN401 - Keras ships no types
    """Whether the positional arguments are tensors of the network alone."""
    return all(
        isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(node.arguments.args)
    )


def _slots(node: Any) -> Iterator[str]:  # noqa: ANN401 - Keras ships no types
    """The name of the argument that each input tensor of a node is given as, in order."""
    arguments = node.arguments
    if len(node.input_tensors) == 1 and not arguments.kwargs:
        yield "0"
        return
    names = [*inspect.signature(node.operation.call).parameters]
    names += [str(place) for place in range(len(names), len(arguments.args))]
    given = list(zip(names, arguments.args, strict=False))
    # Keras lists the tensors of positional arguments first, then those of keywords by name.
    for name, value in [*given, *sorted(arguments.kwargs.items())]:
        for leaf in keras.tree.flatten(value):
            if isinstance(leaf, keras.KerasTensor):
                yield name
