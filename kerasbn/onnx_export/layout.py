"""Passes that bring changes of layout to where they are no longer needed.

TensorFlow has channels last and one-dimensional convolutions as two-dimensional ones of height 1;
ONNX has channels first and convolutions of any dimension. Each docstring shows the nodes before and
after. A pass takes a graph, changes it in place and says whether it did.
"""

from typing import Any

import numpy as np

from kerasbn.inference.onnx_graph import Array, Graph, Node

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd")
# What a convolution's attributes say of each spatial axis; `pads` does so twice.
_PER_AXIS = ("kernel_shape", "strides", "dilations", "output_padding", "output_shape")


def unsqueeze_behind_transpose(graph: Graph) -> bool:
    """``Transpose(Unsqueeze(x, a), p)`` -> ``Unsqueeze(Transpose(x, p'), a')``."""
    changed = False
    for turn, wide, axis in _pairs(graph, "Transpose", "Unsqueeze"):
        order = list(turn.attributes["perm"])
        place = order.index(axis)
        narrow = [a - (a > axis) for a in order if a != axis]
        before = Node(
            "Transpose", wide.inputs[:1], [f"{turn.output} narrow"], {"perm": narrow}, turn.name
        )
        graph.insert_before(turn, before)
        _become(graph, turn, "Unsqueeze", before.output, place, wide.name)
        graph.remove(wide)
        changed = True
    return changed


def squeeze_ahead_of_transpose(graph: Graph) -> bool:
    """``Squeeze(Transpose(x, p), a)`` -> ``Transpose(Squeeze(x, a'), p')``."""
    changed = False
    for thin, turn, axis in _pairs(graph, "Squeeze", "Transpose"):
        order = list(turn.attributes["perm"])
        gone = order[axis]
        narrow = [a - (a > gone) for a in order if a != gone]
        before = Node("Squeeze", turn.inputs[:1], [f"{thin.output} narrow"], {}, thin.name)
        graph.insert_before(thin, before)
        _become(graph, before, "Squeeze", turn.inputs[0], gone, thin.name)
        graph.change(
            thin,
            op="Transpose",
            inputs=[before.output],
            attributes={"perm": narrow},
            name=turn.name,
        )
        graph.remove(turn)
        changed = True
    return changed


def squeeze_ahead_of_convolution(graph: Graph) -> bool:
    """``Squeeze(Conv(x, W), a)`` -> ``Conv(Squeeze(x, a), W')`` along an axis of size 1."""
    changed = False
    for thin, conv, axis in _pairs(graph, "Squeeze", *_CONVOLUTIONS):
        weight, shape = graph.constant(conv.inputs[1]), graph.shape(conv.inputs[0])
        if weight is None or shape is None or axis < 2 or shape[axis] != 1:
            continue
        pads = list(conv.attributes.get("pads", []))
        at, count = axis - 2, weight.ndim - 2
        if weight.shape[axis] != 1 or any(pads[at::count]):
            continue
        attributes = dict(conv.attributes)
        for key in _PER_AXIS:
            if key in attributes:
                attributes[key] = [n for i, n in enumerate(attributes[key]) if i != at]
        if pads:
            attributes["pads"] = [n for i, n in enumerate(pads) if i % count != at]
        before = Node("Squeeze", conv.inputs[:1], [f"{thin.output} narrow"], {}, thin.name)
        graph.insert_before(conv, before)
        _become(graph, before, "Squeeze", conv.inputs[0], axis, thin.name)
        kernel = graph.add_constant(weight.squeeze(axis))
        inputs = [before.output, kernel, *conv.inputs[2:]]
        graph.change(thin, op=conv.op, inputs=inputs, attributes=attributes, name=conv.name)
        graph.remove(conv)
        changed = True
    return changed


