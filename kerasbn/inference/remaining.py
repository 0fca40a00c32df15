"""The normalizations and scalings that an ONNX graph still has, each named."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from kerasbn.inference.onnx_graph import LINEAR, Array, Graph, Node

Kind = Literal["normalization", "scaling"]
KINDS: tuple[Kind, ...] = ("normalization", "scaling")

_AFFINE = ("Mul", "Div", "Add", "Sub")
# What may stand between the Mul and the Add of one normalization, or before a linear layer's bias.
_LAYOUT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Identity")
_RECURRENT = ("LSTM", "GRU", "RNN", "Loop", "Scan", "Gather")


@dataclass(frozen=True)
class Residual:
    """An affine map that is still a step of its own.

    Attributes:
        kind: `normalization`, or `scaling` where nothing before it has weights.
        nodes: the names of its nodes.
    """

    kind: Kind
    nodes: tuple[str, ...]


def residuals(graph: Graph, scalings: Collection[str] | None = None) -> tuple[Residual, ...]:
    """Every BatchNormalization node, and every affine map per channel by constants.

    That is a Mul, Div, Add or Sub by a constant that varies along one axis at most; several in a
    row are one map. An Add right behind a linear layer that has no other bias is that layer's bias.
    Before the first layer with weights a constant for all channels counts too, and there it is a
    scaling, unless `scalings` names the layers that are. Nodes of a layer that computes statistics
    of each sample, or that is an activation, are that layer's own: a LayerNormalization's gamma, a
    PReLU's slope.
    """
    mixed = _mixed_layers(graph)
    behind_weights = _behind_weights(graph)
    found: list[Residual] = []
    taken: set[Node] = set()
    for node in graph.nodes:
        if node in taken:
            continue
        if node.op == "BatchNormalization":
            chain = [node]
        elif _is_affine(graph, node, mixed, scalars=node.inputs[0] not in behind_weights):
            chain = _chain(graph, node, mixed, scalars=_source(graph, node) not in behind_weights)
        else:
            continue
        taken.update(chain)
        named = tuple(link.name or link.output for link in chain)
        if scalings is not None:
            scaling = bool({node.name, layer(node)}.intersection(scalings))
        else:
            early = _source(graph, node) not in behind_weights
            scaling = early and node.op != "BatchNormalization"
        found.append(Residual("scaling" if scaling else "normalization", named))
    return tuple(found)


def _chain(graph: Graph, first: Node, mixed: set[str], *, scalars: bool) -> list[Node]:
    """The affine nodes in a row that begin with `first`."""
    chain, last = [first], first
    while True:
        after = graph.only_reader(last.output)
        while after is not None and after.op in _LAYOUT and graph.only_reader(after.output):
            after = graph.only_reader(after.output)
        if after is None or after in chain or not _is_affine(graph, after, mixed, scalars=scalars):
            return chain
        chain.append(after)
        last = after


def _is_affine(graph: Graph, node: Node, mixed: set[str], *, scalars: bool) -> bool:
    if node.op not in _AFFINE or layer(node) in mixed:
        return False
    value = _constant(graph, node)
    if value is None or (value.size == 1 and not scalars):
        return False
    if sum(size > 1 for size in value.shape) > 1:
        return False
    return not (node.op == "Add" and _is_own_bias(graph, node))


def _constant(graph: Graph, node: Node) -> Array | None:
    """The constant that an affine node reads beside its one variable input."""
    values = [graph.constant(name) for name in node.inputs]
    if node.op == "Div" and values[0] is not None:  # 1/x is not affine
        return None
    known = [value for value in values if value is not None]
    return known[0] if len(known) == 1 else None


def _source(graph: Graph, node: Node) -> str:
    """The variable input of an affine node."""
    return next((name for name in node.inputs if name not in graph.constants), node.inputs[0])


def _is_own_bias(graph: Graph, add: Node) -> bool:
    """Whether an Add is the bias of the linear layer right before it."""
    made = graph.producer(_source(graph, add))
    while made is not None and made.op in _LAYOUT:
        made = graph.producer(made.inputs[0])
    return made is not None and made.op in LINEAR and len([n for n in made.inputs if n]) < 3


def _behind_weights(graph: Graph) -> set[str]:
    """The tensors that something with weights, or with statistics, is a part of."""
    found: set[str] = set()
    for node in graph.nodes:
        weighted = node.op in (*LINEAR, *_RECURRENT, "BatchNormalization")
        if weighted or found.intersection(node.reads()):
            found.update(node.outputs)
    return found


def layer(node: Node) -> str:
    """The layer a node belongs to by its name: what stands before the last slash."""
    return node.name.rpartition("/")[0]


def _mixed_layers(graph: Graph) -> set[str]:
    """The layers that have other nodes than affine ones and changes of layout and type."""
    plain = (*_AFFINE, *_LAYOUT, "BatchNormalization", *LINEAR)
    return {layer(node) for node in graph.nodes if node.op not in plain} - {""}
