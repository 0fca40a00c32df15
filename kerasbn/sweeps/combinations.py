"""Charts of all combinations of a grid: as a heat map, or as parallel coordinates."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from kerasbn.common.plotting import ACCURACY_TICKS, COLOR, NOTE_COLOR, height
from kerasbn.experiments.curves import label
from kerasbn.sweeps.summaries import KIND_NAMES, SeedResults, Summary, describe
from kerasbn.sweeps.trials import Configuration
from kerasbn.training.settings import SETTINGS, SettingValue, short_text

# From worse through equal to better with BN, in the colors of the two kinds.
_DIVERGING = LinearSegmentedColormap.from_list(
    "difference", [COLOR["without_bn"], "#ffffff", COLOR["with_bn"]]
)
_SEQUENTIAL = colormaps["cividis"]  # perceptually uniform, also for color-blind readers

_LOG_FROM = 10.0  # an axis is logarithmic if its values differ by this factor
NO_ACCURACY = -0.07  # the height where lines without an accuracy end
BUNDLE = 0.06  # the width of all lines through one value, so that they can be distinguished
MAX_LISTED = 8  # an axis with more numbers than this is drawn to scale

GridCells = Mapping[tuple[int, int], tuple[float, str]]  # by row and column: a value and its text


def draw_heat_map(
    summaries: Sequence[Summary], column: str, rows: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Draw mean accuracy with BN, without, and the difference, each as a table.

    The values of the axis `column` are the columns; the combinations of those of `rows`, the rows.
    """
    columns = list(dict.fromkeys(each.configuration[column] for each in summaries))
    names = [_row_name(each.configuration, rows) for each in summaries]
    row_names = list(dict.fromkeys(names))
    places = [
        (row_names.index(name), columns.index(each.configuration[column]))
        for name, each in zip(names, summaries, strict=True)
    ]
    kinds = [bn for bn in KIND_NAMES if summaries[0].of(bn).trials]
    tables = [(label(bn), [_mean_cell(each.of(bn)) for each in summaries]) for bn in kinds]
    if len(kinds) == 2:
        tables.append(("With BN minus without", [_difference_cell(each) for each in summaries]))
        if any("*" in text for _, text in tables[2][1]):
            note = f"{note} *: the 95% interval excludes 0.".strip()
    width = len(tables) * (max(0.72 * len(columns), 2.2) + 0.9) + 0.3
    size = (width + 0.085 * max(map(len, row_names)), 0.62 * len(row_names) + 2.3)
    figure, panels = _panels(size, title, note, [heading for heading, _ in tables])
    for i, (axes, (_, cells)) in enumerate(zip(panels, tables, strict=True)):
        colors: Colormap = _SEQUENTIAL
        limits = (0.0, 100.0)
        if i == 2:
            largest = max((abs(value) for value, _ in cells if not np.isnan(value)), default=0)
            colors, limits = _DIVERGING, (-largest or -1e-7, largest or 1e-7)
        image = _draw_table(axes, dict(zip(places, cells, strict=True)), colors, limits)
        axes.set_xticks(range(len(columns)), [short_text(value) for value in columns])
        axes.set_xlabel(SETTINGS[column].label)
        if i == len(kinds) - 1:
            figure.colorbar(image, ax=list(panels[: i + 1]), label="test accuracy, %", pad=0.01)
        elif i == 2:
            figure.colorbar(image, ax=axes, label="points", pad=0.02)
    panels[0].set_yticks(range(len(row_names)), row_names)
    return figure


def _mean_cell(results: SeedResults) -> tuple[float, str]:
    """Return the mean in percent, and the text of a cell: the mean and how many diverged."""
    if not results.accuracies:
        return np.nan, "diverged" if results.diverged else ""
    note = f"\n{results.diverged} div." if results.diverged else ""
    return 100 * results.mean, f"{100 * results.mean:.1f}{note}"


