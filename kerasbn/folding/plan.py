"""Decide for each affine layer of a model whether and where it is folded. The plan is data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from math import inf
from typing import Any, Literal

from kerasbn.folding.affine import CannotFold
from kerasbn.folding.graph import Graph, Kind, Layer
from kerasbn.folding.search import Found, Split, backward, by_scale, by_sign, find_fold, forward

Direction = Literal["backward", "forward", "both", "merge"]
Search = Callable[[Graph, Layer], Found]


@dataclass(frozen=True)
class Fold:
    """A layer that is removed, because its map is folded into other layers.

    Attributes:
        layer: the layer's name, prefixed by the names of the models around it (`backbone/bn_1`).
        into: the layers that it is folded into.
        direction: "backward" into preceding layers, "forward" into following ones, "both" in one
            part each, or "merge" into another affine layer.
        through: the layers that its map passes through.
        clips: those of them that become a clip.
        kind: "BN layer" for a BatchNormalization, "scaling" for a Rescaling or Normalization, and
            for arithmetic with a constant, such as `x / 255.0`.
    """

    layer: str
    into: tuple[str, ...]
    direction: Direction
    through: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    kind: Kind = "BN layer"

    def __str__(self) -> str:
        """Return the decision as one line."""
        if not self.into:
            return f"{self.layer}: removed, because it changes nothing"

        def stop(name: str) -> str:
            what = f"the activation of {name}" if name in self.into else name
            return f"{what} (as a clip)" if name in self.clips else what

        way = f" through {', '.join(map(stop, self.through))}" if self.through else ""
        return f"{self.layer}: {_VERBS[self.direction]} into {', '.join(self.into)}{way}"


@dataclass(frozen=True)
class Kept:
    """A layer that is kept, with the reason.

    Attributes:
        layer: the layer's name, prefixed by the names of the models around it.
        reason: a clause that follows "kept because".
        kind: "BN layer" for a BatchNormalization, "scaling" for a Rescaling or Normalization, and
            for arithmetic with a constant, such as `x / 255.0`.
    """

    layer: str
    reason: str
    kind: Kind = "BN layer"

    def __str__(self) -> str:
        """Return the decision as one line."""
        return f"{self.layer}: kept because {self.reason}"


_VERBS: dict[Direction, str] = {
    "backward": "folded backward",
    "forward": "folded forward",
    "both": "folded backward and forward",
    "merge": "merged",
}
_NAMES: dict[type[Fold | Kept], str] = {Fold: "fold", Kept: "keep"}


class Plan(tuple[Fold | Kept, ...]):
    """A `Fold` or a `Kept` for each affine layer, in the order of the model.

    In a Keras model, a BN layer inside a custom layer is kept; only an export folds it. `graph` is
    the planned model with what carrying the plan out changes.
    `added_bytes` is the size of the weights that an ONNX model has several times after folding,
    because nodes that shared them need different ones. `unrun` says that onnxruntime cannot run
    the model, so that only each fold was checked.
    """

    graph: Graph
    added_bytes: int
    unrun: bool

    def __new__(cls, decisions: Iterable[Fold | Kept] = (), graph: Graph | None = None) -> "Plan":
        """Return the plan with these decisions, by default an empty one."""
        plan = super().__new__(cls, decisions)
        plan.graph = graph or Graph()
        plan.added_bytes, plan.unrun = 0, False
        return plan

    def folds(self, kind: Kind | None = None) -> list[Fold]:
        """Return the folded layers, of one kind or of both."""
        return [d for d in self if isinstance(d, Fold) and kind in (None, d.kind)]

    def kept(self, kind: Kind | None = None) -> list[Kept]:
        """Return the kept layers, of one kind or of both."""
        return [d for d in self if isinstance(d, Kept) and kind in (None, d.kind)]

    def summary(self) -> str:
        """Return the counts, such as "2 of 3 BN layers folded, 1 of 1 scalings folded."."""
        kinds: list[Kind] = ["BN layer", "scaling"]
        counts = {kind: (len(self.folds(kind)), len(self.kept(kind))) for kind in kinds}
        parts = [
            f"{folded} of {folded + kept} {kind}s folded"
            for kind, (folded, kept) in counts.items()
            if folded + kept or kind == "BN layer"
        ]
        copies = f" Shared weights were copied: {self.added_bytes:,} bytes." * bool(
            self.added_bytes
        )
        alone = " onnxruntime cannot run the model: each fold was checked by itself." * self.unrun
        return f"{', '.join(parts)}.{copies}{alone}"

    def to_json(self) -> list[dict[str, Any]]:
        """Return the decisions as JSON data."""
        return [{"decision": _NAMES[type(d)], **asdict(d)} for d in self]

    @classmethod
    def from_json(cls, decisions: Iterable[Mapping[str, Any]], added_bytes: int = 0) -> "Plan":
        """Return the plan with decisions that `to_json` returned."""
        kinds = {name: kind for kind, name in _NAMES.items()}
        fields = [dict(each) for each in decisions]
        plan = cls(kinds[each.pop("decision")](**each) for each in fields)
        plan.added_bytes = added_bytes
        return plan


def plan_folds(
    graph: Graph, *, clip: bool, excluded: Mapping[str, str], limit: float = inf
) -> Plan:
    """Plan the folds of a graph that was just read. The graph is changed as they are found.

    Args:
        graph: the model.
        clip: whether an activation may become a clip where a layer cannot be folded otherwise.
        excluded: layers to keep, with the reason for each.
        limit: the number of folds after which to stop. The first folds are the same as without it.
    """
    planner = _Planner(graph, excluded, limit)
    merges = _search(backward, merge=True), _search(forward, merge=True)
    parts = _search(by_sign, clip=clip), _search(by_scale, clip=clip)
    found = True
    while found:
        # Backward in the order of the model and forward against it, because each fold makes way for
        # the neighboring layer.
        found = planner.fold(planner.left(), "backward", _search(backward))
        found |= planner.fold(planner.left()[::-1], "forward", _search(forward))
        if not found:
            found = planner.fold(planner.left(), None, *merges)
        if not found and clip:
            found = planner.fold(planner.left()[::-1], "forward", _search(forward, clip=True))
        if not found and clip:
            found = planner.fold(planner.left(), "backward", _search(backward, clip=True))
        if not found:
            found = planner.fold(planner.left(), None, *parts)
    return planner.plan()


def _search(split: Split, *, merge: bool = False, clip: bool = False) -> Search:
    return partial(find_fold, split=split, merge=merge, clip=clip)


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

    def plan(self) -> Plan:
        """Return the plan with all folds so far."""
        for key in self.left():
            name, kind = self.decisions[key].layer, self.decisions[key].kind
            self.decisions[key] = Kept(name, self._reason(key), kind)
        hidden = [Kept(*each) for each in self.graph.hidden.values()]
        return Plan([*self.decisions.values(), *hidden], self.graph)

    def left(self) -> list[int]:
        """Return the layers that are not folded, by `id`."""
        return [key for key in self.layers if key not in self.graph.dropped]

    def fold(self, keys: Iterable[int], way: Direction | None, *searches: Search) -> bool:
        """Fold each layer by the first search that finds a way. Return whether any was folded.

        The last reason against each `way` is the one to report.
        """
        before = len(self.graph.dropped)
        for key, search in product(keys, searches):
            if key in self.graph.dropped or len(self.graph.dropped) >= self.limit:
                continue
            try:
                found = self._find(key, search)
            except CannotFold as refusal:
                if way:
                    self.reasons[key, way] = str(refusal)
            else:
                self._apply(found)
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

    def _apply(self, found: Found) -> None:
        into, through, clips = (
            tuple(dict.fromkeys(call.name for call in calls))
            for calls in (found.into.values(), found.through, found.clips)
        )
        # The activation of a linear layer has its name, and matters only where it is a clip.
        through = tuple(name for name in through if name not in into or name in clips)
        for key, layer in found.dropped.items():
            self.graph.drop(layer)
            kept = self.decisions[key]
            self.decisions[key] = Fold(
                kept.layer, into, _direction(found), through, clips, kept.kind
            )
        for key, edits in found.edits.items():
            self.graph.edits[key] += edits
        for call, clip in found.clips.items():
            self.graph.clips[id(call.node)] = clip

    def _reason(self, key: int) -> str:
        reasons = dict.fromkeys(self.reasons.get((key, to), "") for to in ("backward", "forward"))
        return self.excluded.get(self.decisions[key].layer) or ", and ".join(reasons)


def _direction(found: Found) -> Direction:
    if any(call.kind for call in found.into.values()):
        return "merge"
    sides = {edit.side for edits in found.edits.values() for edit in edits}
    return "both" if len(sides) > 1 else "forward" if "before" in sides else "backward"
