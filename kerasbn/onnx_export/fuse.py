"""Passes that give each layer the one node ONNX has for it.

Each docstring shows the nodes before and after. A pass takes a graph, changes it in place and says
whether it did.
"""

import numpy as np

from kerasbn.inference.onnx_graph import LINEAR, Array, Graph, Node
from kerasbn.onnx_export.simplify import is_flat

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_BOUNDS = ("Max", "Min")


def flatten(graph: Graph) -> bool:
    """``Reshape(x, [-1, n])`` of an x with n elements per sample -> ``Flatten(x)``."""
    changed = False
    for node in graph.nodes:
        if node.op != "Reshape":
            continue
        target = graph.constant(node.inputs[1])
        if target is None or target.size != 2 or target[0] not in (-1, 0):
            continue
        shape, columns = graph.shape(node.inputs[0]), int(target[1])
        if (columns == -1 and target[0] == 0) or is_flat(shape, (None, columns)):
            if shape is None or len(shape) < 2:
                continue
            graph.change(node, op="Flatten", inputs=node.inputs[:1], attributes={"axis": 1})
            changed = True
    return changed


def gemm(graph: Graph) -> bool:
    """``MatMul(x, W)`` of a matrix x and a constant matrix W -> ``Gemm(x, W)``."""
    changed = False
    for node in graph.nodes:
        if node.op != "MatMul":
            continue
        x, weight = graph.shape(node.inputs[0]), graph.constant(node.inputs[1])
        if x is not None and len(x) == 2 and weight is not None and weight.ndim == 2:
            graph.change(node, op="Gemm")
            changed = True
    return changed


def bias(graph: Graph) -> bool:
    """``Add(L(x), b)`` with a linear L without bias -> ``L(x, b)``, for Gemm and convolutions.

    Only a bias per output channel fits: for Gemm the last axis, for a convolution axis 1.
    """
    changed = False
    for add in list(graph.nodes):
        linear, value = _added(graph, add)
        if linear is None or value is None or linear.op == "MatMul" or linear.op == "Einsum":
            continue
        per_channel = _per_channel(value, linear, graph)
        if per_channel is None:
            continue
        attributes = dict(linear.attributes)
        graph.read_instead(add.output, linear.output)
        graph.remove(add)
        inputs = [*linear.inputs[:2], graph.add_constant(per_channel)]
        graph.change(linear, inputs=inputs, attributes=attributes)
        changed = True
    return changed


def _added(graph: Graph, add: Node) -> tuple[Node | None, Array | None]:
    """The linear node whose result, read by nothing else, gets a constant added; and that."""
    if add.op != "Add":
        return None, None
    for tensor, other in (add.inputs, reversed(add.inputs)):
        linear, value = graph.producer(tensor), graph.constant(other)
        if (
            linear is not None
            and linear.op in LINEAR
            and (len(linear.inputs) < 3 or not linear.inputs[2])
            and value is not None
            and graph.only_reader(tensor) is add
        ):
            return linear, value
    return None, None


def _per_channel(value: Array, linear: Node, graph: Graph) -> Array | None:
    """The constant as one number per output channel, None if it is not that."""
    weight = graph.constant(linear.inputs[1])
    if weight is None:
        return None
    if linear.op == "Gemm":
        channels = weight.shape[0 if linear.attributes.get("transB") else 1]
        axis_shape: tuple[int, ...] = (1, channels)
    else:
        groups = linear.attributes.get("group", 1)
        channels = weight.shape[0] if linear.op == "Conv" else weight.shape[1] * groups
        axis_shape = (1, channels, *(1,) * (weight.ndim - 2))
    if value.ndim > len(axis_shape):
        return None
    value = value.reshape((1,) * (len(axis_shape) - value.ndim) + value.shape)
    if any(size not in (1, wanted) for size, wanted in zip(value.shape, axis_shape, strict=True)):
        return None
    return np.broadcast_to(value, axis_shape).reshape(channels).copy()


