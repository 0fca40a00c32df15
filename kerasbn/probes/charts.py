"""What probes recorded, as pictures."""

from collections.abc import Callable, Sequence
from math import erf, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    SymmetricalLogLocator,
)

from kerasbn.plotting import COLOR, OTHER_COLORS, save_figure
from kerasbn.probes.findings import findings, names_of
from kerasbn.probes.readings import NETWORK, Probes, Series, read_probes
from kerasbn.runs import Run

GRID = "#dddddd"
COLOURS = (*COLOR.values(), *OTHER_COLORS)
DPI = 120  # of three panels side by side: 1,692 pixels
GAUSSIAN_OUTSIDE = 1 - erf(1 / sqrt(2))  # the share of a Gaussian beyond a standard deviation
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Picture(NamedTuple):
    """A figure with its title drawn, and a caption: what it shows, and what can be seen in it."""

    figure: Figure
    caption: str


def pictures(runs: Sequence[Run]) -> dict[str, Picture]:
    """All pictures of the probes of one run, or of two to compare; by name, in order of reading.

    A picture that has nothing to show, such as gamma and beta without normalization, is left out.

    Raises:
        InputError: if a run was not probed, or its probes are damaged.
    """
    found = [read_probes(run) for run in runs]
    told = findings(found)
    # Titles stand where they stand: to look for what they might cover takes a sixth of the drawing.
    with rc_context({"axes.titley": 1.0}):
        drawn = {name: (draw(found), what) for name, (draw, what) in _DRAWERS.items()}
    return {
        name: Picture(figure, f"{what} {told.get(name, '')}".strip())
        for name, (figure, what) in drawn.items()
        if figure is not None
    }


def save_pictures(runs: Sequence[Run], folder: Path) -> None:
    """Write all pictures of the probes of one run, or of two, as `probes-NAME.png`.

    Raises:
        InputError: as `pictures`, or if they cannot be written.
    """
    for name, picture in pictures(runs).items():
        save_figure(picture.figure, folder / f"probes-{name}.png", dpi=DPI)


def _gradients(found: Sequence[Probes]) -> Figure:
    figure, panels = _figure("Does the gradient reach the first layers?", len(found) + 1)
    for panel, each, name in zip(panels, found, names_of(found), strict=False):
        _layers(panel, each, each.layers, "kernel_gradient")
        panel.set_title(f"kernels, {name}")
    last = panels[-1]
    last.set_xscale("linear")
    last.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    last.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for each, name, colour in zip(found, names_of(found), COLOURS, strict=False):
        every = [each.series(layer, "preactivation_gradient") for layer in each.layers]
        begin = [s.values[0] if len(s.values) else np.nan for s in every]
        numbers = range(1, len(every) + 1)
        last.plot(numbers, begin, color=colour, marker="o", lw=2, label=name)
    last.set_title("pre-activations, before the first step")
    last.set_xlabel("layer (the last gives the logits)")
    last.legend(frameon=False)
    panels[0].set_ylabel("norm of the gradient of the loss")
    _log(panels[: len(found)])
    _log([last])
    return figure


def _drift(found: Sequence[Probes]) -> Figure | None:
    if all(len(each.layers) < 2 for each in found):
        return None
    figure, panels = _figure("Internal covariate shift, measured", 3, lines=2)
    quantities = {
        "shift_relative": "change of a layer's gradient when only\n"
        "the layers before it take the step (1: its length)",
        "shift_cosine": "cosine between the two gradients\n(1: the direction stays)",
        "input_mean_drift": "move of the mean of a layer's inputs since\n"
        "the probe before (in standard deviations)",
    }
    for panel, (quantity, title) in zip(panels, quantities.items(), strict=True):
        for each, name, colour in zip(found, names_of(found), COLOURS, strict=False):
            group = [each.series(layer, quantity) for layer in each.layers[1:]]
            _band(panel, group, colour, name, positive=quantity != "shift_cosine")
        panel.set_title(title)
    _log([panels[0]])
    _log([panels[2]])
    panels[0].legend(frameon=False)
    return figure


