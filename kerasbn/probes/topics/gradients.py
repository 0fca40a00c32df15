"""Topics on gradients: their size by layer, internal covariate shift, and the loss landscape."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasbn.common import wording
from kerasbn.probes.readings import MODEL, Floats, ProbedRun, Series
from kerasbn.probes.topics import panels as p
from kerasbn.probes.topics import phrases
from kerasbn.probes.topics.topic import (
    Finding,
    ReadingValue,
    Shift,
    Snapshot,
    Topic,
    layer_sd,
    moments,
)

VANISHING, EXPLODING = 1e-2, 1e2  # the first layer's gradient relative to the last layer's
RUNAWAY = 1e4  # the first layer's largest gradient relative to the last layer's at the start
ABOUT_EQUAL = 2  # ratios up to here
FLAT = 0.5  # a gradient so much smaller than the other model's is mentioned


class Gradients(Topic):
    """The norm of the gradient by layer: does it vanish or explode on its way to the first one?"""

    name = "gradients"
    title = "Gradients"
    caption = "Norm of the gradient of the loss, by layer and training step."

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        for layer in now.layers:
            per_example = gradient_per_example(layer.gradient)
            yield layer.name, "kernel_gradient", "", layer.kernel_gradient
            yield layer.name, "preactivation_gradient", "", per_example

    def draw(self, runs: Sequence[ProbedRun]) -> Figure:
        figure, (*by_step, by_layer) = p.compare_layers(
            "Does the gradient reach the first layers?", runs, "kernel_gradient",
            "norm of the kernel's gradient", "pre-activation gradients before training",
        )  # fmt: skip
        for run in runs:
            start = [run.series(layer, "preactivation_gradient").start for layer in run.layers]
            by_number = Series(np.arange(1.0, len(start) + 1), np.array(start))
            p.draw_line(by_layer, by_number, **p.style(run, runs) | {"ms": 6})
        by_layer.set_xscale("linear")
        by_layer.set_ylabel("norm of the gradient per example")
        by_layer.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        by_layer.set_xlabel("layer (the last one computes the logits)")
        by_layer.legend(frameon=False)
        p.log_scale(*by_step)
        p.log_scale(by_layer)
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        quantity, noun = "kernel_gradient", "gradient"
        ratios = [_start_ratio(run, quantity) for run in runs]
        # Where activations grow on their way forward as fast as gradients on their way back, the
        # kernel gradients of all layers are equal. Then only those of the pre-activations tell.
        others = [_start_ratio(run, "preactivation_gradient") for run in runs]
        if any(map(_is_extreme, others)) and not any(map(_is_extreme, ratios)):
            quantity, noun, ratios = "preactivation_gradient", "pre-activation gradient", others
        growths = [_growth(run, quantity) for run in runs]
        found = [each for each in zip(runs, ratios, growths, strict=True) if np.isfinite(each[1])]
        found.sort(key=lambda each: -max(each[1], 1 / max(each[1], 1e-300)))  # extreme ones first
        claims = []
        for i, (run, ratio, growth) in enumerate(found):
            subject = ", and the first layer's" if _is_about_equal(ratio) else " and"
            end = f"{subject} {growth}" if growth else ""
            claims.append(
                f"{phrases.run_label(run, runs)}, {_clause(ratio, noun, brief=i > 0)}{end}"
            )
        kinds = ["vanishing"] if any(ratio < VANISHING for ratio in ratios) else []
        if any(growths) or any(ratio > EXPLODING for ratio in ratios):
            kinds.append("exploding")
        title = f"{wording.listed(kinds)} gradients".capitalize() if kinds else ""
        return self.finding(claims, title=title)


def _start_ratio(run: ProbedRun, quantity: str) -> float:
    """The first layer's gradient before training, relative to the last layer's."""
    first, last = (run.series(run.layers[i], quantity) for i in (0, -1))
    return float(first.start / last.start)


def _is_extreme(ratio: float) -> bool:
    return ratio < VANISHING or ratio > EXPLODING


def _is_about_equal(ratio: float) -> bool:
    return 1 / ABOUT_EQUAL <= ratio <= ABOUT_EQUAL


def _clause(ratio: float, noun: str, *, brief: bool) -> str:
    """What to say of the first layer's gradient at the start, in brief if it was said before."""
    if _is_about_equal(ratio):
        both = "the two" if brief else f"the first and the last layer's {noun}s"
        return f"{both} start about equal"
    subject, than = ("it", "") if brief else (f"the first layer's {noun}", " than the last layer's")
    if ratio == 0:
        return f"{subject} is zero at the start"
    factor = wording.times(max(ratio, 1 / ratio))
    return f"{subject} starts {factor} {'smaller' if ratio < 1 else 'larger'}{than}"


