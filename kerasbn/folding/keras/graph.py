"""Read a Keras model as a flat graph, through nested models and TimeDistributed."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kerasbn.common.errors import expected
from kerasbn.common.keras_internals import all_layers, functional_class, nodes_in_order
from kerasbn.folding.affine import Affine, CannotFold, Shape
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Call, Graph, Kind, Value
from kerasbn.folding.keras import affine_layers, linear_layers
from kerasbn.folding.keras.activations import clip_of
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS
from kerasbn.folding.keras.pass_through_layers import (
    PASS_THROUGH_LAYERS,
    LayerCall,
    backward,
    forward,
)
from kerasbn.folding.linear import Edit


@dataclass(eq=False)
class KerasCall(Call):
    """One call of a Keras layer or operation.

    Attributes:
        layer: what is called; for TimeDistributed, the layer inside.
        wraps: the number of TimeDistributed around it, i.e. of leading axes that the layer itself
            does not see.
        slots: for each input, the argument that it is passed as.
        tensors_only: whether its arguments are tensors, without constants.
    """

    wraps: int
    slots: list[str]
    tensors_only: bool = True

    @property
    def kind(self) -> Kind | None:
        """The kind of affine layer, None for other layers."""
        return affine_layers.kind_of(self.layer) if affine_layers.is_affine(self.layer) else None

    @property
    def is_linear(self) -> bool:
        """Whether a map can be folded into the kernel of this layer."""
        return type(self.layer) in LINEAR_LAYERS

    @property
    def is_pass_through(self) -> bool:
        """Whether a map may pass through this layer, changed or not."""
        return type(self.layer) in PASS_THROUGH_LAYERS

    @property
    def type_name(self) -> str:
        """The class of the layer, for messages."""
        return type(self.layer).__name__

    @property
    def data(self) -> list[Value]:
        """The tensors of the first argument; for an operation, all tensors."""
        if not isinstance(self.layer, keras.layers.Layer):
            return self.inputs
        pairs = zip(self.inputs, self.slots, strict=True)
        return [value for value, slot in pairs if slot == self.slots[0]]

    @property
    def foldable_inputs(self) -> list[tuple[str, Value]]:
        """The inputs whose maps can be folded into this layer, each with its argument name."""
        law = LINEAR_LAYERS.get(type(self.layer))
        if law is None or not law.arguments:
            return [("", self.inputs[0])]
        given = dict(zip(self.slots, self.inputs, strict=True))
        given.setdefault("key", given["value"])  # as MultiHeadAttention does
        return [(name, given[name]) for name in law.arguments]

    def affine(self) -> Affine:
        """Return the map of an affine layer. Raises `CannotFold` if it is no affine map."""
        return affine_layers.affine_of(self.layer, len(self._seen(self.inputs[0])), self.training)

    def clip(self) -> Clip | None:
        """Return the clip that an activation is, None if it is none."""
        return clip_of(self.layer)

    def edit_after(self, a: Affine) -> Edit:
        """Return the edit that folds a map after this call. Raises `CannotFold`."""
        return self._checked(Edit("after", self.lower(a), self._seen(self.inputs[0])))

    def edit_before(self, a: Affine, argument: str, value: Value) -> Edit:
        """Return the edit that folds a map of one input. Raises `CannotFold`."""
        edit = Edit("before", self.lower(a), self._seen(value), argument, self.training)
        return self._checked(edit)

    def forward(self, incoming: list[Affine]) -> Affine:
        """Return the map that leaves a pass-through layer. Raises `CannotFold`."""
        return self.lift(forward(self._layer_call(), [self.lower(a) for a in incoming]))

    def backward(self, outgoing: Affine) -> list[list[Affine]]:
        """Return the choices of maps on the inputs that make `outgoing`. Raises `CannotFold`."""
        choices = backward(self._layer_call(), self.lower(outgoing))
        return [[self.lift(a) for a in choice] for choice in choices]

    def lift(self, a: Affine) -> Affine:
        """Return a map in the axes of the layer as a map on whole examples."""
        return a.map(lambda values: values.reshape((1,) * self.wraps + values.shape))

    def lower(self, a: Affine) -> Affine:
        """Return a map on whole examples in the axes of the layer. Raises `CannotFold`."""
        for _ in range(self.wraps):
            if a.varies_along(0):
                raise CannotFold("is the same for all time steps, while s and t vary between them")
            a = a.map(lambda values: values[0])
        return a

    def hidden(self) -> Iterator[tuple[str, Kind, str]]:
        """Yield affine layers of custom classes, and those inside layers other than models."""
        if self.is_affine or not isinstance(self.layer, keras.layers.Layer):
            return
        classes = tuple(affine_layers.AFFINE_LAYERS)
        for layer in [one for one in all_layers(self.layer) if issubclass(type(one), classes)]:
            kind = affine_layers.kind_of(layer)
            if layer is self.layer:
                reason = f"the arithmetic of its class {type(layer).__name__} is not known"
                yield self.name, kind, reason
            else:
                reason = f"it is inside the {self.type_name} layer `{self.name}`"
                yield f"{self.name}/{layer.name}", kind, reason

    def _checked(self, edit: Edit) -> Edit:
        if self.is_affine:
            affine_layers.check_merge(self.layer, edit.affine)
        else:
            linear_layers.check(self.layer, edit)
        return edit

    def _layer_call(self) -> LayerCall:
        return LayerCall(
            layer=self.layer,
            inputs=[self._seen(value) for value in self.data],
            output=self._seen(self.outputs[0]),
            training=self.training,
            twins=[self.data.index(value) for value in self.data],
            tensors_only=self.tensors_only,
        )

    def _seen(self, value: Value) -> Shape:
        """Return the example shape of a tensor as the layer inside TimeDistributed sees it."""
        return value.example[self.wraps :]


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
        inputs = [Value(tuple(t.shape), t.dtype) for t in model.inputs]
        self.graph = Graph(inputs)
        self.last: bool | None = None  # the `training` flag of the call before
        self.trains = False  # whether any call so far has training=True
        self.unset: dict[int, set[bool | None]] = {}  # flags of nodes that take the last one
        flag = training_at_inference(model)
        for value in self._write_out(model, inputs, prefix="", lead=(), training=flag):
            value.is_output = True
        if self.trains:  # folding removes calls, and so changes which one comes before
            flags = {node: list(found) for node, found in self.unset.items() if len(found) == 1}
            self.graph.training = {node: flag for node, (flag,) in flags.items()}
        for call in self.graph.calls:
            flags_of = {other.training for other in self.graph.calls_of(call.layer)}
            if call.kind == "BN layer" and call.layer.trainable and len(flags_of) > 1:
                self.graph.changing = self.graph.changing or call.name

    def _write_out(
        self,
        model: keras.Model,
        inputs: Sequence[Value],
        prefix: str,
        lead: Shape,
        training: bool | None,
    ) -> list[Value]:
        """Add the calls of a model. Return its outputs.

        Args:
            model: the model.
            inputs: what it is called on.
            prefix: what its layers' names begin with.
            lead: the axes after the batch that TimeDistributed around it adds to every tensor.
            training: the `training` flag that it is called with.
        """
        values = {id(t): value for t, value in zip(model.inputs, inputs, strict=True)}
        for node in nodes_in_order(model):
            layer, wraps = unwrap(node.operation)
            given = [values[id(tensor)] for tensor in node.input_tensors]
            flag = self._training_of(node, training)
            name = prefix + node.operation.name
            if is_graph(layer) and _is_plain_call(layer, node, given, len(lead) + wraps):
                inner = given[0].shape[1 : 1 + len(lead) + wraps]
                made = self._write_out(layer, given, f"{name}/", inner, flag)
            else:
                call = KerasCall(
                    layer=layer,
                    name=name,
                    node=node,
                    training=flag is True,
                    inputs=given,
                    index=len(self.graph.calls),
                    wraps=wraps + len(lead),
                    slots=list(_slots(node)),
                    tensors_only=_has_tensors_only(node),
                )
                shapes = [(t.shape[0], *lead, *t.shape[1:]) for t in node.outputs]
                call.outputs = [
                    Value(shape, t.dtype, call)
                    for shape, t in zip(shapes, node.outputs, strict=True)
                ]
                self.graph.add(call)
                made = call.outputs
            values.update({id(t): value for t, value in zip(node.outputs, made, strict=True)})
        return [values[id(t)] for t in model.outputs]

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
    return None if any(map(_asks_to_train, models)) else False


def _asks_to_train(model: keras.Model) -> bool:
    return any(
        node.arguments.kwargs.get("training") is True
        and _default_training(node.operation) is not True
        for node in nodes_in_order(model)
    )


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
            f"model '{model.name}'",
            "a model that is not built yet",
            "one with a known input shape",
            "start it with keras.Input(shape)",
        )
    raise expected(
        f"model '{model.name}'",
        f"a subclassed model ({type(model).__name__}), whose graph is not known",
        "a functional or sequential model",
        "build it as keras.Model(inputs, outputs)",
    )


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


def _is_plain_call(model: keras.Model, node: Any, given: Sequence[Value], wraps: int) -> bool:  # noqa: ANN401 - a node of Keras's graph
    """Return whether a nested model is called with just its inputs, in their order and rank."""
    arguments = node.arguments
    first = arguments.args[0] if arguments.args else next(iter(arguments.kwargs.values()))
    wanted = input_structure(model)
    if isinstance(first, dict) != isinstance(wanted, dict):
        return False
    if isinstance(first, dict) and set(first) != set(wanted):
        return False
    return [len(t.shape) for t in model.inputs] == [len(value.shape) - wraps for value in given]


def _has_tensors_only(node: Any) -> bool:  # noqa: ANN401 - a node of Keras's graph
    """Return whether the positional arguments are symbolic tensors, without constants."""
    return all(
        isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(node.arguments.args)
    )


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