def clip(graph: Graph) -> bool:
    """``Min(Max(x, a), b)`` of one number each -> ``Clip(x, a, b)``, and so for either alone."""
    changed = False
    for node in list(graph.nodes):
        if node.op in _BOUNDS and (found := _one_bound(graph, node)):
            tensor, bound = found
            inputs = [tensor, ""] if node.op == "Min" else [tensor]
            graph.change(node, op="Clip", inputs=[*inputs, graph.add_constant(bound)])
            changed = True
        before = graph.producer(node.inputs[0]) if node.op == "Clip" else None
        bounds = _both_bounds(graph, before, node) if before and before.op == "Clip" else None
        if before and bounds:
            graph.change(node, inputs=[before.inputs[0], *bounds])
            changed = True
    return changed


def _both_bounds(graph: Graph, first: Node, then: Node) -> list[str] | None:
    """The two bounds of a Clip that does what two Clips do, which have one bound each."""
    (low, high), (lower, upper) = ([*node.inputs[1:], ""][:2] for node in (first, then))
    if low and upper and not high and not lower:
        return [low, upper]  # as ONNX has it: the lower bound first
    if high and lower and not low and not upper:
        least, most = graph.constant(lower), graph.constant(high)
        if least is not None and most is not None and least <= most:
            return [lower, high]
    return None


def _one_bound(graph: Graph, node: Node) -> tuple[str, Array] | None:
    """The tensor that a Max or Min clips, and its bound if that is one number for everything."""
    for tensor, other in (node.inputs, reversed(node.inputs)) if len(node.inputs) == 2 else ():
        bound, shape = graph.constant(other), graph.shape(tensor)
        if bound is None or bound.size == 0 or not (bound == bound.flat[0]).all() or shape is None:
            continue
        widens = bound.ndim > len(shape) or any(
            n not in (1, own) for n, own in zip(bound.shape[::-1], shape[::-1], strict=False)
        )
        if not widens:
            return tensor, bound.flat[0].reshape(())
    return None


def kernel_ahead_of_layout(graph: Graph) -> bool:
    """``Add(Transpose(L(x)), b)`` or a Squeeze in its place -> ``Transpose(Add(L(x), b'))``.

    tf2onnx turns a convolution's layout back before its bias is added; the other way round, the
    bias joins the convolution.
    """
    changed = False
    for add in list(graph.nodes):
        if add.op != "Add":
            continue
        for tensor, other in (add.inputs, list(reversed(add.inputs))):
            turn, value = graph.producer(tensor), graph.constant(other)
            if turn is None or value is None or turn.op not in ("Transpose", "Squeeze"):
                continue
            linear = graph.producer(turn.inputs[0])
            if linear is None or linear.op not in _CONVOLUTIONS or len(linear.inputs) > 2:
                continue
            alone = graph.only_reader(tensor) is add and graph.only_reader(turn.inputs[0]) is turn
            moved = _before(turn, value, graph) if alone else None
            if moved is None:
                continue
            inner, outer = linear.output, add.output
            graph.remove(add)
            graph.change(turn, inputs=[f"{inner} + bias", *turn.inputs[1:]], outputs=[outer])
            node = Node(
                "Add", [inner, graph.add_constant(moved)], [f"{inner} + bias"], {}, add.name
            )
            graph.insert_before(turn, node)
            graph.shapes[node.output] = graph.shapes.get(inner, ())
            graph.types[node.output] = graph.types.get(inner, 0)
            changed = True
            break
    return changed


def _before(turn: Node, value: Array, graph: Graph) -> Array | None:
    """The constant that, added before a change of layout, does what `value` does after it."""
    shape = graph.shape(turn.inputs[0])
    if shape is None:
        return None
    rank = len(shape)
    if turn.op == "Transpose":
        value = value.reshape((1,) * (rank - value.ndim) + value.shape)
        return value.transpose(np.argsort(turn.attributes["perm"])) if value.ndim == rank else None
    axes = graph.constant(turn.inputs[1]) if len(turn.inputs) > 1 else None
    if axes is None:
        return None
    after = rank - axes.size
    value = value.reshape((1,) * (after - value.ndim) + value.shape)
    return np.expand_dims(value, tuple(int(a) % rank for a in axes.ravel()))
