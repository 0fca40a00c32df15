"""What the tables of operations know of a node: its attributes, constants and shapes."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from kerasbn.folding.affine import CannotFold, Shape
from kerasbn.folding.graph import Call, Value
from kerasbn.folding.onnx.constants import Array, constant, is_constant
from kerasbn.folding.pass_through import NamedShape


@dataclass(eq=False, kw_only=True)
class NodeCall(Call):
    """One node. Every node has weights of its own, so it is its own layer.

    `slots` has the place of each input among the node's, -1 for what a subgraph reads. `offset` is
    an Add behind the node that belongs to it: the bias of a MatMul, or the t behind a Mul. `shapes`
    has what is known of the shapes of values, with names for axes of unknown length. `several` says
    whether all inputs are data, as those of a Concat.
    """

    layer: ir.Node
    slots: list[int]
    offset: ir.Node | None
    shapes: dict[ir.Value, NamedShape]
    opset: int
    several: bool
    output: int  # the place of the output, since each output of a Split is a call of its own

    @property
    def data(self) -> list[Value]:
        """All inputs of a node of several, of others the first that is not constant."""
        if self.several:
            return self.inputs
        pairs = zip(self.inputs, self.slots, strict=True)
        return [value for value, slot in pairs if slot == self.slots[0]]

    @property
    def foldable_inputs(self) -> list[tuple[str, Value]]:
        """The same, which the kernel multiplies."""
        return [("", value) for value in self.data]

    @property
    def result(self) -> ir.Value:
        """The output, behind the `offset` if there is one."""
        return (self.offset or self.layer).outputs[self.output]

    def input(self, slot: int) -> ir.Value | None:
        """Return an input of the node, None if it is left out."""
        return self.layer.inputs[slot] if len(self.layer.inputs) > slot else None

    def constant(self, slot: int, what: str) -> Array | None:
        """Return a constant input, None if it is left out. Raises `CannotFold`."""
        value = self.input(slot)
        if value is None:
            return None
        if not is_constant(value):
            raise CannotFold(f"has {what} {_why_not_constant(value)}")
        return constant(value)

    def named_shape(self, value: ir.Value | None) -> NamedShape:
        """Return the shape of an input or output. Raises `CannotFold` if its rank is unknown."""
        if value not in self.shapes:
            raise CannotFold("has an input or output of unknown rank")
        return self.shapes[value]

    def shape(self, value: ir.Value | None) -> Shape:
        """Return the shape of an input or output. Raises `CannotFold` if its rank is unknown."""
        return plain(self.named_shape(value))

    def axes(self, name: str, slot: int, rank: int) -> list[int] | None:
        """Return axes from 0 on, from an attribute or constant input; None if there are none."""
        axes = self.integers(name, slot)
        return None if axes is None else [axis % rank for axis in axes]

    def integers(self, name: str, slot: int) -> list[int] | None:
        """Return integers that are an attribute or, in newer opsets, a constant input.

        None if there are none. Raises `CannotFold` if they are an input that is not constant.
        """
        if name in self.layer.attributes:
            return list(self.layer.attributes[name].as_ints())
        array = self.constant(slot, f"an input `{name}`")
        return None if array is None else array.ravel().tolist()


def named_axes(shape: ir.Shape | ir.ShapeProtocol | None) -> NamedShape:
    """Return the lengths of axes, or their names; PaddlePaddle writes -1 for unknown ones."""
    lengths = [n if isinstance(n, int) else n.value for n in shape or ()]
    return tuple(None if isinstance(n, int) and n < 0 else n for n in lengths)


def plain(shape: NamedShape) -> Shape:
    """Return a shape without the names of axes of unknown length."""
    return tuple(n if isinstance(n, int) else None for n in shape)


def subgraphs(node: ir.Node) -> dict[str, ir.Graph]:
    """Return the graphs that a node holds by attribute, such as the `body` of a Loop."""
    attributes = sorted(node.attributes.items())
    return {k: a.as_graph() for k, a in attributes if a.type == ir.AttributeType.GRAPH}


def captured(node: ir.Node) -> Iterator[ir.Value]:
    """Yield every value that the subgraphs of a node take from outside."""
    for graph in subgraphs(node).values():
        inside = {graph, *graph.subgraphs()}
        read = [value for inner in graph.all_nodes() for value in inner.inputs]
        for value in (*read, *graph.outputs):
            if value is not None and value.graph not in inside:
                yield value


def _why_not_constant(value: ir.Value) -> str:
    if value.is_graph_input() and value.is_initializer():
        return "that a model input may override"
    made = value.producer()
    if made is not None and made.op_type == "DequantizeLinear":
        return "that is quantized"
    return "that is not constant"
