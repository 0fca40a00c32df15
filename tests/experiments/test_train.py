"""A run holds all that is needed to know what was done, and can be done again."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from sample_runs import job, train_runs, write_run
from tensorflow.python.framework.config import is_op_determinism_enabled

import kerasbn
from kerasbn.common.errors import CheckFailedError, InputError
from kerasbn.common.records import to_plain
from kerasbn.data.datasets import Dataset
from kerasbn.experiments import train as experiment
from kerasbn.experiments.trained_model import trained_model
from kerasbn.runs import Run, read_run
from kerasbn.training.devices import Device
from kerasbn.training.settings import ModelSettings, TrainingSettings

SHORT = TrainingSettings(epochs=2, seed=3)
SMALL = ModelSettings(hidden=(7,), activation="tanh")


@pytest.fixture(scope="module")
def trained(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with TensorBoard's logs."""
    root = tmp_path_factory.mktemp("trained")
    (run,) = train_runs([job(SMALL)], few_digits, SHORT, tensorboard=True, root=root)
    return run


@pytest.mark.slow
def test_the_record_tells_everything(trained: Run, few_digits: Dataset) -> None:
    text = (trained.path / "run.json").read_text()
    record = json.loads(text)
    assert record == to_plain(trained.record)
    assert record["status"] == "finished"
    assert record["model"]["hidden"] == [7]
    assert record["model"]["activation"] == "tanh"
    assert record["training"] == {
        "optimizer": "adam", "lr": 0.01, "batch_size": 32, "epochs": 2, "steps": None, "seed": 3,
        "deterministic": False,
    }  # fmt: skip
    assert record["data"] == {
        "name": "few-digits", "digest": few_digits.digest, "train": 640, "test": 100, "note": "",
    }  # fmt: skip
    assert record["versions"]["kerasbn"] == kerasbn.__version__
    assert record["device"].startswith("CPU")
    assert record["parameters"] == 784 * 7 + 4 * 7 + 7 * 10 + 10
    assert record["epochs"] == 2
    assert record["final"]["val_accuracy"] == trained.history["val_accuracy"][-1]
    assert record["started"] < record["finished"]
    assert "test accuracy" in trained_model(trained).summary()
    assert str(trained.path.parent) not in text  # no path of this machine


@pytest.mark.slow
def test_the_same_settings_make_the_same_run(trained: Run, few_digits: Dataset) -> None:
    """On a CPU, a deterministic training is the same too."""
    settings = replace(SHORT, deterministic=True)
    root = trained.path.parent
    (again,) = train_runs([job(SMALL)], few_digits, settings, figures=False, root=root)
    assert [trained.name, again.name] == ["bn", "bn-2"]
    assert again.record.training.deterministic
    assert again.record.digest == trained.record.digest


@pytest.mark.slow
@pytest.mark.filterwarnings("error:Model doesn't support")  # Keras, when it gives up XLA
def test_a_deterministic_training_on_a_gpu_is_compiled_and_repeats(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU, taken for a GPU, runs TensorFlow's deterministic operations."""
    monkeypatch.setattr(Device, "is_gpu", True)
    enabled = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: enabled.append(is_op_determinism_enabled())
    )
    digests, tiny = set(), ModelSettings(hidden=(3,), bn=False)
    for deterministic in (True, True, False):
        settings = TrainingSettings(steps=4, seed=3, deterministic=deterministic)
        (run,) = train_runs(
            [job(tiny)], few_digits, settings, figures=False, callbacks=[watch], root=tmp_path
        )
        digests.add(run.record.digest)
    assert enabled == [True, True, False]
    assert len(digests) == 2  # the loss is computed by other operations, so the last run differs


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_run_that_diverges_at_once_is_kept_without_a_model(
    few_digits: Dataset, tmp_path: Path
) -> None:
    settings = TrainingSettings(lr=1e38)
    (run,) = train_runs([job(ModelSettings())], few_digits, settings, root=tmp_path)
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
def test_tensorboard_reads_the_curves(trained: Run) -> None:
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.path / "tensorboard" / "train")).Reload()
    losses = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")]
    assert losses == pytest.approx(trained.history["loss"])


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
@pytest.mark.usefixtures("quick")
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
    first, last = train_runs(pair, few_digits, SHORT, figures=False, root=tmp_path)
    # All epochs were done when Ctrl-C was pressed.
    assert (last.status, first.status) == ("finished", "finished")
    assert first.record.epochs == last.record.epochs == 2
    assert first.model_path.is_file()
    trained_model(first).check_ending()


def test_a_second_ctrl_c_drops_the_run(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed_twice(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(experiment, "fit", lambda *_: None)
    monkeypatch.setattr(experiment, "_write_run", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        train_runs([job(ModelSettings())], few_digits, SHORT, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["mlp", "fit"])
def test_a_model_too_large_for_the_memory_is_one_line(
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
@pytest.mark.usefixtures("quick")
def test_a_requested_name_is_replaced_and_another_numbered(
    few_digits: Dataset, tmp_path: Path
) -> None:
    for name in ("mine", "plain"):
        write_run(tmp_path, name)
    (tmp_path / "plain-2").mkdir()  # another process may be about to write a run into it
    jobs, steps = [job(SMALL, "mine"), job(ModelSettings(bn=False))], TrainingSettings(steps=5)
    with pytest.raises(InputError, match="--force"):
        train_runs(jobs, few_digits, steps, root=tmp_path)
    runs = train_runs(jobs, few_digits, steps, force=True, figures=False, root=tmp_path)
    assert [run.name for run in runs] == ["mine", "plain-3"]
    assert read_run(tmp_path / "mine").history["step"] == [5]
    assert read_run(tmp_path / "plain").history["step"] == [125]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine", "plain", "plain-2", "plain-3",
    ]  # fmt: skip
