"""Whatever fails last never costs what came before: here the disk is full."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sample_folders import Disk

import kerasbn
from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.recalibrate import recalibrate_saved
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.runs import read_run
from kerasbn.training import callbacks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

SETTINGS: dict[str, Any] = {"epochs": 3, "hidden": (8,)}
When = Callable[..., None]


@pytest.fixture
def at_epoch_end(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Return a function that lets something happen at the end of an epoch, from 1."""

    def happen(epoch: int, what: Callable[[], None]) -> None:
        end = callbacks.EvaluateEachEpoch.on_epoch_end

        def end_and_happen(self: Any, number: int, logs: Any = None) -> None:
            end(self, number, logs)
            if number + 1 == epoch:
                what()

        monkeypatch.setattr(callbacks.EvaluateEachEpoch, "on_epoch_end", end_and_happen)

    return happen


def test_training_goes_on_without_checkpoints_and_can_be_resumed_without_room_for_its_model(
    disk: Disk,
    few_digits: Dataset,
    at_epoch_end: When,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(callbacks, "EVERY", 0.0)
    monkeypatch.setattr(callbacks, "SHARE", 1e9)
    # From the first epoch to the last there is no room, for the weights at the probes neither.
    at_epoch_end(1, disk.fill)
    at_epoch_end(3, disk.free)
    probed = kerasbn.train(
        few_digits, run="probed", probe=True, quiet=False, root=disk.path, **SETTINGS
    )
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "no checkpoint" in each]
    assert "(No space left on device)" in line or "(File too large)" in line
    assert probed.status == "finished"
    assert len(probed.history["epoch"]) == 3
    assert probed.findings()
    # At the end there is no room for the model.
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        end = callbacks.SaveCheckpoints.on_train_end

        def end_and_fill(self: Any, logs: Any = None) -> None:
            end(self, logs)
            disk.fill()

        patch.setattr(callbacks.SaveCheckpoints, "on_train_end", end_and_fill)
        with pytest.raises(InputError, match=r"/x.*: cannot be written.*resume with --resume x$"):
            kerasbn.train(few_digits, run="x", root=disk.path, **SETTINGS)
    disk.free()
    resumed = kerasbn.train(few_digits, resume="x", root=disk.path)
    assert probed.run
    assert resumed.run
    assert resumed.run.record.digest == probed.run.record.digest
    assert {path.name for path in disk.path.iterdir()} == {"probed", "x"}


@pytest.mark.parametrize("command", ["train", "compare", "ensemble"])
def test_a_failing_figure_leaves_models_and_records(
    command: str, disk: Disk, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = TrainedModel if command == "train" else Comparison
    draw = owner.figure

    def fill_and_draw(self: Any) -> Any:
        disk.fill()
        return draw(self)

    monkeypatch.setattr(owner, "figure", fill_and_draw)
    settings = {"root": disk.path, **SETTINGS, "epochs": 1}
    act: Any = {
        "train": kerasbn.train,
        "compare": kerasbn.compare,
        "ensemble": partial(kerasbn.compare, seeds=2),
    }[command]
    with pytest.raises(InputError, match=r"cannot be written.*what was finished is kept as") as end:
        act(few_digits, **settings)
    monkeypatch.undo()
    disk.free()
    kept = Path(str(end.value).split("what was finished is kept as ")[1])
    if command == "train":
        assert read_run(kept).model_path.is_file()
        assert read_run(kept).status == "finished"
        return
    result = kerasbn.compare(few_digits, resume=kept.name, root=disk.path)
    assert len(result.members) == (4 if command == "ensemble" else 2)
    for member in result.members:
        assert member.run
        assert member.run.model_path.is_file()


def test_a_recalibration_leaves_the_run_as_it_was(disk: Disk, few_digits: Dataset) -> None:
    trained = kerasbn.train(few_digits, run="x", root=disk.path, **SETTINGS | {"epochs": 1})
    assert trained.run
    before = {path: path.read_bytes() for path in trained.run.path.iterdir()}
    disk.fill()
    with pytest.raises(InputError, match=r"x-recalibrated.*: cannot be written"):
        recalibrate_saved(str(trained.run.path), few_digits, root=disk.path)
    disk.free()
    assert {path: path.read_bytes() for path in trained.run.path.iterdir()} == before
    assert {path.name for path in disk.path.iterdir()} == {"x"}
    _, place = recalibrate_saved(str(trained.run.path), few_digits, root=disk.path)
    assert read_run(place).model_path.is_file()
