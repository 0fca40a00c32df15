"""Random ONNX graphs over every operation that folding knows, and some that it doesn't.

Each node is evaluated in float64 as it is added, so all shapes and values are known. A node that
does not fit is dropped. Constants stand on either side, in many broadcast layouts, as
initializers and as Constant nodes, and are sometimes shared.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from dice import Dice
from numpy.typing import NDArray
from onnx import helper
from random_onnx_linear import LINEAR, add_affine
from random_onnx_nodes import OTHERS, PASS_THROUGH, add_foldable, choices

from kerasbn.folding.onnx.evaluate import CannotEvaluate, as_double, is_float, run_nodes

Array = NDArray[Any]
OPSETS = [9, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 17, 18, 18, 19, 20, 21, 21, 22, 23, 24, 25, 26]
SOURCES: dict[int, list[tuple[int, ...]]] = {
    2: [(2, 5)],
    3: [(2, 6, 4), (2, 4, 5)],
    4: [(2, 4, 5, 6), (2, 3, 5, 5), (2, 4, 4, 4), (2, 4, 6, 4), (2, 6, 5, 5)],
    5: [(2, 2, 3, 3, 3)],
}
LARGEST = 700  # values in a tensor


class DoesNotFitError(Exception):
    """A node that cannot be added here: try another one."""


@dataclass
class Source:
    """An input of a graph; its first axis may be free, and its integers are below a limit."""

    name: str
    shape: tuple[int, ...]
    below: int | None = None

    def array(self, seed: int, batch: int | None = None) -> Array:
        random = np.random.default_rng(seed)
        shape = (batch or self.shape[0], *self.shape[1:])
        if self.below is not None:
            return random.integers(0, self.below, shape)
        return random.normal(size=shape)


@dataclass
class Growing:
    """A graph while it grows: its tensors with their values, its nodes and its constants."""

    d: Dice
    opset: int
    dtype: str
    values: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)  # in their own dtype
    sources: list[Source] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)  # what a node may read
    read: set[str] = field(default_factory=set)
    shared: list[str] = field(default_factory=list)  # constants that may get another reader
    count: int = 0

    def shape(self, x: str) -> tuple[int, ...]:
        return self.values[x].shape

    def source(self, shape: tuple[int, ...], below: int | None = None) -> str:
        source = Source(f"in{len(self.sources)}", shape, below)
        self.sources.append(source)
        array = source.array(len(self.sources))
        self.values[source.name] = array if below else array.astype(self.dtype).astype(np.float64)
        if below is None:
            self.tensors.append(source.name)
        return source.name

    def constant(self, array: Any, *, as_is: bool = False) -> str:
        """Add a constant: floats in the dtype of the graph, unless they have to stay as they are.

        Now and then it is an equal one that is there already, or behind a Constant or Identity.
        """
        given = np.asarray(array)
        array = given.astype(self.dtype) if given.dtype.kind == "f" and not as_is else given
        if array.dtype.kind == "f" and not as_is and self.d.chance(0.08):
            alike = [
                name for name in self.shared
                if name in self.constants and self.constants[name].shape == array.shape
                and bool((self.constants[name] > 0).all()) >= bool((array > 0).all())
            ]  # fmt: skip
            if alike:
                return str(self.d.one(alike))
        name = self.name("const")
        self.values[name] = as_double(array)
        kind = self.d.int(1, 20)
        if kind <= 3:
            value = onnx.numpy_helper.from_array(np.asarray(array))
            self.nodes.append(helper.make_node("Constant", [], [name], name, value=value))
            return name
        self.constants[name] = array
        if array.dtype.kind == "f" and not as_is:
            self.shared.append(name)
        if kind == 4 and array.dtype.kind == "f" and not as_is:
            return self.node("Identity", [name])[0]
        return name

    def weights(self, *shape: int, fan: int | None = None) -> str:
        scale = math.sqrt(fan or max(1, math.prod(shape[1:])))
        return self.constant(self.d.random.normal(size=shape) / scale)

    def scale(self, *shape: int) -> str:
        """Add a factor such as gamma: of either sign, with some zeros."""
        values = self.d.random.normal(size=shape)
        if self.d.chance(0.4):
            values = np.abs(values)
        return self.constant(np.where(self.d.random.random(shape) < 0.05, 0.0, values))

    def positive(self, *shape: int) -> str:
        return self.constant(self.d.random.uniform(0.3, 2.0, shape))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node, and return its outputs. Raises `DoesNotFitError`."""
        made = [self.name(op.lower()) for _ in range(outputs)]
        title = "" if self.d.chance(0.1) else f"{op}_{self.count}"
        attributes = {name: value for name, value in attributes.items() if value is not None}
        node = helper.make_node(op, inputs, made, title, **attributes)
        read = {name for name in inputs if name} | _captured(node)
        known = {name: self.values[name] for name in read}
        try:
            results = run_nodes([node], known, made, {"": self.opset})
        except CannotEvaluate as error:
            raise DoesNotFitError(f"{op}: {error}") from error
        for array in results.values():
            if not 0 < array.size <= LARGEST or array.ndim > 5 or not np.isfinite(array).all():
                raise DoesNotFitError(f"{op}: {array.shape}")
            if is_float(array.dtype) and np.abs(array).max() > 200:
                raise DoesNotFitError(f"{op}: large values")
        self.values |= results
        self.nodes.append(node)
        self.read |= read
        return made

    def grow(self, steps: int) -> None:
        for _ in range(steps):
            before = len(self.nodes), set(self.constants), len(self.tensors)
            x = self.d.one(self.tensors[-4:])
            try:
                kind = self.d.int(1, 10)
                if kind <= 5:
                    made = add_foldable(self, x)
                else:
                    rows = [PASS_THROUGH, OTHERS, LINEAR][kind % 3]
                    make = add_affine if kind == 6 else self.d.one(choices(self, x, rows))
                    made = make(self, x)
                made = [made] if isinstance(made, str) else made
                self.tensors += made
                self.tensors = [name for name in self.tensors if len(self.shape(name)) > 1]
            except (
                DoesNotFitError,
                IndexError,
                ValueError,
            ):  # the last two: no axis or size to choose
                self.nodes, self.tensors = self.nodes[: before[0]], self.tensors[: before[2]]
                self.constants = {name: self.constants[name] for name in before[1]}

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        """Return the model, its first axes free or not, with intermediate shapes or not."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        free = self.d.chance(0.6)

        def port(name: str) -> onnx.ValueInfoProto:
            array = self.values[name]
            if name in outputs:
                shape: Any = [None] * array.ndim if free else array.shape
            else:
                shape = ["N", *array.shape[1:]] if free else array.shape
            integer = array.dtype.kind != "f"
            of = helper.np_dtype_to_tensor_dtype(array.dtype) if integer else kind
            return helper.make_tensor_value_info(name, of, shape)

        used = {name for node in self.nodes for name in node.input}
        used |= {name for node in self.nodes for name in _captured(node)}
        graph = helper.make_graph(
            self.nodes,
            "random",
            [port(source.name) for source in self.sources],
            [port(name) for name in outputs],
            [
                onnx.numpy_helper.from_array(array, name)
                for name, array in self.constants.items()
                if name in used
            ],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model) if self.d.chance(0.5) else model


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return what the subgraphs of a node read from outside."""
    found: set[str] = set()
    for attribute in node.attribute:
        if attribute.HasField("g"):
            made = {name for inner in attribute.g.node for name in inner.output}
            found |= {name for inner in attribute.g.node for name in inner.input} - made
    return found


