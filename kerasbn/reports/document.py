"""A page as data, and its rendering as one HTML file.

A page holds articles, an article sections, a section blocks. All text is plain text: the template
escapes it, so a name may contain anything. To add a kind of block, add a class here and a branch to
the macro `show` of the template.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from kerasbn.common.plotting import COLOR
from kerasbn.reports.svg import Drawing, css_variable, dark_variant

# What all interactive parts share, before and after the script of each part.
FIRST_SCRIPTS = ("play/engine.js", "play/digits.js", "play/elements.js", "play/histogram.js")
LAST_SCRIPT = "play/start.js"


class Paragraph(NamedTuple):
    """A paragraph.

    `tone` is empty, ``note`` (small), ``hint`` (small and not printed) or ``warning``.
    """

    text: str
    tone: str = ""


class BulletList(NamedTuple):
    """Short sentences, one per line."""

    sentences: Sequence[str]


class Formula(NamedTuple):
    """A formula on its own line, with an explanation of its symbols."""

    text: str
    symbols: str


class Tile(NamedTuple):
    """A headline figure; `tone` is empty, ``with_bn`` or ``without_bn`` and sets the color."""

    label: str
    figure: str
    note: str
    tone: str = ""


class Tiles(NamedTuple):
    """Headline figures side by side."""

    tiles: Sequence[Tile]


class Number(NamedTuple):
    """A table cell with the exact number behind its rounded text, if there is one."""

    text: str
    value: float | None


Cells = Sequence[str | Number]


class Table(NamedTuple):
    """A table whose first column names the rows; a click opens a `collapsed` one."""

    columns: Sequence[str]
    rows: Sequence[Cells]
    title: str = ""
    collapsed: bool = False


class Chart(NamedTuple):
    """A drawing and its values as a table. A `wide` one takes the full width of the page."""

    title: str
    drawing: Drawing
    caption: str = ""
    values: Table | None = None
    wide: bool = False


class Charts(NamedTuple):
    """Charts side by side, as many as fit; `legend` holds the name and color of each curve."""

    charts: Sequence[Chart]
    legend: Sequence[tuple[str, str]]
    heading: str = ""
    caption: str = ""


class Box(NamedTuple):
    """An operation in a diagram; `tone` is empty or ``bn``."""

    name: str
    detail: str = ""
    tone: str = ""


class DiagramRow(NamedTuple):
    """Operations one after the other, all of them `repeats` times."""

    boxes: Sequence[Box]
    repeats: int = 1


class Image(NamedTuple):
    """An image as a data URI, with a text that describes it."""

    source: str
    description: str


class Diagram(NamedTuple):
    """A model as rows of operations, each row continuing the one above, with a caption.

    The image shows examples of what it is for.
    """

    rows: Sequence[DiagramRow]
    caption: str = ""
    image: Image | None = None


class Code(NamedTuple):
    """Lines of a terminal or a file."""

    lines: Sequence[str]


class CheckResult(NamedTuple):
    """A question about an exported file: ``passed``, ``failed`` or ``not checked``, and why."""

    question: str
    verdict: str
    reason: str


class Interactive(NamedTuple):
    """A part to play with: ``templates/play`` holds its markup and its script under this name."""

    part: str


Block = (
    Paragraph
    | BulletList
    | Formula
    | Tiles
    | Table
    | Charts
    | Diagram
    | Code
    | CheckResult
    | Interactive
)


class Section:
    """Blocks under a heading, without those that are None; `anchor` is unique in the article."""

    def __init__(self, anchor: str, heading: str, *blocks: Block | None) -> None:
        self.anchor, self.heading = anchor, heading
        self.blocks = [block for block in blocks if block is not None]


class Article:
    """All about one subject: the question, the answer in a sentence, and sections if not None."""

    def __init__(self, question: str, answer: str, *sections: Section | None) -> None:
        self.question, self.answer = question, answer
        self.sections = [section for section in sections if section is not None]


def render(articles: Sequence[Article], sources: Sequence[str], play: object = None) -> str:
    """Return a page as one HTML file without external resources. Equal pages give equal bytes.

    The values of all charts are in one JSON element. The content security policy allows no script
    but the one of the template, by its hash. The footer names the `sources`. `play` is
    what the interactive parts read, as JSON.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from jinja2.utils import htmlsafe_json_dumps

    loader = PackageLoader("kerasbn.reports")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [section for article in articles for section in article.sections]
    blocks = [block for section in sections for block in section.blocks]
    figures = [block for block in blocks if isinstance(block, Charts)]
    drawings = [chart.drawing for figure in figures for chart in figure.charts]
    colors = {color for drawing in drawings for color in drawing.colors}
    colors |= {color for figure in figures for _, color in figure.legend}
    colors |= {color.lower() for color in COLOR.values()}  # of tiles, diagrams and bars
    charts = {each.name: each.panels for each in drawings if each.panels}
    data = {"charts": charts, "play": play}
    parts = [f"play/{block.part}.js" for block in blocks if isinstance(block, Interactive)]
    styles, scripts = ["report.css"], ["report.js"]
    if parts:
        styles += ["play/play.css", "play/histogram.css"]
        scripts += [*FIRST_SCRIPTS, *parts, LAST_SCRIPT]
    style, script = (
        "".join(loader.get_source(environment, name)[0] for name in names)
        for names in (styles, scripts)
    )
    return environment.get_template("report.html").render(
        articles=articles,
        sources=sources,
        data=htmlsafe_json_dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")),
        style=style,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        colors=[(css_variable(each), each, dark_variant(each)) for each in sorted(colors)],
        css_variable=css_variable,
        kind_of=lambda block: type(block).__name__,
    )
