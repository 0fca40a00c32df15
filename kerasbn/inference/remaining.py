"""The BN layers that an ONNX file still has."""

from collections import defaultdict
from collections.abc import Collection, Sequence, Sized
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from kerasbn.common.wording import plural, shorten
from kerasbn.folding.plan import Plan

_MOST, _LONGEST = 5, 80  # names in a line, and letters in a name
# Operations that are linear in their first input with constant weights.
_LINEAR = ("Gemm", "MatMul", "Conv", "ConvTranspose", "Einsum")
_RECURRENT = ("LSTM", "GRU", "RNN", "Loop", "Scan", "Gather")
_AFFINE = ("Mul", "Div", "Add", "Sub")
# What may stand between the Mul and the Add of one BN layer, or before the bias of a linear layer.
_LAYOUT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Identity")
_PLAIN = (*_AFFINE, *_LAYOUT, *_LINEAR, "BatchNormalization")


def remaining_nodes(
    model: onnx.ModelProto | ir.Model, bn_layers: Collection[str] | None = None
) -> tuple[str, ...]:
    """Return each BN layer that is still a step of its own, by its nodes: ``bn/Mul + bn/Add``.

    A BatchNormalization node counts, and so does BN written out as arithmetic. In a file that names
    its BN layers, these are the nodes with the names of such layers. In any other file, these are
    the Mul, Div, Add and Sub nodes in a row that have constants per channel and stand behind the
    first weights. What stands ahead of the first weights scales the inputs, as Rescaling and
    ``preprocess_input`` do. The bias of a linear layer does not count, nor does a factor of a layer
    that computes other things too, such as LayerNormalization or PReLU.

    Args:
        model: The model in an ONNX file.
        bn_layers: The names of the BN layers; None if the file does not name them.
    """
    graph = (model if isinstance(model, ir.Model) else ir.from_proto(model)).graph
    found = _behind_weights(graph) if bn_layers is None else _named(graph, bn_layers)
    return tuple(
        " + ".join(node.name or str(node.outputs[0].name) for node in nodes) for nodes in found
    )


def count_remaining(found: Sized) -> str:
    """Return the count in words: "2 BN layers" or "nothing"."""
    return plural(len(found), "BN layer") if found else "nothing"


def report_remaining(found: Sequence[str], plan: Plan) -> list[str]:
    """Return what remains, why it was kept, and how many layers were folded, as lines.

    Args:
        found: The BN layers that remain in the file, as `remaining_nodes` returns them.
        plan: The plan of the file, empty if it is not known.
    """
    names = ", ".join(shorten(each, _LONGEST) for each in found[:_MOST])
    names = f" ({names}{', ...' * (len(found) > _MOST)})" if found else ""
    lines = [f"remaining: {count_remaining(found)}{names}", *map(str, plan.kept("BN layer"))]
    return [*lines, plan.summary()] if plan else lines


def _named(graph: ir.Graph, bn_layers: Collection[str]) -> Collection[list[ir.Node]]:
    """Return the nodes of each BN layer: ``block/bn/Mul``, or ``block/bn`` if it has only one."""
    found: dict[str | ir.Node, list[ir.Node]] = defaultdict(list)
    for node in graph:
        paths = [path for path in (node.name or "", _layer(node)) if path]
        path = next((path for path in paths if path.rpartition("/")[2] in bn_layers), None)
        if node.op_type == "BatchNormalization" or (path and node.op_type not in _LAYOUT):
            found[path or node].append(node)
    return found.values()


def _behind_weights(graph: ir.Graph) -> Collection[list[ir.Node]]:
    """Return BatchNormalization nodes, and affine nodes in a row behind the first weights."""
    mixed = {_layer(node) for node in graph if node.op_type not in _PLAIN} - {""}
    weighted: set[ir.Value] = set()  # values that depend on weights or statistics
    rows: dict[ir.Node, list[ir.Node]] = {}  # by the last node
    for node in graph:
        is_behind = bool(weighted.intersection(node.inputs))
        if is_behind or node.op_type in (*_LINEAR, *_RECURRENT, "BatchNormalization"):
            weighted.update(node.outputs)
        if node.op_type == "BatchNormalization":
            rows[node] = [node]
        elif is_behind and _is_affine(node) and _layer(node) not in mixed:
            before = _before(node)
            row = []
            if before is not None and before.op_type in _AFFINE and _is_read_once(before):
                row = rows.pop(before, [])
            rows[node] = [*row, node]
    return rows.values()


def _layer(node: ir.Node) -> str:
    """Return the layer a node belongs to by its name: what stands before the last slash."""
    return (node.name or "").rpartition("/")[0]


def _is_affine(node: ir.Node) -> bool:
    """Return whether a node is affine per channel, and not the bias of a linear layer."""
    if node.op_type not in _AFFINE:
        return False
    values = [_array(value) for value in node.inputs]
    known = [value for value in values if value is not None]
    is_reciprocal = node.op_type == "Div" and values[0] is not None
    if len(known) != 1 or is_reciprocal or sum(size > 1 for size in known[0].shape) != 1:
        return False
    before = _before(node)
    if node.op_type != "Add" or before is None or before.op_type not in _LINEAR:
        return True
    return sum(value is not None for value in before.inputs) >= 3  # the layer has another bias


def _array(value: ir.Value | None) -> NDArray[Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def _before(node: ir.Node) -> ir.Node | None:
    """Return the node that makes the variable input of another, past changes of layout."""
    value = next((value for value in node.inputs if _array(value) is None), None)
    made = None if value is None else value.producer()
    return _before(made) if made is not None and made.op_type in _LAYOUT else made


def _is_read_once(node: ir.Node) -> bool:
    value = node.outputs[0]
    return len(value.consumers()) == 1 and not value.is_graph_output()
