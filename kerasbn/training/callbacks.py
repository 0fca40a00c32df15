"""Keras callbacks for networks that train side by side.

The logs hold each network's figures as ``KEY:figure``. `Measure` puts them in at the end of every
epoch; a `View` hands them on, under plain names, to callbacks made for one network, Keras's own
among them. A network whose figures are missing from the logs has diverged.
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


class Measure(keras.callbacks.Callback):
    """Evaluates every network after every epoch, and notices those that diverge.

    A network diverges with the first batch whose loss is NaN or infinite, or when its evaluation
    is. From then on it has no figures; when none is left the training stops. An epoch that ends
    early for any other reason than the schedule's has no figures either.

    Attributes:
        diverged: for each network that did, the number of the step, from 1.
        weights: the weights of each network after its last epoch with figures.
        epochs: epochs with figures.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.diverged: dict[str, int] = {}
        self.weights: dict[str, list[np.ndarray]] = {}
        self.epochs = 0
        self._schedule = schedule
        self._done: Sequence[int] = ()  # when the epoch begins, and after each of its chunks
        self._chunks_done = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002 - Keras's call
        """Start counting the epoch's chunks."""
        self._done = self._schedule.steps_done(epoch)
        self._chunks_done = 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look for losses that are not finite in the chunk that just ended."""
        for key in self.model.networks:
            bad = int((logs or {})[f"{key}:bad_step"])
            if bad >= 0:
                self.diverged.setdefault(key, self._done[batch] + bad + 1)
        self._chunks_done = batch + 1
        if len(self.diverged) == len(self.model.networks):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Replace the chunk's figures in the logs by those of the evaluation."""
        logs = {} if logs is None else logs
        logs.clear()
        if self._done[self._chunks_done] < self._schedule.steps_after(epoch):
            return
        weights = self.model.all_weights()
        for key, figures in self.model.evaluate_all().items():
            if not all(map(math.isfinite, figures.values())):
                self.diverged.setdefault(key, self._schedule.steps_after(epoch))
            if key in self.diverged:
                continue
            self.weights[key] = weights[key]
            logs |= {f"{key}:{name}": value for name, value in figures.items()}
            logs[f"{key}:step"] = self._schedule.steps_after(epoch)
        self.epochs = epoch + 1
        if len(self.diverged) == len(self.model.networks):
            self.model.stop_training = True


class View(keras.callbacks.Callback):
    """Lets callbacks written for one network see just that network, its epochs numbered from 1."""

    def __init__(
        self, key: str, network: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        super().__init__()
        self._key = key
        self._callbacks = callbacks
        for callback in callbacks:
            callback.set_model(network)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Pass it on."""
        for callback in self._callbacks:
            callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Pass it on."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Pass the network's figures on, if it has any."""
        figures = figures_of(logs, self._key)
        for callback in self._callbacks if figures else ():
            callback.on_epoch_end(epoch + 1, figures)

    def on_train_end(self, logs: Logs = None) -> None:
        """Pass it on."""
        for callback in self._callbacks:
            callback.on_train_end(logs)


class StopOnInterrupt(keras.callbacks.Callback):
    """Ends the training at the next chunk when Ctrl-C is pressed, so that nothing is cut in two.

    A second Ctrl-C interrupts at once, as ever. It listens within its ``with`` block, and only in
    the main thread: Python lets no other handle signals.

    Args:
        on_interrupt: called at the first Ctrl-C, to tell the user what happens.
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
        """Stop here if asked to."""
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


def figures_of(logs: Logs, key: str) -> dict[str, Any]:
    """The part of the logs that belongs to one network, under plain names."""
    prefix = f"{key}:"
    return {
        name.removeprefix(prefix): value
        for name, value in (logs or {}).items()
        if name.startswith(prefix)
    }
