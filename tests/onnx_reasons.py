"""Whether the reasons that a plan gives for keeping affine ONNX nodes are true.

What a reason says of the graph, such as another reader, is looked up in the graph. Where the reason
is that a kernel can take no map, the best kernel is fitted by least squares, and must not fit.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from kerasbn.folding.onnx.constants import constant, is_constant
from kerasbn.folding.onnx.evaluate import CannotEvaluate, as_double, run_nodes
from kerasbn.folding.onnx.nodes import captured
from kerasbn.folding.plan import Kept

Array = NDArray[Any]
KERNELS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
NAME = "first name"  # a node without a name is known by its output's, which folding may change
EXAMPLES = 24  # to fit a kernel to
MANY = 60  # weights of a kernel, too many to fit
FITTED = 1e-7  # the relative misfit below which a kernel does what was said to be impossible


class Reasons:
    """Judges the reasons in the plan of one folded model, given the values of some tensors."""

    def __init__(self, model: ir.Model, folded: ir.Model, values: dict[str, Array]) -> None:
        self.model = folded
        self.values = values
        # By then, a Div may have become a Mul.
        self.operations = {str(v.name): n.op_type for n in model.graph for v in n.outputs}
        self.operations |= {str(n.name): n.op_type for n in model.graph if n.name}
        self.tensors = {str(v.name): v for n in folded.graph for v in n.outputs}
        self.made = {n.metadata_props[NAME]: [str(v.name) for v in n.outputs] for n in model.graph}
        self.nodes = {n.metadata_props[NAME]: n for n in folded.graph if NAME in n.metadata_props}
        self.nodes |= {str(v.name): node for node in folded.graph for v in node.outputs}
        self.nodes |= {str(node.name): node for node in folded.graph if node.name}

    def judge(self, kept: Kept) -> dict[str, bool | None]:
        """Whether each clause of a reason is true; None where that is not shown."""
        names = kept.layer.split(" + ")
        first, last = self.nodes.get(names[0]), self.nodes.get(names[-1])
        if first is None or last is None:
            return {f"{kept.layer} is kept": False}
        return {
            clause: self._is_true(clause, first, last) for clause in kept.reason.split(", and ")
        }

    def _is_true(self, clause: str, first: ir.Node, last: ir.Node) -> bool | None:
        for pattern, check in _CLAUSES.items():
            if found := re.fullmatch(pattern, clause):
                return check(self, first, last, *found.groups())
        return None

    def node(self, name: str) -> ir.Node | None:
        return self.nodes.get(name.split(" + ")[0])

    def reads(self, name: str, value: ir.Value) -> bool:
        """Whether a node reads a tensor, perhaps by the Max of a clip or the product of a bias."""
        node = self.node(name)
        if node is None:
            return False
        is_last = node.op_type in ("Min", "Add")
        ahead = [v.producer() for v in node.inputs if v and is_last]
        read = [v for each in (node, *ahead) if each for v in (*each.inputs, *captured(each))]
        return value in read


def data_of(node: ir.Node) -> ir.Value:
    """The input that is not constant."""
    return next(value for value in node.inputs if value is not None and not is_constant(value))


def _shared(self: Reasons, first: ir.Node, _: ir.Node, other: str) -> bool | None:
    value = data_of(first)
    if self.reads(other, value) and self.node(other) is not first:
        return True
    # Another node with the same map would have to go too, and its input is the one.
    return None if len(value.uses()) > 1 else False


def _output(_self: Reasons, _: ir.Node, last: ir.Node) -> bool | None:
    return last.outputs[0].is_graph_output()


def _named_output(self: Reasons, _first: ir.Node, _last: ir.Node, name: str) -> bool | None:
    # Of a Mul and an Add in one, the output is that of the Add.
    node = self.nodes.get(name.split(" + ")[-1])
    return node is not None and any(value.is_graph_output() for value in node.outputs)


def _input_is_output(_self: Reasons, first: ir.Node, _: ir.Node) -> bool | None:
    return data_of(first).is_graph_output() or None


def _read_elsewhere(
    self: Reasons, _first: ir.Node, _last: ir.Node, maker: str, other: str
) -> bool | None:
    names = [name for each in maker.split(" + ") for name in self.made.get(each, [each])]
    made = [self.tensors[name] for name in names if name in self.tensors]
    # The Add behind a product may belong to it.
    made += [
        v for each in made for node, _ in each.uses() if node.op_type == "Add" for v in node.outputs
    ]
    return any(self.reads(other, value) for value in made)


def _operation(self: Reasons, _first: ir.Node, _last: ir.Node, name: str, op: str) -> bool | None:
    return self.operations.get(name.split(" + ")[0]) == op


def _expands(self: Reasons, first: ir.Node, _last: ir.Node) -> bool | None:
    before, after = (self.values.get(str(v.name)) for v in (data_of(first), first.outputs[0]))
    if before is None or after is None:
        return None
    # If they are alike, a constant differs between examples, and would broadcast a single one.
    return before.shape != after.shape or None


def _no_kernel(
    self: Reasons, first: ir.Node, last: ir.Node, name: str, side: str, clause: str
) -> bool | None:
    """Whether no kernel and bias of the node do what it does with the affine node."""
    node = self.node(name)
    if node is None or node.op_type not in KERNELS:
        return None
    affine = list(dict.fromkeys([first, last]))
    if side == "before":
        order = [node, *affine]
        adjacent = data_of(first) is node.outputs[0]
        source, result = data_of(node), last.outputs[0]
    else:
        order = [*affine, node]
        adjacent = data_of(node) is last.outputs[0]
        source, result = data_of(first), node.outputs[0]
    given = self.values.get(str(source.name))
    if not adjacent or given is None:
        return None
    made = self.values.get(str(result.name))
    if node.op_type == "Conv" and made is not None and made[0, 0].size == 1:
        return None  # a kernel that sees all positions at once can scale each of them
    if node.op_type == "ConvTranspose" and (
        given[0, 0].size == 1 or any(node.attributes.get_ints("pads", ()))
    ):
        return None  # one position, or what the padding leaves, may have taps of its own
    if "pads" in clause and not any(node.attributes.get_ints("pads", ())[: given.ndim - 2]):
        return None  # padding behind a tensor is not always read
    shape = (EXAMPLES, *given.shape[1:])
    misfit = _misfit(self.model, order, node, source, result, shape)
    return None if misfit is None else misfit > FITTED


def _misfit(
    model: ir.Model, order: list[ir.Node], node: ir.Node, source: ir.Value, result: ir.Value,
    shape: tuple[int, ...],
) -> float | None:  # fmt: skip
    """The relative misfit of the best kernel and bias, on random input; None if there are many."""
    random = np.random.default_rng(0)
    x = random.normal(size=shape)
    opsets = model.opset_imports
    constants = {
        str(v.name): as_double(constant(v)) for n in order for v in n.inputs if v and is_constant(v)
    }
    protos = [ir.to_proto(n) for n in order]
    try:
        known = {str(source.name): x, **constants}
        want = run_nodes(protos, known, [str(result.name)], opsets)[str(result.name)]
        kernels = [v for v in node.inputs if v is not None and is_constant(v)]
        columns = []
        for kernel in kernels:
            array = constants[str(kernel.name)]
            if array.size > MANY or not array.any():  # after s = 0, any kernel does
                return None
            for place in range(array.size):
                unit = np.zeros(array.size)
                unit[place] = 1
                changed = {str(v.name): np.zeros_like(constants[str(v.name)]) for v in kernels}
                changed[str(kernel.name)] = unit.reshape(array.shape)
                feeds = {str(data_of(node).name): x, **changed}
                name = str(node.outputs[0].name)
                columns.append(run_nodes([ir.to_proto(node)], feeds, [name], opsets)[name])
    except CannotEvaluate:
        return None
    if any(column.shape != want.shape for column in columns):
        return np.inf
    columns += _biases(want.shape, node.op_type)
    matrix = np.stack([column.ravel() for column in columns], 1)
    if len(matrix) < 2 * matrix.shape[1]:  # almost any kernel would do
        return None
    values = want.ravel()
    solution = np.linalg.lstsq(matrix, values, rcond=None)[0]
    return float(np.abs(matrix @ solution - values).max() / (np.abs(values).max() or 1.0))


def _biases(shape: tuple[int, ...], op: str) -> list[Array]:
    """What each value of a bias adds: per channel, or along the last axis of a product."""
    axis = 1 if op.startswith("Conv") else len(shape) - 1
    made = []
    for place in range(shape[axis]):
        bias = np.zeros(shape)
        np.moveaxis(bias, axis, 0)[place] = 1
        made.append(bias)
    return made


_CLAUSES: dict[str, Callable[..., bool | None]] = {
    "its input is also read by `(.*)`": _shared,
    "its output is a model output": _output,
    "its input is also a model output": _input_is_output,
    "the output of `(.*)` is a model output": _named_output,
    "the output of `(.*)` is also read by `(.*)`": _read_elsewhere,
    "`(.*)` (?:before|after) it is an? (.*), which no map folds into": _operation,
    "its constant broadcasts its input to another shape": _expands,
    "`(.*)` (before|after) it (shares its kernel|pads its input|applies other|cannot fold).*":
        _no_kernel,
}  # fmt: skip
