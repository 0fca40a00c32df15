"""Callbacks evaluate, record one of several models, and stop at Ctrl-C."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any

import keras
import pytest

from kerasbn.data.batching import Schedule, index_chunks
from kerasbn.data.datasets import Dataset
from kerasbn.training.callbacks import (
    EvaluateEachEpoch,
    SingleModelCallbacks,
    StopOnInterrupt,
    metrics_of,
)
from kerasbn.training.ensembles import SingleModel, compile_model
from kerasbn.training.loop import TrainingLoop, fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("quick")


class Recorder(keras.callbacks.Callback):
    """Records the calls that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[tuple[int, dict[str, Any]]] = []
        self.calls: list[str] = []

    def on_train_begin(self, logs: object = None) -> None:
        self.calls.append("begin")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epochs.append((epoch, dict(logs or {})))

    def on_train_end(self, logs: object = None) -> None:
        self.calls.append("end")

    @property
    def steps(self) -> list[int]:
        return [metrics["step"] for _, metrics in self.epochs]


class InterruptAfter(keras.callbacks.Callback):
    """Sends Ctrl-C after so many chunks."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.left = chunks

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def pair(settings: TrainingSettings, **options: Any) -> dict[str, keras.Model]:
    return {
        key: compile_model(mlp(bn=key == "bn", hidden=(8,), **options), settings)
        for key in ("bn", "plain")
    }


def train(
    data: Dataset,
    settings: TrainingSettings,
    *callbacks: keras.callbacks.Callback,
    single: dict[str, keras.callbacks.Callback] | None = None,
    **options: Any,
) -> EvaluateEachEpoch:
    """Train a pair with an `EvaluateEachEpoch`, which is returned, and further callbacks.

    `single` are callbacks for one model, by its key.
    """
    size = len(data.train)
    schedule = Schedule.of(size, settings.batch_size, settings.epochs, settings.steps)
    evaluation, models = EvaluateEachEpoch(schedule), pair(settings, **options)
    wrapped = [
        SingleModelCallbacks(key, models[key], [callback])
        for key, callback in (single or {}).items()
    ]
    learners = [SingleModel(key, model, settings.seed) for key, model in models.items()]
    fit(learners, data, schedule, [evaluation, *wrapped, *callbacks], "/CPU:0")
    return evaluation


@pytest.mark.slow
def test_callbacks_for_one_model_get_its_metrics_and_count_epochs_from_one(
    few_digits: Dataset, tmp_path: Path
) -> None:
    """Also those of Keras, and in a last epoch that ends early."""
    recorder, logger = Recorder(), keras.callbacks.CSVLogger(tmp_path / "history.csv")
    train(few_digits, TrainingSettings(steps=27), single={"plain": recorder, "bn": logger})
    assert recorder.calls == ["begin", "end"]
    assert [epoch for epoch, _ in recorder.epochs] == [1, 2]
    for _, metrics in recorder.epochs:
        assert set(metrics) == {"loss", "accuracy", "val_loss", "val_accuracy", "step"}
    assert recorder.steps == [20, 27]
    assert isinstance(recorder.model, keras.Model)
    assert recorder.model.name == "mlp_plain"
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,loss,step,val_accuracy,val_loss"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]


@pytest.mark.slow
def test_a_diverged_model_has_no_metrics_and_the_other_continues(few_digits: Dataset) -> None:
    recorder = Recorder()
    settings = TrainingSettings(optimizer="sgd", lr=0.5, epochs=4)
    evaluation = train(
        few_digits, settings, single={"plain": recorder}, init="normal:1", activation="linear"
    )
    assert set(evaluation.diverged) == {"plain"}
    assert evaluation.epochs == 4
    assert len(recorder.epochs) == (evaluation.diverged["plain"] - 1) // 20
    assert "bn" in evaluation.weights


@pytest.mark.slow
def test_training_stops_when_all_models_have_diverged(few_digits: Dataset) -> None:
    recorder = Recorder()
    evaluation = train(few_digits, TrainingSettings(lr=1e38, epochs=50), recorder)
    assert set(evaluation.diverged) == {"bn", "plain"}
    assert len(recorder.epochs) < 50


def test_ctrl_c_amid_an_import_is_answered_by_another_thread() -> None:
    """In a signal handler, what prints could find the import that it interrupted half done."""
    threads = []
    with StopOnInterrupt(lambda: threads.append(current_thread())) as stop:
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.interrupted
    assert [thread is main_thread() for thread in threads] == [False]


@pytest.mark.slow
def test_ctrl_c_stops_after_a_chunk_and_keeps_complete_epochs(few_digits: Dataset) -> None:
    """Two chunks in an epoch: the second and then the third end with Ctrl-C."""
    settings, messages = TrainingSettings(), []
    schedule = replace(Schedule.of(len(few_digits.train), 32, epochs=5), per_call=10)
    learners = [SingleModel(key, model, 0) for key, model in pair(settings).items()]
    loop = TrainingLoop(learners, few_digits)
    before = signal.getsignal(signal.SIGINT)
    for chunks, epochs in ((2, [True]), (3, [True, False])):
        evaluation, recorder = EvaluateEachEpoch(schedule), Recorder()
        with StopOnInterrupt(lambda: messages.append("stopping")) as stop:
            watching = [evaluation, recorder, InterruptAfter(chunks), stop]
            loop.fit_schedule(index_chunks(schedule, loop.seeds), schedule, watching)
        assert stop.interrupted
        assert evaluation.epochs == 1
        assert [bool(metrics) for _, metrics in recorder.epochs] == epochs
        assert signal.getsignal(signal.SIGINT) is before
    assert messages == ["stopping"] * 2


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with StopOnInterrupt(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_are_not_handled_in_another_thread() -> None:
    handlers = []

    def enter() -> None:
        with StopOnInterrupt(lambda: None):
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [before]


def test_metrics_of_one_model() -> None:
    logs = {"bn:loss": 1.0, "bn-2:loss": 2.0, "plain:loss": 3.0}
    assert metrics_of(logs, "bn") == {"loss": 1.0}
    assert metrics_of(None, "bn") == {}
