"""The canonical form: one order and one set of names for the nodes of a model.

Nodes are named after their layers, values and constants after their nodes. Order and names follow
from the graph alone, so that equal models give equal bytes.
"""

import re
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir
from onnx.helper import find_min_ir_version_for, make_opsetid
from onnx_ir.passes import common

from kerasbn.folding.onnx.nodes import captured, subgraphs

# The key of a node's metadata that holds the path of its layer, until the canonical form.
LAYER = "kerasbn.layer"

# What Keras calls the operation that changes the type of a tensor.
_CAST = re.compile(r"(cast(_\d+)?)?")

# Operations that do not belong to the layer before them: they may be what is left of a BN layer.
_OWN = ("Cast", "Mul", "Div", "Add", "Sub", "BatchNormalization")

# Names of constants by the operation that reads them and the position of the input.
_LINEAR = {1: "weight", 2: "bias"}
_CELL = {1: "weight", 2: "recurrent_weight", 3: "bias"}
_ROLES = {
    "Gemm": _LINEAR, "MatMul": _LINEAR, "Einsum": _LINEAR, "Conv": _LINEAR,
    "ConvTranspose": _LINEAR, "LSTM": _CELL, "GRU": _CELL, "RNN": _CELL,
    "Max": {0: "lower", 1: "lower"}, "Min": {0: "upper", 1: "upper"},
    "Clip": {1: "lower", 2: "upper"},
    "LayerNormalization": _LINEAR, "Gather": {0: "weight"}, "PRelu": {1: "slope"},
    "Reshape": {1: "shape"},
}  # fmt: skip


