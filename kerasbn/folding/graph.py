"""A model as a flat graph of calls and tensors, whatever framework it comes from.

Nested models are written out, once per call, so that an affine map can pass their borders. Calls
with the same `layer` share its weights. Calls with the same `node` are one place in the model,
which a nested model called twice runs twice. Layers and nodes are told apart by `id`.

A front end derives `Call`, which says what its layers can do.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from kerasbn.folding.affine import Affine, CannotFold, Shape
from kerasbn.folding.clips import Clip
from kerasbn.folding.linear import Edit, Side

Layer = Any  # whatever the front end has as layers
Kind = Literal["BN layer", "scaling"]  # an affine layer is one or the other


@dataclass(eq=False)
class Value:
    """A tensor: the shape that affine maps on it have, its producer and its readers.

    `example` is the shape of one example, or of the whole tensor where no axis is known to be the
    batch axis: the front end decides.
    """

    example: Shape
    dtype: str
    producer: "Call | None" = None
    readers: "dict[Call, None]" = field(default_factory=dict)  # an ordered set
    is_output: bool = False


@dataclass(eq=False, kw_only=True)
class Call(ABC):
    """One call of a layer or an operation.

    The maps that `affine`, `forward` and `backward` take and return are in the axes that the layer
    itself sees, as that of an `Edit` is. `lift` and `lower` convert from and to whole examples.
    """

    layer: Layer
    name: str  # of the layer, prefixed by the names of the models around it
    type_name: str  # of the layer, for messages
    node: Any  # the place in the model that this call comes from
    kind: Kind | None  # None for layers that are not affine
    is_linear: bool  # whether a map can be folded into the kernel
    is_pass_through: bool  # whether a map may pass through, changed or not
    training: bool  # whether the call runs with training=True
    inputs: list[Value]
    outputs: list[Value] = field(default_factory=list)
    wraps: int = 0  # the number of leading axes of an example that the layer itself does not see

    @property
    @abstractmethod
    def data(self) -> list[Value]:
        """The inputs that a pass-through layer passes on, as opposed to masks and the like."""

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
    def check(self, edit: Edit) -> None:
        """Raise `CannotFold` unless the edit can be made to the layer."""

    @abstractmethod
    def forward(self, incoming: list[Affine]) -> Affine:
        """Return the map that leaves a pass-through layer. Raises `CannotFold`."""

    @abstractmethod
    def backward(self, outgoing: Affine) -> list[list[Affine]]:
        """Return the choices of maps on the inputs that make `outgoing`. Raises `CannotFold`."""

    def seen(self, value: Value) -> Shape:
        """Return the example shape of a tensor as the layer sees it."""
        return value.example[self.wraps :]

    def edit(self, side: Side, a: Affine, value: Value, argument: str = "") -> Edit:
        """Return the edit that folds a map on whole examples. Raises `CannotFold`."""
        edit = Edit(side, self.lower(a), self.seen(value), argument, self.training)
        self.check(edit)
        return edit

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


@dataclass(eq=False)
class Graph:
    """The calls of a model, and what folding has changed so far."""

    inputs: list[Value] = field(default_factory=list)
    calls: dict[Call, int] = field(default_factory=dict)  # numbered in topological order
    # Name, reason and kind of the affine layers inside other layers, which are always kept.
    hidden: dict[int, tuple[str, str, Kind]] = field(default_factory=dict)
    # The name of a BN layer that trains in one call, so that the order of the calls matters.
    changing: str | None = None
    # The `training` flag of each node that gets it from the call before it, which folding may drop.
    training: dict[int, bool | None] = field(default_factory=dict)
    edits: dict[int, list[Edit]] = field(default_factory=lambda: defaultdict(list))  # by layer
    clips: dict[int, Clip] = field(default_factory=dict)  # what activations became, by node
    dropped: dict[int, list[Call]] = field(default_factory=dict)  # removed calls, by layer
    _numbers: Iterator[int] = field(default_factory=count)
    _by_layer: dict[int, list[Call]] = field(default_factory=lambda: defaultdict(list))
    _by_node: dict[int, list[Call]] = field(default_factory=lambda: defaultdict(list))

    def calls_of(self, layer: Layer) -> list[Call]:
        """Return every call of a layer."""
        return self._by_layer[id(layer)]

    def calls_at(self, node: object) -> list[Call]:
        """Return every call that comes from one place in the model."""
        return self._by_node[id(node)]

    def affine_of(self, call: Call) -> Affine:
        """Return the map of an affine layer, with what was merged into it."""
        a = call.affine()
        for edit in self.edits.get(id(call.layer), []):
            a = edit.merge(a)
        return call.lift(a)

    def clip_of(self, call: Call) -> Clip | None:
        """Return the clip that an activation is, or became."""
        return self.clips.get(id(call.node)) or call.clip()

    def add(self, call: Call) -> None:
        """Append a call, and register it with its inputs."""
        for value in call.inputs:
            value.readers[call] = None
        self.calls[call] = next(self._numbers)
        self._by_layer[id(call.layer)].append(call)
        self._by_node[id(call.node)].append(call)

    def drop(self, layer: Layer) -> None:
        """Remove a layer with one input and one output. What reads it reads its input instead."""
        self.dropped[id(layer)] = self._by_layer.pop(id(layer))
        self.edits.pop(id(layer), None)
        for call in self.dropped[id(layer)]:
            (source, *_), (gone,) = call.inputs, call.outputs
            for value in call.inputs:
                value.readers.pop(call, None)
            for reader in gone.readers:
                reader.inputs = [source if value is gone else value for value in reader.inputs]
                source.readers[reader] = None
            source.is_output |= gone.is_output
            del self.calls[call]
