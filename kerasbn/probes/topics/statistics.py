"""Topics on BN layers: moving statistics, gamma and beta, and predictions by batch composition."""

from collections.abc import Iterable, Sequence
from math import erf, sqrt

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from kerasbn.common import wording
from kerasbn.common.plotting import OTHER_COLORS
from kerasbn.probes.readings import BatchResult, ProbedRun
from kerasbn.probes.topics import panels as p
from kerasbn.probes.topics import phrases
from kerasbn.probes.topics.topic import BNSnapshot, Finding, ReadingValue, Snapshot, Topic, moments

SPREAD = (0, 15, 50, 85, 100)  # percentiles of gamma and beta over the units
GAUSSIAN_OUTSIDE = 1 - erf(1 / sqrt(2))  # the share of a Gaussian beyond one standard deviation


class Statistics(Topic):
    """Moving statistics of BN layers compared with batch statistics, and normalized values."""

    name = "statistics"
    title = "BN statistics"
    caption = "Batch statistics are those of the examples that the probes use."

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        for bn in (layer.bn for layer in now.layers if layer.bn):
            distance, ratio = moving_against_batch(bn)
            yield bn.name, "outside", "", outside_share(bn)
            yield bn.name, "moving_mean_distance", "", distance
            yield bn.name, "moving_sd_ratio", "", ratio

    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        titles = {
            "moving_mean_distance": "distance between the means\n(batch standard deviations)",
            "moving_sd_ratio": "moving standard deviation\nrelative to the batch's",
            "outside": "share of normalized values outside -1 to 1\n(dashed: of a Gaussian)",
        }
        title = "Moving statistics compared with batch statistics"
        figure, panels = p.draw_bn_layers(title, runs, titles)
        if figure:
            p.log_scale(panels[1])
            panels[1].axhline(1.0, color="black", lw=1, ls="--")
            panels[2].axhline(GAUSSIAN_OUTSIDE, color="black", lw=1, ls="--")
            panels[2].yaxis.set_major_formatter("{x:.1%}")
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        if not any(run.bn for run in runs):
            return self.finding(["there are no BN layers, and so no statistics, gamma or beta"])
        claims = []
        for run, where in phrases.with_bn(runs):
            outside = phrases.amount(run.pooled(run.bn_layers, "outside").median())
            distances = [run.series(bn, "moving_mean_distance").finite for bn in run.bn_layers]
            start, end = (max(values[i] for values in distances) for i in (0, -1))
            if outside and np.isfinite([values[0] for values in distances]).all():
                claims += [
                    f"{where}moving means are up to {wording.number(start, 2)} standard deviations "
                    f"from the batch's at first, {wording.number(end, 2)} "
                    f"{phrases.at_the_end([run])}",
                    f"{outside} of the normalized values lie outside -1 to 1",
                ]
        gaussian = "of Gaussian values, 32% do: BN gives a variance of 1, not a range of 1"
        return self.finding(claims, [gaussian])


def outside_share(bn: BNSnapshot) -> float:
    """Return the share of normalized values, before gamma and beta, that are not within -1..1.

    (x - mean) / sqrt(variance + epsilon), with batch statistics. Normalizing gives a variance of 1,
    not a range of 1: of Gaussian values 31.7% are outside.
    """
    mean, variance = moments(bn.inputs)
    return float((np.abs(bn.inputs - mean) > np.sqrt(variance + bn.epsilon)).mean())


def moving_against_batch(bn: BNSnapshot) -> tuple[float, float]:
    """Return how far the moving statistics are from the batch statistics.

    Root mean square over units of (moving mean - mean) / sqrt(variance + epsilon), and the median
    over units of sqrt((moving variance + epsilon) / (variance + epsilon)): 0 and 1 if they agree.
    """
    mean, variance = moments(bn.inputs)
    distance = (bn.moving_mean - mean) / np.sqrt(variance + bn.epsilon)
    ratio = np.sqrt((bn.moving_variance + bn.epsilon) / (variance + bn.epsilon))
    return float(np.sqrt((distance**2).mean())), float(np.median(ratio))