def _landscape(found: Sequence[Probes]) -> Figure:
    figure, panels = _figure("How smooth is the loss along its gradient?", 3, lines=2)
    for each, name, colour in zip(found, names_of(found), COLOURS, strict=False):
        for panel, quantity in zip(panels, ("loss_after", "change"), strict=False):
            group = [each.series(NETWORK, quantity, size) for size in each.step_sizes]
            _band(panel, group, colour, name, middle=False, positive=True)
        _line(panels[0], each.series(NETWORK, "loss"), colour, name)
        _line(panels[2], each.series(NETWORK, "smoothness"), colour, name)
    low, high = found[0].step_sizes[0], found[0].step_sizes[-1]
    panels[0].set_title(
        f"loss (line), and its range after steps\nof {low:g} to {high:g} times the gradient (band)"
    )
    panels[1].set_title("distance between the gradients\nbefore and after those steps")
    panels[2].set_title("effective β-smoothness: that distance\nby the length of the step")
    for panel in panels:
        _log([panel])
    panels[2].legend(frameon=False)
    return figure


def _preactivations(found: Sequence[Probes]) -> Figure:
    figure, panels = _figure("How wide is what enters the activations?", len(found))
    for panel, each, name in zip(panels, found, names_of(found), strict=False):
        _layers(panel, each, each.layers, "preactivation_sd")
        panel.set_title(name)
    panels[0].set_ylabel("standard deviation over the probing digits")
    _log(panels)
    return figure


def _percentiles(found: Sequence[Probes]) -> Figure | None:
    if all(len(each.layers) < 2 for each in found):
        return None
    figure, panels = _figure("What enters the activation of a typical unit", len(found))
    shown = []
    for panel, each, name, colour in zip(panels, found, names_of(found), COLOURS, strict=False):
        layer = each.layers[-2]
        lines = {f"{p} %": each.series(layer, "percentile", p) for p in (15, 50, 85)}
        low, _, high = lines.values()
        panel.fill_between(low.steps, low.values, high.values, color=colour, alpha=0.2, lw=0)
        for (share, series), width in zip(lines.items(), (1.0, 2.4, 1.0), strict=True):
            panel.plot(series.steps, series.values, color=colour, lw=width, label=share)
        unit = each.about["layers"][len(each.layers) - 2]["typical_unit"]
        panel.set_title(f"{name}: unit {unit} of {layer}")
        shown.append((panel, lines, colour))
    _same_range(panels)
    for each_panel in shown:
        _label_ends(*each_panel)
    panels[0].set_ylabel("percentiles over the probing digits")
    return figure


def _activations(found: Sequence[Probes]) -> Figure | None:
    quantities = {
        "dead": ("Dead ReLUs: 0 for every probing digit", "share of the units"),
        "saturated": ("Saturated activations: within 5 % of an end of their range",
                      "share of the outputs"),
    }  # fmt: skip
    having = [q for q in quantities if any(len(each.over(each.layers, q).steps) for each in found)]
    if not having:
        return None
    title, what = quantities[having[0]]
    figure, panels = _figure(title, len(found))
    for panel, each, name in zip(panels, found, names_of(found), strict=False):
        _layers(panel, each, each.layers[:-1], having[0])
        panel.set_title(name)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _same_range(panels)
    for panel in panels:
        panel.set_ylim(-0.02 * panel.get_ylim()[1], max(panel.get_ylim()[1], 0.02))
    panels[0].set_ylabel(what)
    return figure


def _statistics(found: Sequence[Probes]) -> Figure | None:
    each = next((each for each in found if each.bn), None)
    if each is None:
        return None
    figure, panels = _figure("Moving statistics against the batch's own", 3, lines=2)
    quantities = {
        "moving_mean_distance": "distance of the means\n(in standard deviations)",
        "moving_sd_ratio": "moving standard deviation\nby the batch's own",
        "outside": "share of normalized values outside -1..1\n(dashed: of a Gaussian)",
    }
    for panel, (quantity, title) in zip(panels, quantities.items(), strict=True):
        _layers(panel, each, each.normalizations, quantity)
        panel.set_title(title)
    _log([panels[1]])
    for panel, height in ((panels[1], 1.0), (panels[2], GAUSSIAN_OUTSIDE)):
        panel.axhline(height, color="black", lw=1, ls="--")
    panels[2].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    return figure


