"""Drawing of probes: rows of panels over the training steps, with a line per layer or per run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, SymmetricalLogLocator

from kerasbn.common.plotting import COLOR
from kerasbn.probes.readings import ProbedRun, Series
from kerasbn.probes.topics import phrases

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def new_figure(
    title: str, titles: Sequence[str], *, over_steps: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of panels that have these titles.

    Margins are given in inches: measuring a layout takes longer than drawing it.
    """
    width, height, count = 4.7 * max(len(titles), 2), 4.7, len(titles)
    lines = 1 + max(each.count("\n") for each in titles)
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.suptitle(title, fontsize=15, fontweight="bold", y=0.98)
    figure.subplots_adjust(
        left=0.9 / width,
        right=1 - 0.45 / width,
        top=1 - (0.6 + 0.2 * lines) / height,
        bottom=0.6 / height,
        wspace=0.8 / (width / count - 0.8),
    )
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for panel, heading in zip(panels, titles, strict=True):
        panel.set_title(heading, fontsize=11)
        panel.grid(True, color="#dddddd", lw=0.7)
        panel.spines[["top", "right"]].set_visible(False)
        if over_steps:
            panel.set_xscale("symlog", linthresh=1, linscale=0.4)
            panel.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter("{x:,.0f}")
            panel.set_xlabel("training step")
    return figure, panels


def compare_layers(
    title: str,
    runs: Sequence[ProbedRun],
    quantity: str,
    ylabel: str,
    *,
    logits: bool = True,
    more: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """Draw a quantity in a panel per run, with a line per layer; `more` titles further panels."""
    figure, panels = new_figure(title, [*(phrases.label(run, runs) for run in runs), *more])
    last = max(run.pooled(run.layers, quantity).steps.max(initial=1) for run in runs)
    for panel, run in zip(panels, runs, strict=False):
        draw_layers(panel, run, run.layers if logits else run.layers[:-1], quantity)
        panel.set_xlim(-0.3, 1.3 * last)
    panels[0].set_ylabel(ylabel)
    return figure, panels


def draw_bn_layers(
    title: str,
    runs: Sequence[ProbedRun],
    titles: Mapping[str, str],
    which: object = "",
    band: Sequence[object] = (),
) -> tuple[Figure | None, list[Axes]]:
    """Draw quantities of the first run with BN in a panel each, perhaps with a band around each.

    Returns no figure if no run has BN.
    """
    run, where = next(phrases.with_bn(runs), (None, ""))
    if run is None:
        return None, []
    figure, panels = new_figure(f"{title}, {run.name}" if where else title, list(titles.values()))
    for panel, quantity in zip(panels, titles, strict=True):
        draw_layers(panel, run, run.bn_layers, quantity, which, band)
    return figure, panels


def draw_layers(
    panel: Axes,
    run: ProbedRun,
    layers: Sequence[str],
    quantity: str,
    which: object = "",
    band: Sequence[object] = (),
) -> None:
    """Draw a line per layer, from dark to light, with a legend if it is the first panel."""
    for i, name in enumerate(layers):
        color = colormaps["viridis"](i / max(len(layers) - 1, 1) * 0.9)
        draw_line(panel, run.series(name, quantity, which), color=color, label=name)
        if band:
            low, high = (run.series(name, quantity, each) for each in band)
            panel.fill_between(low.steps, low.values, high.values, color=color, alpha=0.15, lw=0)
    if panel is panel.figure.axes[0]:
        panel.legend(frameon=False, fontsize=8, ncols=1 + len(layers) // 5)


def style(run: ProbedRun, runs: Sequence[ProbedRun]) -> dict[str, Any]:
    """Return label, color and line style of a run; the color says whether it has BN."""
    first = next(each for each in runs if each.bn == run.bn)
    return {
        "label": phrases.label(run, runs).removeprefix("in "),
        "color": COLOR["with_bn" if run.bn else "without_bn"],
        "ls": "-" if run is first else "--",
    }


def draw_line(panel: Axes, series: Series, **line: Any) -> None:  # noqa: ANN401 - line properties
    """Draw one quantity over the steps."""
    panel.plot(*series, **{"lw": 1.8, "marker": "o", "ms": 2.5, **line})


def draw_range(
    panel: Axes,
    group: Sequence[Series],
    line: dict[str, Any],
    *,
    median: bool = True,
    positive: bool = True,
) -> None:
    """Draw the range of several series as a band and their median, if wanted, as a line.

    With `positive`, values that a logarithmic scale cannot show are left out.
    """
    steps = np.unique(np.concatenate([series.steps for series in group]))
    table = np.full((len(group), len(steps)), np.nan)
    for row, series in zip(table, group, strict=True):
        row[np.searchsorted(steps, series.steps)] = series.values
    table[~np.isfinite(table) | (positive & (table <= 0))] = np.nan
    there = ~np.isnan(table).all(0)
    steps, table = steps[there], table[:, there]
    low, high = np.nanmin(table, 0), np.nanmax(table, 0)
    panel.fill_between(steps, low, high, color=line["color"], alpha=0.22, lw=0)
    if median:
        draw_line(panel, Series(steps, np.nanmedian(table, 0)), **line)


def share_range(panels: Sequence[Axes]) -> None:
    """Give all panels the same range of values."""
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def log_scale(*panels: Axes) -> None:
    """Give all panels the same logarithmic range, of a decade at least, with a few ticks."""
    for panel in panels:
        panel.set_yscale("log", nonpositive="mask")
    share_range(panels)
    for panel in panels:
        low, high = panel.get_ylim()
        if high < 10 * low:
            low, high = low / 2, high * 2
            panel.set_ylim(low, high)
        subs = (1.0, 3.0) if high < 1e3 * low else (1.0,)
        panel.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(_tick)


def _tick(value: float, _: float) -> str:
    if 1e-3 <= value < 1e5:
        return f"{value:,g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPT)}".removeprefix("1·")
