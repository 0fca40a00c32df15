"""The decision for each normalization and scaling, as data; nothing is changed here."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, overload

import keras

from kerasbn.folding.affine import CannotFold
from kerasbn.folding.clips import Clip
from kerasbn.folding.keras.absorb import Edit
from kerasbn.folding.keras.affine_layers import NORMS, is_norm, is_scaling
from kerasbn.folding.keras.graph import Call, Graph, read
from kerasbn.folding.search import Found, fold_backward, fold_forward

Layer = Any  # Keras ships no types

Kind = Literal["BN layer", "scaling"]
Direction = Literal["backward", "forward", "merge"]


@dataclass(frozen=True)
class Fold:
    """A layer that goes: its affine is absorbed by others.

    Attributes:
        layer: the layer's name, with the names of the models around it (`backbone/bn_1`).
        into: the layers that absorb it.
        direction: "backward" into what comes before it, "forward" into what follows, "merge" into
            another normalization or scaling.
        through: the layers that its affine crosses on the way.
        clips: those of them that become a clip in its stead.
        kind: whether it is a normalization or a scaling.
    """

    layer: str
    into: tuple[str, ...]
    direction: Direction
    through: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    kind: Kind = "BN layer"

    def __str__(self) -> str:
        """One line for a person."""
        stops = [f"{name}, as a clip" if name in self.clips else name for name in self.through]
        way = f", through {', '.join(stops)}" if stops else ""
        return f"{self.layer}: folded {self.direction} into {', '.join(self.into)}{way}"


@dataclass(frozen=True)
class Kept:
    """A layer that stays, and why.

    Attributes:
        layer: the layer's name, with the names of the models around it.
        reason: a sentence.
        kind: whether it is a normalization or a scaling.
    """

    layer: str
    reason: str
    kind: Kind = "BN layer"

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.layer}: kept; {self.reason}"


@dataclass(frozen=True, eq=False)
class Changes:
    """What carrying a plan out does to the layers of its model.

    Attributes:
        edits: what each layer absorbs, in order.
        dropped: the layers that go.
        clips: what activations become; their calls, not their layers.
        training: the value of `training` that calls get from the calls before them, which may be
            others afterwards.

    Layers and calls (nodes of Keras's graph) are told by `id`.
    """

    edits: Mapping[int, Sequence[Edit]] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()
    clips: Mapping[int, Clip] = field(default_factory=dict)
    training: Mapping[int, bool | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan(Sequence[Fold | Kept]):
    """One decision for each normalization and scaling, in the order of the network.

    Attributes:
        decisions: a `Fold` or a `Kept` for each.
        changes: what carrying the plan out does, for `rewrite`; it speaks of the layers of the
            model that was planned for, and of no other.
    """

    decisions: tuple[Fold | Kept, ...]
    changes: Changes = field(default_factory=Changes, repr=False)

    @overload
    def __getitem__(self, index: int) -> Fold | Kept: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Fold | Kept, ...]: ...
    def __getitem__(self, index: int | slice) -> Fold | Kept | tuple[Fold | Kept, ...]:
        """The decision at that place."""
        return self.decisions[index]

    def __len__(self) -> int:
        """How many normalizations and scalings there are."""
        return len(self.decisions)

    def folds(self, kind: Kind | None = None) -> list[Fold]:
        """What is folded, of one kind or of both."""
        return [d for d in self.decisions if isinstance(d, Fold) and kind in (None, d.kind)]

    def kept(self, kind: Kind | None = None) -> list[Kept]:
        """What is kept, of one kind or of both."""
        return [d for d in self.decisions if isinstance(d, Kept) and kind in (None, d.kind)]

    def summary(self) -> str:
        """One sentence with the counts."""
        return self.counts.summary()

    @property
    def counts(self) -> "FoldCounts":
        """How many layers of each kind are folded and kept."""
        return fold_counts(self.to_json())

    def to_json(self) -> list[dict[str, Any]]:
        """The decisions as plain lists and dictionaries."""
        names = {Fold: "fold", Kept: "keep"}
        return [{"decision": names[type(d)], **asdict(d)} for d in self.decisions]


@dataclass(frozen=True)
class FoldCounts:
    """How many layers a plan folds and keeps.

    A BN layer inside a custom layer counts as kept. Arithmetic on tensors, such as
    `x / 255.0`, is no layer and does not count.
    """

    bn_folded: int
    bn_kept: int
    scalings_folded: int
    scalings_kept: int

    def summary(self) -> str:
        """One sentence, such as "2 of 3 BN layers folded, 1 of 1 scalings folded."."""
        line = f"{self.bn_folded} of {self.bn_folded + self.bn_kept} BN layers folded"
        if total := self.scalings_folded + self.scalings_kept:
            line += f", {self.scalings_folded} of {total} scalings folded"
        return f"{line}."


def fold_counts(decisions: Iterable[Mapping[str, Any]]) -> FoldCounts:
    """Count the decisions of a plan, given as JSON data (`Plan.to_json`, `plan.json`)."""
    counts = Counter((each["kind"], each["decision"]) for each in decisions)
    return FoldCounts(
        bn_folded=counts["BN layer", "fold"],
        bn_kept=counts["BN layer", "keep"],
        scalings_folded=counts["scaling", "fold"],
        scalings_kept=counts["scaling", "keep"],
    )


def planned(
    model: keras.Model,
    refused: Mapping[str, str] | None = None,
    limit: int | None = None,
    *,
    clip: bool = True,
) -> Plan:
    """`fold_plan` without the normalizations in `refused`, which gives the reason for each.

    With a `limit` only so many folds are made, the same ones in the same order as without.
    """
    planning = _Planning(read(model), refused or {}, limit)
    while planning.plain() or planning.merge() or (clip and planning.clip()):
        pass
    return planning.plan()


class _Planning:
    """The decisions so far; `graph` is the network as it is with them."""

    def __init__(self, graph: Graph, refused: Mapping[str, str], limit: int | None) -> None:
        self.graph = graph
        self.refused = refused
        self.limit = limit
        self.names = {id(call.layer): call.name for call in reversed(graph.calls)}
        self.opaque = [call for call in graph.calls if not is_norm(call.layer)]
        self.left = {id(call.layer): call.layer for call in graph.calls if is_norm(call.layer)}
        self.all = dict(self.left)
        self.restless = next((call.name for call in graph.calls if graph.is_restless(call)), None)
        self.folds: dict[int, Fold] = {}
        self.reasons: dict[tuple[int, str], str] = {}

    def plain(self) -> bool:
        """Fold what linear layers absorb; whether there was anything.

        Backward in the order of the network and forward against it, since what goes first makes
        way for its neighbour.
        """
        before = len(self.folds)
        for norm in list(self.left.values()):
            self._attempt(norm, "backward", lambda norm: fold_backward(self.graph, norm))
        for norm in reversed(list(self.left.values())):
            self._attempt(norm, "forward", lambda norm: fold_forward(self.graph, norm))
        return len(self.folds) > before

    def merge(self) -> bool:
        """Fold what other normalizations and scalings take in; whether there was anything."""
        before = len(self.folds)
        for norm in list(self.left.values()):
            self._attempt(norm, "merge", lambda norm: fold_backward(self.graph, norm, merge=True))
            self._attempt(norm, "merge", lambda norm: fold_forward(self.graph, norm, merge=True))
        return len(self.folds) > before

    def clip(self) -> bool:
        """Fold what can go through an activation as a clip; whether there was anything."""
        before = len(self.folds)
        for norm in reversed(list(self.left.values())):
            self._attempt(norm, "forward", lambda norm: fold_forward(self.graph, norm, clip=True))
        return len(self.folds) > before

    def _attempt(self, norm: Layer, direction: Direction, search: Callable[[Layer], Found]) -> None:
        if id(norm) not in self.left or (self.limit is not None and len(self.folds) >= self.limit):
            return
        try:
            if self.restless:
                raise CannotFold(
                    f"`{self.restless}` is called with training=True and without, so answers "
                    "depend on the order of the calls, which folding may change"
                )
            found = search(norm)
            for gone in found.dropped:
                if self.names[gone] in self.refused:
                    raise CannotFold(self.refused[self.names[gone]])
        except CannotFold as refusal:
            if direction != "merge":  # the last reason for either side is the one that counts
                self.reasons[id(norm), direction] = str(refusal)
            return
        self._carry_out(found, direction)

    def _carry_out(self, found: Found, direction: Direction) -> None:
        into = tuple(call.name for call in found.into.values())
        through = tuple(dict.fromkeys(call.name for call in found.through))
        clips = tuple(dict.fromkeys(call.name for call in found.clips))
        for key, norm in found.dropped.items():
            for call in list(self.graph.calls_of(norm)):
                self.graph.bypass(call)
            self.folds[key] = Fold(self.names[key], into, direction, through, clips, _kind(norm))
            del self.left[key]
        for key, edits in found.edits.items():
            self.graph.edits.setdefault(key, []).extend(edits)
        for call, clip in found.clips.items():
            self.graph.clips[id(call.spot)] = clip

    def plan(self) -> Plan:
        decisions: list[Fold | Kept] = []
        hidden = {call.name: list(_hidden(call)) for call in self.opaque}
        for key, norm in self.all.items():
            decisions.append(
                self.folds.get(key) or Kept(self.names[key], self._reason(key), _kind(norm))
            )
        for kept in hidden.values():
            decisions += kept
        edits = {
            key: tuple(edits) for key, edits in self.graph.edits.items() if key not in self.folds
        }
        return Plan(
            tuple(decisions),
            Changes(edits, frozenset(self.folds), self.graph.clips, self.graph.pins()),
        )

    def _reason(self, key: int) -> str:
        if self.names[key] in self.refused:
            return self.refused[self.names[key]]
        sides = ("backward", "forward")
        return "; ".join(dict.fromkeys(self.reasons.get((key, side), "") for side in sides))


def _kind(norm: Layer) -> Kind:
    return "scaling" if is_scaling(norm) else "BN layer"


def _hidden(call: Call) -> Iterator[Kept]:
    """The normalizations of classes of their own, or within layers that hide what they do."""
    if not isinstance(call.layer, keras.layers.Layer):
        return
    within = call.layer._flatten_layers()  # Keras has no public way to these
    norms: list[Layer] = [layer for layer in within if isinstance(layer, tuple(NORMS))]
    for layer in norms:
        own, holder = type(layer).__name__, type(call.layer).__name__
        if layer is call.layer:
            name, reason = call.name, f"it is of the class {own}, whose arithmetic is not known"
        else:
            name = f"{call.name}/{layer.name}"
            reason = f"it is within `{call.name}`, a {holder}, into which folding does not look"
        yield Kept(name, reason, _kind(layer))
