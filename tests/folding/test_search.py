"""A search takes time and memory in proportion to what it visits, however deep the graph is."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from kerasbn.folding.affine import Affine, CannotFold, affine, compose
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Call, Graph, Value
from kerasbn.folding.linear import Edit
from kerasbn.folding.plan import Plan, plan_folds
from kerasbn.folding.search import Split, backward, by_scale, by_sign, find_fold, forward


@dataclass(eq=False, kw_only=True)
class Node(Call):
    """An affine, linear, adding or other node, which counts how often it is looked up."""

    lookups: ClassVar[int] = 0

    def __hash__(self) -> int:
        Node.lookups += 1
        return id(self)

    @property
    def data(self) -> list[Value]:
        return self.inputs

    @property
    def foldable_inputs(self) -> list[tuple[str, Value]]:
        return [("", self.inputs[0])]

    def affine(self) -> Affine:
        return affine(np.full(1, 2.0), np.full(1, 3.0))

    def clip(self) -> Clip | None:
        return None

    def check(self, edit: Edit) -> None:
        pass

    def forward(self, incoming: list[Affine]) -> Affine:
        raise CannotFold("only works backward")

    def backward(self, outgoing: Affine) -> list[list[Affine]]:
        """Add: each input takes s, and one of them t."""
        rest = Affine(outgoing.s, 0 * outgoing.t)
        places = range(len(self.inputs))
        return [[outgoing if at == taker else rest for at in places] for taker in places]


class Model:
    """A graph that grows node by node."""

    def __init__(self) -> None:
        self.graph = Graph([Value((4,), "float32")])

    def add(self, kind: str, *inputs: Value) -> Value:
        call = Node(
            layer=[], name=f"{kind}_{len(self.graph.calls)}", type_name=kind, node=[],
            kind="BN layer" if kind == "affine" else None, is_linear=kind == "linear",
            is_pass_through=kind == "add", training=False, inputs=list(inputs),
        )  # fmt: skip
        self.graph.add(call)
        call.outputs = [Value((4,), "float32", call)]
        return call.outputs[0]


def plan(model: Model) -> Plan:
    return plan_folds(model.graph, clip=True, excluded={})


def in_a_row(size: int) -> Model:
    """BN layers, each before a linear layer that takes it, since another follows a model input."""
    model = Model()
    value = model.graph.inputs[0]
    for _ in range(size // 2):
        value = model.add("linear", model.add("affine", value))
        value = model.add("other", value)
    return model


def tower(size: int) -> Model:
    """A BN layer behind many additions, each of the sum so far and a linear layer."""
    model = Model()
    value = model.add("linear", model.graph.inputs[0])
    for _ in range(size // 2):
        value = model.add("add", value, model.add("linear", model.graph.inputs[0]))
    model.add("affine", value).is_output = True
    return model


def hopeless_tower(size: int) -> Model:
    """The same, but the first sum is of a model input, which nothing can be folded into."""
    model = Model()
    value = model.graph.inputs[0]
    for _ in range(size // 2):
        value = model.add("add", value, model.add("linear", model.graph.inputs[0]))
    model.add("affine", value).is_output = True
    return model


def lookups(size: int, build: Callable[[int], Model], folds: Callable[[int], int]) -> int:
    """How often nodes are looked up to plan the folds of a model."""
    model = build(size)
    Node.lookups = 0
    assert len(plan(model).folds()) == folds(size)
    return Node.lookups


@pytest.mark.parametrize(
    ("build", "folds"),
    [(in_a_row, lambda size: size // 2), (tower, lambda _: 1), (hopeless_tower, lambda _: 0)],
)
def test_a_plan_takes_steps_in_proportion_to_the_graph(
    build: Callable[[int], Model], folds: Callable[[int], int]
) -> None:
    small, large = (lookups(size, build, folds) for size in (300, 1200))
    assert large <= 4.2 * small


def test_deep_graphs_are_no_recursion() -> None:
    """Python allows 1,000 calls within each other."""
    model = tower(3000)
    (fold,) = plan(model).folds()
    assert len(fold.into) == 1501
    assert len(fold.through) == 1500


def test_memory_is_in_proportion_to_the_graph() -> None:
    """Each addition has two choices to go back to."""
    peaks = []
    for size in (300, 1200):
        model = tower(size)
        layer = next(call.layer for call in model.graph.calls if call.kind)
        tracemalloc.start()
        find_fold(model.graph, layer, backward)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= 6 * peaks[0]


@pytest.mark.parametrize("split", [backward, forward, by_sign, by_scale])
def test_both_parts_of_a_map_make_the_map(split: Split) -> None:
    a = affine(np.repeat([-2.0, 0.0, 0.3], 3), np.tile([-0.5, 0.0, 4.0], 3))
    made = compose(*split(a)[::-1])
    np.testing.assert_allclose(made.s, a.s, rtol=1e-15)
    np.testing.assert_allclose(made.t, a.t, rtol=1e-15)


def test_what_goes_forward_only_scales() -> None:
    a = affine([-2.0, 0.0, 0.0, 0.3], [-0.5, 0.0, 4.0, 1.0])
    inner, outer = by_sign(a)
    assert inner.keeps_order()
    assert outer.only_scales()
    assert set(outer.s) == {-1.0, 1.0}
    inner, outer = by_scale(a)
    assert inner.s.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert outer.only_scales()
    with pytest.raises(CannotFold):
        by_scale(affine([1e-200], [1e200]))
