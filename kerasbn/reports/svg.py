"""Matplotlib figures as SVG inside a page: they follow its colors and expose their values.

Text stays text, so the reader's fonts, text search and screen readers work. Every color becomes a
CSS variable, for which a dark page has another value.
"""

import colorsys
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import BboxBase

from kerasbn.common import wording
from kerasbn.common.plotting import default_style

ZERO_WIDTH_SPACE = "\u200b"
_COLOR = re.compile(r"#[0-9a-f]{6}\b", re.IGNORECASE)
_REFERENCE = re.compile(r"""(?:url\(|href=")#([^)"]+)""")
_XLINK = "{http://www.w3.org/1999/xlink}href"
_DPI = 72  # matplotlib's SVG is in points


class Drawing(NamedTuple):
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
    colors: set[str]
    panels: Sequence[Mapping[str, Any]]
    width: float
    keeps_colors: bool


@np.errstate(over="ignore")  # matplotlib multiplies ticks near the largest numbers there are
@default_style
def to_svg(
    figure: Figure,
    name: str,
    description: str,
    texts: Mapping[str, Mapping[float, str]] | None = None,
    only: Axes | None = None,
) -> Drawing:
    """Convert a figure, or `only` one panel, to an `svg` element without size or fonts of its own.

    This fixes the layout of the figure. A figure with an image, such as a heat map, keeps its
    colors. The prefix of all identifiers is `name`, which must be unique on the page. Values have
    the format of their axis, or the text that `texts` has for the label of their curve and their x.
    """
    figure.set_dpi(_DPI)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    frame: BboxBase = figure.bbox
    hidden = []
    if only is not None:
        hidden = [axes for axes in shown if axes is not only]
        shown = [only]
        figure.draw_without_rendering()  # computes the layout
        figure.set_layout_engine("none")
        box = only.get_tightbbox()
        assert box is not None  # the panel is visible
        frame = box.padded(4)
    for axes in hidden:
        axes.set_visible(False)
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            bbox_inches=frame.transformed(figure.dpi_scale_trans.inverted()),
            metadata={"Date": None},
        )
    for axes in hidden:
        axes.set_visible(True)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - written by matplotlib above
    keeps_colors = any(axes.images for axes in figure.axes)
    colors = _adapt(root, name, keeps_colors=keeps_colors)
    title = ElementTree.Element("title")
    title.text = description
    root.insert(0, title)
    markup = ElementTree.tostring(root, encoding="unicode")
    panels = [_panel(axes, frame, texts or {}) for axes in shown if labeled_curves(axes)]
    colors |= {each["color"] for panel in panels for each in panel["series"]}
    return Drawing(name, markup, colors, panels, float(frame.width), keeps_colors)


def labeled_curves(axes: Axes) -> list[Line2D]:
    """Return the curves of a panel whose values can be read out."""
    return [
        line
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
        and line.get_linestyle() != "None"
        and _finite_points(line)
    ]


def dark_variant(color: str) -> str:
    """Return the color for a dark page: the same hue with inverted lightness.

    White becomes the page background and black nearly white. The order of lightness is reversed, so
    colors that differ still differ. The exponent keeps medium colors, which contrast with white,
    in contrast with nearly black.
    """
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(color))
    parts = colorsys.hls_to_rgb(hue, 0.95 - 0.85 * lightness**1.3, saturation)
    return to_hex(np.clip(parts, 0, 1).tolist())


def escape_label(name: str) -> str:
    """Return a name, whatever its bytes, that matplotlib shows literally.

    Matplotlib renders text between dollars as a formula, and hides labels that start with an
    underscore.
    """
    escaped = name.encode("utf-8", "replace").decode().replace("$", r"\$")
    return f"{ZERO_WIDTH_SPACE}{escaped}" if escaped.startswith("_") else escaped


def unescape_label(label: str) -> str:
    """Undo `escape_label`."""
    return label.replace(r"\$", "$").removeprefix(ZERO_WIDTH_SPACE)


def css_variable(color: str) -> str:
    """Return the name of the CSS variable for a color."""
    return f"--c-{color.removeprefix('#').lower()}"


def _adapt(root: ElementTree.Element, name: str, *, keeps_colors: bool) -> set[str]:
    """Make matplotlib's SVG embeddable, and return the colors replaced by variables."""
    colors: set[str] = set()
    referenced = set(_REFERENCE.findall(ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        # License texts, and a style that would apply to the whole page.
        for child in [each for each in element if each.tag.endswith(("}metadata", "}style"))]:
            element.remove(child)
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
            value = value.replace("url(#", f"url(#{name}-")
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

    def place(x: float, y: float) -> list[float | None]:
        position = float(x - frame.x0), float(frame.y1 - y)
        return [round(each, 1) if math.isfinite(each) else None for each in position]

    lines = {line: _finite_points(line) for line in labeled_curves(axes)}
    stops = sorted({x for points in lines.values() for x in points})
    to_pixels = axes.transData.transform
    bottom, ticks = axes.get_ylim()[0], _tick_names(axes)
    label = axes.get_xlabel().partition(" (")[0]  # a remark is for the axis alone
    series = []
    for line, points in lines.items():
        own = texts.get(str(line.get_label()), {})
        series.append(
            {
                "label": unescape_label(str(line.get_label())),
                "color": to_hex(line.get_color()),
                "y": [place(*to_pixels((x, points[x])))[1] if x in points else None for x in stops],
                "text": [own.get(x) or _value_text(axes, points.get(x)) for x in stops],
            }
        )
    return {
        "title": axes.get_title(),
        "box": [*place(axes.bbox.x0, axes.bbox.y1), *place(axes.bbox.x1, axes.bbox.y0)],
        "x": [place(*to_pixels((x, bottom)))[0] for x in stops],
        "at": [f"{label} {ticks.get(x, _stop_text(x))}".strip() for x in stops],
        "series": series,
    }


def _finite_points(line: Line2D) -> dict[float, float]:
    """Return the finite points of a curve, y by x."""
    points = np.asarray(line.get_xydata())
    return dict(points[np.isfinite(points).all(axis=1)].tolist())


def _tick_names(axes: Axes) -> dict[float, str]:
    """Return the labels of ticks at fixed places, such as ``8x32`` at 3."""
    if not isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        return {}
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    return {float(x): name for x, name in zip(axes.get_xticks(), names, strict=True) if name}


def _stop_text(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) and abs(x) < 1e9 else wording.number(x, 4)


def _value_text(axes: Axes, value: float | None) -> str | None:
    if value is None:
        return None
    is_share = "%" in axes.yaxis.get_major_formatter()(value)
    return wording.percent(value) if is_share else wording.number(value, 4)
