"""Charts of a page: learning curves, and figures cut into one chart per panel."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend as FigureLegend
from matplotlib.lines import Line2D

from kerasbn.experiments import curves
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.curves import Curve, colors_of, draw_panel
from kerasbn.experiments.statistics import Row
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.document import (
    Block,
    Cell,
    Chart,
    Charts,
    Legend,
    Paragraph,
    Section,
    Subheading,
    Table,
    metric_cell,
)
from kerasbn.reports.reproduce import labels_of
from kerasbn.reports.results import METRIC_TITLES, STATISTICS_COLUMNS, statistics_cells
from kerasbn.reports.svg import escape_label, has_curves, to_svg, unescape_label

CHART_SIZE = (4.6, 3.1)  # inches; fits a phone at natural size, so text stays legible
PANEL_SIZE = (4.3, 3.5)
WIDE = 640.0  # points; a wider drawing scrolls on a phone
HOW_TO_READ = "Hover or tap a chart, or use the arrow keys, to read its values."


def comparison_charts(comparison: Comparison, prefix: str) -> Section:
    """Return the learning curves of a comparison: of both models, or of the means over seeds."""
    drawn = comparison.curves()
    if len(comparison.seeds) == 1:
        tables = {metric: _value_table(drawn, metric) for metric in METRIC_TITLES}
        return _section(drawn, tables, prefix, HOW_TO_READ)
    tables = {
        metric: _statistics_table(rows, metric) for metric, rows in comparison.statistics().items()
    }
    return _section(drawn, tables, prefix, f"{curves.MEANS} {HOW_TO_READ}")


def run_charts(members: Sequence[TrainedModel], prefix: str) -> Section:
    """Return the learning curves of single runs, labeled by what differs between them."""
    drawn = member_curves(members)
    tables = {metric: _value_table(drawn, metric) for metric in METRIC_TITLES}
    return _section(drawn, tables, prefix, HOW_TO_READ)


def member_curves(members: Sequence[TrainedModel], *, colored: bool = True) -> list[Curve]:
    """Return the curves of single runs, labeled by what differs between them.

    The colors of "with BN" and "without BN" mean only that: one run, or two of which one has BN,
    have them if `colored`. Others have other colors.
    """
    drawn = [
        member.curve(escape_label(label))
        for member, label in zip(members, labels_of(members), strict=True)
    ]
    if colored and len({member.model.bn for member in members}) == len(members):
        return drawn
    return [replace(curve, color="") for curve in drawn]


def figure_blocks(figure: Figure, caption: str, name: str, heading: str = "") -> list[Block]:
    """Return a figure as a heading, a caption and one chart per panel.

    Cut out panels stack on a phone. Heat maps, and figures without curves to read values from, such
    as parallel coordinates, stay whole.

    Args:
        figure: The figure; its titles and legends are removed from it.
        caption: What it shows.
        name: A name that is unique on the page.
        heading: The heading; by default the title of the figure.
    """
    title = heading or unescape_label(figure.get_suptitle())
    figure.suptitle("")
    entries = _take_legends(figure)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    if any(axes.images for axes in panels) or not any(map(has_curves, panels)):
        charts = [Chart("", to_svg(figure, name, f"{title}: {caption}"), wide=True)]
    else:
        _complete_panels(figure, panels)
        charts = []
        for i, axes in enumerate(panels):
            panel_title = unescape_label(" ".join(axes.get_title().split()))
            axes.set_title("")
            description = f"{title}: {panel_title or caption}"
            drawing = to_svg(figure, f"{name}-{i}", description, only=axes)
            charts.append(Chart(panel_title, drawing, wide=drawing.width > WIDE))
    legend: list[Block] = [Legend(entries)] if len(entries) > 1 else []
    return [Subheading(title), Paragraph(caption), *legend, Charts(charts)]


def _section(
    drawn: Sequence[Curve], tables: Mapping[str, Table], prefix: str, note: str
) -> Section:
    """Return a chart for each metric; the columns of its table are the curves."""
    charts = []
    for metric, title in METRIC_TITLES.items():
        table = tables[metric]
        # A chart reads its values out as the table has them.
        texts = {
            curve.legend: {
                float(row[0].text): row[i].text for row in table.rows if row[i].value is not None
            }
            for i, curve in enumerate(drawn, start=1)
        }
        with rc_context({"font.size": 10}):
            picture = Figure(figsize=CHART_SIZE, layout="constrained")
            draw_panel(picture.subplots(), drawn, metric, "")
            drawing = to_svg(picture, f"{prefix}-{metric}", f"{title} by epoch", texts)
        better = "higher is better" if metric.endswith("accuracy") else "lower is better"
        charts.append(Chart(title, drawing, better, table))
    names = [unescape_label(curve.legend) for curve in drawn]
    legend = Legend(list(zip(names, colors_of(drawn), strict=True)))
    blocks: list[Block] = [Paragraph(note, "note"), legend, Charts(charts)]
    return Section("curves", "Learning curves", blocks)


def _statistics_table(rows: Sequence[Row], metric: str) -> Table:
    """Return the statistics over seeds for each epoch."""
    cells = [(Cell(str(row.epoch), row.epoch), *statistics_cells(row, metric)) for row in rows]
    columns = ("Epoch", *STATISTICS_COLUMNS)
    return Table(columns, cells, f"{METRIC_TITLES[metric]} by epoch", collapsed=True)


def _value_table(drawn: Sequence[Curve], metric: str) -> Table:
    """Return the values of each curve for each epoch."""
    epochs = sorted({epoch for curve in drawn for epoch in curve.history["epoch"]})
    values = [
        dict(zip(curve.history["epoch"], curve.history[metric], strict=True)) for curve in drawn
    ]
    rows = [
        (Cell(f"{epoch:g}", epoch), *(metric_cell(each.get(epoch), metric) for each in values))
        for epoch in epochs
    ]
    columns = ("Epoch", *(unescape_label(curve.label) for curve in drawn))
    return Table(columns, rows, f"{METRIC_TITLES[metric]} by epoch", collapsed=True)


def _take_legends(figure: Figure) -> list[tuple[str, str]]:
    """Remove the legends of a figure, and return their distinct names with their colors."""
    legends: list[FigureLegend] = [*figure.legends]
    legends += [own for axes in figure.axes if (own := axes.get_legend()) is not None]
    entries: dict[str, str] = {}
    for legend in legends:
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
            entries.setdefault(unescape_label(text.get_text()), _color(handle))
        legend.remove()
    return list(entries.items())


def _color(handle: Artist | None) -> str:
    """Return the color of a line or of an area."""
    if isinstance(handle, Line2D):
        return to_hex(handle.get_color())
    color: Any = getattr(handle, "get_facecolor", lambda: (0, 0, 0, 1))()
    return to_hex(color[0] if len(color) == 1 else color)  # a collection has several colors


def _complete_panels(figure: Figure, panels: list[Axes]) -> None:
    """Give each panel the labels it shared with its neighbors, and a legible size."""
    columns, rows = (
        len({round(getattr(axes.get_position(), edge), 3) for axes in panels})
        for edge in ("x0", "y0")
    )
    figure.set_size_inches(columns * PANEL_SIZE[0], rows * PANEL_SIZE[1])
    for axes in panels:
        axes.tick_params(labelleft=True)
        if not axes.get_ylabel():
            axes.set_ylabel(panels[0].get_ylabel())
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call] # computes the label positions
    for axes in panels:
        if _labels_overlap(axes):
            axes.tick_params(axis="x", rotation=60)


def _labels_overlap(axes: Axes) -> bool:
    """Return whether tick labels below the axis overlap."""
    boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
    boxes.sort(key=lambda box: box.x0)
    return any(after.x0 - before.x1 < axes.figure.dpi / 30 for before, after in pairwise(boxes))
