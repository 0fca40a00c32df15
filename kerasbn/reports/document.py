"""What a page says, as data: parts of sections, sections of blocks. How it looks is the template's.

Text is plain text everywhere; the template escapes it, so names may hold anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar

from kerasbn.reports.svg import Drawing

MINUS = "\u2212"
NOTHING = "\u2013"  # where there is no figure


@dataclass(frozen=True)
class Words:
    """A paragraph; `tone` is empty, `note` (small) or `warning`."""

    kind: ClassVar = "words"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True)
class Points:
    """Short sentences, one below the other."""

    kind: ClassVar = "points"
    entries: Sequence[str]


@dataclass(frozen=True)
class Formula:
    """A formula on a line of its own, and what its letters are."""

    kind: ClassVar = "formula"
    text: str
    letters: str


@dataclass(frozen=True)
class Tile:
    """A figure to be seen from afar: what it is, the figure, and what to know with it."""

    label: str
    figure: str
    note: str
    tone: str = ""


@dataclass(frozen=True)
class Tiles:
    """Figures side by side."""

    kind: ClassVar = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and the exact number it was rounded from if it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        columns: the headings.
        rows: the cells, as many as headings.
        title: what it is, above it.
        closed: whether it opens on a click, being long.
    """

    kind: ClassVar = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    closed: bool = False


@dataclass(frozen=True)
class Key:
    """What the colours of the charts that follow mean: name and colour of each curve."""

    kind: ClassVar = "key"
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Chart:
    """A picture, what it shows, and its values as a table; `wide`: across the whole page."""

    kind: ClassVar = "chart"
    title: str
    drawing: Drawing
    caption: str = ""
    values: Table | None = None
    wide: bool = False


@dataclass(frozen=True)
class Charts:
    """Charts side by side, where there is room."""

    kind: ClassVar = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Command:
    """Lines to type into a terminal."""

    kind: ClassVar = "command"
    lines: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """A question about a file, answered: `passed`, `failed` or `not checked`, and why."""

    kind: ClassVar = "verdict"
    question: str
    verdict: str
    reason: str


Block = Words | Heading | Points | Formula | Tiles | Table | Key | Charts | Command | Verdict


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; `anchor` is unique within its part."""

    anchor: str
    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Part:
    """All that is said of one subject: the question, the answer in a sentence, and the rest."""

    question: str
    answer: str
    sections: Sequence[Section] = field(default_factory=tuple)


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: of the window.
        parts: one for each subject.
        sources: the names of what was read, for the foot.
    """

    title: str
    parts: Sequence[Part]
    sources: Sequence[str]


def percent(value: float | None, places: int = 2) -> Cell:
    """An accuracy from 0 to 1 as a cell."""
    if value is None or not isfinite(value):
        return Cell(NOTHING)
    return Cell(f"{100 * value:.{places}f}\u00a0%", value)


def number(value: float | None) -> Cell:
    """A loss, or any other number, as a cell."""
    if value is None or not isfinite(value):
        return Cell(NOTHING)
    return Cell(f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}", value)


def plural(count: int, noun: str) -> str:
    """The count with its noun."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def signed(value: float, places: int) -> str:
    """A difference with its sign; a minus that no line ends after."""
    return f"{value:+.{places}f}".replace("-", MINUS)


def plain(value: float, places: int) -> str:
    """A number that may be negative, without a sign if it is not."""
    return signed(value, places).removeprefix("+")
