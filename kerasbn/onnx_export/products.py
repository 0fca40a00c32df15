"""Passes that bring products with constant weights into one form: a Gemm, a MatMul, a Conv.

Each docstring shows the nodes before and after. A pass takes a graph, changes it in place and says
whether it did. Those of biases, and of matrices, are in `fuse`.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from kerasbn.inference.onnx_graph import Array, Graph, Node


def einsum(graph: Graph) -> bool:
    """``Einsum(x, y)`` -> ``MatMul(x, y)``, between changes of layout where there must be some.

    With a constant y, x is turned so that the axes that are summed over come last, and flattened
    where they are several; what y has of its own is one axis then, and split after. With a y that
    is computed, as an attention's, each is turned so that a MatMul sums over the right axis. Where
    there is no such product, as in a layer with a kernel for each of several experts, it is left.
    """
    changed = False
    for node in list(graph.nodes):
        if node.op != "Einsum" or len(node.inputs) != 2:
            continue
        equation = node.attributes["equation"]
        text = equation.decode() if isinstance(equation, bytes) else str(equation)
        given, _, out = text.replace(" ", "").partition("->")
        one, other = given.split(",")
        if "." in text or any(len(set(each)) < len(each) for each in (one, other, out)):
            continue
        x, y = node.inputs
        if graph.constant(x) is not None:  # the constant may stand first
            (x, one), (y, other) = (y, other), (x, one)
        weight = graph.constant(y)
        if weight is not None:
            done = _product_with_constant(graph, node, (x, one), (weight, other), out)
        else:
            done = _product(graph, node, (x, one), (y, other), out)
        changed = done or changed
    return changed


def _product(graph: Graph, node: Node, x: tuple[str, str], y: tuple[str, str], out: str) -> bool:
    """Put a MatMul in the place of an Einsum of two tensors, where one does the same."""
    (left, of_x), (right, of_y) = x, y
    shared = [a for a in of_x if a in of_y]
    batch = [a for a in out if a in shared]
    summed = [a for a in shared if a not in out]
    rows, columns = ([a for a in each if a not in shared] for each in (of_x, of_y))
    if len(summed) != 1 or len(rows) != 1 or len(columns) != 1:
        return False
    if sorted(batch + rows + columns) != sorted(out):
        return False
    wanted = [(left, of_x, batch + rows + summed), (right, of_y, batch + summed + columns)]
    inputs = []
    for at, (tensor, have, want) in enumerate(wanted):
        turned = f"{node.output} side {at}"
        turn = Node("Transpose", [tensor], [turned], _turn(have, want), node.name)
        graph.insert_before(node, turn)
        inputs.append(turned)
    product = Node("MatMul", inputs, [f"{node.output} product"], {}, node.name)
    graph.insert_before(node, product)
    made = batch + rows + columns
    graph.change(node, op="Transpose", inputs=[product.output], attributes=_turn(made, out))
    return True


def _turn(have: Sequence[str], want: Sequence[str]) -> dict[str, object]:
    """The attributes of the Transpose that brings axes into another order."""
    return {"perm": [have.index(a) for a in want]}


def _product_with_constant(
    graph: Graph, node: Node, x: tuple[str, str], y: tuple[Array, str], out: str
) -> bool:
    """Put a MatMul in the place of an Einsum of a tensor and a constant, where there is one."""
    (tensor, of_x), (weight, of_w) = x, y
    summed = [a for a in of_w if a not in out]
    kept, own = [a for a in of_x if a not in summed], [a for a in of_w if a not in summed]
    if not summed or not kept or not set(summed) <= set(of_x) or set(kept) & set(own):
        return False
    if sorted(kept + own) != sorted(out):
        return False
    own.sort(key=out.index)
    matrix = weight.transpose([of_w.index(a) for a in summed + own])
    matrix = matrix.reshape(prod(matrix.shape[: len(summed)]), -1)
    sizes = dict(zip(of_w, weight.shape, strict=True))
    steps: list[tuple[str, dict[str, object], Array | None]] = []
    if kept + summed != list(of_x):
        steps.append(("Transpose", _turn(of_x, kept + summed), None))
    same_axes = [0] * len(kept)  # a Reshape's 0 is the axis as it is
    if len(summed) > 1:
        steps.append(("Reshape", {}, np.array([*same_axes, len(matrix)], np.int64)))
    steps.append(("MatMul", {}, np.ascontiguousarray(matrix)))
    if len(own) != 1:
        steps.append(("Reshape", {}, np.array([*same_axes, *map(sizes.get, own)], np.int64)))
    if kept + own != list(out):
        steps.append(("Transpose", _turn(kept + own, out), None))
    for at, (op, attributes, value) in enumerate(steps):
        inputs = [tensor] if value is None else [tensor, graph.add_constant(value)]
        if at == len(steps) - 1:
            graph.change(node, op=op, inputs=inputs, attributes=attributes)
        else:
            tensor = f"{node.output} step {at}"
            graph.insert_before(node, Node(op, inputs, [tensor], attributes, node.name))
    return True


def bias_ahead_of_split(graph: Graph) -> bool:
    """``Add(Reshape(L(x)), b)`` -> ``Reshape(Add(L(x), b'))`` where the last axis is split.

    An attention's projection makes all heads at once and tells them apart after; its bias has an
    axis for the heads, and is one number for each column of the product all the same.
    """
    changed = False
    for add in list(graph.nodes):
        for tensor, other in (add.inputs, list(reversed(add.inputs))) if add.op == "Add" else ():
            split, value = graph.producer(tensor), graph.constant(other)
            if split is None or value is None or split.op != "Reshape":
                continue
            linear = graph.producer(split.inputs[0])
            if linear is None or linear.op not in ("MatMul", "Gemm") or len(linear.inputs) > 2:
                continue
            alone = graph.only_reader(tensor) is add
            alone = alone and graph.only_reader(linear.output) is split
            columns = _columns(graph, linear.output, tensor, value) if alone else None
            if columns is None:
                continue
            inner, outer = linear.output, add.output
            graph.remove(add)
            graph.change(split, inputs=[f"{inner} + bias", split.inputs[1]], outputs=[outer])
            moved = Node(
                "Add", [inner, graph.add_constant(columns)], [f"{inner} + bias"], {}, add.name
            )
            graph.insert_before(split, moved)
            graph.shapes[moved.output] = graph.shapes[inner]
            graph.types[moved.output] = graph.types.get(inner, 0)
            changed = True
            break
    return changed


def _columns(graph: Graph, before: str, after: str, value: Array) -> Array | None:
    """What is added behind a split of the last axis as one number for each place ahead of it."""
    whole, parts = graph.shape(before), graph.shape(after)
    if whole is None or parts is None or len(parts) < len(whole):
        return None
    split = [n for n in parts[len(whole) - 1 :] if n is not None]
    if len(split) != len(parts) - len(whole) + 1 or whole[-1] != prod(split):
        return None
    if whole[1:-1] != parts[1 : len(whole) - 1]:
        return None
    if any(n != 1 for n in value.shape[: max(0, value.ndim - len(split))]):
        return None
    value = value.reshape(value.shape[max(0, value.ndim - len(split)) :])
    return np.broadcast_to(value, split).reshape(-1).copy()


def bias_behind_product(graph: Graph) -> bool:
    """``Add(b, MatMul(x, W))`` -> ``Add(MatMul(x, W), b)`` with b one number for each column."""
    changed = False
    for add in graph.nodes:
        for tensor, other in (add.inputs, list(reversed(add.inputs))) if add.op == "Add" else ():
            product, value = graph.producer(tensor), graph.constant(other)
            if product is None or value is None or product.op != "MatMul":
                continue
            made, weight = graph.shape(product.output), graph.shape(product.inputs[1])
            columns = weight[-1] if weight else None
            if made is None or columns is None or value.ndim > len(made):
                continue
            last = value.shape[-1] if value.ndim else 1
            if value.size != last or last not in (1, columns):
                continue
            flat = np.broadcast_to(value.reshape(-1), (columns,))
            if add.inputs == [tensor, other] and value.shape == flat.shape:
                break
            graph.change(add, inputs=[tensor, graph.add_constant(flat.copy())])
            changed = True
            break
    return changed


def drop_zero_state(graph: Graph) -> bool:
    """``LSTM(x, ..., h=0, c=0)`` -> ``LSTM(x, ...)``, and so for GRU and RNN: zeros are implied."""
    changed = False
    for node in graph.nodes:
        if node.op not in ("LSTM", "GRU", "RNN"):
            continue
        states = node.inputs[5:7]
        if any(states) and all(not name or _is_zero(graph, name) for name in states):
            inputs = [*node.inputs[:5], *[""] * len(states), *node.inputs[7:]]
            while not inputs[-1]:
                inputs.pop()
            graph.change(node, inputs=inputs)
            changed = True
    return changed


def _is_zero(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is made of nothing but zeros, of whatever shape."""
    value, made = graph.constant(tensor), graph.producer(tensor)
    if value is not None:
        return not np.any(value)
    if made is None or made.op not in ("Expand", "Unsqueeze", "Squeeze", "Reshape", "Concat"):
        return False
    return all(_is_zero(graph, name) for name in made.inputs[: None if made.op == "Concat" else 1])
