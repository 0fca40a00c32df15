"""Confusion matrix of labeled images: how often each class is predicted as each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasbn.common.wording import listed, percent, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFUSIONS = 3  # how many pairs of classes are named
_WITH_COUNTS = 20  # a figure of more classes shows colors alone


@dataclass(frozen=True)
class Confusion:
    """Counts of images, (classes, classes): rows are true classes, columns are predicted ones."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The share of images whose predicted class is the true one."""
        return float(np.trace(self.counts) / self.counts.sum())

    def confused(self) -> list[tuple[str, str, int]]:
        """Return the pairs (true class, predicted class) with the most images, and their number."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
        rows, columns = np.unravel_index(order, wrong.shape)
        pairs = zip(rows, columns, strict=True)
        return [
            (self.classes[i], self.classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]
        ]

    def lines(self, width: int) -> list[str]:
        """Return the table, if it fits into `width` characters, and the accuracy."""
        total = int(self.counts.sum())
        tested = f"{plural(total, 'image')} of {len(self.classes):,} classes"
        lines = [f"accuracy {percent(self.accuracy)} ({tested})"]
        pairs = [f"{true} as {predicted} ({count:,})" for true, predicted, count in self.confused()]
        if pairs:
            lines.append(f"most confused: {listed(pairs)}")
        table = self._table()
        return [*table, "", *lines] if max(map(len, table)) <= width else lines

    def figure(self) -> "Figure":
        """Return a figure: color is the share of a class's images, numbers are counts."""
        from kerasbn.common.plotting import default_style

        drawn: Figure = default_style(self._draw)()
        return drawn

    def as_dict(self) -> dict[str, Any]:
        """Return the matrix as JSON data."""
        return {"classes": list(self.classes), "counts": self.counts.tolist()}

    def _table(self) -> list[str]:
        rows = [["", *self.classes]]
        for name, counts in zip(self.classes, self.counts, strict=True):
            rows.append([name, *(f"{n:,}" if n else "." for n in counts)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "rows: true class, columns: predicted class",
            *(
                "  ".join(f"{cell:>{n}}" for cell, n in zip(row, widths, strict=True))
                for row in rows
            ),
        ]

    def _draw(self) -> "Figure":
        from matplotlib.colors import PowerNorm
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter

        count = len(self.classes)
        shares = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        side = min(max(4.0, 1.8 + 0.48 * count), 14.0)
        figure = Figure(figsize=(side + 0.8, side), layout="constrained")
        axes = figure.subplots()
        # By square roots, so that a few wrong predictions among many right ones can be seen.
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        title = self.lines(0)[0].capitalize()
        axes.set(xlabel="Predicted class", ylabel="True class", title=title)
        every = range(0, count, 1 + count // 60)
        names = [self.classes[at] for at in every]
        axes.set_xticks(every, names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=8)
        axes.set_yticks(every, names, fontsize=8)
        for (i, j), value in np.ndenumerate(self.counts) if count <= _WITH_COUNTS else ():
            if value:
                color = "white" if shares[i, j] > 0.3 else "black"
                axes.text(j, i, f"{value:,}", ha="center", va="center", color=color, size=8)
        label = "Share of the images of the true class"
        figure.colorbar(image, label=label, shrink=0.8, format=PercentFormatter(1))
        return figure


def confusion(classes: Sequence[str], true: Sequence[int], predicted: Sequence[int]) -> Confusion:
    """Count pairs of true and predicted classes, both given by index."""
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (np.asarray(true, int), np.asarray(predicted, int)), 1)
    return Confusion(tuple(classes), counts)
