"""A model as a flat graph of calls and tensors, whatever framework it comes from.

Nested models are written out, once per call, so that an affine map can pass their borders. Calls
with the same `layer` share its weights. Calls with the same `node` are one place in the model,
which a nested model called twice runs twice. Layers and nodes are told apart by `id`.

A front end derives `Call`, which says what its layers can do.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kerasbn.folding.affine import Affine, Shape, compose
from kerasbn.folding.clips import Clip
from kerasbn.folding.linear import Edit

Layer = Any  # whatever the front end has as layers
Kind = Literal["BN layer", "scaling"]  # an affine layer is one or the other


@dataclass(eq=False)
class Value:
    """A tensor: its shape (batch axis first), its producer and its readers."""

    shape: Shape
    dtype: str
    producer: "Call | None" = None
    readers: "dict[Call, None]" = field(default_factory=dict)  # an ordered set
    is_output: bool = False

    @property
    def example(self) -> Shape:
        """The shape without the batch axis."""
        return self.shape[1:]


@dataclass(eq=False)
class Call(ABC):
    """One call of a layer or an operation.

    Affine maps that go in or out are on whole examples. An `Edit` is in the axes that the layer
    itself sees, which may be fewer; `lift` takes a map from there to whole examples.

    Attributes:
        layer: what is called.
        name: the layer's name, prefixed by the names of the models around it.
        node: the place in the model that this call comes from.
        training: whether the call runs with training=True.
        inputs: the tensors that it reads.
        index: its position in topological order.
        outputs: the tensors that it produces.
    """

    layer: Layer
    name: str
    node: Any
    training: bool
    inputs: list[Value]
    index: int
    outputs: list[Value] = field(default_factory=list, kw_only=True)

    @property
    def is_affine(self) -> bool:
        """Whether this is an affine layer: a BN layer or a scaling."""
        return self.kind is not None

    @property
    @abstractmethod
    def kind(self) -> Kind | None:
        """The kind of affine layer, None for other layers."""

    @property
    @abstractmethod
    def is_linear(self) -> bool:
        """Whether a map can be folded into the kernel of this layer."""

    @property
    @abstractmethod
    def is_pass_through(self) -> bool:
        """Whether a map may pass through this layer, changed or not."""

    @property
    @abstractmethod
    def type_name(self) -> str:
        """The class of the layer, for messages."""

    @property
    @abstractmethod
    def data(self) -> list[Value]:
        """The inputs that it computes with, as opposed to masks and the like."""

    @property
    @abstractmethod
    def foldable_inputs(self) -> list[tuple[str, Value]]:
        """The inputs whose maps can be folded into this layer, each with its argument name."""

    @abstractmethod
    def affine(self) -> Affine:
        """Return the map of an affine layer. Raises `CannotFold` if it is no affine map."""

    @abstractmethod
    def clip(self) -> Clip | None:
        """Return the clip that an activation is, None if it is none."""

    @abstractmethod
    def edit_after(self, a: Affine) -> Edit:
        """Return the edit that folds a map after this call. Raises `CannotFold`."""

    @abstractmethod
    def edit_before(self, a: Affine, argument: str, value: Value) -> Edit:
        """Return the edit that folds a map of one input. Raises `CannotFold`."""

    @abstractmethod
    def forward(self, incoming: list[Affine]) -> Affine:
        """Return the map that leaves a pass-through layer. Raises `CannotFold`."""

    @abstractmethod
    def backward(self, outgoing: Affine) -> list[list[Affine]]:
        """Return the choices of maps on the inputs that make `outgoing`. Raises `CannotFold`."""

    @abstractmethod
    def lift(self, a: Affine) -> Affine:
        """Return a map in the axes of the layer as a map on whole examples."""

    @abstractmethod
    def lower(self, a: Affine) -> Affine:
        """Return a map on whole examples in the axes of the layer. Raises `CannotFold`."""

    @abstractmethod
    def hidden(self) -> Iterator[tuple[str, Kind, str]]:
        """Yield name, kind and reason for each affine layer inside that cannot be folded."""


@dataclass(eq=False)
class Graph:
    """The calls of a model, and what folding has changed so far.

    Attributes:
        inputs: the input tensors of the model.
        calls: all calls in topological order.
        edits: what is folded into each layer, by `id`.
        clips: the clips that activations became, by the `id` of their node.
        training: the `training` flag of each node, by `id`, that gets it from the call before it,
            which may be another one after folding.
        changing: the name of a BN layer that trains in one call, so that another call depends on
            the order of the calls; None if there is none.
    """

    inputs: list[Value]
    calls: dict[Call, None] = field(default_factory=dict)  # an ordered set
    edits: dict[int, list[Edit]] = field(default_factory=dict)
    clips: dict[int, Clip] = field(default_factory=dict)
    training: dict[int, bool | None] = field(default_factory=dict)
    changing: str | None = None
    _by_layer: dict[int, list[Call]] = field(default_factory=dict)
    _by_node: dict[int, list[Call]] = field(default_factory=dict)

    def calls_of(self, layer: Layer) -> list[Call]:
        """Return every call of a layer."""
        return self._by_layer.get(id(layer), [])

    def calls_at(self, node: object) -> list[Call]:
        """Return every call that comes from one place in the model."""
        return self._by_node.get(id(node), [])

    def affine_of(self, call: Call) -> Affine:
        """Return the map of an affine layer, with what was merged into it."""
        a = call.affine()
        for edit in self.edits.get(id(call.layer), []):
            a = compose(edit.affine, a) if edit.side == "after" else compose(a, edit.affine)
        return call.lift(a)

    def clip_of(self, call: Call) -> Clip | None:
        """Return the clip that an activation is, or became."""
        return self.clips.get(id(call.node)) or call.clip()

    def add(self, call: Call) -> None:
        """Append a call, and register it with its inputs."""
        for value in call.inputs:
            value.readers[call] = None
        self.calls[call] = None
        self._by_layer.setdefault(id(call.layer), []).append(call)
        self._by_node.setdefault(id(call.node), []).append(call)

    def bypass(self, call: Call) -> None:
        """Remove a call with one input and one output. Its readers read its input instead."""
        (source, *_), (gone,) = call.inputs, call.outputs
        for value in call.inputs:
            value.readers.pop(call, None)
        for reader in gone.readers:
            reader.inputs = [source if value is gone else value for value in reader.inputs]
            source.readers[reader] = None
        source.is_output |= gone.is_output
        del self.calls[call]
        self._by_layer[id(call.layer)].remove(call)