def slice_of_transposed_convolution(graph: Graph) -> bool:
    """``Slice(ConvTranspose(x, W))`` along places -> ``ConvTranspose(x, W)`` with more padding.

    The padding of a transposed convolution is what is cut off its result.
    """
    changed = False
    for cut in list(graph.nodes):
        conv = graph.producer(cut.inputs[0]) if cut.op == "Slice" else None
        if conv is None or conv.op != "ConvTranspose" or graph.only_reader(conv.output) is not cut:
            continue
        off = _cut_off(graph, cut)
        if off is None or {"auto_pad", "output_shape"} & conv.attributes.keys():
            continue
        pads = conv.attributes.get("pads", [0] * len(off))
        attributes = conv.attributes | {"pads": [a + b for a, b in zip(pads, off, strict=True)]}
        graph.change(cut, op=conv.op, inputs=conv.inputs, attributes=attributes, name=conv.name)
        graph.remove(conv)
        changed = True
    return changed


def _cut_off(graph: Graph, cut: Node) -> list[int] | None:
    """How much a Slice takes off each place axis, in front and behind; None if that is unknown."""
    shape, values = graph.shape(cut.inputs[0]), [graph.constant(name) for name in cut.inputs[1:]]
    if shape is None or len(values) < 3 or any(value is None for value in values):
        return None
    starts, ends, axes, *steps = (value.ravel().tolist() for value in values if value is not None)
    count = len(shape) - 2
    off = [0] * (2 * count)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        length = shape[axis]
        if axis < 2 or length is None or any(step != 1 for each in steps for step in each):
            return None
        first, last, _ = slice(start, end).indices(length)
        off[axis - 2], off[axis - 2 + count] = first, length - last
    return off


def drop_squeeze_of_unsqueeze(graph: Graph) -> bool:
    """``Squeeze(Unsqueeze(x, a), a)`` -> ``x``."""
    changed = False
    for thin in list(graph.nodes):
        wide = graph.producer(thin.inputs[0]) if thin.op == "Squeeze" else None
        if wide is None or wide.op != "Unsqueeze":
            continue
        axes = _axes(graph, thin)
        if axes is not None and axes == _axes(graph, wide):
            graph.read_instead(thin.output, wide.inputs[0])
            graph.remove(thin)
            changed = True
    return changed


def reduction_ahead_of_transpose(graph: Graph) -> bool:
    """``Reduce(Transpose(x, p), axes)`` -> ``Reduce(x, axes')`` if the others keep their order."""
    changed = False
    for node in list(graph.nodes):
        turn = graph.producer(node.inputs[0]) if node.op in _REDUCTIONS else None
        if turn is None or turn.op != "Transpose" or node.attributes.get("keepdims", 1):
            continue
        axes, order = _axes(graph, node), turn.attributes.get("perm")
        if axes is None or order is None:
            continue
        gone = {axis % len(order) for axis in axes}
        left = [order[at] for at in range(len(order)) if at not in gone]
        if left != sorted(left):
            continue
        found = np.array(sorted(order[axis] for axis in gone), np.int64)
        if "axes" in node.attributes:
            attributes = node.attributes | {"axes": found.tolist()}
            graph.change(node, inputs=turn.inputs[:1], attributes=attributes)
        else:
            graph.change(node, inputs=[turn.inputs[0], graph.add_constant(found)])
        changed = True
    return changed


def _pairs(graph: Graph, then: str, *first: str) -> list[tuple[Node, Node, int]]:
    """Each node of one kind that alone reads one of another, and the axis one of them changes."""
    found = []
    for node in list(graph.nodes):
        before = graph.producer(node.inputs[0]) if node.op == then else None
        if before is None or before.op not in first or graph.only_reader(before.output) is not node:
            continue
        changing = node if node.op == "Squeeze" else before
        axes, shape = _axes(graph, changing), graph.shape(before.output)
        turns = [n for n in (node, before) if n.op == "Transpose"]
        if axes is None or len(axes) != 1 or shape is None:
            continue
        if any("perm" not in turn.attributes for turn in turns):
            continue
        found.append((node, before, axes[0] % len(shape)))
    return found


def _axes(graph: Graph, node: Node) -> list[int] | None:
    """The axes a node removes, adds or sums over; None where they are not known."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"])
    value: Array | None = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if value is None else [int(axis) for axis in value.ravel()]


def _become(graph: Graph, node: Node, op: str, tensor: str, axis: int, name: str) -> None:
    """Make a node the Squeeze or Unsqueeze of a tensor."""
    axes: Any = graph.add_constant(np.array([axis], np.int64))
    graph.change(node, op=op, inputs=[tensor, axes], attributes={}, name=name)
