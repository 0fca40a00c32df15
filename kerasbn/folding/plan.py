"""Decide for each affine layer of a model whether and where it is folded. The plan is data."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from math import inf
from typing import Any, Literal, overload

from kerasbn.folding.affine import CannotFold
from kerasbn.folding.graph import Graph, Kind, Layer
from kerasbn.folding.search import Found, fold_backward, fold_forward

Direction = Literal["backward", "forward", "merge"]
Search = Callable[[Graph, Layer], Found]


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


@dataclass(frozen=True, eq=False)
class Plan(Sequence[Fold | Kept]):
    """A `Fold` or a `Kept` for each affine layer, in the order of the model.

    A BN layer inside a custom layer is kept. Arithmetic on tensors, such as `x / 255.0`, is no
    layer and has no decision.

    Attributes:
        decisions: the decisions.
        graph: the model that was planned, with what carrying the plan out changes.
    """

    decisions: tuple[Fold | Kept, ...] = ()
    graph: Graph = field(default_factory=Graph, repr=False)

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

    def summary(self) -> str:
        """Return the counts, such as "2 of 3 BN layers folded, 1 of 1 scalings folded."."""
        counts = Counter((d.kind, type(d)) for d in self.decisions)
        kinds: list[Kind] = ["BN layer", "scaling"]
        totals = {kind: counts[kind, Fold] + counts[kind, Kept] for kind in kinds}
        return (
            ", ".join(
                f"{counts[kind, Fold]} of {total} {kind}s folded"
                for kind, total in totals.items()
                if total or kind == "BN layer"
            )
            + "."
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the decisions as JSON data."""
        names = {Fold: "fold", Kept: "keep"}
        return [{"decision": names[type(d)], **asdict(d)} for d in self.decisions]


def plan_folds(
    graph: Graph,
    *,
    clip: bool = True,
    excluded: Mapping[str, str] | None = None,
    limit: float = inf,
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

    def __init__(self, graph: Graph, excluded: Mapping[str, str], limit: float) -> None:
        self.graph = graph
        self.excluded = excluded
        self.limit = limit
        self.layers: dict[int, Layer] = {}  # by `id`, in the order of the model
        self.decisions: dict[int, Fold | Kept] = {}
        self.reasons: dict[tuple[int, str], str] = {}
        for call in graph.calls:
            if call.kind and id(call.layer) not in self.layers:
                self.layers[id(call.layer)] = call.layer
                self.decisions[id(call.layer)] = Kept(call.name, "", call.kind)

    def fold(self) -> bool:
        """Fold into linear layers. Return whether anything was folded.

        Backward goes in the order of the model and forward against it, because each fold makes way
        for the neighboring layer.
        """
        backward = self._fold_each(self._left(), "backward", fold_backward)
        forward = self._fold_each(reversed(self._left()), "forward", fold_forward)
        return backward or forward

    def merge(self) -> bool:
        """Merge affine layers into other affine layers. Return whether any was merged."""
        searches = partial(fold_backward, merge=True), partial(fold_forward, merge=True)
        return self._fold_each(self._left(), "merge", *searches)

    def fold_through_clips(self) -> bool:
        """Fold through activations that become clips. Return whether anything was folded."""
        search = partial(fold_forward, clip=True)
        return self._fold_each(reversed(self._left()), "forward", search)

    def plan(self) -> Plan:
        """Return the plan with all folds so far."""
        for key in self._left():
            name, kind = self.decisions[key].layer, self.decisions[key].kind
            self.decisions[key] = Kept(name, self._reason(key), kind)
        hidden = [Kept(*each) for each in self.graph.hidden.values()]
        return Plan((*self.decisions.values(), *hidden), self.graph)

    def _left(self) -> list[int]:
        return [key for key in self.layers if key not in self.graph.dropped]

    def _fold_each(self, keys: Iterable[int], direction: Direction, *searches: Search) -> bool:
        """Fold each layer by the first search that finds a way. Return whether any was folded."""
        before = len(self.graph.dropped)
        for key, search in product(keys, searches):
            if key in self.graph.dropped or len(self.graph.dropped) >= self.limit:
                continue
            try:
                found = self._find(key, search)
            except CannotFold as refusal:
                if direction != "merge":  # the last reason for each direction is the one to report
                    self.reasons[key, direction] = str(refusal)
            else:
                self._apply(found, direction)
        return len(self.graph.dropped) > before

    def _find(self, key: int, search: Search) -> Found:
        if self.graph.changing:
            raise CannotFold(
                f"`{self.graph.changing}` is called both with and without training=True, so "
                "predictions depend on the order of calls, which folding may change"
            )
        found = search(self.graph, self.layers[key])
        for dropped in found.dropped:
            if reason := self.excluded.get(self.decisions[dropped].layer):
                raise CannotFold(reason)
        return found

    def _apply(self, found: Found, direction: Direction) -> None:
        into, through, clips = (
            tuple(dict.fromkeys(call.name for call in calls))
            for calls in (found.into.values(), found.through, found.clips)
        )
        for key, layer in found.dropped.items():
            self.graph.drop(layer)
            kept = self.decisions[key]
            self.decisions[key] = Fold(kept.layer, into, direction, through, clips, kept.kind)
        for key, edits in found.edits.items():
            self.graph.edits[key] += edits
        for call, clip in found.clips.items():
            self.graph.clips[id(call.node)] = clip

    def _reason(self, key: int) -> str:
        reasons = dict.fromkeys(self.reasons.get((key, to), "") for to in ("backward", "forward"))
        return self.excluded.get(self.decisions[key].layer) or ", and ".join(reasons)
