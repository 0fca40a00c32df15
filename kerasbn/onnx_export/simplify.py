"""Passes that make any graph smaller and change no value: what a converter leaves behind.

A pass takes a graph, changes it in place and says whether it did.
"""

from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from kerasbn.inference.onnx_graph import Array, Graph, Node, Port, write_graph

# A constant that takes the place of a computation may not swell the file.
_LARGEST_FOLDED = 1 << 24


def drop_idle(graph: Graph) -> bool:
    """``y = x`` by any name: Identity; a Cast, Reshape, Transpose or Pad that changes nothing."""
    idle = [node for node in graph.nodes if _is_idle(graph, node)]
    for node in idle:
        graph.bypass(node)
    return bool(idle)


def _is_idle(graph: Graph, node: Node) -> bool:
    if node.op == "Identity":
        return True
    source = node.inputs[0] if node.inputs else ""
    if node.op == "Cast":
        return bool(graph.types.get(source) == node.attributes["to"])
    if node.op == "Transpose":
        order = node.attributes.get("perm")
        return order is not None and list(order) == sorted(order)
    if node.op == "Pad":
        widths = graph.constant(node.inputs[1])
        return widths is not None and not widths.any()
    if node.op == "Reshape":
        before, after = graph.shape(source), graph.shape(node.output)
        # With one free axis on each side in the same place, both are that of the same size.
        return before is not None and before == after and before.count(None) <= 1
    return False


def merge_casts(graph: Graph) -> bool:
    """Cast to b, then to c, is Cast to c where b holds every value of the first type exactly."""
    changed = False
    for node in graph.nodes:
        before = graph.producer(node.inputs[0]) if node.op == "Cast" else None
        if before is None or before.op != "Cast":
            continue
        narrow = graph.types.get(before.inputs[0])
        if narrow is None:
            continue
        wide = helper.tensor_dtype_to_np_dtype(before.attributes["to"])
        if np.can_cast(helper.tensor_dtype_to_np_dtype(narrow), wide, "safe"):
            graph.change(node, inputs=[before.inputs[0]])
            changed = True
    return changed


def merge_transposes(graph: Graph) -> bool:
    """Transpose after Transpose is one Transpose."""
    changed = False
    for node in graph.nodes:
        before = graph.producer(node.inputs[0]) if node.op == "Transpose" else None
        if before is None or before.op != "Transpose":
            continue
        first, second = before.attributes.get("perm"), node.attributes.get("perm")
        if first is None or second is None:
            continue
        order = [first[axis] for axis in second]
        graph.change(node, inputs=[before.inputs[0]], attributes={"perm": order})
        changed = True
    return changed


def fold_constants(graph: Graph) -> bool:
    """A node that reads nothing but constants is the constant it computes."""
    changed = False
    for node in list(graph.nodes):
        if not node.inputs or any(n and n not in graph.constants for n in node.reads()):
            continue
        if node.op.startswith("Random") or node.domain or len(node.outputs) != 1:
            continue
        value = _value_of(graph, node)
        if value.size <= max(_LARGEST_FOLDED, 1):
            graph.remove(node)
            graph.constants[node.output] = value
            changed = True
    return changed


def _value_of(graph: Graph, node: Node) -> Array:
    """What a node makes of constants, computed by onnx's own reference."""
    unknown = Port(node.output, node.output, graph.types.get(node.output, 0), None)
    values = {name: graph.constants[name] for name in node.reads()}
    alone = Graph([node], values, [], [unknown], graph.opset)
    model = write_graph(alone, "constant")
    outputs: Any = ReferenceEvaluator(model).run(None, {})
    return np.asarray(outputs[0])


def merge_equal(graph: Graph) -> bool:
    """Two nodes that compute the same of the same are one; so are two equal constants."""
    changed = False
    constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for name, value in list(graph.constants.items()):
        same = constants.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
        if same != name and graph.readers(name):
            graph.read_instead(name, same)
            changed = True
    nodes: dict[tuple[object, ...], Node] = {}
    for node in list(graph.nodes):
        if node.op.startswith("Random") or any(map(_is_graph, node.attributes.values())):
            continue
        attributes = tuple(sorted((k, repr(v)) for k, v in node.attributes.items()))
        key = (node.op, node.domain, tuple(node.inputs), len(node.outputs), attributes)
        same_node = nodes.setdefault(key, node)
        if same_node is not node:
            for old, new in zip(node.outputs, same_node.outputs, strict=True):
                graph.read_instead(old, new)
            graph.remove(node)
            changed = True
    return changed


def _is_graph(value: object) -> bool:
    return isinstance(value, onnx.GraphProto)


