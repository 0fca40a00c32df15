"""Record what a plan refuses and folds: the call, the maps and the words."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import isgeneratorfunction
from typing import Any
from unittest.mock import patch

from kerasbn.folding import plan, search
from kerasbn.folding.affine import Affine, CannotFold
from kerasbn.folding.graph import Call, Value
from kerasbn.folding.keras import graph as keras_graph
from kerasbn.folding.linear import Edit

WAYS = {"after": "backward", "before": "forward"}  # by the side of an edit


@dataclass
class Refusal:
    """What the package refused: a map on a tensor, or a map that reaches or leaves a call."""

    step: str  # "forward", "backward", "edit", "tensor" or "clip"
    maps: list[Affine]
    call: Call | None = None
    value: Value | None = None
    edit: Edit | None = None


@dataclass
class Record:
    """The refusals of a plan by their words, the reasons of kept layers, and counts of folds."""

    refusals: dict[str, Refusal] = field(default_factory=dict)
    # The layer, its name, the direction and the words.
    reasons: list[tuple[Any, str, str, str]] = field(default_factory=list)
    hidden: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)


@contextmanager
def recorded() -> Iterator[Record]:
    """Record every plan made in this context."""
    record = Record()
    with ExitStack() as stack:

        @contextmanager
        def noting(note: Callable[[], Refusal]) -> Iterator[None]:
            try:
                yield
            except CannotFold as error:
                if not hasattr(error, "refusal"):  # otherwise a call within has noted it
                    _note(error, note())
                raise

        def wrap(owner: Any, name: str, note: Callable[..., Refusal]) -> None:
            known = getattr(owner, name)

            def called(*args: Any, **kwargs: Any) -> Any:
                with noting(lambda: note(*args, **kwargs)):
                    return known(*args, **kwargs)

            def stepped(*args: Any) -> Iterator[Any]:
                with noting(lambda: note(*args)):
                    yield from known(*args)

            wrapped = stepped if isgeneratorfunction(known) else called
            stack.enter_context(patch.object(owner, name, wrapped))

        def _note(error: CannotFold, refusal: Refusal | None) -> None:
            if refusal:
                vars(error)["refusal"] = refusal
                record.refusals[str(error)] = refusal

        def wrap_subject(known: Callable[[str], Any]) -> Callable[[str], Any]:
            @contextmanager
            def subject(name: str) -> Iterator[None]:
                try:
                    with known(name):
                        yield
                except CannotFold as error:
                    _note(error, getattr(error.__context__, "refusal", None))
                    raise

            return subject

        call = keras_graph._KerasCall
        wrap(call, "forward", lambda c, maps: Refusal("forward", maps, c))
        wrap(call, "backward", lambda c, b: Refusal("backward", [b], c))
        wrap(call, "lower", lambda c, a: Refusal("lower", [a], c))
        wrap(call, "check", lambda c, edit: Refusal("edit", [edit.affine], c, edit=edit))
        wrap(search._Backward, "_check_readers", lambda s, v, a: Refusal("tensor", [a], value=v))
        wrap(search._Backward, "_ask_producer", lambda s, v, a: Refusal("asked", [a], v.producer))
        wrap(
            search._Forward,
            "_visit",
            lambda s, c: Refusal("visited", [s._on(value) for value in c.inputs], c),
        )
        stack.enter_context(patch.object(search, "_subject", wrap_subject(search._subject)))
        _count_folds(stack, record)
        yield record


def _count_folds(stack: ExitStack, record: Record) -> None:
    apply, finish = plan._Planner._apply, plan._Planner.plan

    def applied(planner: Any, found: search.Found) -> None:
        order = planner.graph.calls
        last = max(
            order[c] for each in found.dropped.values() for c in planner.graph.calls_of(each)
        )
        direction = plan._direction(found)
        for layer in found.dropped.values():
            record.counts["affine", type(layer).__name__, direction] += 1
        sides = {key: {edit.side for edit in edits} for key, edits in found.edits.items()}
        ways = {WAYS[side] for each in sides.values() for side in each}
        for key, call in found.into.items():
            for side in sides[key]:
                name = name_of(type(call.layer))
                record.counts["merged into" if call.kind else "linear", name, WAYS[side]] += 1
        for call in found.through:
            if call.is_pass_through and call not in found.clips:
                way = "forward" if order[call] > last else "backward"
                way = next(iter(ways)) if len(ways) == 1 else way
                record.counts["pass-through", name_of(type(call.layer)), way] += 1
        for call in found.clips:
            function = getattr(call.layer, "activation", type(call.layer))
            record.counts["clip", name_of(function)] += 1
        apply(planner, found)

    def planned(planner: Any) -> plan.Plan:
        made = finish(planner)
        record.reasons, record.hidden = [], []
        for (key, direction), words in planner.reasons.items():
            if key not in planner.graph.dropped:
                kept = planner.decisions[key]
                record.reasons.append((planner.layers[key], kept.layer, direction, words))
        record.hidden = [(name, reason) for name, reason, _ in planner.graph.hidden.values()]
        return made

    stack.enter_context(patch.object(plan._Planner, "_apply", applied))
    stack.enter_context(patch.object(plan._Planner, "plan", planned))


def name_of(kind: Any) -> str:
    """The name of a class or function, marked where it is an operation's."""
    return kind.__name__ if ".layers." in kind.__module__ else f"ops.{kind.__name__}"
