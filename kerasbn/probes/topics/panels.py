"""Drawing of probes: rows of panels over the training steps, with a line per layer or per run."""

from collections import defaultdict
from collections.abc import Sequence
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
    title: str, runs: Sequence[ProbedRun], quantity: str, ylabel: str, *more: str
) -> tuple[Figure, list[Axes]]:
    """Draw a quantity in a panel per run, with a line per layer that has it; add `more` panels."""
    figure, panels = new_figure(title, [*(phrases.run_label(run, runs) for run in runs), *more])
    last = max(run.pooled(run.layers, quantity).steps.max(initial=1) for run in runs)
    for panel, run in zip(panels, runs, strict=False):
        layers = [layer for layer in run.layers if len(run.series(layer, quantity).steps)]
        _draw_layers(panel, run, layers, quantity)
        panel.set_xlim(-0.3, 1.3 * last)
    panels[0].set_ylabel(ylabel)
    return figure, panels


def draw_bn_layers(
    title: str, runs: Sequence[ProbedRun], titles: dict[str, str], percentiles: Sequence[int] = ()
) -> tuple[Figure | None, list[Axes]]:
    """Draw quantities of the first run with BN in a panel each; no figure if no run has BN.

    Of three percentiles the outer ones limit a band around the line.
    """
    run, where = next(phrases.with_bn(runs), (None, ""))
    if run is None:
        return None, []
    figure, panels = new_figure(f"{title}, {run.name}" if where else title, list(titles.values()))
    for panel, quantity in zip(panels, titles, strict=True):
        _draw_layers(panel, run, run.bn_layers, quantity, percentiles)
    return figure, panels


def _draw_layers(
    panel: Axes, run: ProbedRun, layers: list[str], quantity: str, percentiles: Sequence[int] = ()
) -> None:
    """Draw a line per layer, from dark to light, with a legend if it is the first panel."""
    for i, name in enumerate(layers):
        color = colormaps["viridis"](i / max(len(layers) - 1, 1) * 0.9)
        low, middle, high = (run.series(name, quantity, x) for x in percentiles or ("", "", ""))
        draw_line(panel, middle, color=color, label=name)
        if percentiles:
            steps, *at = np.intersect1d(low.steps, high.steps, return_indices=True)
            band = low.values[at[0]], high.values[at[1]]
            panel.fill_between(steps, *band, color=color, alpha=0.15, lw=0)
    if layers and panel is panel.figure.axes[0]:
        panel.legend(frameon=False, fontsize=8, ncols=1 + len(layers) // 5)


def style(run: ProbedRun, runs: Sequence[ProbedRun]) -> dict[str, Any]:
    """Return label, color and line style of a run; the color says whether it has BN."""
    first = next(each for each in runs if each.bn == run.bn)
    return {
        "label": phrases.run_label(run, runs).removeprefix("in "),
        "color": COLOR["with_bn" if run.bn else "without_bn"],
        "ls": "-" if run is first else "--",
    }


def draw_line(panel: Axes, series: Series, **line: Any) -> None:  # noqa: ANN401 - line properties
    """Draw one quantity over the steps."""
    panel.plot(*series, **{"lw": 1.8, "marker": "o", "ms": 2.5, **line})


def draw_range(panel: Axes, group: Sequence[Series], color: str, *, log: bool = True) -> Series:
    """Draw the range of several series as a band, and return their median.

    With `log`, values that a logarithmic scale cannot show are left out.
    """
    values = defaultdict(list)
    for step, value in (pair for series in group for pair in zip(*series, strict=True)):
        if np.isfinite(value) and (value > 0 or not log):
            values[step].append(value)
    steps = np.array(sorted(values))
    low, median, high = (
        np.array([summary(values[step]) for step in steps]) for summary in (min, np.median, max)
    )
    panel.fill_between(steps, low, high, color=color, alpha=0.22, lw=0)
    return Series(steps, median)


def share_range(panels: Sequence[Axes]) -> None:
    """Give all panels the same range of values, which panels without values do not affect."""
    shown = [panel for panel in panels if np.isfinite(panel.dataLim.intervaly).all()]
    limits = [panel.get_ylim() for panel in shown] or [(0.1, 1.0)]  # which a log scale can show
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
