"""Find where an affine layer can be folded: into the layers before it, after it, or both.

A search splits the layer's map in two, ``y = outer(inner(x))``, one of which may be the identity.
It follows `inner` backward through the graph and `outer` forward. It returns a `Found` with
everything that has to change, or raises `CannotFold` with the first obstacle. It changes nothing
itself.

- Backward, a tensor x on the way is *requested* as ``s*x + t``. Its producer has to take the map,
  and its readers have to be affine layers with that same inner map, which are then dropped too.
- Forward, a tensor on the way *carries* x where ``s*x + t`` is meant. Every reader has to make up
  for it.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np

from kerasbn.folding.affine import Affine, CannotFold, affine, compose, identity, same
from kerasbn.folding.clips import Clip, pass_clip, pass_clip_backward
from kerasbn.folding.graph import Call, Graph, Layer, Value
from kerasbn.folding.linear import Edit


@dataclass(eq=False)
class Found:
    """What folding an affine layer changes. Layers are keyed by `id`."""

    dropped: dict[int, Layer] = field(default_factory=dict)  # it, and those that go with it
    edits: dict[int, list[Edit]] = field(default_factory=dict)  # what to fold into each layer
    into: dict[int, Call] = field(default_factory=dict)  # a call of each of these layers
    through: dict[Call, None] = field(default_factory=dict)  # an ordered set
    clips: dict[Call, Clip] = field(default_factory=dict)  # what activations on the way become


Split = Callable[[Affine], tuple[Affine, Affine]]  # a map into `inner` and `outer`


def backward(a: Affine) -> tuple[Affine, Affine]:
    """Let all of a map go backward."""
    return a, identity(len(a.shape))


def forward(a: Affine) -> tuple[Affine, Affine]:
    """Let all of a map go forward."""
    return identity(len(a.shape)), a


def by_sign(a: Affine) -> tuple[Affine, Affine]:
    """Split y = sign * (|s|*x + sign*t): only |s| passes a maximum, only t = 0 zero padding."""
    sign = np.where(a.s < 0, -1.0, 1.0)
    return affine(sign * a.s, sign * a.t), affine(sign, 0.0)


def by_scale(a: Affine) -> tuple[Affine, Affine]:
    """Split y = s * (x + t/s): all terms of a sum take s, only one takes t.

    Where s is 0 and t is not, all goes backward.
    """
    constant = (a.s == 0) & (a.t != 0)
    s = np.where(constant, 1.0, a.s)
    with np.errstate(over="ignore"):  # `affine` refuses what is not finite
        t = np.divide(a.t, s, out=np.zeros_like(s), where=s != 0)
    return affine(np.where(constant, 0.0, 1.0), t), affine(s, 0.0)


def find_fold(
    graph: Graph, layer: Layer, split: Split, *, merge: bool = False, clip: bool = False
) -> Found:
    """Find how to fold an affine layer, split in two. Raises `CannotFold`.

    Where a layer that takes the outer map is shared, another affine layer may have to go too. With
    `merge`, it may be merged into another affine layer; with `clip`, activations on the way may
    become clips.
    """
    dropped = {id(layer): layer}
    while True:
        before = _Backward(graph, lambda call: split(graph.affine_of(call))[0], merge, clip)
        for each in dropped.values():
            _run(before.drop(each))
        _check_clips(graph, before.found, "before")
        after = _Forward(
            graph, lambda call: split(graph.affine_of(call))[1], merge, clip, before.found
        )
        joined = after.run()
        if joined is None:
            return _both(before.found, after.found)
        dropped[id(joined)] = joined


def _both(before: Found, after: Found) -> Found:
    """Return what folding one part backward and the other forward changes."""
    edits = {
        key: before.edits.get(key, []) + after.edits.get(key, [])
        for key in before.edits | after.edits
    }
    others = [getattr(before, name) | getattr(after, name) for name in ("into", "through", "clips")]
    return Found(before.dropped, edits, *others)


Part = Callable[[Call], Affine]  # the inner or the outer map of an affine layer
Steps = Generator["Steps", None, None]  # a search that yields the searches it depends on


def _run(steps: Steps) -> None:
    """Run a search, however deep it is: Python allows only 1,000 calls within each other."""
    stack, refusal = [steps], None
    while stack:
        try:
            stack.append(stack[-1].throw(refusal) if refusal else next(stack[-1]))
            refusal = None
        except StopIteration:
            stack.pop()
            refusal = None
        except CannotFold as error:
            stack.pop()
            refusal = error
    if refusal:
        raise refusal


class _Backward:
    def __init__(self, graph: Graph, inner: Part, merge: bool, clip: bool) -> None:
        self.graph = graph
        self.inner = inner
        self.merge = merge
        self.clip = clip
        self.found = Found()
        self.requested: dict[Value, Affine] = {}
        # What failed once fails again: s at a tensor is the same however one gets there, and only
        # whether there is a t depends on the choice. So each tensor is tried at most twice.
        self.failed: dict[tuple[Value, bool], str] = {}

    def drop(self, layer: Layer) -> Steps:
        """Remove an affine layer: request its inner map in the place of its input."""
        if id(layer) not in self.found.dropped:
            self.found.dropped[id(layer)] = layer
            for call in self.graph.calls_of(layer):
                yield self.request(call.inputs[0], self.inner(call))

    def request(self, value: Value, a: Affine) -> Steps:
        """Request ``a(value)`` in the place of `value`."""
        if value in self.requested:
            if not same(self.requested[value], a):
                raise CannotFold(f"{self._name(value)} would need two different scales")
            return
        if a.is_identity():
            self.requested[value] = a  # no other request may change the tensor
            return
        key = (value, a.only_scales())
        if key in self.failed:
            raise CannotFold(self.failed[key])
        try:
            yield self._check_readers(value, a)
            yield self._ask_producer(value, a)
        except CannotFold as refusal:
            self.failed[key] = str(refusal)
            raise

    def _check_readers(self, value: Value, a: Affine) -> Steps:
        """Drop the other readers of a tensor, which have to be affine layers with the same map.

        Those that read another part of it, where s = 1 and t = 0, stay as they are. A call at the
        same place in the model as one that the map passes through has to pass it on as well.
        """
        if any(n not in (1, m) for n, m in zip(a.shape, value.example, strict=True)):
            raise CannotFold(f"{self._name(value)} is broadcast before it is scaled")
        if value.is_output:
            raise CannotFold(f"{self._name(value)} is also a model output")
        self.requested[value] = a
        for reader in list(value.readers):
            if id(reader.layer) in self.found.dropped or reader in self.found.through:
                continue
            if _is_unaffected(self.graph, reader, value, a):
                continue
            if twin := self._passing_twin(reader):
                requested = twin.lower(self.requested[twin.outputs[0]])
                yield self.request(reader.outputs[0], reader.lift(requested))
                continue
            if not _computes(reader, self.inner, a):
                raise CannotFold(f"{self._name(value)} is also read by `{reader.name}`")
            yield self.drop(reader.layer)

    def _passing_twin(self, call: Call) -> Call | None:
        """Return another call at the same place in the model that a map passes through, if any."""
        twins = self.graph.calls_at(call.node)
        return next((twin for twin in twins if twin in self.found.through), None)

    def _ask_producer(self, value: Value, a: Affine) -> Steps:
        """Fold the map into the producer of a tensor, or pass it on to the producer's inputs."""
        call = value.producer
        if call is None:
            raise CannotFold("it follows a model input")
        with _subject(f"`{call.name}` before it"):
            if call.outputs[0] is not value:
                raise CannotFold("has several outputs")
            is_passed = call.is_pass_through or self.graph.clip_of(call) is not None
            if is_passed:
                choices = self._pass(call, call.lower(a))
            else:
                _check_foldable(self.graph, call, self.merge)
                edit = call.edit("after", a, (call.inputs or call.outputs)[0])
                known = self.found.edits.get(id(call.layer))
                calls = [each for each in self.graph.calls_of(call.layer) if each.inputs]
                ranks = {len(each.seen(each.inputs[0])) for each in calls}
                if len(ranks) > 1 or (known is not None and not known[0].agrees(edit)):
                    raise CannotFold("is shared, and its calls need different maps")
        if is_passed:
            self.found.through[call] = None
            yield self._request_one(call, choices)
        elif known is None:
            self.found.edits[id(call.layer)] = [edit]
            self.found.into[id(call.layer)] = call
            for other in self.graph.calls_of(call.layer):
                yield self.request(other.outputs[0], other.lift(edit.affine))

    def _pass(self, call: Call, a: Affine) -> list[list[Affine]]:
        """Return the choices of input maps that make a map on the output."""
        clip = self.graph.clip_of(call) if self.clip else None
        if id(call.node) not in self.graph.clips:  # otherwise it is no longer what it was
            try:
                return call.backward(a)
            except CannotFold:
                if clip is None:
                    raise
        if clip is None:
            raise CannotFold("became a clip")
        self.found.clips[call], before = pass_clip_backward(clip, a, call.inputs[0].dtype)
        return [[before]]

    def _request_one(self, call: Call, choices: list[list[Affine]]) -> Steps:
        """Request the first of several choices of input maps that is possible."""
        changed: list[dict[Any, Any]] = [self.requested, *vars(self.found).values()]
        sizes = [len(each) for each in changed]
        for choice in choices:
            # The input that takes t comes first: it is refused more often, and then the others,
            # which may be most of the model, need not be tried.
            pairs = sorted(
                zip(call.data, choice, strict=True), key=lambda pair: pair[1].only_scales()
            )
            try:
                for value, a in pairs:
                    yield self.request(value, call.lift(a))
            except CannotFold:
                for each, size in zip(changed, sizes, strict=True):
                    while len(each) > size:  # entries are only added, so the last ones are new
                        each.popitem()
                if choice is choices[-1]:
                    raise
            else:
                return

    def _name(self, value: Value) -> str:
        if any(id(reader.layer) in self.found.dropped for reader in value.readers):
            return "its input"
        return f"the output of `{value.producer.name}`" if value.producer else "a model input"