def _gamma_and_beta(found: Sequence[Probes]) -> Figure | None:
    each = next((each for each in found if each.bn), None)
    if each is None:
        return None
    figure, panels = _figure("What gamma and beta became", 2)
    for panel, part in zip(panels, ("gamma", "beta"), strict=True):
        _layers(panel, each, each.normalizations, part, 50)
        for norm, colour in zip(each.normalizations, _shades(each.normalizations), strict=True):
            low, high = (each.series(norm, part, p) for p in (15, 85))
            panel.fill_between(low.steps, low.values, high.values, color=colour, alpha=0.15, lw=0)
        panel.set_title(f"{part}: median, and 15 % to 85 % of the units")
    return figure


def _batch_mates(found: Sequence[Probes]) -> Figure | None:
    if not any(each.about.get("batch_mates") for each in found):
        return None
    figure, panels = _figure("How an answer depends on its batch-mates", 2, steps=False)
    kinds = {
        ("moving", "shuffled"): "moving statistics",
        ("batch", "shuffled"): "batch statistics, shuffled",
        ("batch", "sorted"): "batch statistics, sorted by class",
    }
    for panel, quantity in zip(panels, ("accuracy", "changed"), strict=True):
        colours = iter(COLOURS)
        for each, name in zip(found, names_of(found), strict=True):
            for (statistics, order), words in kinds.items():
                rows = [
                    row for row in each.about.get("batch_mates", [])
                    if (row["statistics"], row["order"]) == (statistics, order)
                ]  # fmt: skip
                if rows and (each.bn or order == "shuffled"):
                    sizes, values = zip(
                        *((r["batch_size"], r[quantity]) for r in rows), strict=True
                    )
                    label = f"{name}, {words}" if each.bn else name
                    panel.plot(sizes, values, color=next(colours), marker="o", lw=2, label=label)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator([1, 2, 8, 64]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
        panel.set_xlabel("digits in a batch")
        panel.set_ylim(-0.03, 1.03)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[0].set_title("right answers on the test set")
    panels[1].set_title("digits answered otherwise in other company")
    figure.subplots_adjust(bottom=0.27)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False
    )
    return figure


_DRAWERS: dict[str, tuple[Callable[[Sequence[Probes]], Figure | None], str]] = {
    "gradients": (_gradients, "Norm of the gradient of the loss, by layer and step."),
    "drift": (_drift, "Line: median over the layers. Band: their range."),
    "landscape": (_landscape, "The loss and its gradient after steps along the gradient."),
    "preactivations": (_preactivations, "Standard deviation of the pre-activations, by layer."),
    "percentiles": (
        _percentiles,
        "The 15th, 50th and 85th percentile over the training, as in Figure 1 of Ioffe and Szegedy "
        "(2015). Typical is the unit whose median travelled the median distance.",
    ),
    "activations": (_activations, "What has no slope left, by layer."),
    "statistics": (_statistics, "The batch's own statistics are those of the probing digits."),
    "gamma-beta": (_gamma_and_beta, "The learned scale and shift of every normalization."),
    "batch-mates": (_batch_mates, "The trained network answers the test set in batches."),
}


