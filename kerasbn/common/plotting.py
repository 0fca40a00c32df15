"""Style and files of all figures: palette, axes, labels, and deterministic saving."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from kerasbn.common.errors import expected
from kerasbn.common.files import atomic_write

# Figures are drawn and saved within this style (a context and a decorator), so that a matplotlibrc
# file or settings of the caller do not change them. Titles have a fixed position: computing one
# that covers nothing takes a tenth of the drawing time, or more.
default_style = style.context(["default", {"axes.titley": 1.0}])

FIGURE_FORMATS = (".png", ".svg", ".pdf")
DPI = 150

# These two colors mean only this, in every figure. Everything else has other colors, which contrast
# with white and differ for color-blind readers (from Okabe and Ito, and Tol's "muted").
COLOR = {"with_bn": "#0072B2", "without_bn": "#D55E00"}
OTHER_COLORS = ("#009E73", "#AA4499", "#000000", "#999933", "#882255", "#332288")
NOTE_COLOR = "#555555"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")  # for curves of the same color

STRETCHED = "The axis is stretched towards 100%."
ACCURACY_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
_OFFSET = 0.01  # added to the error rate; without it 100% would be infinitely far away


class End(NamedTuple):
    """Where a curve ends, and its label."""

    x: float
    y: float
    text: str
    color: str


@np.errstate(over="ignore")  # matplotlib multiplies ticks near the largest numbers there are
@default_style
def save_figure(figure: Figure, path: Path, dpi: int = DPI) -> Path:
    """Save a figure in the format of its suffix, without date and random identifiers."""
    suffix = path.suffix.lower()
    if suffix not in FIGURE_FORMATS:
        raise expected(path, f"'{path.suffix}' as a format", f"one of {', '.join(FIGURE_FORMATS)}")
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    with atomic_write(path) as temporary, rc_context({"svg.hashsalt": "kerasbn"}):
        figure.savefig(temporary, dpi=dpi, format=suffix[1:], metadata=metadata)
    return path


@default_style
def html_image(figure: Figure, alt: str) -> str:
    """Return a figure as an HTML image that needs no file, for a notebook."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    image = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{alt}' src='data:image/png;base64,{image}'>"


def height(accuracy: Any) -> Any:  # noqa: ANN401 - a number or an array, as matplotlib has it
    """Return the position, 0 to 1, of an accuracy on an axis that is logarithmic in the error rate.

    So it shows how much good models differ: 90 to 95% is about as long as 95 to 98%.
    """
    error = 1 - np.clip(accuracy, 0.0, 1.0)
    return np.log((1 + _OFFSET) / (error + _OFFSET)) / np.log((1 + _OFFSET) / _OFFSET)


def accuracy_at(position: Any) -> Any:  # noqa: ANN401 - as above
    """Return the accuracy at a position on the axis; the inverse of `height`."""
    return 1 + _OFFSET - (1 + _OFFSET) * (_OFFSET / (1 + _OFFSET)) ** np.asarray(position)


def accuracy_axis(axes: Axes, low: float = 0.0, high: float = 1.0) -> None:
    """Stretch the vertical axis towards 100% and limit it to `low` to `high`, with a margin."""
    bottom, top = height(low), height(high)
    margin = max(0.08 * (top - bottom), 0.05 - (top - bottom) / 2)
    low = accuracy_at(max(0.0, min(bottom - margin, 0.9)))
    high = accuracy_at(min(1.0, max(top + margin, 0.1)))
    axes.set_yscale("function", functions=(height, accuracy_at))
    axes.set_ylim(low, high)
    apart = 0.12 * (height(high) - height(low))
    ticks: list[float] = []
    for candidates in (ACCURACY_TICKS, *([i / n for i in range(n + 1)] for n in (20, 100, 500))):
        if len(ticks) < 4:
            for tick in [each for each in candidates if low <= each <= high]:
                if all(abs(height(tick) - height(other)) > apart for other in ticks):
                    ticks.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{round(100 * tick, 4):g}%"))


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Label the right end of each curve, without overlap; the limits of the axes must be final."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    left, right = axes.get_xlim()
    gap, width = 0.065 * (high - low), 0.15 * (right - left)
    placed: list[tuple[End, float]] = []
    for end in sorted(ends, key=lambda end: end.y):
        position = scale.transform(end.y)
        beside = [y + gap for other, y in placed if abs(other.x - end.x) < width]
        placed.append((end, max([position, *beside])))
    excess = max([0.0, *(y - high for _, y in placed)])
    for end, y in placed:
        axes.annotate(
            end.text,
            (end.x, float(scale.inverted().transform(y - excess))),
            xytext=(8, 0), textcoords="offset points",
            color=end.color, va="center", fontsize=9.5, fontweight="bold",
        )  # fmt: skip
