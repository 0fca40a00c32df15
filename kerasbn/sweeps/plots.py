"""The pictures of a study: which it needs depends on how many axes its grid has."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from kerasbn.experiments.curves import DATA_NAMES, label
from kerasbn.plotting import (
    COLOR,
    DPI,
    MARKERS,
    NOTE_COLOR,
    STRETCHED,
    End,
    accuracy_axis,
    label_ends,
    save_figure,
)
from kerasbn.sweeps.curves import lines_of
from kerasbn.sweeps.heat_maps import draw_heat_maps
from kerasbn.sweeps.parallel_coordinates import draw_parallel
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import NAMES, Side, Summary, short, summaries, where
from kerasbn.wording import percent

KINDS = ((True, 0), (False, 1))  # with and without, and the place of their colour and marker
LOG_FROM = 10.0  # values that differ by this factor and more stand on a logarithmic axis
MOST_CELLS = 240  # of a heat map that can be read
MOST_PANELS = 6
WIDEST = 1500  # dots: as many as a projector shows; more only make the file large


@dataclass(frozen=True)
class Picture:
    """A picture of a study.

    Attributes:
        name: of its file, without a suffix.
        title: what it is, as a heading.
        caption: what it shows and how to read it, in a sentence or two.
        figure: the picture.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def pictures(study: Study) -> list[Picture]:
    """The pictures of a study, the most telling first; none if nothing has been trained.

    Without an axis accuracy over the steps; with one, accuracy over its values; with two, that for
    each value of the shorter one, and heat maps; beyond, heat maps and parallel coordinates.
    Diverged networks are marked and in no mean.
    """
    listed = summaries(study)
    if not study.results:
        return []
    if not study.axes:
        return [_over_steps(study)]
    longest = max(study.axes, key=lambda axis: len({each.point[axis] for each in listed}))
    others = [axis for axis in study.axes if axis != longest]
    rows = list(dict.fromkeys(where(each.point, others) for each in listed))
    found = []
    if len(study.axes) <= 2 and study.grid.sample is None and len(rows) <= MOST_PANELS:
        found.append(_over_axis(study, listed, longest, others))
    if others and study.grid.sample is None and len(listed) <= MOST_CELLS:
        found.append(
            Picture(
                "heat-map",
                "Every combination, as a table",
                f"Accuracy on the test digits in percent, the mean over seeds, by {NAMES[longest]} "
                f"and {' and '.join(NAMES[axis] for axis in others)}: with BN, without, and the "
                "difference in points, with a star where its 95 % interval leaves 0 out. Hatched: "
                "no network came through.",
                draw_heat_maps(listed, longest, others, _title(study), _note(study)),
            )
        )
    if len(study.axes) > 2 or not found:
        found.append(
            Picture(
                "parallel",
                "Every combination, as a line",
                "A line leads from its value on each axis to its accuracy on the test digits, the "
                "mean over seeds; the more it stands out, the worse. A cross: some diverged; below "
                f"0 %: all. {STRETCHED}",
                draw_parallel(listed, study.axes, _title(study), _note(study)),
            )
        )
    return found


def save_pictures(study: Study) -> None:
    """Write the pictures of a study into its folder, as PNG."""
    for picture in pictures(study):
        dpi = min(DPI, int(WIDEST / picture.figure.get_figwidth()))
        save_figure(picture.figure, study.path / f"{picture.name}.png", dpi)


def _over_steps(study: Study) -> Picture:
    figure, (axes,) = _figure(study, 1)
    ends: list[End] = []
    for bn, _ in KINDS:
        lines = lines_of(study, bn)
        colour = COLOR["with_bn" if bn else "without_bn"]
        for member in lines.members.values():
            axes.plot(lines.steps, member, color=colour, lw=0.8, alpha=0.4)
        for steps, accuracies in lines.diverged.values():
            axes.plot(steps, accuracies, color=colour, lw=0.8, alpha=0.4)
            axes.plot(steps[-1:], accuracies[-1:], color=colour, marker="x", ms=9, mew=2)
        if lines.members:
            mean = lines.mean
            axes.plot(lines.steps, mean, color=colour, lw=2.2, label=label(bn))
            if lines.sd:
                low, high = (
                    [m + sign * s for m, s in zip(mean, lines.sd, strict=True)] for sign in (-1, 1)
                )
                axes.fill_between(lines.steps, low, high, color=colour, alpha=0.2, lw=0)
            ends.append(End(lines.steps[-1], mean[-1], percent(mean[-1]), colour))
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    _finish(figure, study)
    label_ends(axes, ends)
    return Picture(
        "accuracy",
        "Accuracy over training",
        "Accuracy on the test digits over training. Line: mean over seeds; band: one standard "
        f"deviation to each side; thin lines: each seed. {STRETCHED}",
        figure,
    )


