"""A run holds all that is needed to know what was done, and can be done again."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from sample_runs import job, train_runs

import kerasbn
from kerasbn.common.errors import CheckFailedError, InputError, StoppedError
from kerasbn.common.records import to_plain
from kerasbn.data.datasets import Dataset
from kerasbn.experiments import train as experiment
from kerasbn.experiments.trained_model import trained_model
from kerasbn.runs import Run, read_run
from kerasbn.training.settings import ModelSettings, TrainingSettings

SHORT = TrainingSettings(epochs=2, seed=3)


@pytest.mark.slow
def test_the_record_tells_everything(few_digits: Dataset, tmp_path: Path) -> None:
    network = ModelSettings(hidden=(7,), activation="tanh")
    (run,) = train_runs([job(network)], few_digits, SHORT, quiet=True, root=tmp_path)
    record = json.loads((tmp_path / "bn" / "run.json").read_text())
    assert record == to_plain(run.record)
    assert record["status"] == "finished"
    assert record["model"]["hidden"] == [7]
    assert record["model"]["activation"] == "tanh"
    assert record["training"] == {
        "optimizer": "adam", "lr": 0.01, "batch_size": 32, "epochs": 2, "steps": None, "seed": 3,
    }  # fmt: skip
    assert record["data"] == {
        "name": "mnist-sample", "digest": few_digits.digest, "train": 640, "test": 100, "note": "",
    }  # fmt: skip
    assert record["versions"]["kerasbn"] == kerasbn.__version__
    assert record["device"].startswith("CPU")
    assert record["parameters"] == 784 * 7 + 4 * 7 + 7 * 10 + 10
    assert record["epochs"] == 2
    assert record["final"]["val_accuracy"] == run.history["val_accuracy"][-1]
    assert record["started"] < record["finished"]
    assert "test accuracy" in trained_model(run).summary()


@pytest.mark.slow
def test_the_same_settings_make_the_same_run(few_digits: Dataset, tmp_path: Path) -> None:
    pair = [
        train_runs([job(ModelSettings())], few_digits, SHORT, quiet=True, root=tmp_path)[0]
        for _ in range(2)
    ]
    assert [run.name for run in pair] == ["bn", "bn-2"]
    assert pair[0].history == pair[1].history


@pytest.mark.slow
def test_no_path_of_the_machine_is_recorded(few_digits: Dataset, tmp_path: Path) -> None:
    (run,) = train_runs([job(ModelSettings())], few_digits, SHORT, quiet=True, root=tmp_path)
    assert str(tmp_path) not in (run.path / "run.json").read_text()


@pytest.mark.slow
def test_a_run_that_diverges_at_once_is_kept_without_a_network(
    few_digits: Dataset, tmp_path: Path
) -> None:
    settings = TrainingSettings(lr=1e38)
    (run,) = train_runs([job(ModelSettings())], few_digits, settings, quiet=True, root=tmp_path)
    assert run.status == "diverged"
    assert not run.model_path.exists()
    assert run.history["epoch"] == []
    assert (run.path / "curves.png").is_file()
    with pytest.raises(CheckFailedError) as error:
        trained_model(run).check_ending()
    assert str(error.value) == (
        f"{run.path}: the loss became NaN or infinite at step {run.record.diverged_at_step} "
        "with learning rate 1e+38, expected a finite loss; try a lower --lr "
        "(0 epochs before that kept)"
    )


@pytest.mark.slow
def test_tensorboard_reads_the_curves(few_digits: Dataset, tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = train_runs(
        [job(ModelSettings())], few_digits, SHORT, tensorboard=True, quiet=True, root=tmp_path
    )
    events = EventAccumulator(str(run.path / "tensorboard" / "train")).Reload()
    losses = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")]
    assert losses == pytest.approx(run.history["loss"])


def test_without_tensorboard_nothing_starts(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--tensorboard: .*pip install .kerasbn.tensorboard.."):
        train_runs([job(ModelSettings())], few_digits, SHORT, tensorboard=True, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_leaves_nothing_behind(few_digits: Dataset, tmp_path: Path) -> None:
    for settings, network, device in [
        (TrainingSettings(batch_size=641), ModelSettings(), "auto"),
        (TrainingSettings(batch_size=1), ModelSettings(), "auto"),
        (SHORT, ModelSettings(), "gpu:7"),
        (SHORT, ModelSettings(), "tpu"),
    ]:
        with pytest.raises(InputError):
            train_runs([job(network)], few_digits, settings, device=device, root=tmp_path)
    with pytest.raises(InputError, match="expected letters"):
        train_runs([job(ModelSettings(), "../up")], few_digits, SHORT, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_while_a_run_is_written_keeps_it(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = experiment._write_run

    def pressed(*arguments: Any) -> Run:
        monkeypatch.setattr(experiment, "_write_run", write)
        signal.raise_signal(signal.SIGINT)
        return write(*arguments)

    monkeypatch.setattr(experiment, "_write_run", pressed)
    pair = [job(ModelSettings(bn=bn)) for bn in (True, False)]
    first, last = train_runs(pair, few_digits, SHORT, quiet=True, root=tmp_path)
    # The last one's record is written first: it was finished when Ctrl-C was pressed.
    assert (last.status, first.status) == ("finished", "interrupted")
    assert first.record.epochs == last.record.epochs == 2
    assert first.model_path.is_file()
    with pytest.raises(StoppedError, match=r"stopped; 2 epochs kept in "):
        trained_model(first).check_ending()


@pytest.mark.slow
def test_a_second_ctrl_c_drops_the_run(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed_twice(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(experiment, "_write_run", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        train_runs([job(ModelSettings())], few_digits, SHORT, quiet=True, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["mlp", "fit"])
def test_a_network_too_large_for_the_memory_is_one_line(
    where: str, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    def exhausted(*_: object, **__: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(experiment, where, exhausted)
    with pytest.raises(InputError) as error:
        train_runs([job(ModelSettings(hidden=(9, 7)))], few_digits, SHORT, root=tmp_path)
    assert str(error.value).startswith("hidden=(9, 7): received more units than the memory holds")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_taken_name_needs_force(few_digits: Dataset, tmp_path: Path) -> None:
    one = [job(ModelSettings(), "mine")]
    short = TrainingSettings(steps=2)
    train_runs(one, few_digits, short, quiet=True, root=tmp_path)
    with pytest.raises(InputError, match="--force"):
        train_runs(one, few_digits, short, quiet=True, root=tmp_path)
    train_runs(one, few_digits, TrainingSettings(steps=5), force=True, quiet=True, root=tmp_path)
    assert read_run(tmp_path / "mine").history["step"] == [5]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_name_taken_meanwhile_is_not_overwritten(few_digits: Dataset, tmp_path: Path) -> None:
    short = TrainingSettings(steps=2)
    train_runs([job(ModelSettings())], few_digits, short, quiet=True, root=tmp_path)
    (tmp_path / "bn-2").mkdir()
    (run,) = train_runs([job(ModelSettings())], few_digits, short, quiet=True, root=tmp_path)
    assert run.name == "bn-3"
