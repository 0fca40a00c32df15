"""The canonical form: the one graph a network has as ONNX, whatever the converter's mood.

Inputs and outputs are named as the Keras model's; nodes after their layers, tensors and constants
after their nodes; one Gemm or Conv with its bias per linear layer; nothing that changes nothing.
Order and names follow from the graph alone, so the same network gives the same bytes.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import onnx

from kerasbn.inference.onnx_graph import Graph, Node, infer_shapes
from kerasbn.inference.subgraphs import rename_inside, rename_outside
from kerasbn.onnx_export import fuse, layout, products, simplify
from kerasbn.onnx_export.trace import layer_of

PASSES: tuple[Callable[[Graph], bool], ...] = (
    simplify.drop_idle,
    simplify.merge_casts,
    simplify.merge_transposes,
    simplify.fold_constants,
    simplify.merge_equal,
    simplify.drop_unused,
    fuse.flatten,
    products.einsum,
    fuse.gemm,
    products.bias_ahead_of_split,
    products.bias_behind_product,
    layout.unsqueeze_behind_transpose,
    layout.squeeze_ahead_of_transpose,
    layout.slice_of_transposed_convolution,
    layout.squeeze_ahead_of_convolution,
    layout.drop_squeeze_of_unsqueeze,
    layout.reduction_ahead_of_transpose,
    products.drop_zero_state,
    fuse.kernel_ahead_of_layout,
    fuse.bias,
    fuse.clip,
)

# What Keras calls the operation that changes a tensor's type.
_CAST = re.compile(r"(cast(_\d+)?)?")

# Operations that are no part of the layer before them.
_OWN = ("Cast", "Mul", "Div", "Add", "Sub", "BatchNormalization")

# The names constants have by the operation that reads them and the place they have there.
_ROLES = {
    ("Gemm", 1): "weight", ("Gemm", 2): "bias", ("MatMul", 1): "weight",
    ("Conv", 1): "weight", ("Conv", 2): "bias",
    ("ConvTranspose", 1): "weight", ("ConvTranspose", 2): "bias",
    ("Max", 0): "lower", ("Max", 1): "lower", ("Min", 0): "upper", ("Min", 1): "upper",
    ("Clip", 1): "lower", ("Clip", 2): "upper",
    ("Einsum", 1): "weight", ("LSTM", 1): "weight", ("LSTM", 2): "recurrent_weight",
    ("LSTM", 3): "bias", ("GRU", 1): "weight", ("GRU", 2): "recurrent_weight", ("GRU", 3): "bias",
    ("RNN", 1): "weight", ("RNN", 2): "recurrent_weight", ("RNN", 3): "bias",
    ("Gather", 0): "weight", ("PRelu", 1): "slope", ("Reshape", 1): "shape",
}  # fmt: skip


def canonical(graph: Graph, layers: set[str]) -> Graph:
    """Bring a converted graph into canonical form, in place, and return it.

    Args:
        graph: what `convert` gave.
        layers: the names of the model's layers, after which nodes are named.
    """
    simplify.order(graph)
    settle(graph)
    if simplify.settle_shapes(graph):
        infer_shapes(graph)
        settle(graph)
    simplify.order(graph)
    rename(graph, layers)
    infer_shapes(graph)
    return graph


def settle(graph: Graph) -> None:
    """Apply all passes until none changes anything."""
    while any([step(graph) for step in PASSES]):  # noqa: C419 - every pass has its turn
        infer_shapes(graph)


def rename(graph: Graph, layers: set[str]) -> None:
    """Name every node after its layer, and every tensor and constant after its node."""
    give_outputs_their_own(graph)
    names = node_names(graph, layers)
    tensors = {port.tensor: port.name for port in graph.inputs}
    tensors |= {port.tensor: port.name for port in graph.outputs}
    taken = set(tensors.values())
    for node, name in names.items():
        for at, output in enumerate(node.outputs):
            if output and output not in tensors:
                tensors[output] = _free(name if at == 0 else f"{name}:{at}", taken)
        for at, read in enumerate(node.reads()):
            if read in graph.constants and read not in tensors:
                role = "bias" if is_bias(graph, node) else _ROLES.get((node.op, at))
                role = role or f"constant_{at}"
                tensors[read] = _free(f"{name}.{role}", taken)
    for node, name in names.items():
        node.name = name
        node.inputs = [tensors.get(read, read) for read in node.inputs]
        node.outputs = [tensors.get(made, made) for made in node.outputs]
        for key, value in node.attributes.items():
            if isinstance(value, onnx.GraphProto):
                rename_outside(value, tensors)
                rename_inside(value, f"{name}/{key}")
    graph.constants = {
        tensors[name]: graph.constants[name] for name in tensors if name in graph.constants
    }
    graph.inputs = [replace(port, tensor=port.name) for port in graph.inputs]
    graph.outputs = [replace(port, tensor=port.name) for port in graph.outputs]
    graph.__post_init__()


def is_bias(graph: Graph, node: Node) -> bool:
    """Whether a node adds a constant to a product that has no bias of its own."""
    made = graph.producer(node.inputs[0]) if node.op == "Add" else None
    return made is not None and made.op in ("MatMul", "Einsum")


def give_outputs_their_own(graph: Graph) -> None:
    """Let every output be a tensor of its own, by an Identity where two would share one."""
    own = {port.tensor for port in graph.inputs} | set(graph.constants)
    outputs = []
    for port in graph.outputs:
        if port.tensor in own:
            made = Node("Identity", [port.tensor], [f"{port.name} of its own"], {}, f"/{port.name}")
            graph.nodes.append(made)
            port = replace(port, tensor=made.output)
        own.add(port.tensor)
        outputs.append(port)
    graph.outputs = outputs
    graph.__post_init__()


def node_names(graph: Graph, layers: set[str]) -> dict[Node, str]:
    """A name for each node: its layer's, with the operation where a layer has several nodes.

    A Cast that belongs to no layer is called after what it casts and to which type, such as
    `image_to_float`; an Identity, after the output it makes.
    """
    paths = _paths(graph, layers)
    given = {node: _purpose(graph, node, paths) for node in graph.nodes}
    count = Counter(paths[node] for node in graph.nodes if not given[node])
    taken: set[str] = set()
    names = {}
    for node, path in paths.items():
        name = path if path and count[path] == 1 else f"{path}/{node.op}" if path else node.op
        names[node] = _free(given[node] or name, taken)
    return names


def _purpose(graph: Graph, node: Node, paths: dict[Node, str]) -> str:
    """What a node is for that belongs to no layer; empty for all others."""
    if node.op == "Identity":
        return next((port.name for port in graph.outputs if port.tensor == node.output), "")
    if node.op != "Cast" or not _CAST.fullmatch(paths[node].rpartition("/")[2]):
        return ""
    made = graph.producer(node.inputs[0])
    ports = [port.name for port in graph.inputs if port.tensor == node.inputs[0]]
    source = paths[made] if made is not None else next(iter(ports), "")
    kind = onnx.TensorProto.DataType.Name(node.attributes["to"]).lower()
    return f"{source}_to_{kind}" if source else ""


def _paths(graph: Graph, layers: set[str]) -> dict[Node, str]:
    """The layer each node belongs to, as a path.

    It is told by the node's name, or else by those of the tensors at it. What a converter puts
    between layers, such as a change of layout, belongs to the layer it comes from, or goes to; not
    so what may be a normalization, which is to be seen.
    """
    paths = {node: _path(node, layers) for node in graph.nodes}
    for node in graph.nodes:
        before = (graph.producer(name) for name in node.reads())
        if not paths[node] and node.op not in _OWN:
            path = next((paths[made] for made in before if made and paths[made]), "")
            both = node.attributes.get("direction") in (b"bidirectional", "bidirectional")
            paths[node] = path.rpartition("/")[0] if both and "/" in path else path
    for node in reversed(graph.nodes):
        after = (reader for made in node.outputs for reader in graph.readers(made))
        if not paths[node] and node.op not in _OWN:
            paths[node] = next((paths[reader] for reader in after if paths[reader]), "")
    return paths


def _path(node: Node, layers: set[str]) -> str:
    known = (layer_of(name, layers)[0] for name in (node.name, *node.outputs, *node.inputs[1:]))
    return next(filter(None, known), "")


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken; taken from now on."""
    wanted, count = name, 2
    while name in taken:
        name, count = f"{wanted}_{count}", count + 1
    taken.add(name)
    return name