def canonicalize(model: ir.Model) -> None:
    """Bring a model into its canonical form, and drop what is left of the converter.

    Expects what `sort_and_name` expects.
    """
    sort_and_name(model.graph)
    for node in model.graph.all_nodes():
        attributes = sorted(node.attributes.items())
        node.attributes.clear()
        node.attributes.update(attributes)
        for value in filter(None, (*node.inputs, *node.outputs)):
            value.metadata_props.clear()  # onnxscript notes here what a constant was made of
    common.ClearMetadataAndDocStringPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    model.producer_name, model.producer_version = "kerasbn", None
    # The lowest IR version that has these operations, so that older runtimes open the file.
    opsets = [make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    model.ir_version = find_min_ir_version_for(opsets, ignore_unknown=True)


def sort_and_name(graph: ir.Graph) -> None:
    """Bring nodes into the order, and nodes and values under the names, that the graph implies.

    Expects the names of inputs and outputs to be final, and the layer of each node in its metadata
    under `LAYER`.
    """
    sort(graph)
    taken = name_nodes(graph), name_values(graph)
    for node in graph:
        for key, subgraph in subgraphs(node).items():
            name_subgraph(subgraph, f"{node.name}/{key}", *taken)


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yield every value that a node needs: its inputs, and what its subgraphs take from outside."""
    yield from (value for value in node.inputs if value is not None)
    yield from captured(node)


def sort(graph: ir.Graph) -> None:
    """Order nodes depth first from the outputs, and those of subgraphs first of all.

    Every node comes after those it reads from, and its inputs are made in the order it has them.
    `Graph.sort` of onnx_ir keeps the given order where it can, and a converter's is by chance.
    """
    for node in graph:
        for subgraph in subgraphs(node).values():
            sort(subgraph)
    done: dict[ir.Node, None] = {}
    stack = [made for value in reversed(graph.outputs) if (made := value.producer())]
    while stack:
        producers = (value.producer() for value in reads(stack[-1]))
        before = [n for n in producers if n and n.graph is graph and n not in done]
        if before:
            stack.extend(reversed(before))
        else:
            done.setdefault(stack.pop())
    graph.remove(list(graph))
    graph.extend(done)


def name_nodes(graph: ir.Graph) -> set[str]:
    """Name each node after its layer, with the operation where a layer has several nodes.

    Returns the names, which no node of a subgraph may have, either.

    A Cast that belongs to no layer is named after what it casts and to which type, such as
    `image_to_float`; an Identity, after the output it makes.
    """
    paths = _paths(graph)
    given = {node: _purpose(node, paths) for node in graph}
    count = Counter(paths[node] for node in graph if not given[node])
    taken: set[str] = set()
    for node, path in paths.items():
        name = path if count[path] == 1 else f"{path}/{node.op_type}"
        node.name = free_name(given[node] or (name if path else node.op_type), taken)
    return taken


def _paths(graph: ir.Graph) -> dict[ir.Node, str]:
    """Return the path of the layer that each node belongs to.

    What a converter puts between layers, such as a change of layout, belongs to the layer it comes
    from, or goes to.
    """
    paths = {node: node.metadata_props.get(LAYER, "") for node in graph}
    for node in graph:
        before = (value.producer() for value in reads(node))
        if not paths[node] and node.op_type not in _OWN:
            path = next((paths[made] for made in before if made and paths[made]), "")
            both = node.attributes.get_string("direction", "") == "bidirectional"
            paths[node] = path.rpartition("/")[0] if both and "/" in path else path
    loose = {node for node, path in paths.items() if not path and node.op_type not in _OWN}
    for node in reversed(graph):
        for value in filter(None, node.inputs):
            made = value.producer()
            if made in loose and paths[node]:
                paths[made] = paths[node]  # in the end, that of the first of its readers
    return paths


def _purpose(node: ir.Node, paths: dict[ir.Node, str]) -> str:
    """Return what a node that belongs to no layer is for; "" for all others."""
    if node.op_type == "Identity":
        return str(node.outputs[0].name) if node.outputs[0].is_graph_output() else ""
    if node.op_type != "Cast" or not _CAST.fullmatch(paths[node].rpartition("/")[2]):
        return ""
    (value,) = reads(node)
    made = value.producer()
    source = paths[made] if made else str(value.name) if value.is_graph_input() else ""
    kind = ir.DataType(node.attributes["to"].as_int()).name.lower()
    return f"{source}_to_{kind}" if source else ""


def name_values(graph: ir.Graph) -> set[str]:
    """Name values and constants after their nodes; order constants by their first use.

    Returns the names, which no value of a subgraph may have, either.
    """
    constants = set(graph.initializers.values())
    graph.initializers.clear()
    ports = [*graph.inputs, *graph.outputs]
    taken = {str(value.name) for value in ports}
    for node in graph:
        for at, value in enumerate(node.outputs):
            if value not in ports:
                value.name = free_name(f"{node.name}:{at}" if at else str(node.name), taken)
                value.shape = value.type = None  # readers of the file infer them
        for at, value in enumerate(reads(node)):
            if value in constants and value.const_value is not None:
                constants.remove(value)
                roles = _ROLES.get(node.op_type, {})
                role = "bias" if _is_bias(node) else roles.get(at, f"constant_{at}")
                value.name = free_name(f"{node.name}.{role}", taken)
                value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
                graph.register_initializer(value)
                value.shape = value.type = None  # the tensor has both
    return taken


def _is_bias(node: ir.Node) -> bool:
    """Return whether a node adds a constant to a product that has no bias of its own."""
    made = node.inputs[0].producer() if node.op_type == "Add" and node.inputs[0] else None
    return made is not None and made.op_type in ("MatMul", "Einsum")


def name_subgraph(graph: ir.Graph, prefix: str, nodes: set[str], taken: set[str]) -> None:
    """Name what a subgraph makes after `prefix` and its position, by names that are not taken."""
    graph.name = prefix
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for at, value in enumerate(values):
        value.name = free_name(f"{prefix}/{at}", taken)
    for value in values:
        if value in graph.inputs or value in graph.outputs:
            if value.shape is not None:  # free axes are named after a converter's counter
                value.shape = ir.Shape([n if isinstance(n, int) else None for n in value.shape])
        else:
            value.shape = value.type = None
    for at, node in enumerate(graph):
        node.name = free_name(f"{prefix}/{node.op_type}_{at}", nodes)
        for key, inner in subgraphs(node).items():
            name_subgraph(inner, f"{node.name}/{key}", nodes, taken)


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number appended if it is taken, and add it to `taken`."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    taken.add(free)
    return free
