"""Keras callbacks for models that train side by side: the logs hold metrics as `KEY:metric`."""

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import keras
import numpy as np

from kerasbn.common.errors import InputError, expected
from kerasbn.data.batching import Schedule
from kerasbn.training.checkpoint import Checkpoint, Metrics, Progress, write_arrays

EVERY = 3.0  # seconds between two checkpoints, at least
SHARE = 0.01  # of the time that writing them may take

Logs = dict[str, Any] | None


class EvaluateEachEpoch(keras.callbacks.Callback):
    """Evaluates every model after each epoch, and detects divergence.

    A model has diverged at the first batch with a NaN or infinite loss, or if its evaluation is not
    finite. It has no metrics from then on. Training stops when all models have diverged. An epoch
    that is interrupted has no metrics either.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.diverged: dict[str, int] = {}  # the step at which each diverged model did, from 1
        self.weights: dict[str, list[np.ndarray]] = {}  # after the last epoch with metrics
        self.epochs = 0  # with metrics
        self.history: dict[str, list[Metrics]] = {}  # of each model, by its epochs
        self._schedule = schedule
        self._steps_done: Sequence[int] = ()  # at the start of the epoch and after each chunk
        self._chunks_done = 0

    def restore(self, progress: Progress, weights: dict[str, list[np.ndarray]]) -> None:
        """Go on after the epochs of a checkpoint; see the attributes."""
        self.epochs, self.diverged = progress.epochs, dict(progress.diverged)
        self.history = {key: list(rows) for key, rows in progress.history.items()}
        self.weights = {key: weights[key] for key, rows in self.history.items() if rows}

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Start to count the chunks of the epoch."""
        self._steps_done, self._chunks_done = self._schedule.steps_done(epoch), 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look for losses that are not finite in the chunk that ended."""
        for key in self.model.models:
            bad_step = int((logs or {})[f"{key}:bad_step"])
            if bad_step >= 0:
                self.diverged.setdefault(key, self._steps_done[batch] + bad_step + 1)
        self._chunks_done = batch + 1
        self._stop_if_all_diverged()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Replace the metrics of the last chunk in the logs by those of the evaluation."""
        logs = {} if logs is None else logs
        logs.clear()
        step = self._schedule.steps_after(epoch)
        if self._steps_done[self._chunks_done] < step:
            return
        weights = self.model.all_weights()
        for key, metrics in self.model.evaluate_all().items():
            if not all(map(math.isfinite, metrics.values())):
                self.diverged.setdefault(key, step)
            if key not in self.diverged:
                self.weights[key] = weights[key]
                row = metrics | {"step": step}
                self.history.setdefault(key, []).append(row)
                logs |= {f"{key}:{name}": value for name, value in row.items()}
        self.epochs = epoch + 1
        self._stop_if_all_diverged()
        # The epoch is complete: here a checkpoint would save what `fit` needs to continue.

    def _stop_if_all_diverged(self) -> None:
        if len(self.diverged) == len(self.model.models):
            self.model.stop_training = True


