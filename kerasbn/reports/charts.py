"""The curves of a page: a chart for each figure, with its values as a table."""

from collections.abc import Callable, Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from kerasbn.experiments import curves
from kerasbn.experiments.curves import Curve, colors_of, draw_panel
from kerasbn.experiments.statistics import Row
from kerasbn.reports.answer import FIGURES, difference_text, spread_text
from kerasbn.reports.document import (
    Block,
    Cell,
    Chart,
    Charts,
    Key,
    Section,
    Table,
    Words,
    number,
    percent,
)
from kerasbn.reports.repeat import name_of
from kerasbn.reports.sources import KINDS, Pairs, Trained
from kerasbn.reports.svg import escaped, inline, unescaped

SIZE = (4.6, 3.1)  # inches: as wide as a phone shows at its own size, so that text stays legible
HOW = "Point at a chart, or touch it, to read its values; with the keyboard, by the arrow keys."
Format = Callable[[float | None], Cell]


def curves_of(pairs: Pairs, prefix: str) -> Section:
    """The curves of a comparison: of the two networks, or of the means over seeds."""
    if len(pairs.seeds) == 1:
        drawn = curves.comparison_curves(pairs)
        return _section(drawn, {figure: _values(drawn, figure) for figure in FIGURES}, prefix, HOW)
    drawn = [_mean(pairs, kind) for kind in KINDS]
    tables = {figure: _table(rows, figure) for figure, rows in pairs.statistics().items()}
    return _section(drawn, tables, prefix, f"{curves.MEANS} {HOW}")


def curves_of_runs(chosen: Sequence[Trained], prefix: str) -> Section:
    """The curves of runs, each called by its name."""
    drawn = [curve_named(each, name_of(each)) for each in chosen]
    return _section(drawn, {figure: _values(drawn, figure) for figure in FIGURES}, prefix, HOW)


def curve_named(trained: Trained, name: str) -> Curve:
    """The curve of a network, called `name`."""
    return Curve(escaped(name), trained.history, ending_of(trained))


def ending_of(trained: Trained) -> str:
    """How a training ended, in the words of a legend; empty if as planned."""
    step = trained.run.record.diverged_at_step if trained.run and trained.diverged else None
    ending = "" if trained.status == "finished" else trained.status
    return f"{ending} at step {step}" if isinstance(step, int) else ending


def plain_curves(pairs: Pairs) -> list[Curve]:
    """The curves of a comparison, for a picture."""
    if len(pairs.seeds) > 1:
        return [_mean(pairs, kind) for kind in KINDS]
    return curves.comparison_curves(pairs)


def _mean(pairs: Pairs, kind: str) -> Curve:
    return curves.mean_curve(pairs, kind)


def _section(
    drawn: Sequence[Curve], tables: Mapping[str, Table], prefix: str, note: str
) -> Section:
    """The charts of all figures under what their colours mean; a column of a table is a curve."""
    colours = colors_of(drawn)
    names = [unescaped(curve.legend) for curve in drawn]
    charts = [_chart(drawn, figure, f"{prefix}-{figure}", tables[figure]) for figure in FIGURES]
    key = Key(list(zip(names, colours, strict=True)))
    blocks: list[Block] = [Words(note, "note"), key, Charts(charts)]
    return Section("curves", "How they learned", blocks)


def _chart(drawn: Sequence[Curve], figure: str, name: str, table: Table) -> Chart:
    """A chart whose values read as they do in the table."""
    words = {
        curve.legend: {
            float(row[0].text): row[i].text for row in table.rows if row[i].value is not None
        }
        for i, curve in enumerate(drawn, start=1)
    }
    with rc_context({"font.size": 10}):
        picture = Figure(figsize=SIZE, layout="constrained")
        draw_panel(picture.subplots(), drawn, figure, "")
        title = FIGURES[figure]
        drawing = inline(picture, name, f"{title} by epoch", words)
    better = "higher is better" if figure.endswith("accuracy") else "lower is better"
    return Chart(title, drawing, better, table)


def _table(rows: Sequence[Row], figure: str) -> Table:
    """The statistics of each epoch."""
    cells = [
        (
            Cell(str(row.epoch), row.epoch),
            Cell(spread_text(row.with_bn, figure), row.with_bn.mean),
            Cell(spread_text(row.without_bn, figure), row.without_bn.mean),
            Cell(difference_text(row.difference, figure), row.difference.mean),
        )
        for row in rows
    ]
    columns = ("Epoch", "With BN", "Without BN", "Difference")
    return Table(columns, cells, f"{FIGURES[figure]}, every epoch", closed=True)


def _values(drawn: Sequence[Curve], figure: str) -> Table:
    show: Format = percent if figure.endswith("accuracy") else number
    epochs = sorted({epoch for curve in drawn for epoch in curve.history["epoch"]})
    found = [
        dict(zip(curve.history["epoch"], curve.history[figure], strict=True)) for curve in drawn
    ]
    rows = [
        (Cell(f"{epoch:g}", epoch), *(show(each.get(epoch)) for each in found)) for epoch in epochs
    ]
    columns = ("Epoch", *(unescaped(curve.label) for curve in drawn))
    return Table(columns, rows, f"{FIGURES[figure]}, every epoch", closed=True)