def _growth(run: ProbedRun, quantity: str) -> str:
    """What to say if the first layer's gradient grows far beyond the last layer's at the start."""
    first, last = (run.series(run.layers[i], quantity) for i in (0, -1))
    peak = np.nanmax(first.values, initial=-np.inf)
    if not peak > RUNAWAY * last.finite[0]:
        return ""
    grows = "overflows float32" if np.isinf(peak) else f"reaches {wording.number(peak, 2)}"
    return f"{grows} by step {first.steps[np.nanargmax(first.values)]:,.0f}"


def gradient_per_example(gradient: np.ndarray) -> float:
    """Return the root mean square over examples of the norm of each one's gradient.

    With L the mean loss over n examples and z the pre-activations of one, its own gradient is
    n * dL/dz. So this is sqrt(n) * ||dL/dZ||, which, unlike ||dL/dZ||, does not depend on n.
    """
    # Not np.linalg.norm: its BLAS starts threads, which takes longer than the sum.
    return float(np.sqrt(len(gradient) * np.square(gradient, dtype=np.float64).sum()))


class CovariateShift(Topic):
    """How much the gradient and the inputs of a layer change because the layers before it do."""

    name = "covariate-shift"
    title = "Internal covariate shift"
    caption = "Line: median over the layers. Band: their range."

    def __init__(self) -> None:
        self._before: list[tuple[Floats, Floats]] = []

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        before, self._before = self._before, [moments(layer.output) for layer in now.layers[:-1]]
        for layer, *inputs in zip(now.layers[1:], before, self._before, strict=False):
            mean, sd = drift(*inputs)
            yield layer.name, "input_mean_drift", "", mean
            yield layer.name, "input_sd_drift", "", sd

    def measure_step(self, shifts: Mapping[str, Shift]) -> Iterable[ReadingValue]:
        for layer, shift in shifts.items():
            for quantity, value in shift._asdict().items():
                yield layer, f"shift_{quantity}", "", value

    def draw(self, runs: Sequence[ProbedRun]) -> Figure:
        titles = {
            "shift_relative": "change of a layer's gradient when only the\n"
            "layers before it take a step (1: its norm)",
            "shift_cosine": "cosine between the two gradients\n(1: same direction)",
            "input_mean_drift": "change of the mean of a layer's inputs since\n"
            "the previous probe (standard deviations)",
        }
        figure, panels = p.new_figure("Internal covariate shift", list(titles.values()))
        for panel, quantity in zip(panels, titles, strict=True):
            log = quantity != "shift_cosine"
            for run in runs:
                group, line = [run.series(x, quantity) for x in run.layers[1:]], p.style(run, runs)
                p.draw_line(panel, p.draw_range(panel, group, line["color"], log=log), **line)
            if log:
                p.log_scale(panel)
        panels[0].legend(frameon=False)
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        shifts, drifts = (
            [run.pooled(run.layers[1:], quantity).median() for run in runs]
            for quantity in ("shift_relative", "input_mean_drift")
        )
        changes = phrases.by_run(runs, [phrases.amount(value, " its norm") for value in shifts])
        if not changes:
            return None
        claim = "when the layers before it take a step, a layer's gradient changes by"
        details = ["Medians over layers and steps; the measure is that of Santurkar et al. (2018)."]
        widths = [phrases.value_range([value]) for value in drifts]
        if moves := phrases.by_run(runs, widths, "standard deviations"):
            what = "from probe to probe, the mean of a layer's inputs moves by"
            details.append(f"{what} {moves}{phrases.verdict(runs, drifts)}")
        return self.finding([f"{claim} {changes}{phrases.verdict(runs, shifts)}"], details)