def _figure(
    title: str, count: int, lines: int = 1, *, steps: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with a row of panels whose titles have so many lines.

    Its margins are given, in inches: laying out by measuring takes longer than drawing.
    """
    width, height = 4.7 * max(count, 2), 4.7
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.suptitle(title, fontsize=15, fontweight="bold", y=0.98)
    figure.subplots_adjust(
        left=0.8 / width,
        right=1 - 0.45 / width,
        top=1 - (0.6 + 0.2 * lines) / height,
        bottom=0.6 / height,
        wspace=0.7 / (width / count - 0.7),
    )
    panels = list(np.ravel(np.asarray(figure.subplots(1, count))))
    for panel in panels:
        panel.grid(True, color=GRID, lw=0.7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.title.set_fontsize(11)
        if steps:
            panel.set_xscale("symlog", linthresh=1, linscale=0.4)
            panel.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
            panel.set_xlabel("step")
    return figure, panels


def _layers(
    panel: Axes, each: Probes, layers: Sequence[str], quantity: str, which: object = ""
) -> None:
    """A line for each layer, and a key to them."""
    for layer, colour in zip(layers, _shades(layers), strict=True):
        _line(panel, each.series(layer, quantity, which), colour, layer)
    if panel is panel.figure.axes[0]:
        panel.legend(frameon=False, fontsize=8, ncols=1 + len(layers) // 5)


def _label_ends(panel: Axes, lines: dict[str, Series], colour: str) -> None:
    """Label lines, given from below, where they end; as one where they end together."""
    ends = {label: (line.steps[-1], line.values[-1]) for label, line in lines.items()
            if len(line.steps) and np.isfinite(line.values[-1])}  # fmt: skip
    if len(ends) < len(lines):
        return
    heights = [height for _, height in ends.values()]
    low, high = panel.get_ylim()
    apart = heights[-1] - heights[0] > 0.1 * (high - low)
    if not apart:
        ends = {" to ".join((min(ends), max(ends))): next(iter(ends.values()))}
    for label, place in ends.items():
        panel.annotate(
            label, place, xytext=(4, 0) if apart else (0, 8), textcoords="offset points",
            ha="left" if apart else "right", va="center", color=colour, fontsize=9,
        )  # fmt: skip


def _shades(layers: Sequence[str]) -> list[Any]:
    """A colour for each layer, in an order that can be seen and told apart by everybody."""
    return [colormaps["viridis"](i / max(len(layers) - 1, 1) * 0.9) for i in range(len(layers))]


def _line(panel: Axes, series: Series, colour: Any, label: str) -> None:  # noqa: ANN401
    panel.plot(series.steps, series.values, color=colour, lw=1.8, marker="o", ms=2.5, label=label)


def _band(
    panel: Axes,
    group: Sequence[Series],
    colour: str,
    label: str,
    *,
    middle: bool = True,
    positive: bool = False,
) -> None:
    """The range of several series that were read at the same steps, and their median."""
    steps = np.unique(np.concatenate([np.empty(0), *(series.steps for series in group)]))
    if not len(steps):
        return
    table = np.full((len(group), len(steps)), np.nan)
    for row, series in zip(table, group, strict=True):
        row[np.searchsorted(steps, series.steps)] = series.values
    # A logarithmic axis has no place for 0, and a band cannot leave it out by itself.
    table[~np.isfinite(table) | (positive & (table <= 0))] = np.nan
    whole = ~np.isnan(table).all(0)
    steps, table = steps[whole], table[:, whole]
    panel.fill_between(
        steps, np.nanmin(table, 0), np.nanmax(table, 0), color=colour, alpha=0.22, lw=0,
        label=None if middle else label,
    )  # fmt: skip
    if middle:
        _line(panel, Series(steps, np.nanmedian(table, 0)), colour, label)


def _same_range(panels: Sequence[Axes]) -> None:
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _log(panels: Sequence[Axes]) -> None:
    """Logarithmic axes of one range, at least a decade, with few ticks that read as numbers."""
    for panel in panels:
        panel.set_yscale("log", nonpositive="mask")
    _same_range(panels)
    for panel in panels:
        low, high = panel.get_ylim()
        if high < 10 * low:
            low, high = low / 2, high * 2
            panel.set_ylim(low, high)
        subs = (1.0, 3.0) if high < 1e3 * low else (1.0,)
        panel.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    if 1e-3 <= value < 1e5:
        return f"{value:,g}"
    digits, power = f"{value:.0e}".split("e")
    return f"{digits}·10{str(int(power)).translate(SUPERSCRIPT)}".removeprefix("1·")
