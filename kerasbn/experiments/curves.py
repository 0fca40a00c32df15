"""Learning curves of runs and comparisons: a figure of four panels. No Keras is loaded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasbn.common import plotting
from kerasbn.common.wording import loss, percent

DATA_NAMES = {"mnist": "MNIST", "mnist-sample": "a sample of MNIST", "custom": "custom data"}
# Column of a history -> title of its panel.
PANELS = {
    "loss": "Training loss", "accuracy": "Training accuracy",
    "val_loss": "Test loss", "val_accuracy": "Test accuracy",
}  # fmt: skip
MAX_MARKERS = 30  # per curve, approximately; more would run into each other
MEANS = "Line: mean over seeds. Band: one standard deviation to each side. Thin lines: each seed."


@dataclass(frozen=True)
class Curve:
    """The history of one model, or the mean of several, and how to draw it.

    `history` and the other histories have the columns `epoch` and those of `PANELS`. `ending` says
    how the training ended if not as planned; `band` is the lower and upper edge of a band around
    the curve, by column. `members` are the histories of which it is the mean. Histories in
    `diverged` are drawn like them, but do not affect the limits of the axes. `color` is one of
    `plotting.COLOR` for a model with or without BN, and empty for any other.
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


@plotting.default_style
def draw_curves(curves: Sequence[Curve], title: str, note: str = "") -> Figure:
    """Draw loss and accuracy by epoch in four panels, with a note above the legend."""
    figure = Figure(figsize=(11, 7.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=15, fontweight="bold")
    for axes, (column, heading) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        draw_panel(axes, curves, column, heading)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    side_by_side = 120 // (max(map(len, labels), default=1) + 8)
    legend = figure.legend(
        handles, labels, loc="outside lower center", frameon=False, fontsize=12,
        ncols=max(1, min(len(labels), side_by_side)), title=note, title_fontsize=10,
    )  # fmt: skip
    legend.get_title().set_color(plotting.NOTE_COLOR)
    return figure


def draw_panel(axes: Axes, curves: Sequence[Curve], column: str, heading: str) -> None:
    """Draw one column of the histories by epoch, each curve labeled with its last value.

    Training and test accuracy have the same stretched axis, so that they can be compared.
    """
    is_accuracy = column.endswith("accuracy")
    ends: list[plotting.End] = []
    seen: list[str] = []
    for i, (curve, color) in enumerate(zip(curves, colors_of(curves), strict=True)):
        epochs, values = curve.history["epoch"], curve.history[column]
        _draw_members(axes, curve, column, color)
        axes.plot(
            epochs, values, color=color, lw=2, label=curve.legend,
            ls=plotting.DASHES[seen.count(color) % len(plotting.DASHES)],
            marker=plotting.MARKERS[i % len(plotting.MARKERS)], ms=4,
            markevery=max(1, len(values) // MAX_MARKERS),
        )  # fmt: skip
        seen.append(color)
        if len(values) and math.isfinite(values[-1]):
            text = percent(values[-1]) if is_accuracy else loss(values[-1])
            ends.append(plotting.End(epochs[-1], values[-1], text, color))
            if curve.ending:
                axes.plot(epochs[-1:], values[-1:], color=color, marker="x", ms=11, mew=2.5)
    axes.set_title(heading, fontsize=12)
    axes.set_xlabel("epoch")
    longest = max([1.0, *(end.x for end in ends)])
    ticks = MaxNLocator(integer=True, nbins=12).tick_values(1, longest)
    axes.set_xticks([tick for tick in ticks if 1 <= tick <= longest])
    axes.grid(True, color="#dddddd", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    histories = [history for curve in curves for history in (curve.history, *curve.members)]
    shown = [value for each in histories for value in (*each["accuracy"], *each["val_accuracy"])]
    accuracies = list(filter(math.isfinite, shown))
    if is_accuracy and accuracies:
        plotting.accuracy_axis(axes, min(accuracies), max(accuracies))
    else:
        axes.margins(y=0.12)
    # Leave room on the right for the labels.
    axes.set_xlim(*((1 - 0.03 * longest, longest * 1.15) if longest > 1 else (0.5, 1.5)))
    plotting.label_ends(axes, ends)


def colors_of(curves: Sequence[Curve]) -> list[str]:
    """Return the colors of curves that are drawn together."""
    others = plotting.OTHER_COLORS
    return [curve.color or others[i % len(others)] for i, curve in enumerate(curves)]


def data_title(name: str) -> str:
    """Return what charts and tables call a dataset."""
    return DATA_NAMES.get(name, name)


def label(bn: bool) -> str:
    """Return what legends call a model with or without BN."""
    return "With BN" if bn else "Without BN"


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
