"""Heat map: accuracy over two axes or more as colored tables, with BN, without, and difference."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from kerasbn.common.plotting import COLOR, NOTE_COLOR
from kerasbn.experiments.curves import label
from kerasbn.sweeps.summaries import SeedResults, Summary
from kerasbn.sweeps.trials import Configuration
from kerasbn.training.settings import SETTINGS, short_text

# From worse through equal to better with BN, in the colors of the two kinds.
_DIVERGING = LinearSegmentedColormap.from_list(
    "difference", [COLOR["without_bn"], "#ffffff", COLOR["with_bn"]]
)
_SEQUENTIAL = "cividis"  # perceptually uniform, also for color-blind readers

Place = tuple[int, int]  # row and column
Cells = dict[Place, tuple[float, str]]  # a value, perhaps NaN, and its text


def draw_heat_map(
    summaries: Sequence[Summary], column: str, rows: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Draw mean accuracy with BN, without, and the difference, each as a table.

    Args:
        summaries: All configurations of the grid.
        column: The axis of the columns.
        rows: The axes whose combinations are the rows.
        title: The title.
        note: A sentence below the figure.
    """
    columns = list(dict.fromkeys(each.configuration[column] for each in summaries))
    row_names = list(dict.fromkeys(_row_name(each.configuration, rows) for each in summaries))
    places = [
        (
            row_names.index(_row_name(each.configuration, rows)),
            columns.index(each.configuration[column]),
        )
        for each in summaries
    ]
    shape = (len(row_names), len(columns))
    kinds = [bn for bn in (True, False) if any(each.of(bn) for each in summaries)]
    panels = len(kinds) + (len(kinds) == 2)
    width = panels * (max(0.72 * shape[1], 2.2) + 0.9) + 0.085 * max(map(len, row_names)) + 0.3
    figure = Figure(figsize=(width, 0.62 * shape[0] + 2.3), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    for panel, bn in zip(axes, kinds, strict=False):
        cells = {
            place: _mean_cell(each.of(bn)) for place, each in zip(places, summaries, strict=True)
        }
        image = _draw_table(panel, shape, cells, _SEQUENTIAL, (0, 100))
        panel.set_title(label(bn), fontsize=12)
    figure.colorbar(image, ax=list(axes[: len(kinds)]), label="test accuracy, %", pad=0.01)
    if len(kinds) == 2:
        cells = {
            place: _difference_cell(each) for place, each in zip(places, summaries, strict=True)
        }
        largest = max((abs(v) for v, _ in cells.values() if not np.isnan(v)), default=0) or 1e-7
        image = _draw_table(axes[2], shape, cells, _DIVERGING, (-largest, largest))
        axes[2].set_title("With BN minus without", fontsize=12)
        figure.colorbar(image, ax=axes[2], label="points", pad=0.02)
        if any("*" in text for _, text in cells.values()):
            note = f"{note} *: the 95% interval excludes 0.".strip()
    for panel in axes:
        panel.set_xticks(range(shape[1]), [short_text(value) for value in columns])
        panel.set_xlabel(SETTINGS[column].label)
    axes[0].set_yticks(range(shape[0]), row_names)
    if note:
        figure.supxlabel(note, fontsize=10, color=NOTE_COLOR)
    return figure


def _mean_cell(results: SeedResults | None) -> tuple[float, str]:
    """Return the mean in percent, and the text of a cell: the mean and how many diverged."""
    if results is None:
        return np.nan, ""
    mean, diverged = results.spread.mean, len(results.diverged)
    if mean is None:
        return np.nan, "diverged" if diverged else ""
    note = f"\n{diverged} div." if diverged else ""
    return 100 * mean, f"{100 * mean:.1f}{note}"


def _difference_cell(summary: Summary) -> tuple[float, str]:
    """Return the difference in points, and its text: a star where the interval excludes 0."""
    found = summary.difference
    if found.mean is None:
        return np.nan, ""
    sure = found.low is not None and found.high is not None and found.low * found.high > 0
    return 100 * found.mean, f"{100 * found.mean:+.1f}{'*' if sure else ''}"


def _draw_table(
    axes: Axes,
    shape: tuple[int, int],
    cells: Cells,
    colors: str | Colormap,
    limits: tuple[float, float],
) -> AxesImage:
    values: NDArray[np.float64] = np.full(shape, np.nan)
    for place, (value, _) in cells.items():
        values[place] = value
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = "black"
        if np.isnan(value):
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(
                Rectangle(corner, 1, 1, facecolor="#f2f2f2", edgecolor="#999999", hatch="//", lw=0)
            )
        else:  # black or white, by the relative luminance of the cell
            luminance = np.dot(image.to_rgba(np.array([value]))[0][:3], (0.2126, 0.7152, 0.0722))
            ink = "black" if luminance > 0.45 else "white"
        text = cells.get((row, column), (np.nan, ""))[1]
        axes.text(
            column, row, text, ha="center", va="center", color=ink, fontsize=9.5, linespacing=0.95
        )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image


def _row_name(configuration: Configuration, axes: Sequence[str]) -> str:
    """Return the name of a row: values, with the label of the axis where they are numbers."""
    return ", ".join(
        f"{SETTINGS[axis].label} {short_text(configuration[axis])}"
        if isinstance(configuration[axis], int | float | tuple)
        else short_text(configuration[axis])
        for axis in axes
    )
