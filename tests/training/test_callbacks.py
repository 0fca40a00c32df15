"""Callbacks evaluate, record one of several models, and stop at Ctrl-C."""

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
    evaluation = EvaluateEachEpoch(schedule)
    models = {
        key: compile_model(mlp(bn=key == "bn", hidden=(8,), **options), settings)
        for key in ("bn", "plain")
    }
    wrapped = [
        SingleModelCallbacks(key, models[key], [callback])
        for key, callback in (single or {}).items()
    ]
    learners = [SingleModel(key, model, settings.seed) for key, model in models.items()]
    fit(learners, data, schedule, [evaluation, *wrapped, *callbacks], "/CPU:0")
    return evaluation


@pytest.mark.slow
def test_callbacks_for_one_model_get_its_metrics_and_count_epochs_from_one(
    few_digits: Dataset,
) -> None:
    recorder = Recorder()
    train(few_digits, TrainingSettings(epochs=2), single={"plain": recorder})
    assert recorder.calls == ["begin", "end"]
    assert [epoch for epoch, _ in recorder.epochs] == [1, 2]
    for _, metrics in recorder.epochs:
        assert set(metrics) == {"loss", "accuracy", "val_loss", "val_accuracy", "step"}
    assert recorder.steps == [20, 40]
    assert isinstance(recorder.model, keras.Model)
    assert recorder.model.name == "mlp_plain"


@pytest.mark.slow
def test_a_last_epoch_that_ends_early_is_evaluated(few_digits: Dataset) -> None:
    recorder = Recorder()
    train(few_digits, TrainingSettings(steps=27), single={"bn": recorder})
    assert recorder.steps == [20, 27]


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


@pytest.mark.slow
def test_ctrl_c_stops_after_a_chunk_and_keeps_complete_epochs(sample_digits: Dataset) -> None:
    messages = []
    before = signal.getsignal(signal.SIGINT)
    with StopOnInterrupt(lambda: messages.append("stopping")) as stop:
        # A chunk of the sample is an epoch of 125 steps; the third one does not start.
        evaluation = train(sample_digits, TrainingSettings(epochs=5), InterruptAfter(2), stop)
    assert stop.interrupted
    assert messages == ["stopping"]
    assert evaluation.epochs == 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_ctrl_c_within_an_epoch_drops_that_epoch(sample_digits: Dataset) -> None:
    settings = TrainingSettings(epochs=5, batch_size=4)  # 1,000 steps, 3 chunks per epoch
    recorder = Recorder()
    with StopOnInterrupt(lambda: None) as stop:
        evaluation = train(sample_digits, settings, InterruptAfter(4), stop, recorder)
    assert evaluation.epochs == 1
    assert [bool(metrics) for _, metrics in recorder.epochs] == [True, False]


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


@pytest.mark.slow
def test_callbacks_of_keras_work_on_one_model(few_digits: Dataset, tmp_path: Path) -> None:
    logger = keras.callbacks.CSVLogger(tmp_path / "history.csv")
    train(few_digits, TrainingSettings(epochs=2), single={"bn": logger})
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,loss,step,val_accuracy,val_loss"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]


def test_metrics_of_one_model() -> None:
    logs = {"bn:loss": 1.0, "bn-2:loss": 2.0, "plain:loss": 3.0}
    assert metrics_of(logs, "bn") == {"loss": 1.0}
    assert metrics_of(None, "bn") == {}
