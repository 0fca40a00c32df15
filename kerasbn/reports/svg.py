"""Matplotlib figures as SVG inside a page: they follow its colors and expose their values.

Text stays text, so the reader's fonts, text search and screen readers work. Every color becomes a
CSS variable, for which a dark page has another value.
"""

import colorsys
import io
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

from kerasbn.common import wording

ZERO_WIDTH_SPACE = "\u200b"
_COLOR = re.compile(r"#[0-9a-f]{6}\b", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_XLINK = "{http://www.w3.org/1999/xlink}href"
_DPI = 72  # matplotlib's SVG is in points


@dataclass(frozen=True)
class Drawing:
    """A figure as an `svg` element.

    Attributes:
        name: Its name, unique on the page.
        markup: The `svg` element.
        colors: The colors in it as ``#rrggbb``; the markup calls them ``var(--c-rrggbb)``.
        panels: Position and text of the values in each panel with curves; see `_panel`.
        width: The width in points at which text has its nominal size.
        keeps_colors: Whether the colors are fixed, as in a heat map; it needs a white background.
    """

    name: str
    markup: str
    colors: frozenset[str]
    panels: Sequence[Mapping[str, Any]]
    width: float
    keeps_colors: bool = False

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The rightmost values of the first panel: where they are, and an entry for each curve."""
        if not self.panels:
            return None
        panel = self.panels[0]
        entries = [
            {"label": each["label"], "color": each["color"], "text": each["text"][-1]}
            for each in panel["series"]
            if each["text"][-1]
        ]
        return {"at": panel["at"][-1], "entries": entries}


def to_svg(
    figure: Figure,
    name: str,
    description: str,
    texts: Mapping[str, Mapping[float, str]] | None = None,
    only: Axes | None = None,
) -> Drawing:
    """Convert a figure to an `svg` element without size, width or fonts of its own.

    A figure with an image, such as a heat map, keeps its colors.

    Args:
        figure: The figure; its layout is fixed by this.
        name: A name that is unique on the page, the prefix of all identifiers.
        description: What the figure shows, for screen readers.
        texts: For a curve's label, the text of its value at each x. By default the format of the
            axis.
        only: The panel to cut out. By default the whole figure.
    """
    figure.set_dpi(_DPI)
    buffer = io.BytesIO()
    frame = figure.bbox if only is None else _bounding_box(figure, only)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), _others_hidden(figure, only):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            bbox_inches=frame.transformed(figure.dpi_scale_trans.inverted()),
            metadata={"Date": None},
        )
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - written by matplotlib above
    keeps_colors = any(axes.images for axes in figure.axes)
    colors = _adapt(root, name, keeps_colors=keeps_colors)
    title = ElementTree.Element("title")
    title.text = description
    root.insert(0, title)
    markup = ElementTree.tostring(root, encoding="unicode")
    shown = [axes for axes in figure.axes if axes.get_visible() and only in (None, axes)]
    panels = [_panel(axes, frame, texts or {}) for axes in shown]
    panels = [panel for panel in panels if panel["series"]]
    colors |= {each["color"] for panel in panels for each in panel["series"]}
    return Drawing(name, markup, frozenset(colors), panels, float(frame.width), keeps_colors)


def has_curves(axes: Axes) -> bool:
    """Return whether a panel has a labeled curve, whose values can be read out."""
    return any(map(_is_labeled_curve, axes.get_lines()))


def dark_variant(color: str) -> str:
    """Return the color for a dark page: the same hue with inverted lightness.

    White becomes the page background and black nearly white. The order of lightness is reversed, so
    colors that differ still differ. The exponent keeps medium colors, which contrast with white,
    in contrast with nearly black.
    """
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    parts = colorsys.hls_to_rgb(hue, 0.95 - 0.85 * lightness**1.3, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def escape_label(name: str) -> str:
    """Return a name that matplotlib shows literally.

    Matplotlib renders text between dollars as a formula, and hides labels that start with an
    underscore.
    """
    escaped = name.replace("$", r"\$")
    return f"{ZERO_WIDTH_SPACE}{escaped}" if escaped.startswith("_") else escaped


def unescape_label(label: str) -> str:
    """Undo `escape_label`."""
    return label.replace(r"\$", "$").removeprefix(ZERO_WIDTH_SPACE)


def css_variable(color: str) -> str:
    """Return the name of the CSS variable for a color."""
    return f"--c-{color.removeprefix('#').lower()}"


def _bounding_box(figure: Figure, only: Axes) -> Bbox:
    """Return the box of a panel with all its labels, in points from the lower left corner."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call] # computes the layout
    figure.set_layout_engine("none")
    box = only.get_tightbbox(canvas.renderer)
    assert box is not None  # the panel is visible
    return box.padded(4)


@contextmanager
def _others_hidden(figure: Figure, only: Axes | None) -> Iterator[None]:
    """Hide all panels but `only`, if given."""
    hidden = [axes for axes in figure.axes if axes.get_visible() and only not in (None, axes)]
    for axes in hidden:
        axes.set_visible(False)
    yield
    for axes in hidden:
        axes.set_visible(True)


def _adapt(root: ElementTree.Element, name: str, *, keeps_colors: bool) -> set[str]:
    """Make matplotlib's SVG embeddable, and return the colors replaced by variables."""
    colors: set[str] = set()
    text = ElementTree.tostring(root, encoding="unicode")
    referenced = set(_REFERENCE.findall(text)) | set(re.findall(r'href="#([^"]+)"', text))
    for parent in root.iter():
        for child in list(parent):
            # License texts, and a style that would apply to the whole page.
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
        link = element.attrib.pop(_XLINK, None)
        if link is not None:
            element.set("href", link.replace("#", f"#{name}-", 1) if link[0] == "#" else link)
        identifier = element.attrib.pop("id", None)
        if identifier in referenced:
            element.set("id", f"{name}-{identifier}")
        for key, value in element.attrib.items():
            value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
            if key == "style":
                parts = value.split("; ")
                value = ";".join(part for part in parts if not part.startswith("font-family"))
                if not keeps_colors:
                    colors |= {color.lower() for color in _COLOR.findall(value)}
                    value = _COLOR.sub(lambda match: f"var({css_variable(match.group())})", value)
            element.set(key, value)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "class": "drawing"}
    return colors


