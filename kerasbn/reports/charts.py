"""Charts of a page: learning curves, and figures cut into one chart per panel."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kerasbn.common import wording
from kerasbn.common.plotting import default_style
from kerasbn.experiments import curves
from kerasbn.experiments.curves import Curve
from kerasbn.experiments.statistics import Row
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports import results
from kerasbn.reports.document import Chart, Charts, Number, Paragraph, Section, Table
from kerasbn.reports.reproduce import labeled
from kerasbn.reports.svg import escape_label, labeled_curves, to_svg, unescape_label

CHART_SIZE = (4.6, 3.1)  # inches; fits a phone at natural size, so text stays legible
PANEL_SIZE = (4.3, 3.5)
WIDE = 640.0  # points; a wider drawing scrolls on a phone
HOW_TO_READ = "Hover or tap a chart, or use the arrow keys, to read its values."


@default_style
def learning_curves(
    drawn: Sequence[Curve], prefix: str, statistics: Mapping[str, Sequence[Row]] | None = None
) -> Section:
    """Return a chart for each metric with the values of each curve, or `statistics` over seeds."""
    charts = []
    for metric, title in results.METRIC_TITLES.items():
        if statistics is None:
            columns: Sequence[str] = [unescape_label(curve.label) for curve in drawn]
            rows = _values(drawn, metric)
        else:
            columns = results.STATISTICS_COLUMNS
            rows = []
            for row in statistics[metric]:
                spreads = row.with_bn, row.without_bn
                cells = results.statistics_cells(metric, *spreads, row.difference)
                rows.append([Number(str(row.epoch), row.epoch), *cells])
        # A chart reads its values out as the table has them.
        texts = {
            curve.legend: {
                float(row[0].text): row[i].text for row in rows if row[i].value is not None
            }
            for i, curve in enumerate(drawn, start=1)
        }
        with rc_context({"font.size": 10}):
            figure = Figure(figsize=CHART_SIZE, layout="constrained")
            curves.draw_panel(figure.subplots(), drawn, metric, "")
            drawing = to_svg(figure, f"{prefix}-{metric}", f"{title} by epoch", texts)
        better = "higher is better" if metric.endswith("accuracy") else "lower is better"
        table = Table(("Epoch", *columns), rows, f"{title} by epoch", collapsed=True)
        charts.append(Chart(title, drawing, better, table))
    names = [unescape_label(curve.legend) for curve in drawn]
    legend = list(zip(names, map(to_hex, curves.colors_of(drawn)), strict=True))
    return Section(
        "curves",
        "Learning curves",
        Paragraph(HOW_TO_READ, "hint"),
        None if statistics is None else Paragraph(curves.MEANS, "note"),
        Charts(charts, legend),
    )


def member_curves(members: Sequence[TrainedModel], *, colored: bool = True) -> list[Curve]:
    """Return the curves of single runs, labeled by what differs between them.

    The colors of "with BN" and "without BN" mean only that: one run, or two of which one has BN,
    have them if `colored`. Others have other colors.
    """
    drawn = [member.curve(escape_label(label)) for label, member in labeled(members)]
    if colored and len({member.model.bn for member in members}) == len(members):
        return drawn
    return [replace(curve, color="") for curve in drawn]


def figure_charts(figure: Figure, caption: str, name: str, heading: str = "") -> Charts:
    """Return a figure as one chart per panel; `name` is unique on the page.

    Cut out panels stack on a phone. Heat maps, and figures without curves to read values from, such
    as parallel coordinates, stay whole. The heading is the title of the figure by default; titles
    and legends are removed from the figure.
    """
    heading = heading or unescape_label(figure.get_suptitle())
    figure.suptitle("")
    entries = _take_legends(figure)
    legend = entries if len(entries) > 1 else []
    panels = [axes for axes in figure.axes if axes.get_visible()]
    if any(axes.images for axes in panels) or not any(map(labeled_curves, panels)):
        whole = Chart("", to_svg(figure, name, f"{heading}: {caption}"), wide=True)
        return Charts([whole], legend, heading, caption)
    _complete_panels(figure, panels)
    charts = []
    for i, axes in enumerate(panels):
        title = wording.capitalized(unescape_label(" ".join(axes.get_title().split())))
        axes.set_title("")
        drawing = to_svg(figure, f"{name}-{i}", f"{heading}: {title or caption}", only=axes)
        charts.append(Chart(title, drawing, wide=drawing.width > WIDE))
    return Charts(charts, legend, heading, caption)


def _values(drawn: Sequence[Curve], metric: str) -> list[list[Number]]:
    """Return the values of each curve for each epoch."""
    columns = [
        dict(zip(curve.history["epoch"], curve.history[metric], strict=True)) for curve in drawn
    ]
    return [
        [
            Number(f"{epoch:g}", epoch),
            *(results.metric_cell(column.get(epoch), metric) for column in columns),
        ]
        for epoch in sorted({epoch for column in columns for epoch in column})
    ]


def _take_legends(figure: Figure) -> list[tuple[str, str]]:
    """Remove the legends of a figure, and return their distinct names with their colors."""
    entries: dict[str, str] = {}
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        if legend is not None:
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
    figure.draw_without_rendering()  # computes the positions of the labels
    for axes in panels:
        if _labels_overlap(axes):
            axes.tick_params(axis="x", rotation=60)


def _labels_overlap(axes: Axes) -> bool:
    """Return whether tick labels below the axis overlap."""
    boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
    boxes.sort(key=lambda box: box.x0)
    return any(after.x0 - before.x1 < axes.figure.dpi / 30 for before, after in pairwise(boxes))