@dataclass
class RandomGraph:
    """A model, its inputs, and the values of all its tensors in float64."""

    model: onnx.ModelProto
    sources: list[Source]
    values: dict[str, Array]

    @property
    def outputs(self) -> list[str]:
        return [output.name for output in self.model.graph.output]

    @property
    def feeds(self) -> dict[str, Array]:
        return {source.name: self.values[source.name] for source in self.sources}


def random_graph(seed: int, dtype: str = "float64") -> RandomGraph:
    """Return a graph of some ten to thirty nodes, with the same structure in every dtype."""
    d = Dice(seed)
    growing = Growing(d, d.one(OPSETS), dtype)
    rank = d.one([2, 3, 3, 4, 4, 4, 4, 4, 5])
    shape = d.one(SOURCES[rank])
    for _ in range(d.one([1, 1, 2])):
        growing.source(shape)
    growing.grow(d.int(3, 9))
    made = [name for name in growing.tensors if not name.startswith("in")]
    floats = [name for name in made if growing.values[name].dtype.kind == "f"]
    loose = [name for name in floats if name not in growing.read][-4:]
    if d.chance(0.15) and floats:
        loose.append(d.one(floats))
    outputs = list(dict.fromkeys(loose)) or floats[-1:]
    if not outputs:
        return random_graph(seed + 10_000_000, dtype)
    return RandomGraph(growing.model(outputs), growing.sources, growing.values)
