"""The BN nodes and affine nodes that an ONNX file still has."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

Kind = Literal["BN layer", "scaling"]
KINDS: tuple[Kind, ...] = ("BN layer", "scaling")

# Operations that are linear in their first input with constant weights: those that have a bias.
_LINEAR = ("Gemm", "MatMul", "Conv", "ConvTranspose", "Einsum")
_AFFINE = ("Mul", "Div", "Add", "Sub")
# What may stand between the Mul and the Add of one BN layer, or before the bias of a linear layer.
_LAYOUT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Identity")
_RECURRENT = ("LSTM", "GRU", "RNN", "Loop", "Scan", "Gather")


@dataclass(frozen=True)
class Remaining:
    """A BN layer or scaling that is still a step of its own: one node, or several in a row.

    Attributes:
        kind: `BN layer`, or `scaling` where nothing before it has weights.
        nodes: the names of its nodes.
    """

    kind: Kind
    nodes: tuple[str, ...]


def remaining_nodes(
    model: onnx.ModelProto | ir.Model, scalings: Collection[str] | None = None
) -> tuple[Remaining, ...]:
    """Find every BatchNormalization node, and every affine node with constants per channel.

    An affine node is a Mul, Div, Add or Sub with a constant that varies along one axis at most;
    several in a row are one affine map. An Add right behind a linear layer without another bias is
    that layer's bias. Before the first layer with weights a constant for all channels counts too. A
    layer that normalizes by the mean over the batch axis is a BN layer as well.
    Nodes of a layer that computes statistics of each example, or that is an activation, belong to
    that layer, such as the gamma of a LayerNormalization or the slope of a PReLU.

    Args:
        model: the model in an ONNX file.
        scalings: the layers that are scalings; None to take each affine node ahead of the first
            weights for one.
    """
    graph = (model if isinstance(model, ir.Model) else ir.from_proto(model)).graph
    return tuple(_Search(graph).found(scalings))


def count_remaining(found: Collection[Remaining]) -> str:
    """Return the counts in words, such as "2 BN layers and 1 scaling", or "nothing"."""
    counts = Counter(each.kind for each in found)
    said = [f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in KINDS if counts[kind]]
    return " and ".join(said) or "nothing"


class _Search:
    """A graph with what there is to know of it as a whole."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        # Layers with other nodes than affine ones and changes of layout and type.
        plain = (*_AFFINE, *_LAYOUT, "BatchNormalization", *_LINEAR)
        self.mixed = {_layer(node) for node in graph if node.op_type not in plain} - {""}
        # Layers that normalize by statistics of the batch.
        self.live = {_layer(node) for node in graph if _is_over_batch(node)}
        self.live &= {_layer(node) for node in graph if node.op_type == "Sqrt"} - {""}
        # Values that depend on weights or statistics.
        self.weighted: set[ir.Value] = set()
        for node in graph:
            weighted = node.op_type in (*_LINEAR, *_RECURRENT, "BatchNormalization")
            if weighted or self.weighted.intersection(node.inputs):
                self.weighted.update(node.outputs)

    def found(self, scalings: Collection[str] | None) -> Iterator[Remaining]:
        taken: set[ir.Node] = set()
        for node in self.graph:
            if _layer(node) in self.live and node not in taken:
                nodes = [each for each in self.graph if _layer(each) == _layer(node)]
                taken.update(nodes)
                yield Remaining("BN layer", tuple(str(each.name) for each in nodes))
            if node in taken:
                continue
            early = _source(node) not in self.weighted
            if node.op_type == "BatchNormalization":
                chain = [node]
            elif self.is_affine(node, scalars=early):
                chain = list(self.chain(node, scalars=early))
            else:
                continue
            taken.update(chain)
            if scalings is None:
                scaling = early and node.op_type != "BatchNormalization"
            else:
                scaling = bool({node.name, _layer(node)}.intersection(scalings))
            names = tuple(link.name or str(link.outputs[0].name) for link in chain)
            yield Remaining("scaling" if scaling else "BN layer", names)

    def chain(self, first: ir.Node, *, scalars: bool) -> Iterator[ir.Node]:
        """Yield the affine nodes in a row from `first` on."""
        node: ir.Node | None = first
        while node is not None and self.is_affine(node, scalars=scalars):
            yield node
            node = _only_reader(node)
            while node is not None and node.op_type in _LAYOUT:
                node = _only_reader(node)

    def is_affine(self, node: ir.Node, *, scalars: bool) -> bool:
        if node.op_type not in _AFFINE or _layer(node) in self.mixed:
            return False
        value = _constant(node)
        if value is None or (value.size == 1 and not scalars):
            return False
        if sum(size > 1 for size in value.shape) > 1:
            return False
        return not (node.op_type == "Add" and _is_own_bias(node))


def _layer(node: ir.Node) -> str:
    """Return the layer a node belongs to by its name: what stands before the last slash."""
    return (node.name or "").rpartition("/")[0]


def _is_over_batch(node: ir.Node) -> bool:
    """Return whether a node is a mean over the batch axis."""
    if node.op_type != "ReduceMean":
        return False
    axes = node.attributes.get_ints("axes") or _array(next(iter(node.inputs[1:]), None))
    return axes is not None and 0 in [int(axis) for axis in axes]


def _array(value: ir.Value | None) -> NDArray[Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def _constant(node: ir.Node) -> NDArray[Any] | None:
    """Return the constant that an affine node reads beside its one variable input."""
    values = [_array(value) for value in node.inputs]
    if node.op_type == "Div" and values[0] is not None:  # 1/x is not affine
        return None
    known = [value for value in values if value is not None]
    return known[0] if len(known) == 1 else None


def _source(node: ir.Node) -> ir.Value | None:
    """Return the first input of a node that is not a constant."""
    return next((value for value in node.inputs if _array(value) is None), None)


def _only_reader(node: ir.Node) -> ir.Node | None:
    """Return the node that reads the output of another, if it is the only one and no output."""
    value = node.outputs[0]
    readers = value.consumers()
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _is_own_bias(add: ir.Node) -> bool:
    """Return whether an Add is the bias of the linear layer right before it."""
    value = _source(add)
    made = None if value is None else value.producer()
    while made is not None and made.op_type in _LAYOUT and made.inputs[0] is not None:
        made = made.inputs[0].producer()
    if made is None or made.op_type not in _LINEAR:
        return False
    return sum(value is not None for value in made.inputs) < 3
