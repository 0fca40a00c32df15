"""Read an ONNX model as a graph of calls, one for each node that computes something from inputs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from kerasbn.folding.affine import Affine, CannotFold, Shape
from kerasbn.folding.clips import LARGEST, Clip
from kerasbn.folding.graph import Call, Graph, Value
from kerasbn.folding.linear import Edit
from kerasbn.folding.onnx import affine_nodes, linear_nodes
from kerasbn.folding.onnx.affine_nodes import kind_of
from kerasbn.folding.onnx.clips import CLIPS
from kerasbn.folding.onnx.constants import MOST_AXES, constant, is_constant
from kerasbn.folding.onnx.linear_nodes import LINEAR_NODES
from kerasbn.folding.onnx.nodes import NodeCall, captured, named_axes, plain, subgraphs
from kerasbn.folding.onnx.pass_through_nodes import PASS_THROUGH_NODES
from kerasbn.folding.pass_through import NamedShape, PassThrough

_LONGEST_AXIS = 2**24  # what a kernel moves along in a second


class _Call(NodeCall):
    def affine(self) -> Affine:
        try:
            self._check_shapes()
        except CannotFold as reason:
            raise CannotFold(f"it {reason}") from None
        return affine_nodes.affine_of(self)

    def clip(self) -> Clip | None:
        is_float = bool(self.inputs) and self.inputs[0].dtype in LARGEST
        law = CLIPS.get(self.type_name) if is_float else None
        return law(self) if law else None

    def check(self, edit: Edit) -> None:
        self._check_shapes()
        if self.kind:
            affine_nodes.check_merge(self, edit.affine)
        else:
            linear_nodes.check(self, edit)

    def forward(self, incoming: list[Affine]) -> Affine:
        return self._law().forward(incoming)

    def backward(self, outgoing: Affine) -> list[list[Affine]]:
        return self._law().backward(outgoing)

    def _law(self) -> PassThrough:
        if not self.is_pass_through:
            raise CannotFold("lets no map pass unchanged")
        self._check_shapes()
        return PASS_THROUGH_NODES[self.type_name].law(self)

    def _check_shapes(self) -> None:
        for value in (*(self.layer.inputs[slot] for slot in self.slots if slot >= 0), self.result):
            self.named_shape(value)


@dataclass(eq=False, kw_only=True)
class ConstantCall(Call):
    """A constant that a node reads as data, such as one part of a Concat. It takes any map."""

    layer: ir.Value
    data = foldable_inputs = ()  # type: ignore[assignment] # it has no inputs

    def affine(self) -> Affine:
        """A constant has no input to map."""
        raise CannotFold("is a constant")

    def clip(self) -> Clip | None:
        """A constant clips nothing."""
        return None

    def check(self, edit: Edit) -> None:
        """Any map can be folded into a constant."""

    def forward(self, _: list[Affine]) -> Affine:
        """A constant lets nothing pass."""
        raise CannotFold("is a constant")

    def backward(self, _: Affine) -> list[list[Affine]]:
        """A constant lets nothing pass."""
        raise CannotFold("is a constant")


def read_model(model: ir.Model) -> Graph:
    """Read a model. Its subgraphs and functions stay as they are. The model is not changed."""
    return _Reader(model).graph


class _Reader:
    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = Graph()
        self.shapes, self.dtypes = infer_shapes(model)
        self.values: dict[ir.Value, Value] = {}
        self.names = Counter(node.name for node in model.graph)
        self.graph.inputs = [self._value(value) for value in model.graph.inputs]
        taken: set[ir.Node] = set()
        for node in model.graph:
            self._note_hidden(node)
            if node not in taken and not all(map(is_constant, node.outputs)):
                offset = self._offset(node)
                taken |= {offset} if offset else set()
                for output in range(len(node.outputs) if node.op_type == "Split" else 1):
                    self._read(node, offset, output)

    def _read(self, node: ir.Node, offset: ir.Node | None, output: int) -> None:
        """Add the call of a node."""
        op = node.op_type if node.domain in ("", "ai.onnx") else ""
        kind, law = kind_of(node), PASS_THROUGH_NODES.get(op)
        free = [(slot, v) for slot, v in enumerate(node.inputs) if v and not is_constant(v)]
        several = kind is None and law is not None and law.several
        if several and (op not in ("Max", "Min") or len(node.inputs) > 2):
            free = [(slot, v) for slot, v in enumerate(node.inputs) if v]
        if op in ("Shape", "Size"):  # which depend on no values
            free = []
        free += [(-1, value) for value in captured(node)]
        slots, values = [slot for slot, _ in free], [self._value(value) for _, value in free]
        call = _Call(
            layer=node,
            name=self._name(node) + (f" + {self._name(offset)}" if offset and kind else ""),
            type_name=op or f"{node.domain}.{node.op_type}",
            node=node,
            kind=kind if slots[:1] != [-1] else None,
            is_linear=op in LINEAR_NODES and bool(slots) and slots[0] >= 0,
            is_pass_through=kind is None and law is not None and (several or slots[:1] == [0]),
            training=False,
            inputs=values,
            slots=slots,
            offset=offset,
            shapes=self.shapes,
            opset=self.model.opset_imports.get("", 1),
            several=several,
            output=output,
        )  # fmt: skip
        results = [call.result] if offset or op == "Split" else node.outputs
        call.outputs = [self._value(value, call) for value in results]
        self.graph.add(call)

    def _offset(self, node: ir.Node) -> ir.Node | None:
        """Return the Add behind a node that belongs to it: a bias, or the t behind a scale."""
        is_scale = kind_of(node) == "scaling" and node.op_type in ("Mul", "Div")
        is_product = (
            node.op_type in ("MatMul", "Einsum") and sum(map(is_constant, node.inputs)) == 1
        )
        product, uses = node.outputs[0], node.outputs[0].uses()
        if not (is_scale or is_product) or len(uses) != 1 or product.is_graph_output():
            return None
        ((reader, _),) = uses
        wanted = ("Add", "Sub") if is_scale else ("Add",)
        if reader.graph is not self.model.graph or reader.op_type not in wanted:
            return None
        if kind_of(reader) is None or product not in self.shapes:
            return None
        shape = self.shapes[product][::-1]
        added = next(constant(v) for v in reader.inputs if v and is_constant(v)).shape[::-1]
        is_same = len(added) <= len(shape) and all(
            n in (1, size) for n, size in zip(added, shape, strict=False)
        )
        return reader if is_same else None

    def _value(self, value: ir.Value, producer: Call | None = None) -> Value:
        """Return a tensor of the graph, made by a call; that of a constant makes its own."""
        if value not in self.values:
            example = plain(self.shapes.get(value, ()))
            made = Value(
                example, self.dtypes.get(value, ""), producer, is_output=value.is_graph_output()
            )
            self.values[value] = made
            if is_constant(value):
                made.producer = ConstantCall(
                    layer=value, name=str(value.name), type_name="constant", node=value,
                    kind=None, is_linear=True, is_pass_through=False, training=False,
                    inputs=[], outputs=[made],
                )  # fmt: skip
                self.graph.add(made.producer)
        return self.values[value]

    def _name(self, node: ir.Node) -> str:
        """Return the name of a node, or that of its output where it has none of its own."""
        own = node.name if self.names[node.name] == 1 else None
        return own or str(node.outputs[0].name)

    def _note_hidden(self, node: ir.Node) -> None:
        """Note the affine nodes inside subgraphs and functions."""
        function = self.model.functions.get(node.op_identifier())
        inside = [*(function or ()), *(n for g in subgraphs(node).values() for n in g.all_nodes())]
        for inner in inside:
            if kind := kind_of(inner):
                reason = f"it is inside the {node.op_type} node `{self._name(node)}`"
                name = f"{self._name(node)}/{inner.name or inner.outputs[0].name}"
                self.graph.hidden.setdefault(id(inner), (name, reason, kind))


_Shapes = dict[ir.Value, NamedShape]


def infer_shapes(model: ir.Model) -> tuple[_Shapes, dict[ir.Value, str]]:
    """Return the shapes of tensors, where the rank is known, and their dtypes."""
    copy = model.clone()
    for value in _all_values(copy.graph):
        if value.shape is not None:
            value.shape = ir.Shape(named_axes(value.shape))
    for node in copy.graph:
        if node.op_type == "GroupNormalization":  # onnx infers no shape of it
            node.op_type = "Identity"
            node.attributes.clear()
            node.resize_inputs(1)
    infer = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
    infer(copy)
    while _settle_ranks(copy):
        infer(copy)
    shapes: _Shapes = {}
    dtypes = {}
    for old, new in zip(_all_values(model.graph), _all_values(copy.graph), strict=True):
        tensor = old.const_value
        shape = new.shape if tensor is None else tensor.shape
        dtype = new.dtype if tensor is None else tensor.dtype
        # No array has another shape, whatever a damaged file says.
        if shape is not None and (tensor is not None or _is_possible(plain(named_axes(shape)))):
            shapes[old] = named_axes(shape)
        if dtype is not None and isinstance(new.type, ir.TensorType | None):
            dtypes[old] = _DTYPES.get(dtype, dtype.name.lower())
    return shapes, dtypes


def _is_possible(shape: Shape) -> bool:
    return len(shape) <= MOST_AXES and all(n is None or n <= _LONGEST_AXIS for n in shape)


def _settle_ranks(model: ir.Model) -> bool:
    """Give the results of reshaping to an unknown shape its rank; return whether any is new."""
    settled = False
    for node in model.graph:
        if node.op_type != "Reshape" or len(node.inputs) < 2 or node.outputs[0].shape:
            continue
        given, target = node.inputs[:2]
        if given is None or target is None or target.shape is None or len(target.shape) != 1:
            continue
        rank = target.shape[0]
        if isinstance(rank, int) and given.type is not None:
            node.outputs[0].shape, node.outputs[0].type = ir.Shape([None] * rank), given.type
            settled = True
    return settled


_DTYPES = {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}


def _all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