class GammaAndBeta(Topic):
    """The learned scale and shift of BN layers."""

    name = "gamma-beta"
    title = "Gamma and beta"
    caption = (
        "Scale and shift of every BN layer over the training. Line: median over the units. Band: "
        "15th to 85th percentile."
    )

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        for bn in (layer.bn for layer in now.layers if layer.bn):
            for quantity, values in (("gamma", bn.gamma), ("beta", bn.beta)):
                for percentile, value in zip(SPREAD, np.percentile(values, SPREAD), strict=True):
                    yield bn.name, quantity, str(percentile), float(value)

    def draw(self, runs: Sequence[ProbedRun]) -> Figure | None:
        title, titles = "Learned gamma and beta", {"gamma": "gamma", "beta": "beta"}
        figure, panels = p.draw_bn_layers(title, runs, titles, SPREAD[1:4])
        if figure:
            panels[0].set_ylabel("median, and 15th to\n85th percentile (band)")
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        claims = []
        for run, where in phrases.with_bn(runs):
            ranges = []
            for quantity, initially in (("gamma", 1), ("beta", 0)):
                low, middle, high = (
                    [run.series(bn, quantity, percentile).finite[-1] for bn in run.bn_layers]
                    for percentile in (0, 50, 100)
                )
                if ends := phrases.value_range([*low, *high]):
                    median = wording.number(float(np.nanmedian(middle)), 2)
                    ranges.append(f"{quantity} is {ends} (initially {initially}; median {median})")
            if ranges:
                claims.append(f"{where}{phrases.at_the_end([run])}, {wording.listed(ranges)}")
        return self.finding(claims)


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
        title = "How predictions depend on batch composition"
        titles = ("test accuracy", "predictions that differ in another order")
        figure, panels = p.new_figure(title, titles, over_steps=False)
        for panel, quantity in zip(panels, ("accuracy", "changed"), strict=True):
            for run in runs:
                for statistics, order, words, color in self.kinds:
                    if rows := _results(run, statistics, order):
                        line = p.style(run, runs)
                        line["label"] += f", {words}" if run.bn else ""
                        line["color"] = color or line["color"]
                        sizes = [row.batch_size for row in rows]
                        values = [getattr(row, quantity) for row in rows]
                        panel.plot(sizes, values, lw=2, marker="o", **line)
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_locator(FixedLocator([1, 2, 8, 64]))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.set_xlabel("batch size")
            panel.set_ylim(-0.03, 1.03)
            panel.yaxis.set_major_formatter("{x:.0%}")
        figure.subplots_adjust(bottom=0.27)
        lines = panels[0].get_legend_handles_labels()
        figure.legend(*lines, loc="lower center", ncols=2, frameon=False)
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        claims, details = [], []
        for run, where in phrases.with_bn(runs):
            if rows := _results(run, "batch", "shuffled"):
                claims += _claims(run, rows, where)
                for by_class in _results(run, "batch", "sorted")[-1:]:
                    details.append(
                        f"{where}in batches of {by_class.batch_size}, another order changes "
                        f"{wording.percent(rows[-1].changed)} of the predictions with batch "
                        "statistics; sorted by class, accuracy is "
                        f"{wording.percent(by_class.accuracy)}"
                    )
        for run in runs:
            if not run.bn and (rows := _results(run, "moving", "shuffled")):
                changed = max(row.changed for row in rows)
                effect = "predictions do not depend on the batch"
                if changed:
                    effect = f"rounding changes {wording.percent(changed)} of the predictions"
                (details if claims else claims).append(f"{phrases.run_label(run, runs)}, {effect}")
        return self.finding(claims, details)


def _results(run: ProbedRun, statistics: str, order: str) -> list[BatchResult]:
    """The results of one kind, by batch size."""
    rows = run.record.batch_composition
    return [row for row in rows if (row.statistics, row.order) == (statistics, order)]


def _claims(run: ProbedRun, rows: Sequence[BatchResult], where: str) -> list[str]:
    """What a model with BN predicts with batch statistics and with moving ones."""
    every = {row.batch_size: wording.percent(row.accuracy) for row in rows}
    if len(set(every.values())) == 1:
        accuracy = f"accuracy is {every[rows[0].batch_size]} in batches of every size"
    else:
        batches = {1: "for single images", 2: "in pairs"}
        shown = list(every.items())
        shown = shown if len(shown) < 4 else [*shown[:2], shown[-1]]
        each = [f"{share} {batches.get(size, f'in batches of {size}')}" for size, share in shown]
        accuracy = f"accuracy depends on the batch: {wording.listed(each)}"
    claims = [f"{where}with batch statistics, {accuracy}"]
    moving = [row.accuracy for row in _results(run, "moving", "shuffled")]
    if not moving:
        return claims
    low, high = (wording.percent(end(moving)) for end in (min, max))
    fixed = f"it is {low} in every case" if low == high else f"it is {low} to {high}"
    return [*claims, f"with moving statistics {fixed}"]
