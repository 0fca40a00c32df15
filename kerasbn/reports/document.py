"""A page as data, and its rendering as one HTML file.

A page holds articles, an article sections, a section blocks. All text is plain text: the template
escapes it, so a name may contain anything. The look is up to the template.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasbn.common import wording
from kerasbn.reports.svg import Drawing, css_variable, dark_variant

TEMPLATES = Path(__file__).parent / "templates"


class Block:
    """Something in a section. The template shows each kind, the name of the class, in its way."""

    @property
    def kind(self) -> str:
        """The name of the class."""
        return type(self).__name__


@dataclass(frozen=True)
class Paragraph(Block):
    """A paragraph; `tone` is empty, ``note`` (small) or ``warning``."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Subheading(Block):
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class BulletList(Block):
    """Short sentences, one per line."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Formula(Block):
    """A formula on its own line, with an explanation of its symbols."""

    text: str
    symbols: str


@dataclass(frozen=True)
class Tile:
    """A headline figure; `tone` is empty, ``with_bn`` or ``without_bn`` and sets the color."""

    label: str
    figure: str
    note: str
    tone: str = ""


@dataclass(frozen=True)
class Tiles(Block):
    """Headline figures side by side."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Cell:
    """A table cell: the text, and the exact number if the text is a rounded one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table(Block):
    """A table whose first column names the rows.

    Attributes:
        columns: The headings.
        rows: The cells, one per heading.
        title: The caption.
        collapsed: Whether a click opens the table. For long ones.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    collapsed: bool = False


@dataclass(frozen=True)
class Legend(Block):
    """Name and color of each curve in the charts that follow."""

    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Chart:
    """A drawing with a title, a short caption and its values as a table.

    A `wide` chart takes the full width of the page.
    """

    title: str
    drawing: Drawing
    caption: str = ""
    values: Table | None = None
    wide: bool = False


@dataclass(frozen=True)
class Charts(Block):
    """Charts side by side, as many as fit."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Code(Block):
    """Lines of a terminal or a file."""

    lines: Sequence[str]


@dataclass(frozen=True)
class CheckResult(Block):
    """A question about an exported file: ``passed``, ``failed`` or ``not checked``, and why."""

    question: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; `anchor` is unique within the article."""

    anchor: str
    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Article:
    """Everything about one subject: the question, the answer in one sentence, and sections."""

    question: str
    answer: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Page:
    """The whole page; `sources` are the names of what was read, for the footer."""

    title: str
    articles: Sequence[Article]
    sources: Sequence[str]


def metric_cell(value: float | None, metric: str) -> Cell:
    """Return an accuracy or a loss as a cell."""
    text = wording.percent if metric.endswith("accuracy") else wording.loss
    return Cell(text(value), value)


def render(page: Page) -> str:
    """Return the page as one HTML file without external resources. Equal pages give equal bytes.

    The values of all charts are in one JSON element. The content security policy allows no script
    but the one of the template, by its hash.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False, "ensure_ascii": False, "separators": (",", ":"),
    }  # fmt: skip
    blocks = [
        block for article in page.articles for sec in article.sections for block in sec.blocks
    ]
    drawings = [
        each.drawing for block in blocks if isinstance(block, Charts) for each in block.charts
    ]
    legends = [block for block in blocks if isinstance(block, Legend)]
    colors = {color for drawing in drawings for color in drawing.colors}
    colors |= {color.lower() for legend in legends for _, color in legend.entries}
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        page=page,
        data={"charts": {each.name: each.panels for each in drawings if each.panels}},
        style=style,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        colors=[(css_variable(each), each, dark_variant(each)) for each in sorted(colors)],
        css_variable=css_variable,
    )
