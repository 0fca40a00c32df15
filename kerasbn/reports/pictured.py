"""A picture of several panels as blocks of a page: each panel a chart, the legends a key."""

from itertools import pairwise
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from kerasbn.reports.document import Block, Chart, Charts, Heading, Key, Words
from kerasbn.reports.svg import has_curves, inline, unescaped

PANEL = (4.3, 3.5)  # inches: what one panel is drawn in, so that it can be read on a phone
NATURAL = 640.0  # points: a picture that is wider is one to scroll on a phone


def pictured(figure: Figure, caption: str, name: str, heading: str = "") -> list[Block]:
    """The picture under its own title, what it shows, and its panels.

    Its panels are cut out of it, so that they stand below each other on a phone; heat maps, and
    what has no curve to read from, such as parallel coordinates, stay whole.

    Args:
        figure: the picture; its titles and legends are taken out of it.
        caption: what it shows.
        name: unique on the page.
        heading: what to call it, if not by its own title.
    """
    title = heading or unescaped(figure.get_suptitle())
    figure.suptitle("")
    entries = _legends(figure)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    is_whole = any(axes.images for axes in panels) or not any(map(has_curves, panels))
    if is_whole:
        drawing = inline(figure, name, f"{title}: {caption}")
        charts = [Chart("", drawing, wide=True)]
    else:
        _complete(figure, panels)
        charts = []
        for i, axes in enumerate(panels):
            own = unescaped(" ".join(axes.get_title().split()))
            axes.set_title("")
            described = f"{title}: {own or caption}"
            drawing = inline(figure, f"{name}-{i}", described, only=axes)
            charts.append(Chart(own, drawing, wide=drawing.width > NATURAL))
    key: list[Block] = [Key(entries)] if len(entries) > 1 else []
    return [Heading(title), Words(caption), *key, Charts(charts)]


def _legends(figure: Figure) -> list[tuple[str, str]]:
    """What the legends say, each name once; they are taken out of the picture."""
    legends: list[Legend] = [*figure.legends]
    legends += [own for axes in figure.axes if (own := axes.get_legend()) is not None]
    entries: dict[str, str] = {}
    for legend in legends:
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
            entries.setdefault(unescaped(text.get_text()), _colour(handle))
        legend.remove()
    return list(entries.items())


def _colour(handle: Artist | None) -> str:
    """The colour of a line or of an area."""
    if isinstance(handle, Line2D):
        return to_hex(handle.get_color())
    colour: Any = getattr(handle, "get_facecolor", lambda: (0, 0, 0, 1))()
    flat = colour[0] if len(colour) == 1 else colour  # a collection has a colour for each area
    return to_hex(flat)


def _complete(figure: Figure, panels: list[Axes]) -> None:
    """Give each panel what it had from its neighbour, and a size to be read at on its own."""
    columns, rows = (
        len({round(getattr(axes.get_position(), edge), 3) for axes in panels})
        for edge in ("x0", "y0")
    )
    figure.set_size_inches(columns * PANEL[0], rows * PANEL[1])
    for axes in panels:
        axes.tick_params(labelleft=True)
        if not axes.get_ylabel():
            axes.set_ylabel(panels[0].get_ylabel())
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call] # settles where labels are
    for axes in panels:
        if _is_crowded(axes):
            axes.tick_params(axis="x", rotation=60)


def _is_crowded(axes: Axes) -> bool:
    """Whether names below the axis run into each other."""
    boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
    boxes.sort(key=lambda box: box.x0)
    return any(after.x0 - before.x1 < axes.figure.dpi / 30 for before, after in pairwise(boxes))
