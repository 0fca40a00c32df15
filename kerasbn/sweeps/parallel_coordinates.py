"""A grid of many axes in parallel coordinates: a line for each combination, a panel by kind."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from kerasbn.experiments.curves import label
from kerasbn.plotting import ACCURACY_TICKS, NOTE_COLOR, height
from kerasbn.sweeps.summaries import NAMES, Summary, short

LOG_FROM = 10.0
LOST = -0.07  # where lines end that have no accuracy
BUNDLE = 0.06  # the width of all lines through one value, so that they can be told apart
Colour = tuple[float, float, float, float]
_BY_NUMBER = 8  # an axis with more values than this is drawn to scale


def draw_parallel(
    listed: Sequence[Summary], axes_names: Sequence[str], title: str, note: str = ""
) -> Figure:
    """A line from its value on each axis to its accuracy, for each combination; a panel by kind.

    Lines through one value stand a little beside each other, so that none hides another, and are
    the darker the worse; a line to a cross at the bottom is a combination of which every network
    diverged.

    Args:
        listed: the points of the grid.
        axes_names: the axes, from left to right.
        title: the heading.
        note: a sentence that has to be read with the picture.
    """
    kinds = [bn for bn in (True, False) if any(each.side(bn) for each in listed)]
    width = len(kinds) * (1.9 * len(axes_names) + 1.3)
    figure = Figure(figsize=(width, 5.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, bn in zip(panels, kinds, strict=True):
        axes.set_title(label(bn), fontsize=12)
        _draw_kind(axes, listed, axes_names, bn)
    if note:
        figure.supxlabel(note, fontsize=10, color=NOTE_COLOR)
    return figure


def _draw_kind(axes: Axes, listed: Sequence[Summary], axes_names: Sequence[str], bn: bool) -> None:
    scales = [_heights([each.point[name] for each in listed]) for name in axes_names]
    last = len(axes_names)
    means = [
        side.spread.mean for each in listed for side in (each.with_bn, each.without_bn) if side
    ]
    top = max((float(height(mean)) for mean in means if mean), default=1.0)
    for place, name in enumerate(axes_names):
        axes.axvline(place, color="#888888", lw=1)
        _ticks(axes, place, listed, name, scales[place])
    axes.axvline(last, color="#888888", lw=1)
    for accuracy in ACCURACY_TICKS:
        axes.text(last + 0.06, height(accuracy), f"{accuracy:.0%}", va="center", fontsize=10)
    for i, each in enumerate(listed):
        side = each.side(bn)
        if side is None or not (side.accuracies or side.diverged):
            continue
        mean = side.spread.mean
        beside = BUNDLE * ((i + 0.5) / len(listed) - 0.5)
        end = LOST if mean is None else float(height(mean))
        colour = _shade(0.0 if mean is None else float(height(mean)) / top)
        _bend(axes, [*(scale[i] + beside for scale in scales), end], colour, end)
        if side.diverged:
            axes.plot(last, end, "x", color=colour, ms=8, mew=2, clip_on=False)
    axes.set_xlim(-0.45, last + 0.45)
    axes.set_ylim(LOST - 0.03, 1.04)
    names = [*(NAMES[name] for name in axes_names), "test accuracy"]
    axes.set_xticks(range(last + 1), ["\n".join(name.split(" ", 1)) for name in names], fontsize=11)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _shade(share: float) -> Colour:
    """The colour of a height, as a share of the best: dark for what is bad, never like paper."""
    red, green, blue, alpha = colormaps["cividis"](0.7 * share)
    return red, green, blue, alpha


def _heights(values: Sequence[object]) -> list[float]:
    """Where values stand on an axis from 0 to 1: evenly if they are few, otherwise to scale."""
    distinct = list(dict.fromkeys(values))
    numbers = [each for each in distinct if isinstance(each, int | float)]
    if len(numbers) == len(distinct) > _BY_NUMBER:
        low, high = min(numbers), max(numbers)
        if low > 0 and high / low >= LOG_FROM:
            scale = [float(np.log(v / low) / np.log(high / low)) for v in numbers]
        else:
            scale = [(v - low) / (high - low) for v in numbers]
        at = dict(zip(distinct, scale, strict=True))
    else:
        ordered = sorted(numbers) if len(numbers) == len(distinct) else distinct
        at = {value: (i + 0.5) / len(ordered) for i, value in enumerate(ordered)}
    return [at[value] for value in values]


def _ticks(
    axes: Axes, place: int, listed: Sequence[Summary], name: str, heights: Sequence[float]
) -> None:
    at = {short(each.point[name]): height for each, height in zip(listed, heights, strict=True)}
    shown = sorted(at.items(), key=lambda item: item[1])
    if len(shown) > _BY_NUMBER:  # to scale: the ends and a few between say enough
        shown = [shown[i] for i in np.linspace(0, len(shown) - 1, 5).astype(int)]
    for text, up in shown:
        axes.text(
            place,
            up,
            text,
            va="center",
            ha="center",
            fontsize=10,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "#bbbbbb", "boxstyle": "round,pad=0.25"},
        )


def _bend(axes: Axes, heights: Sequence[float], colour: Colour, end: float) -> None:
    """A smooth line through the heights, level at every axis, so that it can be followed.

    The worse, the further in front: what fails is what one looks for.
    """
    points, codes = [(0.0, heights[0])], [Path.MOVETO]
    for i, (low, high) in enumerate(pairwise(heights)):
        points += [(i + 0.5, low), (i + 0.5, high), (i + 1.0, high)]
        codes += [Path.CURVE4] * 3
    path = Path(points, codes)
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, lw=1.8, zorder=3 - end))
