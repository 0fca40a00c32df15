"""A training that goes on after a checkpoint ends as if it had never stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset
from kerasbn.training.callbacks import EvaluateEachEpoch, SaveCheckpoints
from kerasbn.training.checkpoint import (
    Checkpoint,
    Progress,
    read_checkpoint,
)
from kerasbn.training.ensembles import Ensemble, Learner, SingleModel, compile_model
from kerasbn.training.loop import fit
from kerasbn.training.models import mlp
from kerasbn.training.settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("quick")

SETTINGS = TrainingSettings(batch_size=32, epochs=4)


class StopAfter(keras.callbacks.Callback):
    """Stops in the middle of an epoch, as a kill would."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._epoch:
            self.model.stop_training = True


class KeepState(keras.callbacks.Callback):
    def on_train_end(self, logs: Any = None) -> None:
        self.state = self.model.state()


def learners(kind: str, settings: TrainingSettings) -> list[Learner]:
    trainings = [replace(settings, seed=seed) for seed in range(3)]
    models = [compile_model(mlp(hidden=(8,), seed=each.seed), each) for each in trainings]
    if kind == "pair":
        plain = compile_model(mlp(bn=False, hidden=(8,), seed=0), trainings[0])
        return [SingleModel("bn", models[0], 0), SingleModel("plain", plain, 0)]
    keys = {f"bn-{each.seed}": model for each, model in zip(trainings, models, strict=True)}
    return [Ensemble(keys, trainings)]


def train(
    kind: str,
    data: Dataset,
    path: Path,
    settings: TrainingSettings = SETTINGS,
    start: Checkpoint | None = None,
    stop: int = -1,
) -> tuple[list[np.ndarray], EvaluateEachEpoch]:
    steps = settings.epochs * (len(data.train) // settings.batch_size)
    # A chunk ends in the middle of the third epoch, where `stop` is to interrupt it.
    schedule = Schedule(len(data.train), settings.batch_size, steps, stops=(2 * steps // 4 + 3,))
    evaluation, last = EvaluateEachEpoch(schedule), KeepState()
    save = SaveCheckpoints(path, evaluation, pytest.fail, start)
    first = start.progress.epochs if start else 0
    callbacks = [evaluation, save, last, StopAfter(stop)]
    fit(learners(kind, settings), data, schedule, callbacks, "/CPU:0", first)
    return last.state, evaluation


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pair", "ensemble"])
def test_resumed_training_is_bit_equal(kind: str, few_digits: Dataset, tmp_path: Path) -> None:
    whole, evaluation = train(kind, few_digits, tmp_path / "whole.npz")
    train(kind, few_digits, tmp_path / "part.npz", stop=2)
    start = read_checkpoint(tmp_path / "part.npz")
    assert start.progress.epochs == 2
    resumed, again = train(kind, few_digits, tmp_path / "resumed.npz", start=start)
    for actual, expected in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert (again.epochs, again.diverged) == (evaluation.epochs, evaluation.diverged)
    ends = [read_checkpoint(tmp_path / f"{name}.npz") for name in ("whole", "resumed")]
    first, second = (replace(each.progress, seconds=0) for each in ends)
    assert first == second


def test_a_diverged_member_keeps_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    weights: dict[str, list[np.ndarray]] = {
        "bn": [np.ones((2, 3), np.float32)],
        "bn-2": [np.zeros(1), np.ones(2)],
    }
    progress = Progress(3, 1.5, {"bn": 7, "bn-2": 8, "gone": 1}, {"bn": [{"step": 5, "loss": 0.1}]})
    Checkpoint(progress, [np.arange(4)], weights).write(path)
    read = read_checkpoint(path)
    assert read.progress == progress
    assert read.progress.history["bn"][0]["step"] == 5
    assert list(read.weights) == ["bn", "bn-2"]
    for key, expected in weights.items():
        for actual, value in zip(read.weights[key], expected, strict=True):
            np.testing.assert_array_equal(actual, value)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"received a file that is no \.npz.*, expected a checkpoint"
    ):
        read_checkpoint(path)
    with pytest.raises(InputError, match="received no such file"):
        read_checkpoint(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "header",
    [
        b'{"progress": {"epochs": 1}, "kept": {"bn": 3}}',  # more than there are
        b'{"progress": {"epochs": 1}, "kept": {"bn": -1}}',
        b'{"progress": {"epochs": -1}, "kept": {}}',
        b"[" * 5000,
        b'{"\xff": 1}',
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_refused(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    np.savez(path, np.frombuffer(header, np.uint8), np.ones(2), np.ones(3))
    with pytest.raises(InputError, match="received a damaged file, expected a checkpoint"):
        read_checkpoint(path)


def test_a_checkpoint_of_other_entries_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    np.savez(tmp_path / "named.npz", np.zeros(0, np.uint8), x=np.ones(3))
    for path in (tmp_path / "none.npz", tmp_path / "named.npz"):
        with pytest.raises(InputError, match="received a damaged file, expected a checkpoint"):
            read_checkpoint(path)


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_refused(few_digits: Dataset, tmp_path: Path) -> None:
    train("pair", few_digits, tmp_path / "part.npz", stop=1)
    start = read_checkpoint(tmp_path / "part.npz")
    wider = [np.zeros((*value.shape, 2)) for value in start.variables]
    unknown = replace(start.progress, history={"other": [{"loss": 0.1}]})
    for damaged in (
        replace(start, variables=wider), replace(start, variables=[]),
        replace(start, progress=unknown),
    ):  # fmt: skip
        with pytest.raises(InputError, match="received the state of another training"):
            train("pair", few_digits, tmp_path / "part.npz", start=damaged)
