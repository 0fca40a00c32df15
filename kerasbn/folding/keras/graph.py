"""Read a Keras model as a flat graph, through nested models and TimeDistributed."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from kerasbn.common.errors import expected
from kerasbn.common.keras_internals import all_layers, functional_class, nodes_in_order
from kerasbn.folding.affine import Affine, CannotFold, Shape
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Call, Graph, Value
from kerasbn.folding.keras import linear_layers
from kerasbn.folding.keras.activations import clip_of
from kerasbn.folding.keras.affine_layers import affine_of, check_merge, kind_of, kind_of_call
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS
from kerasbn.folding.keras.pass_through_layers import GET_ITEM, PASS_THROUGH_LAYERS
from kerasbn.folding.linear import Edit
from kerasbn.folding.pass_through import PassThrough


@dataclass(eq=False, kw_only=True)
class _KerasCall(Call):
    """One call of a Keras layer or operation; of TimeDistributed, a call of the layer inside.

    `slots` has the argument that each input is passed as. `tensors_only` says whether all arguments
    are tensors, not constants.
    """

    slots: list[str]
    tensors_only: bool

    @property
    def data(self) -> list[Value]:
        if not isinstance(self.layer, keras.layers.Layer):
            return self.inputs
        pairs = zip(self.inputs, self.slots, strict=True)
        return [value for value, slot in pairs if slot == self.slots[0]]

    @property
    def foldable_inputs(self) -> list[tuple[str, Value]]:
        if type(self.layer) is not keras.layers.MultiHeadAttention:
            return [("", self.inputs[0])]
        given = dict(zip(self.slots, self.inputs, strict=True))
        given.setdefault("key", given["value"])  # as the layer does
        return [(name, given[name]) for name in ("query", "key", "value")]

    def affine(self) -> Affine:
        return affine_of(self)

    def clip(self) -> Clip | None:
        return clip_of(self.layer)

    def check(self, edit: Edit) -> None:
        if self.kind:
            check_merge(self.layer, edit.affine)
        else:
            linear_layers.check(self.layer, edit)

    def forward(self, incoming: list[Affine]) -> Affine:
        return self._law().forward(incoming)

    def backward(self, outgoing: Affine) -> list[list[Affine]]:
        return self._law().backward(outgoing)

    def _law(self) -> PassThrough:
        if not self.tensors_only:
            raise CannotFold("combines it with a constant")
        if not self.is_pass_through:
            raise CannotFold("lets no map pass unchanged")
        return PASS_THROUGH_LAYERS[type(self.layer)](self)


def read_model(model: keras.Model) -> Graph:
    """Read a functional or sequential model.

    Raises:
        InputError: if the model is neither, or is not built.
    """
    require_graph(model)
    return _Reader(model).graph


class _Reader:
    """Writes out the calls of a model and of the models inside it."""

    def __init__(self, model: keras.Model) -> None:
        self.graph = Graph([Value(tuple(t.shape[1:]), t.dtype) for t in model.inputs])
        self.last: bool | None = None  # the `training` flag of the call before
        self.trains = False  # whether any call so far has training=True
        self.unset: dict[int, set[bool | None]] = {}  # flags of nodes that take the last one
        self.activations: dict[int, keras.layers.Activation] = {}  # of linear layers
        flag = training_at_inference(model)
        for value in self._write_out(model, self.graph.inputs, prefix="", lead=(), training=flag):
            value.is_output = True
        for call in self.graph.calls:
            flags = {other.training for other in self.graph.calls_of(call.layer)}
            if call.kind == "BN layer" and call.layer.trainable and len(flags) > 1:
                self.graph.changing = self.graph.changing or call.name
        # Folding removes calls, and so changes which one comes before.
        if self.trains and not self.graph.changing:
            self.graph.training = {
                node: flag for node, (flag, *others) in self.unset.items() if not others
            }

    def _write_out(
        self,
        model: keras.Model,
        inputs: Sequence[Value],
        prefix: str,
        lead: Shape,
        training: bool | None,
    ) -> list[Value]:
        """Add the calls of a model, called on `inputs`. Return its outputs.

        `prefix` is what its layers' names begin with, and `lead` the axes after the batch that
        TimeDistributed around the model adds to every tensor.
        """
        values = {id(t): value for t, value in zip(model.inputs, inputs, strict=True)}
        for node in nodes_in_order(model):
            layer, wraps = unwrap(node.operation)
            wraps += len(lead)
            given = [values[id(tensor)] for tensor in node.input_tensors]
            flag = self._training_of(node, training)
            name = prefix + node.operation.name
            ranks = [1 + len(value.example) - wraps for value in given]
            if is_graph(layer) and is_plain_call(layer, node, ranks):
                inner = given[0].example[:wraps]
                made = self._write_out(layer, given, f"{name}/", inner, flag)
            else:
                # What an indexing operation gets beside the tensor is no constant to compute with.
                given_to = node.arguments.args[: 1 if type(layer) is GET_ITEM else None]
                arguments = keras.tree.flatten(given_to)
                kind = kind_of_call(layer, node)
                call = _KerasCall(
                    layer=layer,
                    name=name,
                    type_name=type(layer).__name__,
                    node=node,
                    kind=kind,
                    is_linear=type(layer) in LINEAR_LAYERS,
                    is_pass_through=kind is None and type(layer) in PASS_THROUGH_LAYERS,
                    training=flag is True,
                    inputs=given,
                    wraps=wraps,
                    slots=list(_slots(node)),
                    tensors_only=all(isinstance(leaf, keras.KerasTensor) for leaf in arguments),
                )
                shapes = [(*lead, *t.shape[1:]) for t in node.outputs]
                made = call.outputs = [
                    Value(shape, t.dtype, call)
                    for shape, t in zip(shapes, node.outputs, strict=True)
                ]
                self.graph.add(call)
                self._note_hidden(call)
                made = self._activated(call)
            values.update({id(t): value for t, value in zip(node.outputs, made, strict=True)})
        return [values[id(t)] for t in model.outputs]

    def _activated(self, call: _KerasCall) -> list[Value]:
        """Add the activation of a linear layer as a call of its own. Return what comes out.

        Its place in the model is the layer, since all calls of that have the same activation.
        """
        layer = call.layer
        function = getattr(layer, "activation", keras.activations.linear)
        takes_maps = call.is_linear and "after" in LINEAR_LAYERS[type(layer)].sides
        if not takes_maps or function is keras.activations.linear:
            return call.outputs
        if id(layer) not in self.activations:
            self.activations[id(layer)] = keras.layers.Activation(function, name=layer.name)
        activation = replace(
            call, layer=self.activations[id(layer)], type_name="Activation", node=layer,
            is_linear=False, is_pass_through=True, training=False, inputs=call.outputs,
            slots=["0"], tensors_only=True,
        )  # fmt: skip
        activation.outputs = [Value(v.example, v.dtype, activation) for v in call.outputs]
        self.graph.add(activation)
        return activation.outputs

    def _note_hidden(self, call: Call) -> None:
        """Note affine layers of custom classes, and those inside layers other than models."""
        if call.kind or not isinstance(call.layer, keras.layers.Layer):
            return
        for layer in all_layers(call.layer):
            name = f"{call.name}/{layer.name}"
            reason = f"it is inside the {call.type_name} layer `{call.name}`"
            if layer is call.layer:
                name = call.name
                reason = f"the arithmetic of its class {call.type_name} is not known"
            if kind := kind_of(layer):
                self.graph.hidden.setdefault(id(layer), (name, reason, kind))

    def _training_of(self, node: Any, enclosing: bool | None) -> bool | None:  # noqa: ANN401 - a node of Keras's graph
        """Return the `training` flag that Keras runs a node with.

        The flag of the enclosing model overrules the node's own. If neither is set, Keras takes the
        flag of the call before, of whatever layer: one Dropout called with training=True makes the
        BN layers after it train.
        """
        if not isinstance(node.operation, keras.layers.Layer):
            return None
        own = node.arguments.kwargs
        if enclosing is not None:
            self.last = enclosing
        elif "training" in own:
            self.last = own["training"]
        else:
            if self.last is None:
                self.last = _default_training(node.operation)
            self.unset.setdefault(id(node), set()).add(self.last)
        self.trains |= self.last is True
        return self.last


def training_at_inference(model: keras.Model) -> bool | None:
    """Return the `training` flag to call a model with for inference.

    It is False, as in `predict`: image preprocessing (Resizing, RandomFlip, ...) trains by default,
    and Keras passes that on to the BN layers behind it. It is None where the model calls a layer
    with training=True on purpose, which False would overrule.
    """
    models = [one for one in all_layers(model) if is_graph(one)]
    asks_to_train = any(
        node.arguments.kwargs.get("training") is True
        and _default_training(node.operation) is not True
        for one in models
        for node in nodes_in_order(one)
    )
    return None if asks_to_train else False


def _default_training(operation: Any) -> Any:  # noqa: ANN401 - an operation and a default value
    """Return the default of the `training` argument, None if there is no such argument."""
    parameter = inspect.signature(operation.call).parameters.get("training")
    return parameter.default if parameter else None


def require_graph(model: keras.Model) -> None:
    """Raise `InputError` unless a model is a built functional or sequential model."""
    if not isinstance(model, keras.Model):
        raise expected("model", f"a {type(model).__name__}", "a Keras model")
    if is_graph(model):
        return
    if isinstance(model, keras.Sequential):
        raise expected(
            f"model '{model.name}'", "a model that is not built yet",
            "one with a known input shape", "start it with keras.Input(shape)",
        )  # fmt: skip
    raise expected(
        f"model '{model.name}'",
        f"a subclassed model ({type(model).__name__}), whose graph is not known",
        "a functional or sequential model",
        "build it as keras.Model(inputs, outputs), or export it, which folds its nodes",
    )  # fmt: skip


def is_graph(layer: object) -> bool:
    """Return whether a layer is a model that computes just what its graph says."""
    kind: Any = type(layer)
    plain: Any
    for plain in (keras.Sequential, functional_class()):
        if isinstance(layer, plain) and kind.call is plain.call and kind.__call__ is plain.__call__:
            return bool(getattr(layer, "inputs", None)) and bool(getattr(layer, "outputs", None))
    return False


def input_structure(model: keras.Model) -> Any:  # noqa: ANN401 - any structure of tensors
    """Return the inputs in the structure that the model is called with."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def unwrap(layer: Any) -> tuple[Any, int]:  # noqa: ANN401 - a layer
    """Return the layer inside TimeDistributed, and how many of these are around it."""
    wraps = 0
    while type(layer) is keras.layers.TimeDistributed:
        layer, wraps = layer.layer, wraps + 1
    return layer, wraps


def is_plain_call(model: keras.Model, node: Any, ranks: list[int]) -> bool:  # noqa: ANN401 - a node of Keras's graph
    """Return whether a nested model is called with just its inputs, in their order and rank.

    `ranks` are those of the tensors that the model is given.
    """
    first = [*node.arguments.args, *node.arguments.kwargs.values()][0]
    structures = first, input_structure(model)
    keys, wanted = (set(each) if isinstance(each, dict) else None for each in structures)
    return keys == wanted and ranks == [len(tensor.shape) for tensor in model.inputs]


def _slots(node: Any) -> Iterator[str]:  # noqa: ANN401 - a node of Keras's graph
    """Yield, for each input tensor of a node, the name of the argument that it is passed as."""
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