class _Forward:
    def __init__(self, graph: Graph, outer: Part, merge: bool, clip: bool, before: Found) -> None:
        self.graph = graph
        self.outer = outer
        self.merge = merge
        self.clip = clip
        self.found = Found(before.dropped)
        self.clipped = {id(call.node) for call in before.clips}  # by the inner map
        self.carried: dict[Value, Affine] = {}
        self.due: set[Call] = set()
        self.queue: list[tuple[int, Call]] = []  # a heap
        for layer in before.dropped.values():
            self._follow(graph.calls_of(layer))

    def _follow(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if call not in self.due:
                self.due.add(call)
                heappush(self.queue, (self.graph.calls[call], call))

    def run(self) -> Layer | None:
        """Follow the maps to their ends. Return an affine layer that has to go too, if any."""
        while self.queue:  # in topological order, so that all inputs of a call are known
            self._visit(heappop(self.queue)[1])
        _check_clips(self.graph, self.found, "after")
        for layer_id, edits in self.found.edits.items():
            for other in self.graph.calls_of(self.found.into[layer_id].layer):
                if joined := self._missing(other, edits):
                    return joined
        return None

    def _on(self, value: Value) -> Affine:
        """Return the map that a tensor carries."""
        return self.carried.get(value) or identity(len(value.example))

    def _visit(self, call: Call) -> None:
        """Fold what the inputs of a call carry into its layer, or pass it on to its output."""
        if id(call.layer) in self.found.dropped:
            out = compose(self.outer(call), self._on(call.inputs[0]))
        else:
            with _subject(f"`{call.name}` after it"):
                if not call.is_pass_through and self.graph.clip_of(call) is None:
                    _check_foldable(self.graph, call, self.merge)
                    self._fold(call)
                    return
                out = self._pass(call)
            self.found.through[call] = None
        if not out.is_identity():
            if call.outputs[0].is_output:
                is_own = id(call.layer) == next(iter(self.found.dropped))
                name = "its output" if is_own else f"the output of `{call.name}`"
                raise CannotFold(f"{name} is a model output")
            self.carried[call.outputs[0]] = out
            self._follow(call.outputs[0].readers)

    def _pass(self, call: Call) -> Affine:
        if any(value in self.carried and value not in call.data for value in call.inputs):
            raise CannotFold("reads it as a second argument")
        if id(call.node) in self.clipped:
            raise CannotFold("becomes a clip")
        incoming = [call.lower(self._on(value)) for value in call.data]
        clip = self.graph.clip_of(call) if self.clip else None
        if id(call.node) not in self.graph.clips:  # otherwise it is no longer what it was
            try:
                return call.lift(call.forward(incoming))
            except CannotFold:
                if clip is None:
                    raise
        if clip is None:
            raise CannotFold("became a clip")
        self.found.clips[call], out = pass_clip(clip, incoming[0], call.inputs[0].dtype)
        return call.lift(out)

    def _fold(self, call: Call) -> None:
        inputs = call.foldable_inputs
        foldable = [value for _, value in inputs]
        if any(value in self.carried and value not in foldable for value in call.inputs):
            raise CannotFold("reads it as an argument that no kernel multiplies")
        edits = [
            call.edit("before", self.carried[value], value, argument)
            for argument, value in inputs
            if value in self.carried
        ]
        self.found.edits.setdefault(id(call.layer), edits)
        self.found.into.setdefault(id(call.layer), call)

    def _missing(self, call: Call, edits: list[Edit]) -> Layer | None:
        """Return an affine layer whose removal makes this call of a shared layer agree, if needed.

        Raises `CannotFold` if nothing makes it agree.
        """
        required = {edit.argument: edit.affine for edit in edits}
        for argument, value in call.foldable_inputs:
            a = required.get(argument)
            wanted = call.lift(a) if a else identity(len(value.example))
            if same(wanted, self._on(value)):
                continue
            maker = value.producer
            if value not in self.carried and maker and _computes(maker, self.outer, wanted):
                return maker.layer
            raise CannotFold(f"`{call.name}` after it is shared, and also reads other tensors")
        return None


def _check_clips(graph: Graph, found: Found, where: str) -> None:
    """Raise `CannotFold` unless all calls at one place in the model become the same clip."""
    for call, clip in found.clips.items():
        twins = [found.clips.get(other) for other in graph.calls_at(call.node)]
        if not all(twin and twin.same(clip) for twin in twins):
            name = f"`{call.name}` {where} it"
            raise CannotFold(f"{name} is shared, and its calls need other clips")


def _is_unaffected(graph: Graph, call: Call, value: Value, a: Affine) -> bool:
    """Return whether a pass-through layer computes the same from ``a(value)`` as from `value`."""
    is_other = id(call.node) in graph.clips or call.inputs != call.data
    if is_other or not call.is_pass_through:
        return False
    try:
        maps = [a if each is value else identity(len(each.example)) for each in call.data]
        return call.forward([call.lower(each) for each in maps]).is_identity()
    except CannotFold:
        return False


def _computes(call: Call, part: Part, a: Affine) -> bool:
    """Return whether a call is of an affine layer whose inner or outer map is `a`."""
    try:
        return call.kind is not None and same(part(call), a)
    except CannotFold:
        return False


def _check_foldable(graph: Graph, call: Call, merge: bool) -> None:
    """Raise `CannotFold` unless the layer of a call is linear, or affine where `merge` is set."""
    if not (call.is_linear or (merge and call.kind)):
        article = "an" if call.type_name[0] in "AEIOU" else "a"
        raise CannotFold(f"is {article} {call.type_name}, which no map folds into")
    if call.kind:
        graph.affine_of(call)  # raises if it is no affine map


@contextmanager
def _subject(name: str) -> Iterator[None]:
    """Begin the reason of a `CannotFold` with its subject."""
    try:
        yield
    except CannotFold as refusal:
        raise CannotFold(f"{name} {refusal}") from None
