"""Look up the reasons of a plan in the table, and have each shown to be true."""

import re
from collections.abc import Iterator

import keras

from .flat_graph import flatten
from .kept import Kept, Reason
from .reasons import HIDDEN, REASONS
from .refusals import Record, Refusal


def find(words: str) -> tuple[Reason, tuple[str, ...]] | None:
    """The row of a reason, and the names in its words."""
    bare = re.sub("^(`[^`]+`) (?:before|after) it ", r"\1 ", words)
    for reason in [*REASONS, *HIDDEN]:
        if found := re.fullmatch(reason.pattern, bare):
            return reason, found.groups()
    return None


def unproved(record: Record, folded: keras.Model, clips: bool) -> Iterator[tuple[str, str]]:
    """Yield the pattern of each reason in a plan, and what is wrong with it, if anything."""
    graph = flatten(folded)
    for layer, name, words in [
        *[(layer, name, words) for layer, name, _, words in record.reasons],
        *[(None, name, words) for name, words in record.hidden],
    ]:
        found = find(words)
        if found is None:
            yield "", f"{name}: no such reason is known: {words}"
            continue
        reason, names = found
        refusal = record.refusals.get(words, Refusal("", []))
        kept = Kept(layer, name, words, names, refusal, graph, clips)
        try:
            shown = reason.shown(kept)
        except Exception as error:  # noqa: BLE001 - counted, and the rest goes on
            yield reason.pattern, f"{name}: {words}: {type(error).__name__}: {error}"
            continue
        yield reason.pattern, "" if shown else f"{name}: not shown: {words}"
