"""A kept layer with a reason, and a row of the table of reasons."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerasbn.folding.graph import Call
from kerasbn.folding.keras.affine_layers import AFFINE_LAYERS
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS

from .flat_graph import FlatGraph
from .refusals import Refusal

LINEAR = tuple(LINEAR_LAYERS)
AFFINE = tuple(AFFINE_LAYERS)
NAME = "`([^`]+)`"


@dataclass
class Kept:
    """A kept layer and one of its reasons, in the folded model."""

    layer: Any
    name: str
    words: str
    names: tuple[str, ...]  # what the pattern's groups matched
    refusal: Refusal
    graph: FlatGraph
    clips: bool  # whether folding was allowed to clip

    @property
    def call(self) -> Call:
        assert self.refusal.call is not None
        return self.refusal.call

    def makes(self) -> list[int]:
        return [tensor for call in self.graph.named(self.name) for tensor in call.makes]

    def reads(self) -> list[int]:
        return [call.reads[0] for call in self.graph.named(self.name)]


Shown = Callable[[Kept], bool]


@dataclass(frozen=True)
class Reason:
    """Words in a plan, and what shows them to be true.

    `limit` says what else could be tried, where folding gives up early.
    """

    pattern: str
    shown: Shown
    limit: str = ""
