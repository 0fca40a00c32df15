"""Topics on BN layers: moving statistics, gamma and beta, and predictions by batch composition."""

from collections.abc import Iterable, Iterator, Sequence
from math import erf, sqrt

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter

from kerasbn.common import wording
from kerasbn.common.plotting import OTHER_COLORS
from kerasbn.probes.readings import BatchResult, ProbedRun
from kerasbn.probes.topics import panels as p
from kerasbn.probes.topics.topic import (
    Finding,
    Snapshot,
    Topic,
    Value,
    amount,
    at_the_end,
    extent,
    label,
    moments,
)

SPREAD = (0, 15, 50, 85, 100)  # percentiles of gamma and beta over the units
GAUSSIAN_OUTSIDE = 1 - erf(1 / sqrt(2))  # the share of a Gaussian beyond one standard deviation


def _with_bn(runs: Sequence[ProbedRun]) -> Iterator[tuple[ProbedRun, str]]:
    """The runs with BN, and how a sentence on each begins if there are several."""
    having = [run for run in runs if run.bn]
    return ((run, f"in {run.name}, " if len(having) > 1 else "") for run in having)


class Statistics(Topic):
    """Moving statistics of BN layers compared with batch statistics, and normalized values."""

    name = "statistics"
    title = "BN statistics"
    caption = "Batch statistics are those of the examples that the probes use."

    def measure(self, now: Snapshot) -> Iterable[Value]:
        for bn in (layer.bn for layer in now.layers if layer.bn):
            distance, ratio = moving_against_batch(
                bn.inputs, bn.moving_mean, bn.moving_variance, bn.epsilon
            )
            yield bn.name, "outside", "", outside_share(bn.inputs, bn.epsilon)
            yield bn.name, "moving_mean_distance", "", distance
            yield bn.name, "moving_sd_ratio", "", ratio

    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        titles = {
            "moving_mean_distance": "distance between the means\n(batch standard deviations)",
            "moving_sd_ratio": "moving standard deviation\nrelative to the batch's",
            "outside": "share of normalized values outside -1 to 1\n(dashed: of a Gaussian)",
        }
        drawn = p.draw_bn_layers("Moving statistics compared with batch statistics", runs, titles)
        if drawn is None:
            return None
        figure, panels, _ = drawn
        p.log_scale(panels[1])
        for panel, height in ((panels[1], 1.0), (panels[2], GAUSSIAN_OUTSIDE)):
            panel.axhline(height, color="black", lw=1, ls="--")
        panels[2].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        if not any(run.bn for run in runs):
            return self.finding("there are no BN layers, and so no statistics, gamma or beta")
        sentences = []
        for run, where in _with_bn(runs):
            outside = amount(run.pooled(run.bn_layers, "outside").median())
            distances = [run.series(bn, "moving_mean_distance") for bn in run.bn_layers]
            if outside and all(len(each.finite) for each in distances):
                start, end = (
                    wording.number(max(values), 2)
                    for values in zip(*((x.first(), x.last()) for x in distances), strict=True)
                )
                sentences += [
                    f"{where}moving means are up to {start} standard deviations from the batch's "
                    f"at first, {end} {at_the_end([run])}",
                    f"{outside} of the normalized values lie outside -1 to 1",
                ]
        details = "Of Gaussian values, 32% do: BN gives a variance of 1, not a range of 1."
        claim = " ".join(map(wording.sentence, sentences))
        return self.finding(claim, details) if claim else None


def outside_share(inputs: np.ndarray, epsilon: float) -> float:
    """Return the share of normalized values, before gamma and beta, that are not within -1..1.

    (x - mean) / sqrt(variance + epsilon), with batch statistics. Normalizing gives a variance of 1,
    not a range of 1: of Gaussian values 31.7% are outside.
    """
    mean, variance = moments(inputs)
    return float((np.abs(inputs - mean) > np.sqrt(variance + epsilon)).mean())


def moving_against_batch(
    inputs: np.ndarray, moving_mean: np.ndarray, moving_variance: np.ndarray, epsilon: float
) -> tuple[float, float]:
    """Return how far the moving statistics are from the batch statistics.

    Root mean square over units of (moving mean - mean) / sqrt(variance + epsilon), and the median
    over units of sqrt((moving variance + epsilon) / (variance + epsilon)): 0 and 1 if they agree.
    """
    mean, variance = moments(inputs)
    distance = (moving_mean - mean) / np.sqrt(variance + epsilon)
    ratio = np.sqrt((moving_variance + epsilon) / (variance + epsilon))
    return float(np.sqrt((distance**2).mean())), float(np.median(ratio))


