"""Decide for each affine layer of a model whether and where it is folded. The plan is data."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, overload

from kerasbn.folding.affine import CannotFold
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Graph, Kind, Layer
from kerasbn.folding.linear import Edit
from kerasbn.folding.search import Found, fold_backward, fold_forward

Direction = Literal["backward", "forward", "merge"]


@dataclass(frozen=True)
class Fold:
    """A layer that is removed, because its map is folded into other layers.

    Attributes:
        layer: the layer's name, prefixed by the names of the models around it (`backbone/bn_1`).
        into: the layers that it is folded into.
        direction: "backward" into preceding layers, "forward" into following ones, or "merge" into
            another affine layer.
        through: the layers that its map passes through.
        clips: those of them that become a clip.
        kind: "BN layer" for a BatchNormalization, "scaling" for a Rescaling or Normalization.
    """

    layer: str
    into: tuple[str, ...]
    direction: Direction
    through: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    kind: Kind = "BN layer"

    def __str__(self) -> str:
        """Return the decision as one line."""
        stops = [f"{name} (as a clip)" if name in self.clips else name for name in self.through]
        way = f" through {', '.join(stops)}" if stops else ""
        verb = "merged" if self.direction == "merge" else f"folded {self.direction}"
        return f"{self.layer}: {verb} into {', '.join(self.into)}{way}"


@dataclass(frozen=True)
class Kept:
    """A layer that is kept, with the reason.

    Attributes:
        layer: the layer's name, prefixed by the names of the models around it.
        reason: a clause that follows "kept because".
        kind: "BN layer" for a BatchNormalization, "scaling" for a Rescaling or Normalization.
    """

    layer: str
    reason: str
    kind: Kind = "BN layer"

    def __str__(self) -> str:
        """Return the decision as one line."""
        return f"{self.layer}: kept because {self.reason}"


@dataclass(frozen=True)
class FoldCounts:
    """How many layers a plan folds and keeps.

    A BN layer inside a custom layer counts as kept. Arithmetic on tensors, such as `x / 255.0`, is
    no layer and does not count.
    """

    bn_folded: int
    bn_kept: int
    scalings_folded: int
    scalings_kept: int

    def summary(self) -> str:
        """Return one sentence, such as "2 of 3 BN layers folded, 1 of 1 scalings folded."."""
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


@dataclass(frozen=True, eq=False)
class Changes:
    """What carrying out a plan does to the layers of its model.

    Layers and nodes are keyed by `id`, so the changes apply to the planned model only.

    Attributes:
        edits: what to fold into each layer, in order.
        dropped: the layers to remove.
        clips: the clips that activations become, by node.
        training: the `training` flag of each node that gets it from the call before it.
    """

    edits: Mapping[int, Sequence[Edit]] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()
    clips: Mapping[int, Clip] = field(default_factory=dict)
    training: Mapping[int, bool | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan(Sequence[Fold | Kept]):
    """A `Fold` or a `Kept` for each affine layer, in the order of the model.

    Attributes:
        decisions: the decisions.
        changes: what carrying them out does to the model.
    """

    decisions: tuple[Fold | Kept, ...]
    changes: Changes = field(default_factory=Changes, repr=False)

    @overload
    def __getitem__(self, index: int) -> Fold | Kept: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Fold | Kept, ...]: ...
    def __getitem__(self, index: int | slice) -> Fold | Kept | tuple[Fold | Kept, ...]:
        """Return one decision, or several."""
        return self.decisions[index]

    def __len__(self) -> int:
        """Return the number of affine layers."""
        return len(self.decisions)

    def folds(self, kind: Kind | None = None) -> list[Fold]:
        """Return the folded layers, of one kind or of both."""
        return [d for d in self.decisions if isinstance(d, Fold) and kind in (None, d.kind)]

    def kept(self, kind: Kind | None = None) -> list[Kept]:
        """Return the kept layers, of one kind or of both."""
        return [d for d in self.decisions if isinstance(d, Kept) and kind in (None, d.kind)]

    @property
    def counts(self) -> FoldCounts:
        """How many layers of each kind are folded and kept."""
        return fold_counts(self.to_json())

    def summary(self) -> str:
        """Return the counts as one sentence."""
        return self.counts.summary()

    def to_json(self) -> list[dict[str, Any]]:
        """Return the decisions as JSON data."""
        names = {Fold: "fold", Kept: "keep"}
        return [{"decision": names[type(d)], **asdict(d)} for d in self.decisions]


def plan_folds(
    graph: Graph,
    *,
    clip: bool = True,
    excluded: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Plan:
    """Plan the folds of a graph, which is changed as they are found.

    Args:
        graph: a model that was just read.
        clip: whether an activation may become a clip where a layer cannot be folded otherwise.
        excluded: layers to keep, with the reason for each.
        limit: the number of folds after which to stop. The first folds are the same as without it.
    """
    planner = _Planner(graph, excluded or {}, limit)
    while planner.fold() or planner.merge() or (clip and planner.fold_through_clips()):
        pass
    return planner.plan()


class _Planner:
    """Folds layer after layer. `graph` is the model with the folds so far."""

    def __init__(self, graph: Graph, excluded: Mapping[str, str], limit: int | None) -> None:
        self.graph = graph
        self.excluded = excluded
        self.limit = limit
        calls = list(graph.calls)
        self.names = {id(call.layer): call.name for call in reversed(calls)}
        self.kinds = {id(call.layer): call.kind or "BN layer" for call in calls if call.is_affine}
        self.all = {id(call.layer): call.layer for call in calls if call.is_affine}
        self.left = dict(self.all)
        self.hidden = {call.name: list(call.hidden()) for call in calls}
        self.folds: dict[int, Fold] = {}
        self.reasons: dict[tuple[int, str], str] = {}

    def fold(self) -> bool:
        """Fold into linear layers. Return whether anything was folded.

        Backward goes in the order of the model and forward against it, because each fold makes way
        for the neighboring layer.
        """
        before = len(self.folds)
        for layer in list(self.left.values()):
            self._try(layer, "backward", lambda layer: fold_backward(self.graph, layer))
        for layer in reversed(list(self.left.values())):
            self._try(layer, "forward", lambda layer: fold_forward(self.graph, layer))
        return len(self.folds) > before

    def merge(self) -> bool:
        """Merge affine layers into other affine layers. Return whether any was merged."""
        before = len(self.folds)
        for layer in list(self.left.values()):
            for search in (fold_backward, fold_forward):
                self._try(layer, "merge", lambda layer, s=search: s(self.graph, layer, merge=True))  # type: ignore[misc] # mypy cannot infer a lambda's default
        return len(self.folds) > before

    def fold_through_clips(self) -> bool:
        """Fold through activations that become clips. Return whether anything was folded."""
        before = len(self.folds)
        for layer in reversed(list(self.left.values())):
            self._try(layer, "forward", lambda layer: fold_forward(self.graph, layer, clip=True))
        return len(self.folds) > before

    def plan(self) -> Plan:
        """Return the plan with all folds so far."""
        decisions: list[Fold | Kept] = [
            self.folds.get(key) or Kept(self.names[key], self._reason(key), self.kinds[key])
            for key in self.all
        ]
        for layers in self.hidden.values():
            decisions += [Kept(name, reason, kind) for name, kind, reason in layers]
        edits = {
            key: tuple(edits) for key, edits in self.graph.edits.items() if key not in self.folds
        }
        dropped = frozenset(self.folds)
        changes = Changes(edits, dropped, self.graph.clips, self.graph.training)
        return Plan(tuple(decisions), changes)

    def _try(self, layer: Layer, direction: Direction, search: Callable[[Layer], Found]) -> None:
        at_limit = self.limit is not None and len(self.folds) >= self.limit
        if id(layer) not in self.left or at_limit:
            return
        try:
            if self.graph.changing:
                raise CannotFold(
                    f"`{self.graph.changing}` is called both with and without training=True, so "
                    "predictions depend on the order of calls, which folding may change"
                )
            found = search(layer)
            for key in found.dropped:
                if self.names[key] in self.excluded:
                    raise CannotFold(self.excluded[self.names[key]])
        except CannotFold as refusal:
            if direction != "merge":  # the last reason for each direction is the one to report
                self.reasons[id(layer), direction] = str(refusal)
            return
        self._apply(found, direction)

    def _apply(self, found: Found, direction: Direction) -> None:
        into = tuple(call.name for call in found.into.values())
        through = tuple(dict.fromkeys(call.name for call in found.through))
        clips = tuple(dict.fromkeys(call.name for call in found.clips))
        for key, layer in found.dropped.items():
            for call in list(self.graph.calls_of(layer)):
                self.graph.bypass(call)
            name, kind = self.names[key], self.kinds[key]
            self.folds[key] = Fold(name, into, direction, through, clips, kind)
            del self.left[key]
        for key, edits in found.edits.items():
            self.graph.edits.setdefault(key, []).extend(edits)
        for call, clip in found.clips.items():
            self.graph.clips[id(call.node)] = clip

    def _reason(self, key: int) -> str:
        if self.names[key] in self.excluded:
            return self.excluded[self.names[key]]
        sides = ("backward", "forward")
        return ", and ".join(dict.fromkeys(self.reasons.get((key, side), "") for side in sides))