def _panel(axes: Axes, frame: BboxBase, texts: Mapping[str, Mapping[float, str]]) -> dict[str, Any]:
    """Return the labeled curves of a panel in the coordinates of the drawing.

    `box` is left, top, right, bottom. `x` and `at` are position and text of each stop. Each of
    `series` has `y` and `text` for each stop, None where the curve has no value.
    """
    lines = [line for line in axes.get_lines() if _is_labeled_curve(line)]
    points = [_finite_points(line) for line in lines]
    stops = sorted({x for line in points for x in line})
    left, bottom, right, top = axes.bbox.extents
    box = [left - frame.x0, frame.y1 - top, right - frame.x0, frame.y1 - bottom]
    y0, axis, ticks = axes.get_ylim()[0], axes.get_xlabel(), _tick_names(axes)
    series = []
    for line, values in zip(lines, points, strict=True):
        label = str(line.get_label())
        own = texts.get(label, {})
        series.append(
            {
                "label": unescape_label(label),
                "color": to_hex(line.get_color()),
                "y": [_y_position(axes, x, values.get(x), frame) for x in stops],
                "text": [own.get(x) or _value_text(axes, values.get(x)) for x in stops],
            }
        )
    return {
        "title": axes.get_title(),
        "box": [round(float(edge), 1) for edge in box],
        "x": [round(float(axes.transData.transform((x, y0))[0] - frame.x0), 1) for x in stops],
        "at": [f"{axis} {ticks.get(x, _stop_text(x))}".strip() for x in stops],
        "series": series,
    }


def _is_labeled_curve(line: Line2D) -> bool:
    labeled = not str(line.get_label()).startswith("_")
    drawn = line.get_linestyle() not in ("None", "none", "", " ")
    return labeled and drawn and len(np.atleast_1d(line.get_xdata())) > 0


def _finite_points(line: Line2D) -> dict[float, float]:
    """Return the finite points of a curve, y by x."""
    xs, ys = (np.atleast_1d(np.asarray(of, dtype=float)) for of in line.get_data())
    return {
        float(x): float(y) for x, y in zip(xs, ys, strict=True) if np.isfinite(x) and np.isfinite(y)
    }


def _tick_names(axes: Axes) -> dict[float, str]:
    """Return the labels of ticks at fixed places, such as ``8x32`` at 3."""
    if not isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        return {}
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    return {float(x): name for x, name in zip(axes.get_xticks(), names, strict=True) if name}


def _y_position(axes: Axes, x: float, y: float | None, frame: BboxBase) -> float | None:
    if y is None:
        return None
    position = frame.y1 - float(axes.transData.transform((x, y))[1])
    return round(position, 1) if np.isfinite(position) else None


def _stop_text(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) and abs(x) < 1e9 else wording.number(x, 4)


def _value_text(axes: Axes, value: float | None) -> str | None:
    if value is None:
        return None
    formatter = axes.yaxis.get_major_formatter()
    if isinstance(formatter, PercentFormatter):
        return wording.percent(value / formatter.xmax)
    if "%" in formatter(value):  # the stretched axis of accuracies
        return wording.percent(value)
    return wording.number(value, 4)
