"""Learning curves of runs and comparisons: a figure of four panels, labels and titles.

No Keras is loaded.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasbn.common.plotting import (
    COLOR,
    DASHES,
    MARKERS,
    NOTE_COLOR,
    OTHER_COLORS,
    End,
    accuracy_axis,
    label_ends,
)
from kerasbn.common.wording import loss, percent, seed_range
from kerasbn.experiments.statistics import Row
from kerasbn.runs import DataRecord, History
from kerasbn.training.settings import ModelSettings, TrainingSettings

DATA_NAMES = {"mnist": "MNIST", "mnist-sample": "a sample of MNIST"}
OPTIMIZER_NAMES = {"adam": "Adam", "sgd": "SGD"}
# Column of a history -> title of its panel.
PANELS = {
    "loss": "Training loss",
    "accuracy": "Training accuracy",
    "val_loss": "Test loss",
    "val_accuracy": "Test accuracy",
}
MAX_MARKERS = 30  # per curve, approximately; more would run into each other
MEANS = "Line: mean over seeds. Band: one standard deviation to each side. Thin lines: each seed."


@dataclass(frozen=True)
class Curve:
    """The history of one model, or the mean of several, and how to draw it.

    Attributes:
        label: Its name in the legend.
        history: Columns by name: `epoch` and those of `PANELS`.
        ending: How the training ended if not as planned, such as "diverged at step 12".
        band: Lower and upper edge of a band around the curve, by column.
        members: The histories whose mean `history` is; drawn as thin lines.
        diverged: The histories of members that diverged; thin lines that end in a cross and do not
            affect the limits of the axes.
        color: Its color, from `COLOR` if it is with or without BN; by default one of
            `OTHER_COLORS`.
    """

    label: str
    history: Mapping[str, Sequence[float]]
    ending: str = ""
    band: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    members: Sequence[Mapping[str, Sequence[float]]] = ()
    diverged: Sequence[Mapping[str, Sequence[float]]] = ()
    color: str = ""

    @property
    def legend(self) -> str:
        """The text of the legend."""
        return f"{self.label} ({self.ending})" if self.ending else self.label


def draw_curves(curves: Sequence[Curve], title: str, note: str = "") -> Figure:
    """Draw loss and accuracy on the training and test set by epoch, in four panels.

    Args:
        curves: The curves, each drawn in all panels.
        title: The title of the figure.
        note: A sentence to read with the figure, shown above the legend.
    """
    figure = Figure(figsize=(11, 7.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=15, fontweight="bold")
    panels = figure.subplots(2, 2).flat
    for axes, (column, heading) in zip(panels, PANELS.items(), strict=True):
        draw_panel(axes, curves, column, heading)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=_legend_columns(labels),
        frameon=False,
        fontsize=12,
        title=note,
        title_fontsize=10,
    )
    legend.get_title().set_color(NOTE_COLOR)
    return figure


def draw_panel(axes: Axes, curves: Sequence[Curve], column: str, heading: str) -> None:
    """Draw one column of the histories by epoch, each curve labeled with its last value.

    Training and test accuracy have the same stretched axis, so that they can be compared.
    """
    is_accuracy = column.endswith("accuracy")
    ends: list[End] = []
    seen: list[str] = []
    for i, (curve, color) in enumerate(zip(curves, colors_of(curves), strict=True)):
        epochs, values = curve.history["epoch"], curve.history[column]
        _draw_members(axes, curve, column, color)
        axes.plot(
            epochs,
            values,
            color=color,
            marker=MARKERS[i % len(MARKERS)],
            ls=DASHES[seen.count(color) % len(DASHES)],
            ms=4,
            lw=2,
            label=curve.legend,
            markevery=max(1, len(values) // MAX_MARKERS),
        )
        seen.append(color)
        if len(values) and math.isfinite(values[-1]):
            text = percent(values[-1]) if is_accuracy else loss(values[-1])
            ends.append(End(epochs[-1], values[-1], text, color))
            if curve.ending:
                axes.plot(epochs[-1:], values[-1:], color=color, marker="x", ms=11, mew=2.5)
    axes.set_title(heading, fontsize=12)
    axes.set_xlabel("epoch")
    longest = max([1.0, *(end.x for end in ends)])
    ticks = MaxNLocator(integer=True, nbins=12).tick_values(1, longest)
    axes.set_xticks([tick for tick in ticks if 1 <= tick <= longest])
    axes.grid(True, color="#dddddd", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    accuracies = list(_accuracies(curves))
    if is_accuracy and accuracies:
        accuracy_axis(axes, min(accuracies), max(accuracies))
    else:
        axes.margins(y=0.12)
    # Leave room on the right for the labels.
    axes.set_xlim(*((1 - 0.03 * longest, longest * 1.15) if longest > 1 else (0.5, 1.5)))
    label_ends(axes, ends)


def colors_of(curves: Sequence[Curve]) -> list[str]:
    """Return the colors of curves that are drawn together."""
    return [curve.color or OTHER_COLORS[i % len(OTHER_COLORS)] for i, curve in enumerate(curves)]


def _accuracies(curves: Sequence[Curve]) -> Iterator[float]:
    """Yield all training and test accuracies of curves and their members."""
    for curve in curves:
        for history in (curve.history, *curve.members):
            for column in ("accuracy", "val_accuracy"):
                yield from filter(math.isfinite, history[column])


def _legend_columns(labels: Sequence[str]) -> int:
    """Return how many labels fit side by side below the figure."""
    widest = max(map(len, labels), default=1) + 8
    return max(1, min(len(labels), 120 // widest))


def _draw_members(axes: Axes, curve: Curve, column: str, color: str) -> None:
    """Draw the members of a mean and the band around it."""
    for member in curve.members:
        axes.plot(member["epoch"], member[column], color=color, lw=0.8, alpha=0.4)
    for member in curve.diverged:
        epochs, values = member["epoch"], member[column]
        axes.plot(epochs, values, color=color, lw=0.8, alpha=0.4, scaley=False)
        axes.plot(epochs[-1:], values[-1:], color=color, marker="x", ms=8, scaley=False)
    if column in curve.band:
        low, high = curve.band[column]
        axes.fill_between(curve.history["epoch"], low, high, color=color, alpha=0.2, lw=0)


def data_title(name: str) -> str:
    """Return what charts and tables call a dataset."""
    return DATA_NAMES.get(name, name)


def label(bn: bool) -> str:
    """Return what legends call a model with or without BN."""
    return "With BN" if bn else "Without BN"


def mean_curve(
    kind: str,
    statistics: Mapping[str, Sequence[Row]],
    members: Sequence[History],
    diverged: Sequence[History],
) -> Curve:
    """Return the mean over seeds, with a band of one standard deviation and every model.

    Args:
        kind: "with_bn" or "without_bn".
        statistics: For each metric one row per epoch.
        members: The histories of the models that did not diverge.
        diverged: The histories of those that did.
    """
    history: dict[str, list[float]] = {"epoch": []}
    band = {}
    for metric in PANELS:
        rows = [(row.epoch, getattr(row, kind)) for row in statistics[metric]]
        rows = [(epoch, spread) for epoch, spread in rows if spread.mean is not None]
        history["epoch"] = [float(epoch) for epoch, _ in rows]
        history[metric] = [spread.mean for _, spread in rows]
        if rows and rows[0][1].sd is not None:
            low, high = ([s.mean + sign * s.sd for _, s in rows] for sign in (-1, 1))
            band[metric] = (low, high)
    name = f"{label(kind == 'with_bn')}, mean of {len(members)}"
    ending = f"{len(diverged)} of {len(diverged) + len(members)} diverged" if diverged else ""
    return Curve(name, history, ending, band, members, diverged, COLOR[kind])


def title(
    model: ModelSettings, training: TrainingSettings, data: DataRecord, seeds: str | None = None
) -> str:
    """Return the title of a figure: model, dataset and training, perhaps with several seeds."""
    sizes = "-".join(map(str, [784, *model.hidden, 10]))
    return (
        f"{sizes} {model.activation} model on {data_title(data.name)} "
        f"({data.train:,} examples)\n{OPTIMIZER_NAMES[training.optimizer]}, "
        f"learning rate {training.lr:g}, batch size {training.batch_size}, "
        f"{seeds or seed_range(training.seed, training.seed)}"
    )
