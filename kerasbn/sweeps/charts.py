"""The charts of a study; the number of axes decides which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from kerasbn.common import plotting
from kerasbn.common.plotting import COLOR, NOTE_COLOR, STRETCHED
from kerasbn.common.wording import listed, percent, plural
from kerasbn.experiments.curves import data_title, label
from kerasbn.sweeps import summaries as summing
from kerasbn.sweeps.combinations import draw_heat_map, draw_parallel_coordinates
from kerasbn.sweeps.study_data import StudyData
from kerasbn.sweeps.summaries import FIGURE, SeedResults, Summary
from kerasbn.training.settings import SETTINGS, short_text

_COLOR_KEYS = {True: "with_bn", False: "without_bn"}
_LOG_FROM = 10.0  # an axis is logarithmic if its values differ by this factor
MAX_CELLS = 240  # of a readable heat map
MAX_PANELS = 6
MAX_WIDTH = 1500  # pixels


@dataclass(frozen=True)
class StudyChart:
    """A chart of a study; `name` is that of its file, and `caption` says how to read it."""

    name: str
    title: str
    caption: str
    figure: Figure


@plotting.default_style
def draw_charts(study: StudyData) -> list[StudyChart]:
    """Return the charts of a study, the most important first; none if nothing is trained.

    Without axes: accuracy over training. One axis: accuracy over its values. Two: a panel for each
    value of the shorter axis, and a heat map. More: a heat map and parallel coordinates.
    """
    if not study.outcomes:
        return []
    if not study.axes:
        return [_accuracy_over_training(study)]
    summaries, text = summing.summarize(study), (_title(study), _note(study))
    longest, groups = summing.by_other_axes(summaries, study.axes)
    others = [axis for axis in study.axes if axis != longest]
    is_sample = study.grid.sample is not None
    charts = []
    if len(others) <= 1 and not is_sample and len(groups) <= MAX_PANELS:
        charts.append(_accuracy_over_axis(study, groups, longest, others))
    if others and not is_sample and len(summaries) <= MAX_CELLS:
        names = listed([SETTINGS[axis].label for axis in (longest, *others)])
        caption = (
            f"Mean test accuracy in percent by {names}: with BN, without BN, and the difference in "
            "points (* if its 95% interval excludes 0). Hatched: no trial finished."
        )
        figure = draw_heat_map(summaries, longest, others, *text)
        charts.append(StudyChart("heat-map", "All combinations as a heat map", caption, figure))
    if len(study.axes) > 2 or not charts:
        caption = (
            "A line leads from its value on each axis to its mean test accuracy; the darker, the "
            f"worse. Cross: some trials diverged; below 0%: all did. {STRETCHED}"
        )
        figure = draw_parallel_coordinates(summaries, study.axes, *text)
        charts.append(StudyChart("parallel", "All combinations as lines", caption, figure))
    return charts


def save_charts(study: StudyData) -> None:
    """Write the charts of a study into its folder, as PNG."""
    for chart in draw_charts(study):
        dpi = min(plotting.DPI, int(MAX_WIDTH / chart.figure.get_figwidth()))
        plotting.save_figure(chart.figure, study.path / f"{chart.name}.png", dpi)


def _accuracy_over_training(study: StudyData) -> StudyChart:
    figure, (axes,) = _panels(study, 1)
    ends = []
    for bn, kind in _COLOR_KEYS.items():
        color, finished = COLOR[kind], summing.histories_of(study, bn, "finished")
        diverged = summing.histories_of(study, bn, "diverged")
        for history in (*finished, *diverged):
            axes.plot(history["step"], history[FIGURE], color=color, lw=0.8, alpha=0.4)
        for history in diverged:
            axes.plot(history["step"][-1:], history[FIGURE][-1:], "x", color=color, ms=9, mew=2)
        if not finished:
            continue
        steps, accuracies = finished[0]["step"], [history[FIGURE] for history in finished]
        mean = np.mean(accuracies, axis=0)
        axes.plot(steps, mean, color=color, lw=2.2, label=label(bn))
        if len(accuracies) > 1:
            sd = np.std(accuracies, axis=0, ddof=1)
            axes.fill_between(steps, mean - sd, mean + sd, color=color, alpha=0.2, lw=0)
        ends.append(plotting.End(steps[-1], float(mean[-1]), percent(mean[-1]), color))
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    _add_legend(figure, study)
    plotting.label_ends(axes, ends)
    caption = (
        "Line: mean over seeds; band: one standard deviation to each side; thin lines: each seed. "
        f"{STRETCHED}"
    )
    return StudyChart("accuracy", "Test accuracy over training", caption, figure)


def _accuracy_over_axis(
    study: StudyData, groups: Mapping[str, Sequence[Summary]], axis: str, others: Sequence[str]
) -> StudyChart:
    """Draw accuracy over the values of an axis, in a panel for each value of the other axis."""
    figure, panels = _panels(study, len(groups))
    for panel, (heading, some) in zip(panels, groups.items(), strict=True):
        _draw_panel(panel, some, axis)
        if others:
            panel.set_title(heading, fontsize=12)
    _add_legend(figure, study)
    for_each = f", for each {SETTINGS[others[0]].label}" if others else ""
    caption = (
        "Line: mean over the seeds that finished; band: one standard deviation to each side, "
        "within their range; dots: each seed; crosses at the bottom: diverged seeds. "
        f"{STRETCHED}"
    )
    title = f"Test accuracy by {SETTINGS[axis].label}{for_each}"
    return StudyChart("accuracy", title, caption, figure)


def _draw_panel(axes: Axes, summaries: Sequence[Summary], axis: str) -> None:
    values = [each.configuration[axis] for each in summaries]
    places = [float(i) for i in range(len(values))]
    if SETTINGS[axis].is_number:
        places = [float(value) for value in values if isinstance(value, int | float)]
        if min(places) > 0 and max(places) / min(places) >= _LOG_FROM:
            axes.set_xscale("log")
    axes.set_xticks(places, [short_text(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.07)
    axes.set_xlabel(SETTINGS[axis].label)
    by_place = sorted(zip(places, summaries, strict=True), key=lambda pair: pair[0])
    for bn in _COLOR_KEYS:
        points = [(place, each.of(bn)) for place, each in by_place if each.of(bn).trials]
        if points:
            _draw_kind(axes, points, bn)


def _draw_kind(axes: Axes, points: Sequence[tuple[float, SeedResults]], bn: bool) -> None:
    color, i = COLOR[_COLOR_KEYS[bn]], 0 if bn else 1
    finished = [(place, results) for place, results in points if results.accuracies]
    places = [place for place, _ in finished]
    means = [results.mean for _, results in finished]
    low, high = ([results.band[end] for _, results in finished] for end in (0, 1))
    style: dict[str, Any] = {"marker": plotting.MARKERS[i], "ms": 5, "lw": 2}
    axes.plot(places, means, color=color, label=label(bn), **style)
    axes.fill_between(places, low, high, color=color, alpha=0.2, lw=0)
    at_bottom = axes.get_xaxis_transform()
    height = 0.02 + 0.045 * i  # the crosses of the two kinds do not overlap
    for place, results in points:
        accuracies = list(results.accuracies.values())
        axes.plot([place] * len(accuracies), accuracies, ".", color=color, ms=4, alpha=0.5)
        if results.diverged:
            axes.plot(
                place, height, "x", color=color, ms=9, mew=2, clip_on=False, transform=at_bottom
            )
            axes.annotate(
                f"{results.diverged} of {results.trained}", (place, height),
                xycoords=at_bottom, xytext=(7, 0), textcoords="offset points", color=color,
                va="center", fontsize=8,
            )  # fmt: skip


def _panels(study: StudyData, count: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with so many panels, whose vertical axes are accuracies."""
    columns = min(count, 3)
    rows = -(-count // columns)
    size = (8.4 if count == 1 else 1.2 + 4.4 * columns, 1.6 + 4.0 * rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(_title(study), fontsize=14, fontweight="bold")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[:count]:
        plotting.accuracy_axis(axes)
        axes.grid(True, color="#dddddd", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test accuracy")
    return figure, panels[:count]


def _add_legend(figure: Figure, study: StudyData) -> None:
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    kinds = {}
    for bn in _COLOR_KEYS:
        statuses = [study.status(trial) for trial in study.trials if trial.bn == bn]
        diverged, finished = statuses.count("diverged"), statuses.count("finished")
        note = f" ({diverged} of {diverged + finished} diverged)" if diverged else ""
        if label(bn) in lines:
            kinds[f"{label(bn)}{note}"] = lines[label(bn)]
    legend = figure.legend(
        list(kinds.values()), list(kinds),
        loc="outside lower center", ncols=2, frameon=False, fontsize=11,
        title=_note(study), title_fontsize=10,
    )  # fmt: skip
    legend.get_title().set_color(NOTE_COLOR)


def _title(study: StudyData) -> str:
    data, seeds = data_title(study.record.data.name), plural(study.grid.seeds, "seed")
    return f"{study.grid.name} on {data}, {seeds}"


def _note(study: StudyData) -> str:
    missing = len(study.with_status("missing"))
    note = f"{plural(missing, 'trial')} not trained yet." if missing else ""
    return f"{study.record.data.note} {note}".strip()
