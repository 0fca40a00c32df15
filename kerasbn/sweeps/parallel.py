"""A grid of many axes in parallel coordinates: a line for each combination and kind."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from kerasbn.study.curves import label
from kerasbn.study.plots import COLOURS, NOTE_COLOUR
from kerasbn.sweeps.summaries import NAMES, Summary, short

LOG_FROM = 10.0
BUNDLE = 0.06  # the width of all lines through one value, so that they can be told apart
_BY_NUMBER = 8  # an axis with more values than this is drawn to scale


def draw_parallel(
    listed: Sequence[Summary], axes_names: Sequence[str], title: str, note: str = ""
) -> Figure:
    """A line from its value on each axis to its accuracy, for each combination and kind.

    Lines through one value stand a little beside each other, so that none hides another; a line to
    a cross at the bottom is a combination of which every network diverged.

    Args:
        listed: the points of the grid.
        axes_names: the axes, from left to right.
        title: the heading.
        note: a sentence that has to be read with the picture.
    """
    width = 2.6 * len(axes_names) + 3.4
    figure = Figure(figsize=(width, 6.2), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    axes = figure.subplots()
    scales = [_heights([each.point[name] for each in listed]) for name in axes_names]
    last = len(axes_names)
    for place, name in enumerate(axes_names):
        axes.axvline(place, color="#888888", lw=1)
        _ticks(axes, place, listed, name, scales[place])
    axes.axvline(last, color="#888888", lw=1)
    for height in np.linspace(0, 1, 6):
        axes.text(last + 0.05, height, f"{height:.0%}", va="center", fontsize=10)
    for bn, colour, aside in ((True, COLOURS[0], 0.006), (False, COLOURS[1], -0.006)):
        for i, each in enumerate(listed):
            beside = aside + BUNDLE * ((i + 0.5) / len(listed) - 0.5)
            side = each.side(bn)
            if side is None or not (side.accuracies or side.diverged):
                continue
            mean = side.spread.mean
            heights = [scale[i] + beside for scale in scales] + [-0.06 if mean is None else mean]
            _bend(axes, heights, colour)
            if side.diverged:
                axes.plot(last, heights[-1], "x", color=colour, ms=8, mew=2, clip_on=False)
    axes.set_xlim(-0.35, last + 0.4)
    axes.set_ylim(-0.09, 1.04)
    axes.set_xticks(
        range(last + 1), [*(NAMES[name] for name in axes_names), "test accuracy"], fontsize=12
    )
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    handles = [
        Line2D([], [], color=COLOURS[i], lw=2, label=label(bn))
        for i, bn in enumerate((True, False))
    ]
    handles.append(Line2D([], [], color="#444444", marker="x", ls="", label="some or all diverged"))
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=3, frameon=False, title=note, fontsize=11
    )
    legend.get_title().set_color(NOTE_COLOUR)
    return figure


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
    for text, height in shown:
        axes.text(
            place,
            height,
            text,
            va="center",
            ha="center",
            fontsize=10,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "#bbbbbb", "boxstyle": "round,pad=0.25"},
        )


def _bend(axes: Axes, heights: Sequence[float], colour: str) -> None:
    """A smooth line through the heights, level at every axis, so that it can be followed."""
    points, codes = [(0.0, heights[0])], [Path.MOVETO]
    for i, (low, high) in enumerate(pairwise(heights)):
        points += [(i + 0.5, low), (i + 0.5, high), (i + 1.0, high)]
        codes += [Path.CURVE4] * 3
    axes.add_patch(PathPatch(Path(points, codes), fill=False, edgecolor=colour, lw=1.4, alpha=0.6))
