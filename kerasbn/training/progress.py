"""What a user sees while networks train: a bar on a terminal, and a line per network and epoch."""

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from kerasbn.data.batching import Schedule
from kerasbn.training.callbacks import Logs, metrics_of

NARROW = 60  # columns of a terminal in which figures leave no room for a bar


class ProgressDisplay(keras.callbacks.Callback):
    """Shows a training on standard error; it draws within its ``with`` block.

    Args:
        schedule: how long the training is.
        labels: what to call each network, by its key; those called alike share a line, their means.
        quiet: whether to show nothing at all.
    """

    def __init__(self, schedule: Schedule, labels: Mapping[str, str], *, quiet: bool) -> None:
        super().__init__()
        self._schedule = schedule
        self._keys: dict[str, list[str]] = {}
        for key, label in labels.items():
            self._keys.setdefault(label, []).append(key)
        self._left = {label: len(keys) for label, keys in self._keys.items()}
        self._width = max(map(len, self._keys))
        # soft_wrap: a line stays a line where the output is a file or a narrow pipe.
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        epoch = f"epoch {schedule.epochs}/{schedule.epochs}"
        self._bar = Progress(
            # What gives way on a narrow terminal is the bar first, then the end of the figures.
            TextColumn(
                "epoch {task.fields[epoch]}/{task.fields[epochs]}",
                table_column=Column(no_wrap=True, min_width=len(epoch)),
            ),
            *([BarColumn(bar_width=14)] if self._console.width >= NARROW else []),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00"))),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=schedule.steps, epoch=1, epochs=schedule.epochs, figures="compiling"
        )

    def __enter__(self) -> Self:
        # Older versions of rich print an empty line when a disabled bar stops.
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move the bar on; an empty chunk has no figures to show."""
        if self._done[batch] == self._done[batch + 1]:
            return
        parts = []
        for label, keys in self._keys.items():
            means = mean_of([metrics_of(logs, key) for key in keys])
            loss, accuracy = means["batch_loss"], means["batch_accuracy"]
            figures = f"{_loss(loss)} {accuracy:.1%}" if math.isfinite(loss) else "diverged"
            parts.append(f"{label} {figures}" if len(self._keys) > 1 else f"loss {figures}")
        self._bar.update(self._task, completed=self._done[batch + 1], figures="  ".join(parts))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's call
        """Show the number of the epoch."""
        self._done = self._schedule.steps_done(epoch)
        self._bar.update(self._task, epoch=epoch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Print a line for each network, or group of them, that has figures."""
        for label, keys in self._keys.items():
            have = [figures for key in keys if (figures := metrics_of(logs, key))]
            # An epoch that was cut short has no figures at all, and is no divergence.
            if logs and len(have) < self._left[label]:
                several = f"{len(keys) - len(have)} of {len(keys)} " if len(keys) > 1 else ""
                self.say(f"{label}: {several}diverged")
                self._left[label] = len(have)
            if have:
                self.say(self._line(epoch + 1, label, mean_of(have)))

    def _line(self, epoch: int, label: str, figures: Mapping[str, Any]) -> str:
        digits = len(str(self._schedule.epochs))
        name = f"{label:<{self._width}}  " if len(self._keys) > 1 else ""
        # 80 columns, with two networks and up to 99 epochs.
        return (
            f"epoch {epoch:>{digits}}/{self._schedule.epochs} {name}"
            f"train loss {_loss(figures['loss'])} acc {figures['accuracy']:6.2%}  "
            f"test loss {_loss(figures['val_loss'])} acc {figures['val_accuracy']:6.2%}"
        )


def _loss(value: float) -> str:
    """A loss as lines show it: three decimals, or three digits of a large one."""
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def mean_of(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each figure over the networks whose figures are finite; NaN where none are."""
    finite = [each for each in figures if all(map(math.isfinite, each.values()))]
    return {
        name: sum(float(each[name]) for each in finite) / len(finite) if finite else math.nan
        for name in figures[0]
    }
