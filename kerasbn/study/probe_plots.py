"""What probes recorded, as pictures."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from kerasbn.runs import Run
from kerasbn.study.plots import COLOURS, save_figure
from kerasbn.study.probe_findings import findings, names_of
from kerasbn.study.probes import NETWORK, Probes, Series, read_probes

GRID = "#dddddd"


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
        save_figure(picture.figure, folder / f"probes-{name}.png")


def _gradients(found: Sequence[Probes]) -> Figure:
    figure, panels = _figure("Does the gradient reach the first layers?", len(found) + 1)
    for panel, each, name in zip(panels, found, names_of(found), strict=False):
        for series, colour, label in _by_layer(each, each.layers, "kernel_gradient"):
            _line(panel, series, colour, label)
        panel.set_title(name)
    panels[0].set_ylabel("norm of the gradient of each kernel")
    _same_log_range(panels[: len(found)])
    _layer_key(panels[0], found[0].layers)
    last = panels[-1]
    for each, name, colour in zip(found, names_of(found), COLOURS, strict=False):
        numbers = np.arange(1, len(each.layers) + 1)
        every = [each.series(layer, "preactivation_gradient") for layer in each.layers]
        begin = [s.values[0] if len(s.values) else np.nan for s in every]
        last.plot(numbers, _positive(begin), color=colour, marker="o", lw=2, label=name)
    last.set_yscale("log")
    last.set_xticks(range(1, max(len(each.layers) for each in found) + 1))
    last.set_xlabel("layer (the last gives the logits)")
    last.set_title("norm of one digit's gradient\nat the pre-activations, before step 1")
    last.legend(frameon=False)
    return figure


def _drift(found: Sequence[Probes]) -> Figure | None:
    if all(len(each.layers) < 2 for each in found):
        return None
    figure, panels = _figure("Internal covariate shift, measured", 3)
    for panel, (quantity, title) in zip(
        panels,
        (
            ("shift_relative", "change of a layer's gradient when only the\n"
             "layers before it take a step (share of its length)"),
            ("shift_cosine", "cosine between both gradients\n(1: the direction stays)"),
            ("input_mean_drift", "move of the mean of a layer's inputs\n"
             "since the probe before (in standard deviations)"),
        ),
        strict=True,
    ):  # fmt: skip
        for each, name, colour in zip(found, names_of(found), COLOURS, strict=False):
            _band(panel, [each.series(layer, quantity) for layer in each.layers[1:]], colour, name)
        panel.set_title(title)
        if quantity != "shift_cosine":
            panel.set_yscale("log")
    panels[0].legend(frameon=False)
    return figure


def _landscape(found: Sequence[Probes]) -> Figure:
    figure, panels = _figure("How smooth is the loss along its gradient?", 3)
    for each, name, colour in zip(found, names_of(found), COLOURS, strict=False):
        for panel, quantity in zip(panels, ("loss_after", "change"), strict=False):
            series = [each.series(NETWORK, quantity, size) for size in each.step_sizes]
            _band(panel, series, colour, name, middle=False)
        _line(panels[0], each.series(NETWORK, "loss"), colour, "")
        _line(panels[2], each.series(NETWORK, "smoothness"), colour, name)
    sizes = found[0].step_sizes
    panels[0].set_title(f"loss (line), and its range after steps of\n{sizes[0]:g} to {sizes[-1]:g} "
                        "times the gradient (band)")  # fmt: skip
    panels[1].set_title("distance between the gradients\nbefore and after those steps")
    panels[2].set_title("effective β-smoothness:\nthat distance by the length of the step")
    for panel in panels:
        panel.set_yscale("log")
    panels[2].legend(frameon=False)
    return figure


def _percentiles(found: Sequence[Probes]) -> Figure | None:
    if all(len(each.layers) < 2 for each in found):
        return None
    figure, panels = _figure("What enters the activation of a typical unit", len(found))
    for panel, each, name, colour in zip(panels, found, names_of(found), COLOURS, strict=False):
        layer = each.layers[-2]
        low, middle, high = (each.series(layer, "percentile", p) for p in (15, 50, 85))
        panel.fill_between(low.steps, low.values, high.values, color=colour, alpha=0.2, lw=0)
        for series, width, p in ((low, 1, 15), (middle, 2.4, 50), (high, 1, 85)):
            panel.plot(series.steps, series.values, color=colour, lw=width)
            if len(series.values):
                panel.annotate(f"{p} %", (series.steps[-1], series.values[-1]), xytext=(4, 0),
                               textcoords="offset points", va="center", color=colour)  # fmt: skip
        unit = each.about["layers"][len(each.layers) - 2]["typical_unit"]
        panel.set_title(f"{name}: unit {unit} of {layer}")
    _same_range(panels)
    panels[0].set_ylabel("percentiles over the probing digits")
    return figure


def _activations(found: Sequence[Probes]) -> Figure | None:
    quantity = next(
        (q for q in ("dead", "saturated") if any(len(_all(each, q).steps) for each in found)), None
    )
    if quantity is None:
        return None
    title = {"dead": "Dead ReLUs: 0 for every probing digit",
             "saturated": "Saturated activations: within 5 % of an end of their range"}  # fmt: skip
    figure, panels = _figure(title[quantity], len(found))
    for panel, each, name in zip(panels, found, names_of(found), strict=True):
        for series, colour, label in _by_layer(each, each.layers[:-1], quantity):
            _line(panel, series, colour, label)
        panel.set_title(name)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    _same_range(panels)
    panels[0].set_ylabel("units" if quantity == "dead" else "outputs of all units and digits")
    _layer_key(panels[0], found[0].layers[:-1])
    return figure


def _statistics(found: Sequence[Probes]) -> Figure | None:
    return _of_normalizations(found, "Moving statistics against the batch's own", {
        "moving_mean_distance": "distance of the means\n(in standard deviations)",
        "moving_sd_ratio": "moving standard deviation\nby the batch's own",
        "outside": "share of normalized values outside -1..1\n(dashed: of a Gaussian, 31.7 %)",
    })  # fmt: skip


def _gamma_and_beta(found: Sequence[Probes]) -> Figure | None:
    return _of_normalizations(found, "What gamma and beta became", {
        "gamma": "gamma: median and 15 % to 85 % of the units", "beta": "beta",
    })  # fmt: skip


def _of_normalizations(
    found: Sequence[Probes], title: str, quantities: dict[str, str]
) -> Figure | None:
    having = [(each, name) for each, name in zip(found, names_of(found), strict=True) if each.bn]
    if not having:
        return None
    each, name = having[0]
    figure, panels = _figure(f"{title} ({name})", len(quantities))
    for panel, (quantity, heading) in zip(panels, quantities.items(), strict=True):
        panel.set_title(heading)
        index = 50 if quantity in ("gamma", "beta") else ""
        for series, colour, label in _by_layer(each, each.normalizations, quantity, index):
            _line(panel, series, colour, label)
        if index:
            for norm, colour in zip(each.normalizations, _shades(each.normalizations), strict=True):
                low, high = (each.series(norm, quantity, p) for p in (15, 85))
                panel.fill_between(
                    low.steps, low.values, high.values, color=colour, alpha=0.15, lw=0
                )
        if quantity == "outside":
            panel.axhline(0.317, color="black", lw=1, ls="--")
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        if quantity == "moving_sd_ratio":
            panel.set_yscale("log")
            panel.axhline(1, color="black", lw=1, ls="--")
    _layer_key(panels[0], each.normalizations)
    return figure


def _batch_mates(found: Sequence[Probes]) -> Figure | None:
    rows = {
        name: list(each.about.get("batch_mates", []))
        for each, name in zip(found, names_of(found), strict=True)
    }
    if not any(rows.values()):
        return None
    figure, panels = _figure("How an answer depends on its batch-mates", 2, steps=False)
    kinds = [
        (name, s, o) for name in rows for s in ("moving", "batch") for o in ("shuffled", "sorted")
    ]
    for panel, quantity in zip(panels, ("accuracy", "changed"), strict=True):
        lines: dict[tuple[float, ...], tuple[list[str], list[int]]] = {}
        for name, statistics, order in kinds:
            chosen = [
                row for row in rows[name]
                if (row["statistics"], row["order"]) == (statistics, order)
            ]  # fmt: skip
            if chosen:
                key = tuple(_nan(row[quantity]) for row in chosen)
                label = f"{name}, {statistics} statistics, {order}"
                lines.setdefault(key, ([], []))[0].append(label)
                lines[key][1][:] = [row["batch_size"] for row in chosen]
        for (values, (labels, sizes)), colour in zip(lines.items(), COLOURS * 2, strict=False):
            panel.plot(sizes, values, color=colour, marker="o", lw=2, label="\n".join(labels))
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.set_xlabel("digits in a batch")
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].set_title("right answers on the test set")
    panels[1].set_title("digits answered otherwise in other company")
    for panel in panels:
        panel.legend(frameon=False, fontsize=8)
    return figure


_DRAWERS: dict[str, tuple[Callable[[Sequence[Probes]], Figure | None], str]] = {
    "gradients": (_gradients, "Norm of the gradient of the loss, by layer and step."),
    "drift": (_drift, "Median over the layers (line) and their range (band)."),
    "landscape": (_landscape, "The loss and its gradient after steps along the gradient."),
    "percentiles": (
        _percentiles,
        "The 15th, 50th and 85th percentile over the training, as in Figure 1 of Ioffe and Szegedy "
        "(2015); typical is the unit whose median travelled the median distance.",
    ),
    "activations": (_activations, "Units that have no slope left, by layer."),
    "statistics": (_statistics, "The statistics of the probing digits as one batch are its own."),
    "gamma-beta": (_gamma_and_beta, "The learned scale and shift of every normalization."),
    "batch-mates": (_batch_mates, "The trained network on the test set, in batches."),
}  # fmt: skip


def _figure(title: str, count: int, *, steps: bool = True) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * max(count, 2), 4.8), facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=15, fontweight="bold")
    panels = list(np.ravel(np.asarray(figure.subplots(1, count))))
    for panel in panels:
        panel.grid(True, color=GRID, lw=0.7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.title.set_fontsize(11)
        if steps:
            panel.set_xscale("symlog", linthresh=1, linscale=0.4)
            panel.xaxis.set_major_locator(FixedLocator([0, *(10**n for n in range(10))]))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlabel("step")
    return figure, panels


def _by_layer(
    each: Probes, layers: Sequence[str], quantity: str, index: object = ""
) -> Iterator[tuple[Series, Any, str]]:
    for layer, colour in zip(layers, _shades(layers), strict=True):
        yield each.series(layer, quantity, index), colour, layer


def _shades(layers: Sequence[str]) -> list[Any]:
    """A colour for each layer, in an order that can be seen and told apart by everybody."""
    return [colormaps["viridis"](i / max(len(layers) - 1, 1) * 0.9) for i in range(len(layers))]


def _layer_key(panel: Axes, layers: Sequence[str]) -> None:
    panel.legend(frameon=False, fontsize=8, ncols=1 + len(layers) // 5)


def _line(panel: Axes, series: Series, colour: Any, label: str) -> None:  # noqa: ANN401
    panel.plot(series.steps, series.values, color=colour, lw=1.8, marker="o", ms=2.5, label=label)


def _band(
    panel: Axes, group: Sequence[Series], colour: str, label: str, *, middle: bool = True
) -> None:
    """The range of several series that were read at the same steps, and their median."""
    steps = np.unique(np.concatenate([np.empty(0), *(series.steps for series in group)]))
    if not len(steps):
        return
    table = np.full((len(group), len(steps)), np.nan)
    for row, series in zip(table, group, strict=True):
        row[np.searchsorted(steps, series.steps)] = series.values
    table[~np.isfinite(table)] = np.nan
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


def _same_log_range(panels: Sequence[Axes]) -> None:
    for panel in panels:
        panel.set_yscale("log")
    _same_range(panels)


def _all(each: Probes, quantity: str) -> Series:
    return each.over(each.layers, quantity)


def _positive(values: Sequence[float]) -> list[float]:
    """Values for a logarithmic axis, which has no place for others."""
    return [value if value > 0 else np.nan for value in values]


def _nan(value: float | None) -> float:
    return np.nan if value is None else float(value)
