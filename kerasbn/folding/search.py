"""The two ways out for a normalization: into what comes before it, or into what follows.

Both follow its affine through the graph and collect what has to change, or raise `CannotFold` with
the first thing in the way. They change nothing themselves; `Found` is what they give.

Backward, a tensor on the way is *asked* for as ``s*x + t``: whoever makes it must absorb that, and
all who read it must be normalizations that want just that. Forward, a tensor on the way is
*carried* as x where ``s*x + t`` is meant: all who read it must make up for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from kerasbn.folding.affine import Affine, CannotFold, compose, identity, same
from kerasbn.folding.clips import Clip, crossed
from kerasbn.folding.keras.absorb import Edit, check, is_linear
from kerasbn.folding.keras.affine_layers import check_merge, is_norm
from kerasbn.folding.keras.graph import Call, Graph, Value
from kerasbn.folding.keras.linear_layers import LAWS
from kerasbn.folding.keras.pass_through_layers import Crossing, backward, forward, is_passage

Layer = Any  # Keras ships no types


@dataclass(eq=False)
class Found:
    """A way to fold; layers are told by `id`.

    Attributes:
        dropped: the normalizations that go: the one asked about, and those that must go with it.
        edits: what each layer absorbs.
        into: a call of each layer that absorbs something.
        through: the calls that the affine crosses.
        clips: what activations on the way become.
    """

    dropped: dict[int, Layer] = field(default_factory=dict)
    edits: dict[int, list[Edit]] = field(default_factory=dict)
    into: dict[int, Call] = field(default_factory=dict)
    through: dict[Call, None] = field(default_factory=dict)
    clips: dict[Call, Clip] = field(default_factory=dict)

    def lengths(self) -> tuple[int, ...]:
        """How much was found so far; what comes later can be taken back with `cut`."""
        return tuple(len(found) for found in self._all())

    def cut(self, lengths: tuple[int, ...]) -> None:
        """Forget what was found since `lengths`: dictionaries remember their order."""
        for found, n in zip(self._all(), lengths, strict=True):
            _shorten(found, n)

    def _all(self) -> list[dict[Any, Any]]:
        return [self.dropped, self.edits, self.into, self.through]


def fold_backward(graph: Graph, norm: Layer, *, merge: bool = False) -> Found:
    """The way for `norm` into what comes before it; `merge` if another normalization counts too.

    Raises:
        CannotFold: if there is none.
    """
    search = _Backward(graph, merge)
    search.drop(norm)
    return search.found


class _Backward:
    def __init__(self, graph: Graph, merge: bool) -> None:
        self.graph = graph
        self.merge = merge
        self.found = Found()
        self.asked: dict[Value, Affine] = {}
        # What failed once fails again: s at a tensor is the same however one gets there, and only
        # whether there is a t depends on the choice. So each tensor is tried at most twice.
        self.failed: dict[tuple[Value, bool], str] = {}

    def drop(self, norm: Layer) -> None:
        """Take a normalization out: before each of its calls, ask for what came after it."""
        if id(norm) in self.found.dropped:
            return
        self.found.dropped[id(norm)] = norm
        for call in self.graph.calls_of(norm):
            self.ask(call.inputs[0], affine_at(self.graph, call))

    def ask(self, value: Value, a: Affine) -> None:
        """Ask for ``a(value)`` in the place of `value`."""
        if value in self.asked:
            if not same(self.asked[value], a):
                raise CannotFold(f"{self._this(value)} would be scaled in two ways at once")
            return
        if a.is_identity():
            self.asked[value] = a  # so that nobody else asks for more
            return
        key = (value, a.only_scales())
        if key in self.failed:
            raise CannotFold(self.failed[key])
        try:
            self._readers(value, a)
            self._producer(value, a)
        except CannotFold as refusal:
            self.failed[key] = str(refusal)
            raise

    def _readers(self, value: Value, a: Affine) -> None:
        """All who read the tensor must want just that, or be what asked for it."""
        if any(n not in (1, m) for n, m in zip(a.shape, value.example, strict=True)):
            raise CannotFold(f"{self._this(value)} is scaled only after it is broadcast")
        if value.is_output:
            raise CannotFold(f"{self._this(value)} is an output of the network too")
        self.asked[value] = a
        for reader in list(value.readers):
            if id(reader.layer) in self.found.dropped or reader in self.found.through:
                continue
            if not self._wants(reader, a):
                raise CannotFold(f"{self._this(value)} is also read by `{reader.name}`")
            self.drop(reader.layer)

    def _wants(self, reader: Call, a: Affine) -> bool:
        if not is_norm(reader.layer):
            return False
        try:
            return same(affine_at(self.graph, reader), a)
        except CannotFold:
            return False

    def _producer(self, value: Value, a: Affine) -> None:
        """Whoever makes the tensor must absorb the affine, or let it pass to what it reads."""
        call = value.producer
        if call is None:
            raise CannotFold("before it there is an input of the network, which cannot absorb it")
        with _naming(f"`{call.name}` before it"):
            if call.outputs[0] is not value:
                raise CannotFold("gives it as one of several outputs")
            if not is_passage(call.layer) and not _absorbs(call, self.merge):
                raise CannotFold(f"{_kind(call)} and does not absorb it")
            if id(call.spot) in self.graph.clips:
                raise CannotFold("became a clip")
            within = inner(a, call)
            if is_passage(call.layer):
                choices = backward(crossing(call), within)
            else:
                edit = Edit("after", within, call.seen(call.inputs[0]))
                known = self.found.edits.get(id(call.layer))
                if known is not None and not known[0].agrees(edit):
                    raise CannotFold("is shared, and would have to absorb different affines")
                _check(self.graph, call, edit)
        if is_passage(call.layer):
            self.found.through[call] = None
            self._choose(call, choices)
        elif known is None:
            self.found.edits[id(call.layer)] = [edit]
            self.found.into[id(call.layer)] = call
            for other in self.graph.calls_of(call.layer):
                self.ask(other.outputs[0], outer(within, other))

    def _choose(self, call: Call, choices: list[list[Affine]]) -> None:
        """Ask for the first of several choices that can be had."""
        for i, choice in enumerate(choices):
            mark = self.found.lengths(), len(self.asked)
            try:
                # Whoever is to take t comes first: it refuses more often, and then the rest,
                # which may be most of the network, need not be asked.
                for value, wanted in sorted(
                    zip(call.data, choice, strict=True), key=lambda pair: pair[1].only_scales()
                ):
                    self.ask(value, outer(wanted, call))
            except CannotFold:
                if i == len(choices) - 1:
                    raise
                self.found.cut(mark[0])
                _shorten(self.asked, mark[1])
            else:
                return

    def _this(self, value: Value) -> str:
        if any(reader.layer in self.found.dropped.values() for reader in value.readers):
            return "its input"
        return (
            f"the output of `{value.producer.name}`"
            if value.producer
            else "an input of the network"
        )


def fold_forward(graph: Graph, norm: Layer, *, merge: bool = False, clip: bool = False) -> Found:
    """The way for `norm` into what follows it.

    With `merge` another normalization may take it in, with `clip` activations may become clips.

    Where a layer that absorbs is shared, another normalization may have to go with it.

    Raises:
        CannotFold: if there is none.
    """
    seeds = {id(norm): norm}
    while True:
        search = _Forward(graph, merge, clip, seeds)
        joined = search.run()
        if joined is None:
            return search.found
        seeds = {**seeds, id(joined): joined}


class _Forward:
    def __init__(self, graph: Graph, merge: bool, clip: bool, seeds: dict[int, Layer]) -> None:
        self.graph = graph
        self.merge = merge
        self.clip = clip
        self.found = Found(dropped=dict(seeds))
        self.carried: dict[Value, Affine] = {}
        self.pending: list[tuple[int, Call]] = []
        self.seen: set[Call] = set()

    def run(self) -> Layer | None:
        """Follow the affines to their ends; gives a normalization that has to go too, if any."""
        for norm in self.found.dropped.values():
            for call in self.graph.calls_of(norm):
                self._visit_later(call)
        while self.pending:  # in topological order, so that all inputs of a call are known by then
            self._visit(heappop(self.pending)[1])
        for call, clip in self.found.clips.items():
            self._must_agree(call, clip)
        for layer_id, edits in self.found.edits.items():
            for other in self.graph.calls_of(self.found.into[layer_id].layer):
                if joined := self._disagreement(other, edits):
                    return joined
        return None

    def _visit_later(self, call: Call) -> None:
        if call not in self.seen:
            self.seen.add(call)
            heappush(self.pending, (call.index, call))

    def _carry(self, value: Value, a: Affine) -> None:
        if a.is_identity():
            return
        if value.is_output:
            raise CannotFold("its output is an output of the network")
        self.carried[value] = a
        for reader in value.readers:
            self._visit_later(reader)

    def _visit(self, call: Call) -> None:
        if id(call.layer) in self.found.dropped:
            incoming = self.carried.get(call.inputs[0]) or identity(len(call.inputs[0].example))
            self._carry(call.outputs[0], compose(affine_at(self.graph, call), incoming))
            return
        with _naming(f"`{call.name}` after it"):
            if is_passage(call.layer) or self.graph.clip_of(call) is not None:
                out = self._cross(call)
            elif _absorbs(call, self.merge):
                self._absorb(call)
                return
            else:
                raise CannotFold(f"{_kind(call)} and does not absorb it")
        self.found.through[call] = None
        self._carry(call.outputs[0], outer(out, call))

    def _cross(self, call: Call) -> Affine:
        if any(value in self.carried and value not in call.data for value in call.inputs):
            raise CannotFold("reads it beside what it computes with")
        incoming = [
            inner(self.carried.get(value) or identity(len(value.example)), call)
            for value in call.data
        ]
        clip = self.graph.clip_of(call)
        if id(call.spot) not in self.graph.clips:  # otherwise it is no longer what it was
            try:
                return forward(crossing(call), incoming)
            except CannotFold:
                if clip is None or not self.clip:
                    raise
        if clip is None or not self.clip:
            raise CannotFold("became a clip")
        self.found.clips[call], out = crossed(clip, incoming[0], call.inputs[0].dtype)
        return out

    def _must_agree(self, call: Call, clip: Clip) -> None:
        """What becomes a clip in one call of a model does in all."""
        for other in self.graph.calls_at(call.spot):
            found = self.found.clips.get(other)
            if found is None or not found.same(clip):
                raise CannotFold(
                    f"`{call.name}` after it would become another clip where it is called again"
                )

    def _absorb(self, call: Call) -> None:
        read = arguments(call)
        if any(value in self.carried and value not in dict(read).values() for value in call.inputs):
            raise CannotFold("reads it as something it does not multiply by a kernel")
        edits = []
        for argument, value in read:
            if value in self.carried:
                within = inner(self.carried[value], call)
                edit = Edit("before", within, call.seen(value), argument, call.training)
                _check(self.graph, call, edit)
                edits.append(edit)
        self.found.edits.setdefault(id(call.layer), edits)
        self.found.into.setdefault(id(call.layer), call)

    def _disagreement(self, call: Call, edits: list[Edit]) -> Layer | None:
        """A normalization that would make this call of a shared layer ask the same as the others.

        Raises:
            CannotFold: if they disagree and there is none.
        """
        asked = {edit.argument: edit.affine for edit in edits}
        for argument, value in arguments(call):
            wanted = outer(asked.get(argument) or identity(len(call.seen(value))), call)
            carried = self.carried.get(value) or identity(len(value.example))
            if same(wanted, carried):
                continue
            maker = value.producer
            if value not in self.carried and maker is not None and self._is(maker, wanted):
                return maker.layer
            raise CannotFold(f"`{call.name}` after it is shared, and reads other tensors elsewhere")
        return None

    def _is(self, call: Call, a: Affine) -> bool:
        """Whether a call is a normalization that maps by `a`."""
        return is_norm(call.layer) and same(affine_at(self.graph, call), a)


# -- what both need -----------------------------------------------------------------------------


def affine_at(graph: Graph, call: Call) -> Affine:
    """The affine of a call of a normalization, together with what was merged into it."""
    return outer(graph.affine_of(call), call)


def crossing(call: Call) -> Crossing:
    """What the law of a passage needs to know of a call."""
    twins = [call.data.index(value) for value in call.data]
    seen = [call.seen(value) for value in call.data]
    return Crossing(call.layer, seen, call.seen(call.outputs[0]), call.training, twins, call.plain)


def inner(a: Affine, call: Call) -> Affine:
    """An affine as a layer within TimeDistributed sees it."""
    for _ in range(call.wraps):
        if a.varies_along(0):
            raise CannotFold("is the same for all time steps, between which s and t differ")
        a = a.map(lambda values: values[0])
    return a


def outer(a: Affine, call: Call) -> Affine:
    """The inverse of `inner`."""
    return a.map(lambda values: values.reshape((1,) * call.wraps + values.shape))


def _absorbs(call: Call, merge: bool) -> bool:
    return is_linear(call.layer) or (merge and is_norm(call.layer))


def _check(graph: Graph, call: Call, edit: Edit) -> None:
    """Refuse what the layer cannot absorb."""
    if is_norm(call.layer):
        graph.affine_of(call)
        check_merge(call.layer, edit.affine)
    else:
        check(call.layer, edit)


def arguments(call: Call) -> list[tuple[str, Value]]:
    """The arguments of a call by which a layer absorbs, and the tensors they are."""
    law = LAWS.get(type(call.layer))
    if law is None or not law.arguments:
        return [("", call.inputs[0])]
    given = dict(zip(call.slots, call.inputs, strict=True))
    given.setdefault("key", given["value"])  # as MultiHeadAttention does
    return [(name, given[name]) for name in law.arguments]


def _kind(call: Call) -> str:
    name = type(call.layer).__name__
    return f"is {'an' if name[0] in 'AEIOU' else 'a'} {name}"


@contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Begin the reason of a refusal with its subject."""
    try:
        yield
    except CannotFold as refusal:
        raise CannotFold(f"{subject} {refusal}") from None


def _shorten(ordered: dict[Any, Any], length: int) -> None:
    while len(ordered) > length:
        ordered.popitem()
