"""Keras callbacks for models that train side by side.

The logs hold the metrics of each model as ``KEY:metric``. `EvaluateEachEpoch` adds them after every
epoch. `SingleModelCallbacks` passes them, under plain names, to callbacks made for one model, such
as those of Keras. A model without metrics in the logs has diverged.
"""

import math
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Self

import keras
import numpy as np

from kerasbn.data.batching import Schedule

Logs = dict[str, Any] | None


class EvaluateEachEpoch(keras.callbacks.Callback):
    """Evaluates every model after every epoch, and detects models that diverge.

    A model diverges with the first batch whose loss is NaN or infinite, or when its evaluation is.
    From then on it has no metrics; when all models have diverged, training stops. An epoch that is
    interrupted has no metrics either.

    Attributes:
        diverged: The step at which a model diverged, counted from 1, by key.
        weights: The weights of each model after its last epoch with metrics, by key.
        epochs: The number of epochs with metrics.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.diverged: dict[str, int] = {}
        self.weights: dict[str, list[np.ndarray]] = {}
        self.epochs = 0
        self._schedule = schedule
        self._done: Sequence[int] = ()  # steps done at the start of the epoch and after each chunk
        self._chunks_done = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - called by Keras
        """Start counting the chunks of the epoch."""
        self._done = self._schedule.steps_done(epoch)
        self._chunks_done = 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look for losses in this chunk that are not finite."""
        for key in self.model.networks:
            bad = int((logs or {})[f"{key}:bad_step"])
            if bad >= 0:
                self.diverged.setdefault(key, self._done[batch] + bad + 1)
        self._chunks_done = batch + 1
        if len(self.diverged) == len(self.model.networks):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Replace the logs of the last chunk by the metrics of the evaluation."""
        logs = {} if logs is None else logs
        logs.clear()
        if self._done[self._chunks_done] < self._schedule.steps_after(epoch):
            return
        weights = self.model.all_weights()
        for key, metrics in self.model.evaluate_all().items():
            if not all(map(math.isfinite, metrics.values())):
                self.diverged.setdefault(key, self._schedule.steps_after(epoch))
            if key in self.diverged:
                continue
            self.weights[key] = weights[key]
            logs |= {f"{key}:{name}": value for name, value in metrics.items()}
            logs[f"{key}:step"] = self._schedule.steps_after(epoch)
        self.epochs = epoch + 1
        if len(self.diverged) == len(self.model.networks):
            self.model.stop_training = True


class SingleModelCallbacks(keras.callbacks.Callback):
    """Runs callbacks written for one model on one of several; epochs count from 1."""

    def __init__(
        self, key: str, network: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        super().__init__()
        self._key = key
        self._callbacks = callbacks
        for callback in callbacks:
            callback.set_model(network)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forward the call."""
        for callback in self._callbacks:
            callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Forward the call."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Forward the metrics of the model, if it has any."""
        metrics = metrics_of(logs, self._key)
        for callback in self._callbacks if metrics else ():
            callback.on_epoch_end(epoch + 1, metrics)

    def on_train_end(self, logs: Logs = None) -> None:
        """Forward the call."""
        for callback in self._callbacks:
            callback.on_train_end(logs)


class StopOnInterrupt(keras.callbacks.Callback):
    """Ends training after the current chunk when Ctrl-C is pressed.

    A second Ctrl-C interrupts at once, as usual. The handler is active within the ``with`` block,
    and only in the main thread, since Python allows signal handlers nowhere else.

    Args:
        on_interrupt: Called at the first Ctrl-C, to tell the user.
    """

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        super().__init__()
        self.interrupted = False
        self._on_interrupt = on_interrupt
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Stop if Ctrl-C was pressed."""
        if self.interrupted:
            self.model.stop_training = True

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's call
        self._restore()
        self.interrupted = True
        self._on_interrupt()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


def metrics_of(logs: Logs, key: str) -> dict[str, Any]:
    """Return the metrics of one model in the logs, under plain names."""
    prefix = f"{key}:"
    return {
        name.removeprefix(prefix): value
        for name, value in (logs or {}).items()
        if name.startswith(prefix)
    }