def drop_unused(graph: Graph) -> bool:
    """What leads to no output goes: nodes, and constants."""
    wanted = {port.tensor for port in graph.outputs}
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.reads())
    unused = [node for node in graph.nodes if not wanted.intersection(node.outputs)]
    for node in reversed(unused):
        graph.remove(node)
    constants = len(graph.constants)
    graph.constants = {n: value for n, value in graph.constants.items() if n in wanted}
    return bool(unused) or len(graph.constants) != constants


def settle_shapes(graph: Graph) -> bool:
    """Shapes that are computed as the network runs become constants where they are constant.

    tf2onnx writes a Reshape to ``[batch, 784]`` as Shape, Slice, Concat and Reshape. Such a shape
    depends on the sizes of the inputs alone, so it is measured: the graph runs on a few sizes, and
    what doesn't change is a constant; where one axis of a Reshape changes, that axis is -1.
    """
    computed = _computed_shapes(graph)
    reshapes = [n for n in graph.nodes if n.op == "Reshape" and n.inputs[1] in computed]
    others = sorted(
        {
            name
            for node in graph.nodes
            if node not in reshapes and node.op != "Shape" and node.output not in computed
            for name in node.reads()
            if name in computed
        }
    )
    if not reshapes and not others:
        return False
    measured = [_measure(graph, reshapes, others, at) for at in range(3)]
    changed = False
    for at, node in enumerate(reshapes):
        target = _settled([values[at] for values in measured], free=1)
        if target is not None:
            inputs = [node.inputs[0], graph.add_constant(target)]
            graph.change(node, inputs=inputs, attributes={})
            changed = True
    for at, name in enumerate(others, len(reshapes)):
        value = _settled([values[at] for values in measured], free=0)
        if value is not None:
            graph.read_instead(name, graph.add_constant(value))
            changed = True
    return changed


def _settled(values: list[Array], free: int) -> Array | None:
    """The one value of a measured shape, with -1 for up to `free` axes that vary; else None."""
    if any(value.shape != values[0].shape for value in values):
        return None
    varies = np.any([value != values[0] for value in values], axis=0)
    if varies.sum() > free:
        return None
    return np.where(varies, -1, values[0]).astype(values[0].dtype)


def _computed_shapes(graph: Graph) -> set[str]:
    """The tensors that depend on nothing but constants and the shapes of other tensors."""
    found: set[str] = set()
    for node in graph.nodes:
        reads = list(node.reads())
        known = all(name in found or name in graph.constants for name in reads)
        if node.op == "Shape" or (reads and known and any(name in found for name in reads)):
            found.update(node.outputs)
    return found


def _measure(graph: Graph, reshapes: list[Node], others: list[str], at: int) -> list[Array]:
    """The shapes that some Reshapes give, and some values, when the graph runs on zeros.

    Every free axis of the inputs has another size at each of the three times.
    """
    sizes = iter(range(33 + at, 999, 4 + at))
    feeds = {
        port.tensor: np.zeros(
            [
                (2, 3, 7)[at] if axis == "batch" else axis if isinstance(axis, int) else next(sizes)
                for axis in port.shape or ()
            ],
            helper.tensor_dtype_to_np_dtype(port.type),
        )
        for port in graph.inputs
    }
    probes = [Node("Shape", [node.output], [f"shape of {node.output}"]) for node in reshapes]
    wanted = [*(probe.output for probe in probes), *others]
    outputs = [Port(name, name, graph.types.get(name, TensorProto.INT64), None) for name in wanted]
    probe = Graph([*graph.nodes, *probes], graph.constants, graph.inputs, outputs, graph.opset)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        write_graph(probe, "shapes").SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return list(session.run(wanted, feeds))


def order(graph: Graph) -> None:
    """Put the nodes in the order that follows from the graph alone, depth first from the outputs.

    Every node stands after those it reads from; a node's inputs are made in the order it has them.
    """
    done: dict[Node, None] = {}
    stack = [node for port in reversed(graph.outputs) if (node := graph.producer(port.tensor))]
    while stack:
        node = stack[-1]
        before = [
            made
            for name in node.reads()
            if (made := graph.producer(name)) is not None and made not in done
        ]
        if before:
            stack.extend(reversed(before))
        else:
            stack.pop()
            done.setdefault(node)
    graph.nodes = list(done)


def is_flat(shape: tuple[int | None, ...] | None, flat: tuple[int | None, ...] | None) -> bool:
    """Whether `flat` is `shape` with all axes but the first made one."""
    if shape is None or flat is None or len(flat) != 2 or len(shape) < 2 or None in shape[1:]:
        return False
    return flat[1] == prod(axis for axis in shape[1:] if axis is not None)
