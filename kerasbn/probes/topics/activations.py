"""Topics on activations: the spread of pre-activations, a typical unit, dead or saturated units."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from kerasbn.probes.readings import ProbedRun, Reading
from kerasbn.probes.topics import panels as p
from kerasbn.probes.topics import phrases
from kerasbn.probes.topics.topic import Finding, ReadingValue, Snapshot, Topic, layer_sd, moments

PERCENTILES = (15, 50, 85)  # as in Figure 1(b, c) of Ioffe and Szegedy (2015)
HISTOGRAM = (0, 1, 5, *range(10, 91, 10), 95, 99, 100)  # percentiles over examples and units
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}  # of activations that saturate
NEAR_END = 0.05  # of the range: a sigmoid is saturated this close to 0 or 1


class PreActivations(Topic):
    """Mean, standard deviation and distribution of the pre-activations of each layer.

    The distribution is recorded as percentiles, not as counts in bins: bins would need limits that
    fit every layer of every model, from vanishing to exploding, and a single outlier would put all
    other values into one bin. Percentiles have no limits, and histograms with any bins follow from
    them. Those at 1 and 99 show how the tails fall off.
    """

    name = "preactivations"
    title = "Pre-activations"
    caption = "Standard deviation of the pre-activations over the examples, by layer."

    def __init__(self) -> None:
        self._percentiles: list[Reading] = []

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        for layer in now.layers:
            mean, variance = moments(layer.preactivation)
            yield layer.name, "preactivation_mean", "", float(mean.mean())
            yield layer.name, "preactivation_sd", "", layer_sd(variance)
            values = np.percentile(layer.preactivation, HISTOGRAM)
            for which, value in zip(map(str, HISTOGRAM), values, strict=True):
                rounded = float(f"{value:.5g}")  # a drawing needs no more digits
                reading = Reading(now.step, layer.name, "preactivation_percentile", which, rounded)
                self._percentiles.append(reading)

    def finish(self) -> Iterable[Reading]:
        return self._percentiles  # not while training: TensorBoard gets histograms instead

    def draw(self, runs: Sequence[ProbedRun]) -> Figure:
        title, ylabel = "How widely do pre-activations vary?", "standard deviation"
        figure, panels = p.compare_layers(title, runs, "preactivation_sd", ylabel)
        p.log_scale(*panels)
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        spreads = []
        for run in runs:
            every = [run.series(layer, "preactivation_sd") for layer in run.layers[:-1]]
            spreads.append(phrases.value_range(series.finite[-1] for series in every))
        what = f"{phrases.at_the_end(runs)}, their standard deviation in the hidden layers is"
        return self.finding([f"{what} {phrases.by_run(runs, spreads)}"] if any(spreads) else [])


class TypicalUnit(Topic):
    """Percentiles of the pre-activations of a typical unit of each layer."""

    name = "typical-unit"
    title = "Typical unit"
    caption = (
        "The 15th, 50th and 85th percentile over the examples, as in Figure 1 of Ioffe and Szegedy "
        "(2015). Typical is the unit whose median traveled the median distance."
    )

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._percentiles: dict[str, list[np.ndarray]] = {}  # by layer, probe: [percentiles, units]

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        self._steps.append(now.step)
        for layer in now.layers:
            percentiles = np.percentile(layer.preactivation, PERCENTILES, axis=0)
            self._percentiles.setdefault(layer.name, []).append(percentiles)
        return ()

    def finish(self) -> Iterable[Reading]:
        for layer, percentiles in self._percentiles.items():
            unit = typical_unit(np.stack([median for _, median, _ in percentiles]))
            yield Reading(0, layer, "typical_unit", "", unit)
            for step, units in zip(self._steps, percentiles, strict=True):
                for percentile, value in zip(PERCENTILES, units[:, unit], strict=True):
                    yield Reading(step, layer, "percentile", str(percentile), float(value))

    def draw(self, runs: Sequence[ProbedRun]) -> Figure:
        titles = []
        for run in runs:
            unit = run.series(run.layers[-2], "typical_unit").finite[0]
            titles.append(f"{phrases.run_label(run, runs)}: unit {unit:.0f} of {run.layers[-2]}")
        figure, panels = p.new_figure("Pre-activations of a typical unit", titles)
        for panel, run in zip(panels, runs, strict=True):
            color = p.style(run, runs)["color"]
            low, median, high = (run.series(run.layers[-2], "percentile", x) for x in PERCENTILES)
            panel.fill_between(low.steps, low.values, high.values, color=color, alpha=0.2, lw=0)
            for series, width in ((low, 1.0), (median, 2.4), (high, 1.0)):
                panel.plot(*series, color=color, lw=width)
        p.share_range(panels)
        panels[0].set_ylabel("median, and 15th to\n85th percentile (band)")
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        every = [run.series(run.layers[-2], "percentile", 50) for run in runs]
        medians = [phrases.value_range(series.values) for series in every]
        what = f"over the training, its median pre-activation is {phrases.by_run(runs, medians)}"
        return self.finding([what] if any(medians) else [], ["It is in the last hidden layer."])


def typical_unit(medians: np.ndarray) -> int:
    """Return the unit whose median traveled the median distance: half of the units moved less.

    Takes medians `[probes, units]`. Probes with a value that is not finite are ignored.
    """
    finite = medians[np.isfinite(medians).all(1)]
    traveled = np.abs(np.diff(finite, axis=0)).sum(0)
    return int(np.argsort(traveled, kind="stable")[(len(traveled) - 1) // 2])


class Inactive(Topic):
    """The share of dead ReLU units, or of saturated outputs of a sigmoid or tanh."""

    name = "activations"
    title = "Activations"
    caption = "Activations that pass on no gradient, or little of it, by layer."
    # Quantity, title, what it is a share of, and which of those count.
    kinds = (
        ("dead", "Dead units", "ReLU units", "are 0 for every example"),
        ("saturated", "Saturation", "activations", "are within 5% of an end of their range"),
    )

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        for layer in now.layers:
            if layer.activation == "relu":
                yield layer.name, "dead", "", float((layer.activated == 0).all(0).mean())
            elif layer.activation in RANGES:
                share = saturated_share(layer.activated, *RANGES[layer.activation])
                yield layer.name, "saturated", "", share

    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        for quantity, title, noun, words in self.kinds:
            if any(len(run.pooled(run.layers, quantity).steps) for run in runs):
                ylabel = f"share of {noun}\nthat {words}"
                figure, panels = p.compare_layers(title, runs, quantity, ylabel)
                p.share_range(panels)
                top = max(panels[0].get_ylim()[1], 0.02)
                for panel in panels:
                    panel.set_ylim(-0.02 * top, top)
                    panel.yaxis.set_major_formatter("{x:.0%}")
                return figure
        return None

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        for quantity, title, noun, words in self.kinds:
            shares = []
            for run in runs:
                lasts = np.array([run.series(x, quantity).finite[-1] for x in run.layers[:-1]])
                finite = lasts[np.isfinite(lasts)]
                shares.append(phrases.amount(finite.mean()) if len(finite) else "")
            if any(shares):
                units = phrases.by_run(runs, shares, f"of the {noun}")
                return self.finding([f"{phrases.at_the_end(runs)}, {units} {words}"], title=title)
        return None


def saturated_share(output: np.ndarray, low: float, high: float) -> float:
    """Return the share of outputs (over examples and units) within 5% of an end of low..high.

    For a sigmoid that is below 0.05 or above 0.95, for a tanh beyond -0.9 or 0.9; since tanh(x) =
    2 sigmoid(2x) - 1 both mean the same, and there the slope is less than a fifth of its maximum.
    """
    margin = NEAR_END * (high - low)
    return float(((output < low + margin) | (output > high - margin)).mean())
