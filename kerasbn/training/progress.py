"""What a user sees during training: a progress bar, and a line per model and epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from kerasbn.common.terminal import progress_terminal
from kerasbn.common.wording import loss, percent
from kerasbn.data.batching import Schedule
from kerasbn.training.callbacks import Logs, metrics_of

NARROW = 60  # columns of a terminal below which the metrics leave no room for the bar


class ProgressDisplay(keras.callbacks.Callback):
    """Shows the progress of a training on standard error, within its `with` block.

    Models with the same label, of `labels` by key, share a line, which shows their mean.
    """

    def __init__(self, schedule: Schedule, labels: Mapping[str, str], *, quiet: bool) -> None:
        super().__init__()
        self._schedule = schedule
        self._keys: dict[str, list[str]] = {}
        for key, label in labels.items():
            self._keys.setdefault(label, []).append(key)
        self._finite = {label: len(keys) for label, keys in self._keys.items()}
        self._steps_done: Sequence[int] = ()
        self._console = progress_terminal(quiet=quiet)
        epoch, total = "epoch {task.fields[epoch]}", f"/{schedule.epochs}"
        width = len(f"epoch {schedule.epochs}{total}")
        self._bar = Progress(
            # On a narrow terminal the bar is left out first, then the end of the metrics.
            TextColumn(epoch + total, table_column=Column(no_wrap=True, min_width=width)),
            *([BarColumn(bar_width=14)] if self._console.width >= NARROW else []),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00"))),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=schedule.steps, epoch=1, metrics="compiling")

    def __enter__(self) -> Self:
        # Older versions of rich print an empty line when a disabled bar stops.
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Show the number of the epoch."""
        self._steps_done = self._schedule.steps_done(epoch)
        self._bar.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Advance the bar; an empty chunk has no metrics to show."""
        if self._steps_done[batch] == self._steps_done[batch + 1]:
            return
        parts = []
        for label, keys in self._keys.items():
            means = _means([metrics_of(logs, key) for key in keys])
            text = f"{loss(means['batch_loss'])} {means['batch_accuracy']:.1%}"
            text = text if math.isfinite(means["batch_loss"]) else "diverged"
            parts.append(f"{label if len(self._keys) > 1 else 'loss'} {text}")
        done = self._steps_done[batch + 1]
        self._bar.update(self._task, completed=done, metrics="  ".join(parts))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Print a line for each label that has metrics, and one where models have diverged."""
        for label, keys in self._keys.items():
            found = [metrics for key in keys if (metrics := metrics_of(logs, key))]
            # An interrupted epoch has no metrics at all, but nothing diverged.
            if logs and len(found) < self._finite[label]:
                several = f"{len(keys) - len(found)} of {len(keys)} " if len(keys) > 1 else ""
                self.say(f"{label}: {several}diverged")
                self._finite[label] = len(found)
            if found:
                self.say(self._line(epoch + 1, label, _means(found)))

    def _line(self, epoch: int, label: str, metrics: Mapping[str, float]) -> str:
        """Return the line of an epoch: 80 columns with two models and up to 99 epochs."""
        total, width = self._schedule.epochs, max(map(len, self._keys))
        name = f"{label:<{width}}  " if len(self._keys) > 1 else ""
        train, test = (
            f"loss {loss(metrics[f'{prefix}loss'])} acc {percent(metrics[f'{prefix}accuracy']):>6}"
            for prefix in ("", "val_")
        )
        return f"epoch {epoch:>{len(str(total))}}/{total} {name}train {train}  test {test}"


def _means(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each metric over the models with finite ones; NaN if there are none."""
    finite = [each for each in metrics if all(map(math.isfinite, each.values()))]
    return {
        name: sum(float(each[name]) for each in finite) / len(finite) if finite else math.nan
        for name in metrics[0]
    }
