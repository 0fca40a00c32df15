"""Check that a folded ONNX model predicts what the original does. TensorFlow is not loaded.

Two checks complete each other:

- Each fold by itself, in float64. What computes a tensor of the folded model, back to tensors that
  are known to be equal in both models, is cut out of both and run on the same arrays. Then the
  tensor is known to be equal as well, or else a later one has to be. In the end all outputs have to
  be known. So a wrong fold is found however little it changes the outputs.
- The whole model by onnxruntime, in its own dtype. So a fold is found that is exact, but multiplies
  rounding errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from kerasbn.common.errors import expected
from kerasbn.folding.onnx.constants import constant, is_constant
from kerasbn.folding.onnx.evaluate import Array, CannotEvaluate, as_double, evaluate, is_float
from kerasbn.folding.onnx.nodes import captured
from kerasbn.folding.onnx.rewrite import rewrite
from kerasbn.folding.onnx.running import (
    Arrays,
    CannotRun,
    Runner,
    example_inputs,
    given_inputs,
)
from kerasbn.folding.plan import Plan
from kerasbn.folding.rounding import EXACT, UNITS, relative_difference, unit_of

SMALL = 5  # what the longest axis of images is reduced to, to check a fold by itself
ENOUGH = 10_000  # values of a tensor, to see whether it is another one
# Times the error of rounding each kernel of the original once more.
ROUNDING = 16.0
# Rounding units that a tensor may differ by which only onnxruntime can compute.
SINGLE = 256.0


class SelfCheck:
    """Compares folded versions of a model with the model, on random and on given inputs.

    Raises:
        InputError: if there are no inputs that the model runs on, or the given ones do not fit.
    """

    def __init__(self, model: ir.Model, inputs: Any = None) -> None:  # noqa: ANN401 - as `fold` takes them
        self.model = model
        self.tensors = {str(v.name): v for node in model.graph for v in node.outputs if v.name}
        self.outputs = [str(value.name) for value in model.graph.outputs]
        self.runner, reason = _runner(model)
        self.runs = list(_runs(model, self.runner, reason, inputs))

    def problem(self, plan: Plan, folded: ir.Model) -> str | None:
        """Return what is wrong with a plan and the model it led to, None if nothing is."""
        made: list[Arrays] = []
        try:
            for run in self.runs:
                if run.allowed is not None:
                    made.append(Runner(folded).run(run.feeds, everything=not made))
        except CannotRun as reason:
            return f"onnxruntime cannot run the folded model ({reason})"
        exact, _ = rewrite(self.model, plan, exact=True)
        if wrong := self._wrong_part(exact, made[0] if made else {}):
            return wrong
        for run, arrays in zip(self.runs, made, strict=False):
            gaps = (
                _gap(arrays[name], run.values[name], _least(self.tensors.get(name)))
                for name in self.outputs
            )
            error = max(gaps, default=0.0)
            if run.allowed is not None and not error <= run.allowed:
                return f"in its own dtype they differ by {error:.1e} (allowed: {run.allowed:.1e})"
        return None

    def _wrong_part(self, exact: ir.Model, made: Arrays) -> str | None:
        """Return what is wrong with a model whose new constants are float64, None if nothing is.

        `made` has the tensors of the folded model in the first run.
        """
        known = {str(value.name) for value in self.model.graph.inputs}
        known |= {name for name in self.outputs if name not in self.tensors}
        errors: dict[str, float] = {}
        for after in (value for node in exact.graph for value in node.outputs):
            name = str(after.name)
            before = self.tensors.get(name)
            if before is None:
                continue
            if _is_same(before, after, known):
                known.add(name)
            elif name in self.outputs or not self._differs(name, made):
                errors[name] = self._error(before, after, known, made)
                known |= {name} if errors[name] <= EXACT else set()
        for name in self.outputs:
            if name not in known:
                error = errors.get(name, np.inf)
                return f"in float64 `{name}` differs by {error:.1e} (allowed: {EXACT:.0e})"
        return None

    def _differs(self, name: str, made: Arrays) -> bool:
        """Return whether a tensor was different in the first run, beyond any rounding."""
        if name not in made:
            return False
        got, want = made[name], self.runs[0].values[name]
        if got.shape != want.shape:
            return True
        step = 1 + got.size // ENOUGH
        gap = _gap(got.ravel()[::step], want.ravel()[::step])
        return bool(gap > unit_of(want.dtype) ** 0.5)

    def _error(self, before: ir.Value, after: ir.Value, known: set[str], made: Arrays) -> float:
        """Return how much a tensor differs in float64, computed from the same arrays."""
        name, opsets = str(before.name), self.model.opset_imports
        (old, old_feeds), (new, new_feeds) = _part(before, known), _part(after, known)
        values = self.runs[0].values
        actual = {each: values[each] for each in old_feeds | new_feeds}
        for arrays in _surroundings(actual):
            try:
                want = evaluate(old, arrays, [name], opsets)[name]
            except CannotEvaluate:  # the sizes do not fit, or there is no such operator
                continue
            try:
                error = _gap(evaluate(new, arrays, [name], opsets)[name], want)
            except CannotEvaluate:
                return np.inf
            if error <= EXACT:
                return error
            own = evaluate(old, actual, [name], opsets)[name]
            if _gap(own, values[name]) <= unit_of(values[name].dtype) ** 0.5:
                return error
            break  # the evaluator does not compute what onnxruntime does
        error = _gap(made[name], values[name]) if name in made else np.inf
        return 0.0 if error <= SINGLE * unit_of(values[name].dtype) else error


@dataclass
class _Run:
    """The original on some inputs: all its tensors, and how far the outputs may be off.

    Nothing is `allowed` for models that onnxruntime cannot run, such as most of float64.
    """

    feeds: Arrays
    values: Arrays
    allowed: float | None


def _runner(model: ir.Model) -> tuple[Runner | None, str]:
    """Return what runs a model in onnxruntime, or else why nothing does."""
    try:
        return Runner(model), ""
    except CannotRun as error:
        return None, str(error)


def _runs(
    model: ir.Model,
    runner: Runner | None,
    reason: str,
    inputs: Any,  # noqa: ANN401 - as `fold` takes them
) -> Iterator[_Run]:
    """Yield a run on random inputs, if it runs on any, and on the given ones, if there are any."""
    for feeds in example_inputs(model):
        try:
            yield _run(model, runner, feeds)
            break
        except (CannotRun, CannotEvaluate) as error:
            reason = str(error)
    else:
        if inputs is None:
            raise expected(
                f"model '{model.graph.name}'", f"one that runs on no random inputs ({reason})",
                "one that can be checked", "give inputs to check it with, or skip the check with "
                "--no-check, or check=False in Python",
            )  # fmt: skip
    if inputs is not None:
        feeds = given_inputs(model, inputs)
        try:
            yield _run(model, runner, feeds)
        except (CannotRun, CannotEvaluate) as error:
            raise expected(
                "inputs", f"arrays that it cannot process ({error})", "others"
            ) from error


def _run(model: ir.Model, runner: Runner | None, feeds: Arrays) -> _Run:
    if runner is None:
        names = [str(v.name) for node in model.graph for v in node.outputs if v.name]
        made = evaluate(list(model.graph), feeds, names, model.opset_imports)
        return _Run(feeds, feeds | made, None)
    values = runner.run(feeds, everything=True)
    shaken = runner.run(feeds, everything=False, shaken=True)
    error = max(_gap(shaken[name], values[name]) for name in shaken)
    unit = max(unit_of(values[name].dtype) for name in shaken)
    return _Run(feeds, feeds | values, max(ROUNDING * error, UNITS * unit))


def _part(value: ir.Value, known: set[str]) -> tuple[list[ir.Node], set[str]]:
    """Return the nodes that compute a tensor from known ones, and the names of these."""
    nodes: dict[ir.Node, None] = {}
    feeds: set[str] = set()
    # Each node is put on the stack twice: the second time, all nodes before it are in order.
    stack = [(value.producer(), False)]
    while stack:
        node, is_ready = stack.pop()
        if node is None or node in nodes:
            continue
        if is_ready:
            nodes[node] = None
            continue
        stack.append((node, True))
        for each in (*node.inputs, *captured(node)):
            if each is None or is_constant(each):
                continue
            if str(each.name) in known:
                feeds.add(str(each.name))
            else:
                stack.append((each.producer(), False))
    return list(nodes), feeds


def _is_same(before: ir.Value, after: ir.Value, known: set[str]) -> bool:
    """Return whether two nodes are alike and read known tensors and the same constants."""
    old, new = before.producer(), after.producer()
    assert old is not None
    assert new is not None
    if (old.op_identifier(), before.index()) != (new.op_identifier(), after.index()):
        return False
    attributes = [
        {k: v.value for k, v in node.attributes.items() if v.type != ir.AttributeType.GRAPH}
        for node in (old, new)
    ]
    read = [[*node.inputs, *captured(node)] for node in (old, new)]
    return (
        len(read[0]) == len(read[1])
        and all(_reads_same(a, b, known) for a, b in zip(*read, strict=True))
        and bool(attributes[0] == attributes[1])
    )


def _reads_same(a: ir.Value | None, b: ir.Value | None, known: set[str]) -> bool:
    if a is None or b is None:
        return a is b
    if not (is_constant(a) and is_constant(b)):
        return a.name == b.name and a.name in known
    if a.const_value is not None and a.const_value is b.const_value:
        return True
    return np.array_equal(constant(a), constant(b))


def _surroundings(actual: Arrays) -> Iterator[Arrays]:
    """Yield random arrays like the actual ones, with smaller images at first.

    Where an axis of length n has ceil(n / k) instead, "same" convolutions and their strides still
    fit. Which axes are those of images is not known, so both conventions are tried.
    """
    random = np.random.default_rng(0)
    images = [array for array in actual.values() if is_float(array.dtype) and array.ndim > 2]
    for axes in (slice(2, None), slice(1, -1)):
        longest = max([n for image in images for n in image.shape[axes]], default=1)
        step = -(-longest // SMALL)
        if step > 1:
            yield {name: _like(array, step, axes, random) for name, array in actual.items()}
    yield {name: _like(array, 1, slice(0), random) for name, array in actual.items()}


def _like(array: Array, step: int, axes: slice, random: np.random.Generator) -> Array:
    """Return an array like another, with noise: of one example with every so many values."""
    if not is_float(array.dtype):
        return array
    if array.ndim > 2:
        every = [slice(1 if step > 1 else None), *[slice(None)] * (array.ndim - 1)]
        every[axes] = [slice(None, None, step)] * len(every[axes])
        array = array[tuple(every)]
    array = np.nan_to_num(as_double(array), posinf=1.0, neginf=-1.0)
    spread = (array.size and array.std()) or 1.0
    return array + spread * random.normal(size=array.shape)


def _gap(got: Array, want: Array, least: float = 0.0) -> float:
    """Return the relative difference of two arrays, 0 for integers, such as those of an ArgMax."""
    if got.shape != want.shape:
        return np.inf
    return relative_difference([got], [want], least) if is_float(want.dtype) else 0.0


def _least(value: ir.Value | None) -> float:
    """Return the size by which to judge the rounding of a tensor if its values are smaller.

    Runtimes compute a Sigmoid or Softmax to some units of 1, however small the results are.
    """
    node = value.producer() if value is not None else None
    return 1.0 if node is not None and node.op_type in ("Sigmoid", "Softmax") else 0.0
