"""An ONNX graph as data: who makes a tensor, who reads it, and how to change that.

A thin layer over the messages of onnx. It exists because ``onnx.GraphProto`` is a bare list: to ask
it who reads a tensor is to search the whole of it. (onnx-ir answers these questions too, and brings
sympy for them.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kerasbn.inference.subgraphs import rename_outside, taken_from_outside

Array = NDArray[Any]
Shape = tuple[int | None, ...]

# Operations that are linear in their first input with constant weights: what a bias belongs to.
LINEAR = ("Gemm", "MatMul", "Conv", "ConvTranspose", "Einsum")

# Below this many elements a constant may be a shape, so shape inference is shown its values.
_SHAPE_SIZED = 64


@dataclass(eq=False)
class Node:
    """One operation; equal only to itself, so that nodes can be keys."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""

    @property
    def output(self) -> str:
        """The first output, the only one most operations have."""
        return self.outputs[0]

    def reads(self) -> Iterator[str]:
        """Every tensor it needs: its inputs, and what its subgraphs take from outside."""
        yield from (name for name in self.inputs if name)
        for value in self.attributes.values():
            if isinstance(value, onnx.GraphProto):
                yield from taken_from_outside(value)


@dataclass(frozen=True)
class Port:
    """An input or output of the graph: its public name, the tensor behind it, type and shape."""

    name: str
    tensor: str
    type: int
    shape: tuple[int | str | None, ...] | None


@dataclass
class Graph:
    """A graph open to change. Tensors are names; constants are arrays by name."""

    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[Port]
    outputs: list[Port]
    opset: int
    types: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    _producers: dict[str, Node] = field(default_factory=dict)
    _readers: dict[str, dict[Node, None]] = field(default_factory=dict)
    _made: int = 0

    def __post_init__(self) -> None:
        self._index()

    def _index(self) -> None:
        self._producers, self._readers = {}, {}
        for node in self.nodes:
            self._enter(node)

    def _enter(self, node: Node) -> None:
        self._producers |= dict.fromkeys(node.outputs, node)
        for name in node.reads():
            self._readers.setdefault(name, {})[node] = None

    def _leave(self, node: Node) -> None:
        for name in node.outputs:
            self._producers.pop(name, None)
        for name in node.reads():
            self._readers.get(name, {}).pop(node, None)

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor; None for an input or a constant."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor, each once."""
        return list(self._readers.get(tensor, {}))

    def is_output(self, tensor: str) -> bool:
        """Whether the graph gives this tensor out."""
        return any(port.tensor == tensor for port in self.outputs)

    def only_reader(self, tensor: str) -> Node | None:
        """The one node that reads a tensor, if nothing else does and it is no output."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and not self.is_output(tensor) else None

    def constant(self, tensor: str) -> Array | None:
        """The value of a constant, None for any other tensor."""
        return self.constants.get(tensor)

    def shape(self, tensor: str) -> Shape | None:
        """The shape as far as it is known, None in place of a free axis."""
        value = self.constants.get(tensor)
        return self.shapes.get(tensor) if value is None else value.shape

    def add_constant(self, value: Array) -> str:
        """A new constant's name."""
        self._made += 1
        name = f"constant {self._made}"
        self.constants[name] = value
        return name

    def change(self, node: Node, **changes: Any) -> None:  # noqa: ANN401 - a field of Node each
        """Give a node other inputs, attributes or another operation."""
        self._leave(node)
        for key, value in changes.items():
            setattr(node, key, value)
        self._enter(node)

    def insert_before(self, place: Node, node: Node) -> None:
        """Put a new node in front of another."""
        self.nodes.insert(self.nodes.index(place), node)
        self._enter(node)

    def remove(self, node: Node) -> None:
        """Take a node out; what it made must have no readers left."""
        self.nodes.remove(node)
        self._leave(node)

    def read_instead(self, old: str, new: str) -> None:
        """Let all who read `old`, the graph's outputs among them, read `new`."""
        for node in self.readers(old):
            self._leave(node)
            node.inputs = [new if name == old else name for name in node.inputs]
            for value in node.attributes.values():
                if isinstance(value, onnx.GraphProto):
                    rename_outside(value, {old: new})
            self._enter(node)
        self.outputs = [
            replace(port, tensor=new) if port.tensor == old else port for port in self.outputs
        ]

    def bypass(self, node: Node) -> None:
        """Take a node out of the way: who read its output reads its first input."""
        self.read_instead(node.output, node.inputs[0])
        self.remove(node)


def read_graph(model: onnx.ModelProto) -> Graph:
    """The graph of a model; Constant nodes become constants."""
    nodes = []
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for proto in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        if proto.op_type == "Constant" and isinstance(attributes.get("value"), TensorProto):
            constants[proto.output[0]] = numpy_helper.to_array(attributes["value"])
            continue
        nodes.append(
            Node(
                proto.op_type,
                list(proto.input),
                list(proto.output),
                attributes,
                proto.name,
                "" if proto.domain == "ai.onnx" else proto.domain,
            )
        )
    graph = Graph(
        nodes,
        constants,
        [_port(value) for value in model.graph.input if value.name not in constants],
        [_port(value) for value in model.graph.output],
        next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1),
    )
    infer_shapes(graph)
    return graph


def write_graph(graph: Graph, name: str, *, small: bool = False) -> onnx.ModelProto:
    """A model of the graph, with its nodes in the order they have.

    Args:
        graph: what to write.
        name: the name of the graph.
        small: whether large constants are written as inputs, by type and shape alone; all that
            shape inference needs.
    """
    constants = graph.constants
    if small:
        constants = {n: v for n, v in constants.items() if v.size <= _SHAPE_SIZED}
    ports = [_value(port.tensor, port.type, port.shape) for port in graph.inputs]
    ports += [
        _value(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in graph.constants.items()
        if n not in constants
    ]
    proto = helper.make_graph(
        [
            helper.make_node(
                n.op, n.inputs, n.outputs, name=n.name, domain=n.domain or None, **n.attributes
            )
            for n in graph.nodes
        ],
        name,
        ports,
        [_value(port.tensor, port.type, port.shape) for port in graph.outputs],
        [numpy_helper.from_array(value, n) for n, value in constants.items()],
    )
    # The lowest IR version that has this opset, so that older runtimes open the file.
    domains = sorted({node.domain for node in graph.nodes if node.domain})
    opsets = [
        helper.make_opsetid("", graph.opset),
        *(helper.make_opsetid(domain, 1) for domain in domains),
    ]
    ir_version = helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    return helper.make_model(
        proto, producer_name="kerasbn", opset_imports=opsets, ir_version=ir_version
    )


def infer_shapes(graph: Graph) -> None:
    """Set `types` and `shapes` of all tensors as far as onnx can tell them."""
    inferred = onnx.shape_inference.infer_shapes(
        write_graph(graph, "g", small=True), data_prop=True
    )
    found = [
        *map(_port, inferred.graph.value_info),
        *map(_port, inferred.graph.input),
        *map(_port, inferred.graph.output),
    ]
    graph.types = {port.tensor: port.type for port in found}
    graph.shapes = {
        port.tensor: tuple(axis if isinstance(axis, int) else None for axis in port.shape)
        for port in found
        if port.shape is not None
    }


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None
            for axis in tensor.shape.dim
        )
    return Port(value.name, value.name, tensor.elem_type, shape)


def _value(name: str, kind: int, shape: tuple[int | str | None, ...] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
