"""Keras callbacks for models that train side by side: the logs hold metrics as `KEY:metric`."""

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
        self._schedule = schedule
        self._steps_done: Sequence[int] = ()  # at the start of the epoch and after each chunk
        self._chunks_done = 0

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
                logs |= {f"{key}:{name}": value for name, value in metrics.items()}
                logs[f"{key}:step"] = step
        self.epochs = epoch + 1
        self._stop_if_all_diverged()
        # The epoch is complete: here a checkpoint would save what `fit` needs to continue.

    def _stop_if_all_diverged(self) -> None:
        if len(self.diverged) == len(self.model.models):
            self.model.stop_training = True


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

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        """Stop if interrupted."""
        if self.interrupted:
            self.model.stop_training = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.__exit__()
        self.interrupted = True
        self._on_interrupt()


def metrics_of(logs: Logs, key: str) -> dict[str, Any]:
    """Return the metrics of one model in the logs, under plain names."""
    logs, prefix = logs or {}, f"{key}:"
    names = [name for name in logs if name.startswith(prefix)]
    return {name.removeprefix(prefix): logs[name] for name in names}