def drift(before: tuple[Floats, Floats], now: tuple[Floats, Floats]) -> tuple[float, float]:
    """Return how far mean and standard deviation of a layer's inputs moved, relative to the latter.

    sqrt(mean over units of (difference)^2 / mean over units of the variance before), for the mean
    and for the standard deviation: the change in the distribution of a layer's inputs that Ioffe
    and Szegedy (2015, section 2) call internal covariate shift, in its first two moments.
    """
    scale = layer_sd(before[1])
    shift = np.sqrt(((now[0] - before[0]) ** 2).mean())
    stretch = np.sqrt(((np.sqrt(now[1]) - np.sqrt(before[1])) ** 2).mean())
    with np.errstate(divide="ignore", invalid="ignore"):  # constant inputs have no ratio
        return float(shift / scale), float(stretch / scale)


class Smoothness(Topic):
    """The loss along its gradient: how far can one step before the gradient changes?"""

    name = "landscape"
    title = "Loss landscape"
    caption = "The loss and its gradient after steps along the gradient."

    def measure(self, now: Snapshot) -> Iterable[ReadingValue]:
        line = now.landscape
        yield MODEL, "loss", "", line.loss
        yield MODEL, "gradient", "", line.gradient
        yield MODEL, "smoothness", "", line.smoothness
        for size in line.losses:
            yield MODEL, "loss_after", str(size), line.losses[size]
            yield MODEL, "change", str(size), line.changes[size]

    def draw(self, runs: Sequence[ProbedRun]) -> Figure:
        low, high = runs[0].record.step_sizes[0], runs[0].record.step_sizes[-1]
        titles = [
            f"loss (line), and its range after steps\nof {low:g} to {high:g} times the gradient",
            "distance between the gradients\nbefore and after those steps (range)",
            "that distance relative to the length\nof the step (effective β-smoothness)",
        ]
        figure, panels = p.new_figure("How smooth is the loss along its gradient?", titles)
        for run in runs:
            line = p.style(run, runs)
            for panel, quantity in zip(panels, ("loss_after", "change"), strict=False):
                group = [run.series(MODEL, quantity, size) for size in run.record.step_sizes]
                p.draw_range(panel, group, line["color"])
            p.draw_line(panels[0], run.series(MODEL, "loss"), **line)
            p.draw_line(panels[2], run.series(MODEL, "smoothness"), **line)
        for panel in panels:
            p.log_scale(panel)
        panels[2].legend(frameon=False)
        return figure

    def describe(self, runs: Sequence[ProbedRun]) -> Finding | None:
        turns = phrases.by_run(runs, [phrases.amount(_turn(run), " its norm") for run in runs])
        if not turns:
            return None
        size = runs[0].record.step_sizes[-1]
        turning = f"a step of {size:g} times the gradient changes the gradient by {turns}"
        smoothness = [run.series(MODEL, "smoothness").median() for run in runs]
        betas = phrases.by_run(runs, [phrases.value_range([value]) for value in smoothness])
        details = f"Effective beta-smoothness (smaller is smoother; median): {betas}"
        pair = phrases.pair_of(runs, smoothness)
        if pair is None or 0 in pair:
            return self.finding([turning], [details])
        factor = wording.times(max(pair) / min(pair))
        smoother = "with" if pair[0] < pair[1] else "without"
        claim = f"along its gradient, the loss is {factor} smoother {smoother} BN"
        lengths = phrases.pair_of(runs, [run.series(MODEL, "gradient").median() for run in runs])
        if pair[0] > pair[1] and lengths and 0 < lengths[1] < FLAT * lengths[0]:
            flatter = wording.times(lengths[0] / lengths[1])
            claim += f", but also flat there: the gradient is {flatter} smaller"
        return self.finding([claim], [turning, details])


def _turn(run: ProbedRun) -> float:
    """The median change of the gradient after the longest step, relative to its norm."""
    changed = run.series(MODEL, "change", run.record.step_sizes[-1])
    norms = dict(zip(*run.series(MODEL, "gradient"), strict=True))
    relative = changed.values / [norms.get(step, np.nan) for step in changed.steps]
    return Series(changed.steps, relative).median()