class SaveCheckpoints(keras.callbacks.Callback):
    """Writes a checkpoint after an epoch, as often as `EVERY` and `SHARE` allow.

    The state after the last complete epoch is written when the training ends, so that a stop within
    an epoch loses no other. On a full disk the training goes on without.

    Args:
        path: The file of the checkpoint; each one replaces the one before.
        evaluation: The callback that evaluates the models; it must come earlier in the list.
        warn: Called with a line for the user, once, if a checkpoint cannot be written.
        start: The checkpoint to go on from, if any.
    """

    def __init__(
        self,
        path: Path,
        evaluation: EvaluateEachEpoch,
        warn: Callable[[str], None],
        start: Checkpoint | None = None,
    ) -> None:
        super().__init__()
        self._path, self._evaluation, self._warn, self._start = path, evaluation, warn, start
        self._pending: Checkpoint | None = None
        self._has_warned = self._is_incomplete = False
        self._started = time.monotonic() - (start.progress.seconds if start else 0)
        self._due = time.monotonic() + EVERY

    def on_train_begin(self, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Go on from a checkpoint."""
        if self._start is None:
            return
        progress, state = self._start.progress, self._start.variables
        fits = [each.shape for each in state] == [each.shape for each in self.model.state()]
        if not fits or not progress.history.keys() <= self.model.models.keys():
            raise expected(
                self._path, "the state of another training", "a checkpoint of this one",
                "train again with --force",
            )  # fmt: skip
        self.model.restore(state)
        weights = self.model.all_weights() | self._start.weights
        self._evaluation.restore(progress, weights)

    def keep(self, path: Path, arrays: Sequence[np.ndarray]) -> None:
        """Write arrays without which later checkpoints could not be resumed from."""
        if not self._is_incomplete:
            self._is_incomplete = not self._try(write_arrays, path, arrays)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Take the state, and write it if that is due."""
        evaluation = self._evaluation
        if evaluation.epochs != epoch + 1:
            return  # the epoch was interrupted
        diverged = dict(evaluation.diverged)
        kept = {key: evaluation.weights[key] for key in diverged if key in evaluation.weights}
        history = {key: list(rows) for key, rows in evaluation.history.items()}
        progress = Progress(epoch + 1, time.monotonic() - self._started, diverged, history)
        self._pending = Checkpoint(progress, self.model.state(), kept)
        if time.monotonic() >= self._due:
            self._write()

    def on_train_end(self, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's signature
        """Write the last state."""
        self._write()

    def _write(self) -> None:
        if self._pending is None or self._is_incomplete:
            return
        start = time.monotonic()
        self._try(self._pending.write, self._path)
        self._pending = None
        now = time.monotonic()
        self._due = now + max(EVERY, (now - start) / SHARE)

    def _try(self, write: Callable[..., None], *arguments: Any) -> bool:  # noqa: ANN401
        """Write something if possible: what is being trained is worth more; return whether."""
        try:
            write(*arguments)
        except InputError as error:
            if not self._has_warned:
                self._warn(f"no checkpoint: {error}")
            self._has_warned = True
            return False
        return True


class SingleModelCallbacks(keras.callbacks.Callback):
    """Runs callbacks for a single model, such as Keras's, on one of several; epochs are from 1."""

    def __init__(
        self, key: str, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        super().__init__()
        self._key = key
        self._callbacks = callbacks
        for callback in callbacks:
            callback.set_model(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Pass it on."""
        for callback in self._callbacks:
            callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Pass it on."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Pass on the metrics of the model, if there are any."""
        if metrics := metrics_of(logs, self._key):
            for callback in self._callbacks:
                callback.on_epoch_end(epoch + 1, metrics)

    def on_train_end(self, logs: Logs = None) -> None:
        """Pass it on."""
        for callback in self._callbacks:
            callback.on_train_end(logs)


class StopOnInterrupt(keras.callbacks.Callback):
    """Ends training after the current chunk when Ctrl-C is pressed, and calls `on_interrupt`.

    A second Ctrl-C interrupts at once. Signals are handled within the `with` block, and only in the
    main thread, since Python allows no other.
    """

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        super().__init__()
        self.interrupted = False
        self._on_interrupt = on_interrupt
        self._previous: Any = None
        self._saying: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
        if self._saying:
            self._saying.join()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Stop if interrupted."""
        if self.interrupted:
            self.model.stop_training = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.__exit__()
        self.interrupted = True
        # Not here: the signal may have come amid an import of what prints.
        self._saying = threading.Thread(target=self._on_interrupt, daemon=True)
        self._saying.start()


def metrics_of(logs: Logs, key: str) -> dict[str, Any]:
    """Return the metrics of one model in the logs, under plain names."""
    logs, prefix = logs or {}, f"{key}:"
    names = [name for name in logs if name.startswith(prefix)]
    return {name.removeprefix(prefix): logs[name] for name in names}