def _over_axis(study: Study, listed: Sequence[Summary], axis: str, others: list[str]) -> Picture:
    """Accuracy over the values of an axis, a panel for each combination of the other axes."""
    rows: dict[str, list[Summary]] = {}
    for each in listed:
        rows.setdefault(where(each.point, others), []).append(each)
    figure, panels = _figure(study, len(rows))
    for panel, (heading, some) in zip(panels, rows.items(), strict=True):
        _draw_axis(panel, some, axis)
        if others:
            panel.set_title(heading, fontsize=12)
    _finish(figure, study)
    each_for = f", for each {NAMES[others[0]]}" if others else ""
    return Picture(
        "accuracy",
        f"Accuracy by {NAMES[axis]}",
        f"Accuracy on the test digits by {NAMES[axis]}{each_for}. Line: mean over the seeds that "
        "came through; band: one standard deviation to each side, as far as there are seeds; dots: "
        f"each seed; crosses at the bottom: seeds that diverged. {STRETCHED}",
        figure,
    )


def _draw_axis(axes: Axes, listed: Sequence[Summary], axis: str) -> None:
    values = [each.point[axis] for each in listed]
    numbers = [value for value in values if isinstance(value, int | float)]
    by_number = len(numbers) == len(values) and not any(isinstance(v, bool) for v in values)
    places = [float(number) for number in numbers] if by_number else list(range(len(values)))
    order = sorted(range(len(places)), key=lambda i: places[i])
    if by_number and min(places) > 0 and max(places) / min(places) >= LOG_FROM:
        axes.set_xscale("log")
    axes.set_xticks(places, [short(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.07)
    for bn, i in KINDS:
        sides = [(places[k], side) for k in order if (side := listed[k].side(bn))]
        _draw_side(axes, sides, bn, i)
    axes.set_xlabel(NAMES[axis])


def _draw_side(axes: Axes, sides: Sequence[tuple[float, Side]], bn: bool, i: int) -> None:
    colour = COLOR["with_bn" if bn else "without_bn"]
    have = [(place, side) for place, side in sides if side.accuracies]
    places = [place for place, _ in have]
    means = [side.spread.mean or 0.0 for _, side in have]
    axes.plot(
        places,
        means,
        color=colour,
        marker=MARKERS[i],
        ms=5,
        lw=2,
        label=label(bn),
    )
    low, high = ([side.band[end] for _, side in have] for end in (0, 1))
    axes.fill_between(places, low, high, color=colour, alpha=0.2, lw=0)
    for place, side in sides:
        accuracies = list(side.accuracies.values())
        axes.plot([place] * len(accuracies), accuracies, ".", color=colour, ms=4, alpha=0.5)
        if side.diverged:
            height = 0.02 + 0.045 * i  # the two kinds beside each other, not on each other
            low_down = axes.get_xaxis_transform()
            axes.plot(
                place, height, "x", color=colour, ms=9, mew=2, clip_on=False, transform=low_down
            )
            axes.annotate(
                f"{len(side.diverged)} of {len(side.diverged) + len(accuracies)}",
                (place, height),
                xycoords=low_down,
                xytext=(7, 0),
                textcoords="offset points",
                color=colour,
                va="center",
                fontsize=8,
            )


def _figure(study: Study, panels: int) -> tuple[Figure, Sequence[Axes]]:
    columns = min(panels, 3)
    rows = -(-panels // columns)
    size = (8.4 if panels == 1 else 1.2 + 4.4 * columns, 1.6 + 4.0 * rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(_title(study), fontsize=14, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    found = list(grid.flat)
    for axes in found[panels:]:
        axes.set_visible(False)
    for axes in found[:panels]:
        accuracy_axis(axes)
        axes.grid(True, color="#dddddd", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    found[0].set_ylabel("test accuracy")
    return figure, found[:panels]


def _finish(figure: Figure, study: Study) -> None:
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    shown = [(bn, lines[label(bn)]) for bn, _ in KINDS if label(bn) in lines]
    legend = figure.legend(
        [line for _, line in shown],
        [_legend(study, bn) for bn, _ in shown],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=11,
        title=_note(study),
        title_fontsize=10,
    )
    legend.get_title().set_color(NOTE_COLOR)


def _legend(study: Study, bn: bool) -> str:
    every = [study.status(each) for each in study.configurations if each.bn == bn]
    diverged, finished = every.count("diverged"), every.count("finished")
    if not diverged:
        return label(bn)
    return f"{label(bn)} ({diverged} of {diverged + finished} diverged)"


def _title(study: Study) -> str:
    data = study.record["data"]
    name = DATA_NAMES.get(data["name"], data["name"])
    seeds = study.grid.seeds
    return f"{study.grid.name} on {name}, {seeds} seed{'s' * (seeds > 1)}"


def _note(study: Study) -> str:
    note = str(study.record["data"].get("note", ""))
    missing = len(study.with_status("missing"))
    return f"{note} {missing:,} networks are not trained yet.".strip() if missing else note
