"""What happens beside a training: figures, views of one network, Ctrl-C."""

import os
import signal
from pathlib import Path
from threading import Thread
from typing import Any

import keras
import pytest

from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset
from kerasbn.training.callbacks import (
    EvaluateEachEpoch,
    SingleModelCallbacks,
    StopOnInterrupt,
    metrics_of,
)
from kerasbn.training.ensembles import SingleModel, compile_model
from kerasbn.training.loop import fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings


class Note(keras.callbacks.Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[tuple[int, dict[str, Any]]] = []
        self.told: list[str] = []

    def on_train_begin(self, logs: object = None) -> None:
        self.told.append("begin")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epochs.append((epoch, dict(logs or {})))

    def on_train_end(self, logs: object = None) -> None:
        self.told.append("end")


class InterruptAfter(keras.callbacks.Callback):
    """Presses Ctrl-C when so many chunks are over."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.left = chunks

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def trained(
    digits: Dataset, settings: TrainingSettings, *callbacks: Any, **options: Any
) -> EvaluateEachEpoch:
    """Train a pair with these callbacks after `EvaluateEachEpoch`, which is given back."""
    size = len(digits.train)
    schedule = Schedule.of(size, settings.batch_size, settings.epochs, settings.steps)
    watch = EvaluateEachEpoch(schedule)
    networks = {
        key: compile_model(mlp(bn=key == "bn", hidden=(8,), **options), settings)
        for key in ("bn", "plain")
    }
    views = [
        SingleModelCallbacks(each.key, networks[each.key], [each.note])
        for each in callbacks[:1]
        if each
    ]
    learners = [SingleModel(key, network, settings.seed) for key, network in networks.items()]
    fit(learners, digits, schedule, [watch, *views, *callbacks[1:]], "/CPU:0")
    return watch


class Watched:
    """A note of one network."""

    def __init__(self, key: str) -> None:
        self.key, self.note = key, Note()


def test_a_view_shows_one_network_and_epochs_from_one(few_digits: Dataset) -> None:
    watched = Watched("plain")
    trained(few_digits, TrainingSettings(epochs=2), watched)
    assert watched.note.told == ["begin", "end"]
    assert [epoch for epoch, _ in watched.note.epochs] == [1, 2]
    for _, figures in watched.note.epochs:
        assert set(figures) == {"loss", "accuracy", "val_loss", "val_accuracy", "step"}
    assert [figures["step"] for _, figures in watched.note.epochs] == [20, 40]
    assert isinstance(watched.note.model, keras.Model)
    assert watched.note.model.name == "mlp_plain"


def test_steps_end_within_an_epoch_that_is_measured(few_digits: Dataset) -> None:
    watched = Watched("bn")
    trained(few_digits, TrainingSettings(steps=27), watched)
    assert [figures["step"] for _, figures in watched.note.epochs] == [20, 27]


def test_a_diverged_network_has_no_figures_and_the_other_goes_on(few_digits: Dataset) -> None:
    watched = Watched("plain")
    settings = TrainingSettings(optimizer="sgd", lr=0.5, epochs=4)
    watch = trained(few_digits, settings, watched, init="normal:1", activation="linear")
    assert set(watch.diverged) == {"plain"}
    assert watch.epochs == 4
    assert len(watched.note.epochs) == (watch.diverged["plain"] - 1) // 20
    assert "bn" in watch.weights


def test_training_stops_when_none_is_left(few_digits: Dataset) -> None:
    note = Note()
    watch = trained(few_digits, TrainingSettings(lr=1e38, epochs=50), None, note)
    assert set(watch.diverged) == {"bn", "plain"}
    assert len(note.epochs) < 50


def test_ctrl_c_ends_at_a_chunk_and_keeps_whole_epochs(sample_digits: Dataset) -> None:
    said = []
    before = signal.getsignal(signal.SIGINT)
    with StopOnInterrupt(lambda: said.append("stopping")) as stop:
        # A chunk of the sample is an epoch of 125 steps: the third one is never begun.
        watch = trained(sample_digits, TrainingSettings(epochs=5), None, InterruptAfter(2), stop)
    assert stop.interrupted
    assert said == ["stopping"]
    assert watch.epochs == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_within_an_epoch_drops_that_epoch(sample_digits: Dataset) -> None:
    settings = TrainingSettings(epochs=5, batch_size=4)  # 1,000 steps, 3 chunks an epoch
    note = Note()
    with StopOnInterrupt(lambda: None) as stop:
        watch = trained(sample_digits, settings, None, InterruptAfter(4), stop, note)
    assert watch.epochs == 1
    assert [bool(figures) for _, figures in note.epochs] == [True, False]


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with StopOnInterrupt(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_leaves_the_signal_alone() -> None:
    seen = []

    def listen() -> None:
        with StopOnInterrupt(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_kerass_own_callbacks_write_through_a_view(few_digits: Dataset, tmp_path: Path) -> None:
    watched = Watched("bn")
    watched.note = keras.callbacks.CSVLogger(tmp_path / "history.csv")
    trained(few_digits, TrainingSettings(epochs=2), watched)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,loss,step,val_accuracy,val_loss"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]


def test_metrics_of_one_network() -> None:
    logs = {"bn:loss": 1.0, "bn-2:loss": 2.0, "plain:loss": 3.0}
    assert metrics_of(logs, "bn") == {"loss": 1.0}
    assert metrics_of(None, "bn") == {}
