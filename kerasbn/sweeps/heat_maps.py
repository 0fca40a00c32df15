"""Accuracy over two axes and more as coloured tables: with, without, and the difference."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from kerasbn.experiments.curves import label
from kerasbn.plotting import COLOR, NOTE_COLOR
from kerasbn.sweeps.summaries import NAMES, Summary, short
from kerasbn.sweeps.trials import Point, text_of

# From worse through equal to better with normalization, in the colours of the two kinds.
_DIFFERENCE = LinearSegmentedColormap.from_list(
    "difference", [COLOR["without_bn"], "#ffffff", COLOR["with_bn"]]
)
_SEQUENTIAL = "cividis"  # even in lightness, and the same to colour-blind people

Cells = NDArray[np.float64]


def draw_heat_maps(
    listed: Sequence[Summary], column: str, rows: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Three tables: accuracy with normalization, without, and the difference, means over seeds.

    Args:
        listed: every point of the grid.
        column: the axis whose values are the columns.
        rows: the axes whose combinations are the rows.
        title: the heading.
        note: a sentence that has to be read with the picture.
    """
    columns = list(dict.fromkeys(text_of(each.point[column]) for each in listed))
    keys = list(dict.fromkeys(_key(each.point, rows) for each in listed))
    heads = {text_of(each.point[column]): short(each.point[column]) for each in listed}
    names = {_key(each.point, rows): _row(each.point, rows) for each in listed}
    place = {
        id(each): (keys.index(_key(each.point, rows)), columns.index(text_of(each.point[column])))
        for each in listed
    }
    kinds = [bn for bn in (True, False) if any(each.side(bn) for each in listed)]
    panels = len(kinds) + (len(kinds) == 2)
    width = max(0.72 * len(columns), 2.2)
    longest = max(len(name) for name in names.values())
    figure = Figure(
        figsize=(panels * (width + 0.9) + 0.085 * longest + 0.3, 0.62 * len(keys) + 2.3),
        layout="constrained",
        facecolor="white",
    )
    figure.suptitle(title, fontsize=14, fontweight="bold")
    every = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    for axes, bn in zip(every, kinds, strict=False):
        cells, texts = _of_kind(listed, place, bn, (len(keys), len(columns)))
        image = _draw(axes, 100 * cells, texts, _SEQUENTIAL, 0, 100)
        axes.set_title(label(bn), fontsize=12)
        if bn == kinds[-1]:
            figure.colorbar(image, ax=list(every[: len(kinds)]), label="test accuracy, %", pad=0.01)
    if len(kinds) == 2:
        cells, texts = _of_difference(listed, place, (len(keys), len(columns)))
        largest = max(float(np.nanmax(np.abs(cells), initial=0.0)), 1e-9)
        image = _draw(every[2], 100 * cells, texts, _DIFFERENCE, -100 * largest, 100 * largest)
        every[2].set_title("With less without", fontsize=12)
        if any("*" in text for text in texts.values()):
            note = f"{note} *: the 95 % interval leaves 0 out.".strip()
        figure.colorbar(image, ax=every[2], label="points", pad=0.02)
    for axes in every:
        axes.set_xticks(range(len(columns)), [heads[each] for each in columns])
        axes.set_xlabel(NAMES[column])
    every[0].set_yticks(range(len(keys)), [names[key] for key in keys])
    if note:
        figure.supxlabel(note, fontsize=10, color=NOTE_COLOR)
    return figure


def _of_kind(
    listed: Sequence[Summary],
    place: dict[int, tuple[int, int]],
    bn: bool,
    shape: tuple[int, int],
) -> tuple[Cells, dict[tuple[int, int], str]]:
    """The means of one kind, NaN where there is none, and what to write into each cell."""
    cells = np.full(shape, np.nan)
    texts = {}
    for each in listed:
        side = each.side(bn)
        if side is None:
            continue
        mean, lost = side.spread.mean, len(side.diverged)
        if mean is not None:
            cells[place[id(each)]] = mean
        shown = "" if mean is None else f"{100 * mean:.1f}"
        sick = "diverged" if mean is None else f"{lost} div."
        texts[place[id(each)]] = "\n".join(filter(None, [shown, sick if lost else ""]))
    return cells, texts


def _of_difference(
    listed: Sequence[Summary], place: dict[int, tuple[int, int]], shape: tuple[int, int]
) -> tuple[Cells, dict[tuple[int, int], str]]:
    """The differences over pairs; a star where the interval leaves 0 out."""
    cells = np.full(shape, np.nan)
    texts = {}
    for each in listed:
        found = each.difference
        if found.mean is not None:
            sure = found.low is not None and found.high is not None and found.low * found.high > 0
            cells[place[id(each)]] = found.mean
            texts[place[id(each)]] = f"{100 * found.mean:+.1f}{'*' if sure else ''}"
    return cells, texts


def _draw(
    axes: Axes,
    cells: Cells,
    texts: dict[tuple[int, int], str],
    colours: str | Colormap,
    low: float,
    high: float,
) -> AxesImage:
    image = axes.imshow(cells, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isnan(value):
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(
                Rectangle(corner, 1, 1, facecolor="#f2f2f2", edgecolor="#999999", hatch="//", lw=0)
            )
    for (row, column), text in texts.items():
        own = float(cells[row, column])
        ink = "black" if np.isnan(own) else _ink(*image.to_rgba(np.array([own]))[0][:3])
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color=ink,
            fontsize=9.5,
            linespacing=0.95,
        )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image


def _ink(red: float, green: float, blue: float) -> str:
    """Black or white, whichever is read better on this colour (by its relative luminance)."""
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "white"


def _key(point: Point, axes: Sequence[str]) -> str:
    return "|".join(text_of(point[axis]) for axis in axes)


def _row(point: Point, axes: Sequence[str]) -> str:
    """What a row is called: its values alone, since most say of themselves what they are."""
    plain = [axis for axis in axes if isinstance(point[axis], int | float | tuple)]
    return ", ".join(
        f"{NAMES[axis]} {short(point[axis])}" if axis in plain else short(point[axis])
        for axis in axes
    )
