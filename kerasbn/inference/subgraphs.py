"""The graphs within a graph, such as a Loop's body: what they take from outside, and their form."""

from collections.abc import Iterator

import onnx
from onnx import helper


def taken_from_outside(graph: onnx.GraphProto) -> Iterator[str]:
    """The tensors a subgraph reads that it does not make itself."""
    own = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    for node in graph.node:
        for name in node.input:
            if name and name not in own:
                yield name
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from (n for n in taken_from_outside(attribute.g) if n not in own)
        own |= set(node.output)
    yield from (port.name for port in graph.output if port.name not in own)


def rename_outside(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename, within a subgraph, the tensors it takes from outside."""
    outside = set(taken_from_outside(graph))
    _rename(graph, {old: new for old, new in names.items() if old in outside})


def rename_inside(graph: onnx.GraphProto, prefix: str) -> None:
    """Bring a subgraph into its one form: what it makes is named after `prefix` and its place."""
    graph.name = prefix
    graph.doc_string = ""
    _drop_idle_inside(graph)
    _order_inside(graph)
    made = [*graph.input, *graph.initializer]
    for port in (*graph.input, *graph.output):
        for axis in port.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")  # a converter's counter
    own = [tensor.name for tensor in made] + [out for node in graph.node for out in node.output]
    for at, node in enumerate(graph.node):
        node.name = f"{prefix}/{node.op_type}_{at}"
        node.doc_string = ""
        if not node.domain:
            node.ClearField("domain")  # set to nothing or not set: the same, in other bytes
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename_inside(attribute.g, f"{node.name}/{attribute.name}")
    names = {old: f"{prefix}/{at}" for at, old in enumerate(dict.fromkeys(filter(None, own)))}
    for tensor in made:
        tensor.name = names[tensor.name]
    for node in graph.node:
        for at, name in enumerate(node.output):
            node.output[at] = names.get(name, name)
    del graph.value_info[:]
    _rename(graph, names)


def _drop_idle_inside(graph: onnx.GraphProto) -> None:
    """Drop each Identity of a subgraph, but where an output would be no node's own."""
    made = {out for node in graph.node if node.op_type != "Identity" for out in node.output}
    same: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Identity":
            source = same.get(node.input[0], node.input[0])
            if source in made:
                same[node.output[0]] = source
    kept = [node for node in graph.node if node.output[0] not in same]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    _rename(graph, same)
    given: set[str] = set()
    for at, port in enumerate(graph.output):
        if port.name in given:
            name = f"{port.name} again {at}"
            graph.node.append(helper.make_node("Identity", [port.name], [name]))
            port.name = name
        given.add(port.name)


def _order_inside(graph: onnx.GraphProto) -> None:
    """Put a subgraph's nodes in the order that its outputs ask for them, and drop the unused."""
    makers = {out: at for at, node in enumerate(graph.node) for out in node.output}
    done: dict[int, None] = {}
    stack = [makers[port.name] for port in reversed(graph.output) if port.name in makers]
    while stack:
        node = graph.node[stack[-1]]
        reads = list(node.input)
        for attribute in node.attribute:
            reads += taken_from_outside(attribute.g)
        before = [makers[name] for name in reads if name in makers and makers[name] not in done]
        if before:
            stack.extend(reversed(before))
        else:
            done.setdefault(stack.pop())
    nodes = [onnx.NodeProto.FromString(graph.node[at].SerializeToString()) for at in done]
    used = dict.fromkeys(name for node in nodes for name in node.input)
    values = {tensor.name: tensor for tensor in graph.initializer}
    initializers = [
        onnx.TensorProto.FromString(values[name].SerializeToString())
        for name in (*used, *(port.name for port in graph.output if port.name not in used))
        if name in values
    ]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename tensors where a subgraph, or one within it, reads them or gives them out."""
    if not names:
        return
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename_outside(attribute.g, names)
    for port in graph.output:
        port.name = names.get(port.name, port.name)