class GammaAndBeta(Topic):
    """The learned scale and shift of BN layers."""

    name = "gamma-beta"
    title = "Gamma and beta"
    caption = (
        "Learned scale and shift of every BN layer. Line: median over the units. Band: 15th to "
        "85th percentile."
    )

    def measure(self, now: Snapshot) -> Iterable[Value]:
        for bn in (layer.bn for layer in now.layers if layer.bn):
            for quantity, values in (("gamma", bn.gamma), ("beta", bn.beta)):
                for percentile, value in zip(SPREAD, np.percentile(values, SPREAD), strict=True):
                    yield bn.name, quantity, str(percentile), float(value)

    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        titles = {"gamma": "gamma", "beta": "beta"}
        drawn = p.draw_bn_layers("Learned gamma and beta", runs, titles, which=50)
        if drawn is None:
            return None
        figure, panels, run = drawn
        panels[0].set_ylabel("median, and 15th to 85th percentile (band)")
        for panel, quantity in zip(panels, titles, strict=True):
            for bn, color in zip(run.bn_layers, p.layer_colors(len(run.bn_layers)), strict=True):
                low, high = (run.series(bn, quantity, percentile) for percentile in (15, 85))
                panel.fill_between(
                    low.steps, low.values, high.values, color=color, alpha=0.15, lw=0
                )
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        sentences = []
        for run, where in _with_bn(runs):
            told = []
            for quantity, start in (("gamma", 1), ("beta", 0)):
                low, middle, high = (
                    [run.series(bn, quantity, percentile).last() for bn in run.bn_layers]
                    for percentile in (0, 50, 100)
                )
                if ends := extent([*low, *high]):
                    median = wording.number(float(np.nanmedian(middle)), 2)
                    told.append(f"{quantity} is {ends} (initially {start}; median {median})")
            if told:
                sentences.append(f"{where}{at_the_end([run])}, {wording.listed(told)}")
        return self.finding(" ".join(map(wording.sentence, sentences))) if sentences else None


class BatchComposition(Topic):
    """How predictions of the trained model depend on the other examples of their batch."""

    name = "batch-composition"
    title = "Batch composition"
    caption = "The trained model predicts the test set in batches of several sizes and orders."
    # statistics, order, label, color (None: the run's)
    kinds = (
        ("moving", "shuffled", "moving statistics", None),
        ("batch", "shuffled", "batch statistics, shuffled", OTHER_COLORS[0]),
        ("batch", "sorted", "batch statistics, sorted by class", OTHER_COLORS[1]),
    )

    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        if not any(run.record.batch_composition for run in runs):
            return None
        titles = {
            "accuracy": "test accuracy",
            "changed": "predictions that differ in another order",
        }
        figure, panels = p.new_figure(
            "How predictions depend on batch composition", list(titles.values()), over_steps=False
        )
        for panel, quantity in zip(panels, titles, strict=True):
            for run in runs:
                for statistics, order, words, color in self.kinds:
                    if rows := _results(run, statistics, order):
                        line = p.style(run, runs)
                        line["label"] += f", {words}" if run.bn else ""
                        sizes = [row.batch_size for row in rows]
                        values = [getattr(row, quantity) for row in rows]
                        line["color"] = color or line["color"]
                        panel.plot(sizes, values, lw=2, marker="o", **line)
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_locator(FixedLocator([1, 2, 8, 64]))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
            panel.set_xlabel("batch size")
            panel.set_ylim(-0.03, 1.03)
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        figure.subplots_adjust(bottom=0.27)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False
        )
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        claims, details = [], []
        for run, where in _with_bn(runs):
            if rows := _results(run, "batch", "shuffled"):
                claims += _claims(run, rows, where)
                by_class = _results(run, "batch", "sorted")[-1]
                details.append(
                    f"{where}in batches of {by_class.batch_size}, another order changes "
                    f"{wording.percent(rows[-1].changed)} of the predictions with batch "
                    f"statistics; sorted by class, accuracy is {wording.percent(by_class.accuracy)}"
                )
        for run in runs:
            if not run.bn and (rows := _results(run, "moving", "shuffled")):
                changed = wording.percent(max(row.changed for row in rows))
                told = f"{label(run, runs)}, predictions do not depend on the batch"
                if any(row.changed for row in rows):
                    told = f"{label(run, runs)}, rounding changes {changed} of the predictions"
                (details if claims else claims).append(told)
        if not claims:
            return None
        return self.finding(*(" ".join(map(wording.sentence, each)) for each in (claims, details)))


def _results(run: ProbedRun, statistics: str, order: str) -> list[BatchResult]:
    """The results of one kind, by batch size."""
    rows = run.record.batch_composition
    return [row for row in rows if (row.statistics, row.order) == (statistics, order)]


def _claims(run: ProbedRun, rows: Sequence[BatchResult], where: str) -> list[str]:
    """What a model with BN predicts with batch statistics and with moving ones."""
    shown = rows if len(rows) < 4 else [*rows[:2], rows[-1]]
    batches = {1: "for single images", 2: "in pairs"}
    accuracies = [
        f"{wording.percent(row.accuracy)} "
        f"{batches.get(row.batch_size, f'in batches of {row.batch_size}')}"
        for row in shown
    ]
    moving = [row.accuracy for row in _results(run, "moving", "shuffled")]
    ends = list(dict.fromkeys(wording.percent(end(moving)) for end in (min, max)))
    every = f"it is {ends[0]} in every case" if len(ends) == 1 else f"it is {' to '.join(ends)}"
    if len({wording.percent(row.accuracy) for row in rows}) == 1:
        first = f"accuracy is {wording.percent(rows[0].accuracy)} in batches of every size"
        return [f"{where}with batch statistics, {first}", f"with moving statistics {every}"]
    return [
        f"{where}with batch statistics, accuracy depends on the batch: "
        f"{wording.listed(accuracies)}",
        f"with moving statistics {every}",
    ]
