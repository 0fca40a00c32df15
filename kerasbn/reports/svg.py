"""Matplotlib's pictures as SVG within a page: they follow its colours, and tell their values.

Text stays text, so a reader's own fonts, a search and a screen reader find it. Every colour becomes
a variable of the page's style, by which a dark page shows its twin.
"""

import colorsys
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, PercentFormatter
from matplotlib.transforms import Bbox, BboxBase

# In a page, what is black is written in the colour of its text.
_COLOUR = re.compile(r"#[0-9a-f]{6}\b", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_XLINK = "{http://www.w3.org/1999/xlink}href"
UNSEEN = "\u200b"  # a blank of no width
_POINTS_PER_INCH = 72  # the unit of matplotlib's SVG is a point


@dataclass(frozen=True)
class Drawing:
    """A picture to stand within a page.

    Attributes:
        markup: the `svg` element.
        colours: the colours in it, as `#rrggbb`; it names them `var(--c-rrggbb)`.
        panels: for each panel with curves, where its values are and how they read; see `_panel`.
        width: in points, at which its text has the size it was given.
        plate: whether it keeps its colours and so needs a white ground.
    """

    markup: str
    colours: frozenset[str]
    panels: Sequence[Mapping[str, Any]]
    width: float
    plate: bool = False

    @property
    def values(self) -> str:
        """The panels as JSON, for the page's script."""
        return json.dumps(self.panels, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The rightmost values of the first panel: where they are, and a mark for each curve."""
        if not self.panels:
            return None
        panel = self.panels[0]
        marks = [
            {"label": one["label"], "colour": one["colour"], "text": one["text"][-1]}
            for one in panel["series"]
            if one["text"][-1]
        ]
        return {"at": panel["at"][-1], "marks": marks}


def inline(
    figure: Figure,
    name: str,
    description: str,
    words: Mapping[str, Mapping[float, str]] | None = None,
    only: Axes | None = None,
) -> Drawing:
    """The figure as an `svg` element without size, width or fonts of its own.

    A picture with an image in it, as heat maps have, keeps its colours.

    Args:
        figure: what to draw; its layout is settled by this.
        name: unique on the page, for the names within.
        description: what it shows, for those who don't see it.
        words: by a curve's label, how its value at each x reads; else as the axis formats numbers.
        only: the panel to draw, cut out of its figure; all of it otherwise.
    """
    figure.set_dpi(_POINTS_PER_INCH)
    buffer = io.BytesIO()
    frame = figure.bbox if only is None else _room(figure, only)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), _alone(figure, only):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            bbox_inches=frame.transformed(figure.dpi_scale_trans.inverted()),
            metadata={"Date": None},
        )
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib's own, just made
    keeps = any(axes.images for axes in figure.axes)
    colours = _adapt(root, name, keeps=keeps)
    title = ElementTree.Element("title")
    title.text = description
    root.insert(0, title)
    markup = ElementTree.tostring(root, encoding="unicode")
    shown = [axes for axes in figure.axes if axes.get_visible() and only in (None, axes)]
    found = [_panel(axes, frame, words or {}) for axes in shown]
    panels = [panel for panel in found if panel["series"]]
    drawn = {one["colour"] for panel in panels for one in panel["series"]}
    return Drawing(markup, frozenset(colours | drawn), panels, float(frame.width), keeps)


def has_curves(axes: Axes) -> bool:
    """Whether a panel has a curve with a name, whose values can be told."""
    return any(map(_is_curve, axes.get_lines()))


def dark(colour: str) -> str:
    """The twin of a colour for a dark page: the same hue, light for dark.

    White becomes the page's ground and black nearly white; between them the order of lightness is
    turned over, so whatever could be told apart still can; the power keeps middling colours, which
    stand out from white, standing out from nearly black.
    """
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    parts = colorsys.hls_to_rgb(hue, 0.95 - 0.85 * lightness**1.3, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def escaped(name: str) -> str:
    """A name as matplotlib shows it whole.

    Between dollars it would read a formula, and what begins with an underscore it keeps to itself.
    """
    escaped = name.replace("$", r"\$")
    return f"{UNSEEN}{escaped}" if escaped.startswith("_") else escaped


def unescaped(name: str) -> str:
    """The name itself again, where matplotlib does not read it."""
    return name.replace(r"\$", "$").removeprefix(UNSEEN)


def variable(colour: str) -> str:
    """How a page's style names a colour."""
    return f"--c-{colour.removeprefix('#').lower()}"


def _room(figure: Figure, only: Axes) -> Bbox:
    """The room that a panel and all its labels take, in points from the lower left corner."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call] # settles the layout; matplotlib's is untyped
    figure.set_layout_engine("none")
    taken = only.get_tightbbox(canvas.renderer)
    assert taken is not None  # it is visible
    return taken.padded(4)


@contextmanager
def _alone(figure: Figure, only: Axes | None) -> Iterator[None]:
    """Hide all other panels for a while."""
    hidden = [axes for axes in figure.axes if axes.get_visible() and only not in (None, axes)]
    for axes in hidden:
        axes.set_visible(False)
    yield
    for axes in hidden:
        axes.set_visible(True)


def _adapt(root: ElementTree.Element, name: str, *, keeps: bool) -> set[str]:
    """Make the element one of a page; the colours in it that follow the page's."""
    colours: set[str] = set()
    text = ElementTree.tostring(root, encoding="unicode")
    referred = set(_REFERENCE.findall(text)) | set(re.findall(r'href="#([^"]+)"', text))
    for parent in root.iter():
        for child in list(parent):
            # Licence texts, and a style that would rule the whole page.
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
        link = element.attrib.pop(_XLINK, None)
        if link is not None:
            element.set("href", link.replace("#", f"#{name}-", 1) if link[0] == "#" else link)
        own = element.attrib.pop("id", None)
        if own in referred:
            element.set("id", f"{name}-{own}")
        for key, value in element.attrib.items():
            value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
            if key == "style":
                value = ";".join(part for part in value.split("; ") if not _is_family(part))
                if not keeps:
                    colours |= {colour.lower() for colour in _COLOUR.findall(value)}
                    value = _COLOUR.sub(lambda found: f"var({variable(found.group())})", value)
            element.set(key, value)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "class": "drawing"}
    return colours


def _is_family(declaration: str) -> bool:
    return declaration.startswith("font-family")


def _panel(axes: Axes, frame: BboxBase, words: Mapping[str, Mapping[float, str]]) -> dict[str, Any]:
    """The curves of one panel that have a name, in the coordinates of the drawing.

    `box` is left, top, right, bottom; `x` and `at` are where each stop is and how it reads; each of
    `series` has a `y` and a `text` for each stop, None where the curve has no value.
    """
    lines = [line for line in axes.get_lines() if _is_curve(line)]
    points = [_points(line) for line in lines]
    stops = sorted({x for line in points for x in line})
    left, bottom, right, top = axes.bbox.extents
    box = [left - frame.x0, frame.y1 - top, right - frame.x0, frame.y1 - bottom]
    name, named = axes.get_xlabel(), _named(axes)
    series = []
    for line, values in zip(lines, points, strict=True):
        label = str(line.get_label())
        told = words.get(label, {})
        series.append(
            {
                "label": unescaped(label),
                "colour": to_hex(line.get_color()),
                "y": [_place(axes, x, values.get(x), frame) for x in stops],
                "text": [told.get(x) or _text(axes, values.get(x)) for x in stops],
            }
        )
    return {
        "title": axes.get_title(),
        "box": [round(float(edge), 1) for edge in box],
        "x": [_across(axes, x, frame) for x in stops],
        "at": [f"{name} {named.get(x, _number(x))}".strip() for x in stops],
        "series": series,
    }


def _is_curve(line: Line2D) -> bool:
    named = not str(line.get_label()).startswith("_")
    drawn = line.get_linestyle() not in ("None", "none", "", " ")
    return named and drawn and len(np.atleast_1d(line.get_xdata())) > 0


def _points(line: Line2D) -> dict[float, float]:
    """The finite points of a curve, y by x."""
    xs, ys = (np.atleast_1d(np.asarray(of, dtype=float)) for of in line.get_data())
    return {
        float(x): float(y) for x, y in zip(xs, ys, strict=True) if np.isfinite(x) and np.isfinite(y)
    }


def _named(axes: Axes) -> dict[float, str]:
    """What the ticks call the places they were put at, such as ``8x32`` for the fourth."""
    if not isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        return {}
    texts = [tick.get_text() for tick in axes.get_xticklabels()]
    return {float(x): text for x, text in zip(axes.get_xticks(), texts, strict=True) if text}


def _across(axes: Axes, x: float, frame: BboxBase) -> float:
    place = axes.transData.transform((x, axes.get_ylim()[0]))[0]
    return round(float(place - frame.x0), 1)


def _place(axes: Axes, x: float, y: float | None, frame: BboxBase) -> float | None:
    if y is None:
        return None
    place = frame.y1 - float(axes.transData.transform((x, y))[1])
    return round(place, 1) if np.isfinite(place) else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"


def _text(axes: Axes, value: float | None) -> str | None:
    if value is None:
        return None
    formatter = axes.yaxis.get_major_formatter()
    if isinstance(formatter, PercentFormatter):
        return f"{100 * value / formatter.xmax:.2f}\u00a0%"
    return f"{value:.4g}"
