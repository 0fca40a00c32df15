"""Carry out a plan on a copy of an ONNX model. The given model is not changed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from kerasbn.folding.affine import Affine, Array
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Call
from kerasbn.folding.linear import Edit
from kerasbn.folding.onnx.affine_nodes import merged
from kerasbn.folding.onnx.constants import constant, in_float64, is_constant
from kerasbn.folding.onnx.graph import ConstantCall
from kerasbn.folding.onnx.linear_nodes import fold_into
from kerasbn.folding.onnx.nodes import NodeCall
from kerasbn.folding.plan import Plan


def rewrite(model: ir.Model, plan: Plan, *, exact: bool = False) -> tuple[ir.Model, int]:
    """Return a copy of a model with the folds of its plan, and the bytes of duplicated constants.

    Nodes and values keep their names. Constants are computed in float64 and rounded once, to their
    own dtype; with `exact` they are not rounded, and the model is only for evaluating in float64.
    What several nodes read is written once where they need the same.
    """
    return _Rewriter(model, plan, exact).run()


class _Rewriter:
    def __init__(self, model: ir.Model, plan: Plan, exact: bool) -> None:
        self.exact = exact
        self.graph = plan.graph
        self.model = model.clone()
        self.main = self.model.graph
        self.node: dict[ir.Node, ir.Node] = dict(zip(model.graph, self.main, strict=True))
        self.names = {value.name for value in _values(self.model)}
        self.opset = model.opset_imports.get("", 1)
        # The arrays that each constant becomes, by their bytes. Those without a former one are new.
        self.copies: dict[ir.Value, dict[bytes, ir.Value]] = {}
        self.idle: list[ir.Value] = []  # constants that may have lost their last reader

    def run(self) -> tuple[ir.Model, int]:
        """Return the new model and the bytes of duplicated constants."""
        for call in self.graph.calls:
            if edits := self.graph.edits.get(id(call.layer)):
                self._edit(call, edits)
            if clip := self.graph.clips.get(id(call.node)):
                self._clip(self.node[call.layer], clip, call.inputs[0].dtype)
        for calls in self.graph.dropped.values():
            for call in calls:
                self._drop(call)
        return self.model, self._clean_up()

    def _edit(self, call: Call, edits: Sequence[Edit]) -> None:
        """Fold maps into the constants that a node reads."""
        if isinstance(call, ConstantCall):
            self._edit_constant(call, edits)
            return
        assert isinstance(call, NodeCall)
        if call.kind:
            a = call.affine()
            for edit in edits:
                a = edit.merge(a)
            self._merge(call, a)
            return
        node, new = self.node[call.layer], fold_into(call, edits)
        slots = [slot for slot in new if slot >= 0]
        kernel = node.inputs[slots[0]]
        assert kernel is not None
        dtype = constant(kernel).dtype
        for slot in slots:
            self._assign(node, slot, new[slot], dtype)
        for name in ("alpha", "beta") if node.op_type == "Gemm" else ():
            node.attributes.pop(name, None)  # they are in the constants now, and 1 by default
        if -1 not in new:
            return
        if call.offset:
            self._assign(*_constant_input(self.node[call.offset]), new[-1], dtype)
        else:
            self._append_add(node, new[-1], dtype)

    def _edit_constant(self, call: ConstantCall, edits: Sequence[Edit]) -> None:
        values = in_float64(constant(call.layer))
        for edit in edits:
            values = edit.affine.s * values + edit.affine.t
        for reader in call.outputs[0].readers:
            for slot, value in enumerate(reader.layer.inputs):
                if value is call.layer:
                    dtype = constant(value).dtype
                    self._assign(self.node[reader.layer], slot, values, dtype)

    def _merge(self, call: NodeCall, a: Affine) -> None:
        """Let an affine node compute another map."""
        node = self.node[call.layer]
        if node.op_type == "BatchNormalization":
            for slot, values in zip((1, 2), merged(call, a), strict=True):
                self._assign(node, slot, values)
            return
        steps = [(node, "Mul", a.s), (node, "Add", a.t)]
        if call.offset:
            steps[1] = (self.node[call.offset], "Add", a.t)
        else:
            del steps[node.op_type in ("Mul", "Div")]
        for step, op_type, values in steps:
            step.op_type = op_type
            self._assign(*_constant_input(step), values)

    def _clip(self, node: ir.Node, clip: Clip, dtype: str) -> None:
        """Turn a node into ``min(max(x, lower), upper)``, without bounds that are infinite."""
        (x, *_), kind = node.inputs, ir.DataType[_NAMES.get(dtype, dtype.upper())].numpy()
        bounds = {
            name: values[(0,) * values.ndim] if (values == values.flat[0]).all() else values
            for name, values in (("lower", clip.lower), ("upper", clip.upper))
            if np.isfinite(values).any()
        }
        node.attributes.clear()
        node.resize_inputs(1)
        if len(bounds) == 2 and self.opset >= 11 and all(b.ndim == 0 for b in bounds.values()):
            node.op_type = "Clip"
        elif not bounds:
            node.op_type = "Identity"
        elif len(bounds) == 2:
            node.op_type = "Min"
            lower = self._new(f"{_label(node)}.lower", bounds.pop("lower"), kind)
            largest = self._beside(node, "Max", [x, lower], "max")
            largest.outputs[0].name = self._free_name(f"{node.outputs[0].name}_max")
            self.main.insert_before(node, largest)
            node.replace_input_with(0, largest.outputs[0])
        else:
            node.op_type = "Max" if "lower" in bounds else "Min"
        node.resize_inputs(1 + len(bounds))
        for slot, (name, values) in enumerate(bounds.items(), 1):
            node.replace_input_with(slot, self._new(f"{_label(node)}.{name}", values, kind))

    def _drop(self, call: Call) -> None:
        """Remove a node. What reads it reads its input instead; a graph output keeps its name."""
        assert isinstance(call, NodeCall)
        node = self.node[call.layer]
        last = self.node[call.offset] if call.offset else node
        source, gone = node.inputs[call.slots[0]], last.outputs[0]
        assert source is not None
        constants = [v for each in {node, last} for v in each.inputs if is_constant(v)]
        self.idle += [value for value in constants if value]
        if gone.is_graph_output():
            if source.producer() is None or source.is_graph_output():
                last.op_type = "Identity"
                last.attributes.clear()
                last.replace_input_with(0, source)
                last.resize_inputs(1)
                self.main.remove([node] if node is not last else [], safe=True)
                return
            source.type, source.shape = gone.type, gone.shape
            name, gone.name = gone.name, self._free_name(f"{gone.name}_gone")
            source.name = name
        gone.replace_all_uses_with(source, replace_graph_outputs=True)
        for each in dict.fromkeys((last, node)):
            self.main.remove(each, safe=True)

    def _append_add(self, node: ir.Node, values: Array, dtype: np.dtype[Any]) -> None:
        """Add a bias behind a node that has none. The sum takes the name of the product."""
        product, label, name = node.outputs[0], _label(node), node.outputs[0].name
        add = self._beside(node, "Add", [product], "bias")
        total = add.outputs[0]
        total.type, total.shape = product.type, product.shape
        product.replace_all_uses_with(total, replace_graph_outputs=True)
        add.resize_inputs(2)
        add.replace_input_with(0, product)
        add.replace_input_with(1, self._new(f"{label}.bias", values, dtype))
        product.name = self._free_name(f"{name}_product")
        total.name = name
        self.main.insert_after(node, add)

    def _beside(
        self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], name: str
    ) -> ir.Node:
        """Return a node that belongs to another, and so has its metadata."""
        label = self._free_name(f"{_label(node)}_{name}")
        return ir.node(op_type, inputs, name=label, metadata_props=dict(node.metadata_props))

    def _assign(
        self, node: ir.Node, slot: int, values: Array, dtype: np.dtype[Any] | None = None
    ) -> None:
        """Let a node read other values in the place of a constant, by default in its dtype."""
        node.resize_inputs(max(len(node.inputs), slot + 1))
        former = node.inputs[slot]
        if former is None:
            assert dtype is not None
            made = self._new(f"{_label(node)}.bias", values, dtype)
        else:
            array = values if self.exact else values.astype(constant(former).dtype)
            if array.dtype == constant(former).dtype and np.array_equal(array, constant(former)):
                return
            copies = self.copies.setdefault(former, {})
            key = str(array.shape).encode() + array.tobytes()
            if key not in copies:
                copies[key] = self._new(str(former.name), array, array.dtype)
            made = copies[key]
            self.idle.append(former)
        node.replace_input_with(slot, made)

    def _new(self, name: str, values: Array | NDArray[Any], dtype: np.dtype[Any]) -> ir.Value:
        """Return a new constant."""
        free = self._free_name(name)
        array = np.asarray(values, np.float64 if self.exact else dtype)
        made = ir.val(free, const_value=ir.tensor(array, name=free))
        self.main.register_initializer(made)
        return made

    def _free_name(self, name: str) -> str:
        free, count = name, 1
        while free in self.names:
            count += 1
            free = f"{name}_{count}"
        self.names.add(free)
        return free

    def _clean_up(self) -> int:
        """Remove constants without readers, and return the bytes of those that are there twice."""
        while self.idle:
            value = self.idle.pop()
            if value.uses() or value.is_graph_output() or value.is_graph_input():
                continue
            node = value.producer()
            if node is None:
                self.main.initializers.pop(str(value.name), None)
            elif node.graph is self.main:
                self.idle += [each for each in node.inputs if each is not None]
                self.main.remove(node, safe=True)
        added = 0
        for former, copies in self.copies.items():
            sizes = [made.const_value.nbytes for made in copies.values() if made.const_value]
            if former.uses():
                added += sum(sizes)
                continue
            added += sum(sizes[1:])
            next(iter(copies.values())).name = former.name
        return added


def _label(node: ir.Node) -> str:
    """Return what the names of added nodes and constants begin with."""
    return node.name or str(node.outputs[0].name)


def _constant_input(node: ir.Node) -> tuple[ir.Node, int]:
    """Return a node of two inputs with the place of its constant."""
    return node, int(is_constant(node.inputs[1]))


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Yield every value with a name of its own, those in subgraphs included."""
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}
