"""The curves of one or several trainings as a picture of four panels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kerasbn.errors import expected
from kerasbn.files import atomic_write

FORMATS = (".png", ".svg", ".pdf")
DPI = 150

# Okabe and Ito's palette (2008), which colour-blind people can tell apart, the darker ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
NOTE_COLOUR = "#a03000"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_MARKERS = 30  # of one curve, about: more of them run into one another
DASHES = ("-", "--", ":", "-.")  # one for each round through the colours

# Column of the history -> title of its panel, in the order of reading.
PANELS = {
    "loss": "Training loss",
    "accuracy": "Training accuracy",
    "val_loss": "Validation loss",
    "val_accuracy": "Validation accuracy",
}


@dataclass(frozen=True)
class Curve:
    """The history of one network, and how the picture tells it.

    Attributes:
        label: what the legend calls it.
        history: columns by name; `epoch` and those of `PANELS`.
        ending: how it ended if not as planned, such as "diverged at step 12", for the legend.
        band: lower and upper edge of a band around the curve, by column.
        members: the histories that `history` is the mean of, drawn thinly.
        diverged: the histories of members that diverged; thin too, with a cross at the end, and
            not let to set the range of a panel.
    """

    label: str
    history: Mapping[str, Sequence[float]]
    ending: str = ""
    band: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    members: Sequence[Mapping[str, Sequence[float]]] = ()
    diverged: Sequence[Mapping[str, Sequence[float]]] = ()

    @property
    def legend(self) -> str:
        """What the legend says of it."""
        return f"{self.label} ({self.ending})" if self.ending else self.label


def draw_curves(curves: Sequence[Curve], title: str, note: str = "") -> Figure:
    """Four panels over the epochs: loss and accuracy on the training and on the test set.

    Training accuracy has its whole axis, 0 to 1; the other panels show the range in which the
    curves differ. Every curve ends in its last value.

    Args:
        curves: what to draw, each in all four panels.
        title: the heading.
        note: a sentence that has to be read with the picture, above the legend.
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
        ncols=min(len(curves), 4),
        frameon=False,
        fontsize=12,
        title=note,
        title_fontsize=10,
    )
    legend.get_title().set_color(NOTE_COLOUR)
    return figure


def save_figure(figure: Figure, path: Path, dpi: int = DPI) -> Path:
    """Write the picture as the format its suffix names: .png, .svg or .pdf.

    The same figure gives the same bytes: no date is written into the file.

    Raises:
        InputError: if the suffix is another, or the file cannot be written.
    """
    check_format(path)
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})
    # Without a salt of its own every SVG has other, random, identifiers.
    with atomic_write(path) as temporary, rc_context({"svg.hashsalt": "kerasbn"}):
        figure.savefig(
            temporary, dpi=dpi, format=path.suffix.lower().removeprefix("."), metadata=metadata
        )
    return path


def check_format(path: Path) -> None:
    """Raise `InputError` if a picture cannot be written as this suffix says."""
    if path.suffix.lower() not in FORMATS:
        raise expected(path, f"'{path.suffix}' as a format", f"one of {', '.join(FORMATS)}")


def draw_panel(axes: Axes, curves: Sequence[Curve], column: str, heading: str) -> None:
    """One column of the histories over the epochs, every curve ending in its last value."""
    is_accuracy = column.endswith("accuracy")
    ends: list[tuple[float, str, str]] = []
    longest = 1.0
    for i, curve in enumerate(curves):
        round_, place = divmod(i, len(COLOURS))
        colour, marker, dashes = COLOURS[place], MARKERS[place], DASHES[round_ % len(DASHES)]
        epochs, values = curve.history["epoch"], curve.history[column]
        _draw_members(axes, curve, column, colour)
        axes.plot(
            epochs, values, color=colour, marker=marker, ls=dashes, ms=4, lw=2, label=curve.legend,
            markevery=max(1, len(values) // MOST_MARKERS),
        )  # fmt: skip
        if len(values):
            longest = max(longest, epochs[-1])
            ends.append((values[-1], _number(values[-1], is_accuracy), colour))
            if curve.ending:
                axes.plot(epochs[-1:], values[-1:], color=colour, marker="x", ms=11, mew=2.5)
    axes.set_title(heading, fontsize=12)
    axes.set_xlabel("epoch")
    ticks = MaxNLocator(integer=True, nbins=12).tick_values(1, longest)
    axes.set_xticks([tick for tick in ticks if 1 <= tick <= longest])
    axes.grid(True, color="#dddddd", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if is_accuracy:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if column == "accuracy":
        axes.set_ylim(0, 1)
    else:
        axes.margins(y=0.12)
    # Room on the right for the last values.
    axes.set_xlim(1 - 0.03 * longest if longest > 1 else 0.5, longest * 1.13)
    label_ends(axes, ends, longest)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], place: float) -> None:
    """Write (value, text, colour) to the right of where curves end, none on another.

    The range of the axes must be set before.
    """
    for height, (_, text, colour) in zip(_spread(ends, axes), sorted(ends), strict=True):
        axes.annotate(
            text,
            (place, height),
            xytext=(7, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9.5,
            fontweight="bold",
        )


def _draw_members(axes: Axes, curve: Curve, column: str, colour: str) -> None:
    """What is behind a mean: its members, and the band around it."""
    for member in curve.members:
        axes.plot(member["epoch"], member[column], color=colour, lw=0.8, alpha=0.4)
    for member in curve.diverged:
        epochs, values = member["epoch"], member[column]
        axes.plot(epochs, values, color=colour, lw=0.8, alpha=0.4, scaley=False)
        axes.plot(epochs[-1:], values[-1:], color=colour, marker="x", ms=8, scaley=False)
    if column in curve.band:
        low, high = curve.band[column]
        axes.fill_between(curve.history["epoch"], low, high, color=colour, alpha=0.2, lw=0)


def _spread(ends: Sequence[tuple[float, str, str]], axes: Axes) -> list[float]:
    """Heights for the last values, from below, far enough apart to be read."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    gap = 0.065 * (high - low)
    heights: list[float] = []
    for value in scale.transform(sorted(value for value, _, _ in ends)):
        heights.append(max(value, heights[-1] + gap) if heights else value)
    excess = max(0.0, heights[-1] - high) if heights else 0.0
    return [float(each) for each in scale.inverted().transform([h - excess for h in heights])]


def _number(value: float, is_accuracy: bool) -> str:
    if not math.isfinite(value):
        return ""
    if is_accuracy:
        return f"{value:.1%}"
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"  # a wider one leaves the panel