def _difference_cell(summary: Summary) -> tuple[float, str]:
    """Return the difference in points, and its text: a star where the interval excludes 0."""
    found = summary.difference
    if found.mean is None:
        return np.nan, ""
    sure = found.low is not None and found.high is not None and found.low * found.high > 0
    return 100 * found.mean, f"{100 * found.mean:+.1f}{'*' if sure else ''}"


def _draw_table(
    axes: Axes, cells: GridCells, colors: Colormap, limits: tuple[float, float]
) -> AxesImage:
    """Draw cells as colored squares with their texts; those without a value are hatched."""
    rows, columns = zip(*cells, strict=True)
    values: NDArray[np.float64] = np.full((max(rows) + 1, max(columns) + 1), np.nan)
    values[rows, columns] = [value for value, _ in cells.values()]
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.patch.set(facecolor="#f2f2f2", edgecolor="#999999", hatch="//")  # seen where there is none
    for (row, column), (value, text) in cells.items():
        # black or white, by the relative luminance of the cell
        luminance = np.dot(image.to_rgba(np.array([value]))[0][:3], (0.2126, 0.7152, 0.0722))
        ink = "black" if np.isnan(value) or luminance > 0.45 else "white"
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5}
        axes.text(column, row, text, color=ink, linespacing=0.95, **style)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image


def _row_name(configuration: Configuration, axes: Sequence[str]) -> str:
    """Return the name of a row: values, with the label of the axis where they are numbers."""
    return ", ".join(
        describe(configuration, [axis])
        if isinstance(configuration[axis], int | float | tuple)
        else short_text(configuration[axis])
        for axis in axes
    )


def draw_parallel_coordinates(
    summaries: Sequence[Summary], axes_names: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Draw a line from the values of each combination to its mean accuracy, axes left to right.

    Lines through one value are drawn side by side. Worse ones are darker and in front, since they
    are what one looks for. A cross marks combinations in which trials diverged; if all did, the
    line ends below 0%.
    """
    kinds = [bn for bn in KIND_NAMES if summaries[0].of(bn).trials]
    means = [each.of(bn).mean for each in summaries for bn in kinds if each.of(bn).accuracies]
    top = float(height(max(means, default=0.0))) or 1.0
    size = (len(kinds) * (1.9 * len(axes_names) + 1.3), 5.6)
    figure, panels = _panels(size, title, note, [label(bn) for bn in kinds])
    for axes, bn in zip(panels, kinds, strict=True):
        _draw_kind(axes, summaries, axes_names, bn, top)
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


def _heights(values: Sequence[SettingValue]) -> list[float]:
    """Return the heights of values on an axis, 0 to 1: evenly spaced if few, else to scale."""
    distinct = list(dict.fromkeys(values))
    numbers = [each for each in distinct if isinstance(each, int | float)]
    are_numbers = len(numbers) == len(distinct)
    if are_numbers and len(numbers) > MAX_LISTED:
        scaled = np.array(numbers, float)
        if scaled.min() > 0 and scaled.max() / scaled.min() >= _LOG_FROM:
            scaled = np.log(scaled)
        scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        at = dict(zip(distinct, scaled.tolist(), strict=True))
    else:
        ordered = sorted(numbers) if are_numbers else distinct
        at = {value: (i + 0.5) / len(ordered) for i, value in enumerate(ordered)}
    return [at[value] for value in values]


def _draw_ticks(
    axes: Axes, place: int, values: Sequence[SettingValue], heights: Sequence[float]
) -> None:
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


def _panels(
    size: tuple[float, float], title: str, note: str, headings: Sequence[str]
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels side by side, one for each heading."""
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    if note:
        figure.supxlabel(note, fontsize=10, color=NOTE_COLOR)
    panels = figure.subplots(1, len(headings), squeeze=False, sharey=True)[0]
    for panel, heading in zip(panels, headings, strict=True):
        panel.set_title(heading, fontsize=12)
    return figure, panels
