"""Heat map: accuracy over two axes or more as colored tables, with BN, without, and difference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from kerasbn.common.plotting import COLOR, NOTE_COLOR
from kerasbn.experiments.curves import label
from kerasbn.sweeps.summaries import KINDS, SeedResults, Summary, describe
from kerasbn.sweeps.trials import Configuration
from kerasbn.training.settings import SETTINGS, short_text

# From worse through equal to better with BN, in the colors of the two kinds.
_DIVERGING = LinearSegmentedColormap.from_list(
    "difference", [COLOR["without_bn"], "#ffffff", COLOR["with_bn"]]
)
_SEQUENTIAL = "cividis"  # perceptually uniform, also for color-blind readers

Cells = Mapping[tuple[int, int], tuple[float, str]]  # by row and column: a value and its text


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
    kinds = [bn for bn in KINDS if summaries[0].of(bn).trials]
    panels = len(kinds) + (len(kinds) == 2)
    width = panels * (max(0.72 * len(columns), 2.2) + 0.9) + 0.085 * max(map(len, row_names)) + 0.3
    size = (width, 0.62 * len(row_names) + 2.3)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    for panel, bn in zip(axes, kinds, strict=False):
        cells = dict(zip(places, (_mean_cell(each.of(bn)) for each in summaries), strict=True))
        image = _draw_table(panel, cells, _SEQUENTIAL, (0, 100))
        panel.set_title(label(bn), fontsize=12)
    figure.colorbar(image, ax=list(axes[: len(kinds)]), label="test accuracy, %", pad=0.01)
    if len(kinds) == 2:
        cells = dict(zip(places, map(_difference_cell, summaries), strict=True))
        largest = max((abs(v) for v, _ in cells.values() if not np.isnan(v)), default=0) or 1e-7
        image = _draw_table(axes[2], cells, _DIVERGING, (-largest, largest))
        axes[2].set_title("With BN minus without", fontsize=12)
        figure.colorbar(image, ax=axes[2], label="points", pad=0.02)
        if any("*" in text for _, text in cells.values()):
            note = f"{note} *: the 95% interval excludes 0.".strip()
    for panel in axes:
        panel.set_xticks(range(len(columns)), [short_text(value) for value in columns])
        panel.set_xlabel(SETTINGS[column].label)
    axes[0].set_yticks(range(len(row_names)), row_names)
    if note:
        figure.supxlabel(note, fontsize=10, color=NOTE_COLOR)
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
    axes: Axes, cells: Cells, colors: str | Colormap, limits: tuple[float, float]
) -> AxesImage:
    """Draw cells as colored squares with their texts; those without a value are hatched."""
    shape = [last + 1 for last in map(max, zip(*cells, strict=True))]
    values: NDArray[np.float64] = np.full(shape, np.nan)
    for place, (value, _) in cells.items():
        values[place] = value
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = "black"
        if np.isnan(value):
            style: dict[str, Any] = {
                "facecolor": "#f2f2f2",
                "edgecolor": "#999999",
                "hatch": "//",
                "lw": 0,
            }
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))
        else:  # black or white, by the relative luminance of the cell
            luminance = np.dot(image.to_rgba(np.array([value]))[0][:3], (0.2126, 0.7152, 0.0722))
            ink = "black" if luminance > 0.45 else "white"
        _, text = cells.get((row, column), (np.nan, ""))
        style = {"ha": "center", "va": "center", "fontsize": 9.5, "linespacing": 0.95}
        axes.text(column, row, text, color=ink, **style)
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
