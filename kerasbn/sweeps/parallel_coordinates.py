"""Parallel coordinates: a line for each combination of many axes, a panel with and without BN."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from kerasbn.common.plotting import ACCURACY_TICKS, NOTE_COLOR, height
from kerasbn.experiments.curves import label
from kerasbn.sweeps.summaries import KINDS, Summary
from kerasbn.training.settings import SETTINGS, Value, short_text

LOG_FROM = 10.0  # an axis is logarithmic if its values differ by this factor
NO_ACCURACY = -0.07  # the height where lines without an accuracy end
BUNDLE = 0.06  # the width of all lines through one value, so that they can be distinguished
MAX_LISTED = 8  # an axis with more numbers than this is drawn to scale


def draw_parallel_coordinates(
    summaries: Sequence[Summary], axes_names: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Draw a line from the values of each combination to its mean accuracy, axes left to right.

    Lines through one value are drawn side by side. Worse ones are darker and in front, since they
    are what one looks for. A cross marks combinations in which trials diverged; if all did, the
    line ends below 0%.
    """
    kinds = [bn for bn in KINDS if summaries[0].of(bn).trials]
    width = len(kinds) * (1.9 * len(axes_names) + 1.3)
    figure = Figure(figsize=(width, 5.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    means = [each.of(bn).mean for each in summaries for bn in kinds if each.of(bn).accuracies]
    top = float(height(max(means, default=0.0))) or 1.0
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, bn in zip(panels, kinds, strict=True):
        axes.set_title(label(bn), fontsize=12)
        _draw_kind(axes, summaries, axes_names, bn, top)
    if note:
        figure.supxlabel(note, fontsize=10, color=NOTE_COLOR)
    return figure


def _draw_kind(
    axes: Axes, summaries: Sequence[Summary], axes_names: Sequence[str], bn: bool, top: float
) -> None:
    """Draw the axes and the lines of one kind; `top` is the height of the best of both kinds."""
    last = len(axes_names)
    columns = []
    for place, name in enumerate(axes_names):
        values = [each.configuration[name] for each in summaries]
        columns.append(_heights(values))
        _draw_ticks(axes, place, values, columns[-1])
    for place in range(last + 1):
        axes.axvline(place, color="#888888", lw=1)
    for accuracy in ACCURACY_TICKS:
        axes.text(last + 0.06, height(accuracy), f"{accuracy:.0%}", va="center", fontsize=10)
    for i, each in enumerate(summaries):
        results = each.of(bn)
        if not results.trained:
            continue
        end = float(height(results.mean)) if results.accuracies else NO_ACCURACY
        color = colormaps["cividis"](0.7 * max(end, 0.0) / top)  # never as light as paper
        shift = BUNDLE * ((i + 0.5) / len(summaries) - 0.5)
        _draw_line(axes, [*(heights[i] + shift for heights in columns), end], color)
        if results.diverged:
            axes.plot(last, end, "x", color=color, ms=8, mew=2, clip_on=False)
    axes.set_xlim(-0.45, last + 0.45)
    axes.set_ylim(NO_ACCURACY - 0.03, 1.04)
    names = [*(SETTINGS[name].label for name in axes_names), "test accuracy"]
    axes.set_xticks(range(last + 1), ["\n".join(name.split(" ", 1)) for name in names], fontsize=11)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _heights(values: Sequence[Value]) -> list[float]:
    """Return the heights of values on an axis, 0 to 1: evenly spaced if few, else to scale."""
    distinct = list(dict.fromkeys(values))
    numbers = [each for each in distinct if isinstance(each, int | float)]
    are_numbers = len(numbers) == len(distinct)
    if are_numbers and len(numbers) > MAX_LISTED:
        scaled = np.array(numbers, float)
        if scaled.min() > 0 and scaled.max() / scaled.min() >= LOG_FROM:
            scaled = np.log(scaled)
        scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        at = dict(zip(distinct, scaled.tolist(), strict=True))
    else:
        ordered = sorted(numbers) if are_numbers else distinct
        at = {value: (i + 0.5) / len(ordered) for i, value in enumerate(ordered)}
    return [at[value] for value in values]


def _draw_ticks(axes: Axes, place: int, values: Sequence[Value], heights: Sequence[float]) -> None:
    at = {short_text(value): height for value, height in zip(values, heights, strict=True)}
    ticks = sorted(at.items(), key=lambda item: item[1])
    if len(ticks) > MAX_LISTED:
        ticks = [ticks[i] for i in np.linspace(0, len(ticks) - 1, 5).astype(int)]
    box = {"facecolor": "white", "edgecolor": "#bbbbbb", "boxstyle": "round,pad=0.25"}
    for text, position in ticks:
        axes.text(place, position, text, va="center", ha="center", fontsize=10, zorder=5, bbox=box)


def _draw_line(axes: Axes, heights: Sequence[float], color: tuple[float, ...]) -> None:
    """Draw a smooth line through the heights, horizontal at every axis, lower ends in front."""
    points, codes = [(0.0, heights[0])], [Path.MOVETO]
    for i, (low, high) in enumerate(pairwise(heights)):
        points += [(i + 0.5, low), (i + 0.5, high), (i + 1.0, high)]
        codes += [Path.CURVE4] * 3
    style = {"edgecolor": color, "lw": 1.8, "zorder": 3 - heights[-1]}
    axes.add_patch(PathPatch(Path(points, codes), fill=False, **style))
