"""A saved network with its statistics replaced: what is asked, what is shown, what is kept."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sample_runs import job, train_runs

from kerasbn.common.errors import InputError
from kerasbn.data import datasets as files
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.recalibrate import (
    RecalibrationRequest,
    recalibrate_saved,
    request_recalibration,
)
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.runs import Run, read_run
from kerasbn.training.settings import ModelSettings, TrainingSettings


@pytest.fixture(scope="module")
def trained(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `few_digits` whose moving statistics are far behind."""
    slow = job(ModelSettings(hidden=(8,), bn_momentum=0.999), "slow")
    root = tmp_path_factory.mktemp("runs")
    (run,) = train_runs([slow], few_digits, TrainingSettings(epochs=2), quiet=True, root=root)
    return run


def asked(run: Run, data: Dataset | Path, *, force: bool = False) -> RecalibrationRequest:
    return RecalibrationRequest(run.model_path, run, data, None, unbiased=False, force=force)


@pytest.mark.slow
def test_a_run_recalibrated_on_its_own_digits_has_their_accuracy(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    result, place = recalibrate_saved(asked(trained, few_digits), tmp_path)
    assert place == tmp_path / "slow-recalibrated"
    run = read_run(place)
    assert result.after is not None
    assert run.record.final == {"val_accuracy": result.after}
    assert run.record.recalibrated == {"from": "slow", **result.record()}
    layer = keras.models.load_model(run.model_path).get_layer("bn_1")
    kernel = keras.models.load_model(run.model_path).get_layer("dense_1").kernel
    x = few_digits.train.images.reshape(len(few_digits.train), -1) / 255 @ np.asarray(kernel)
    np.testing.assert_allclose(layer.moving_mean, x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x.var(0), rtol=1e-4)


@pytest.mark.slow
def test_an_accuracy_on_other_data_is_not_the_run_s(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    """Its record says which digits it is of, and its final figures are on these."""
    other = replace(few_digits, name="other", digest="of others")
    result, place = recalibrate_saved(asked(trained, other), tmp_path)
    assert result.after is not None
    assert read_run(place).record.final == {}
    record = read_run(place).record.recalibrated
    assert record is not None
    assert record["accuracy"]["after"] == result.after
    for digit in ("0", "1"):
        (tmp_path / "photos" / digit).mkdir(parents=True)
        for i in range(3):
            page = np.full((90, 70), 255, np.uint8)
            page[20:70, 30 : 38 + 4 * i] = 0  # a dark stroke on paper
            Image.fromarray(page).save(tmp_path / "photos" / digit / f"{i}.png")
    result, place = recalibrate_saved(asked(trained, tmp_path / "photos"), tmp_path)
    assert result.after is not None
    assert result.measured_on == "the same data"
    assert read_run(place).record.final == {}


def test_a_second_time_has_its_own_name_unless_it_is_to_replace_the_first(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    places = [
        recalibrate_saved(asked(trained, few_digits, force=force), tmp_path)[1].name
        for force in (False, False, True)
    ]
    assert places == ["slow-recalibrated", "slow-recalibrated-2", "slow-recalibrated"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(places))


def test_nothing_is_written_where_it_fails(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    randomize_parameters(model, 1)
    model.save(tmp_path / "three.keras")
    out = tmp_path / "out.keras"
    request = RecalibrationRequest(tmp_path / "three.keras", None, few_digits, out)
    with pytest.raises(InputError, match="takes"):
        recalibrate_saved(request, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no images"):
        recalibrate_saved(asked(trained, empty), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "three.keras"]


def test_a_run_is_shown_the_digits_it_was_trained_on(
    trained: Run, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where others could be had, which `auto` would take for a file on its own."""
    loaded = []

    def load_dataset(*what: str | None, **_: bool) -> Dataset:
        loaded.append(what)
        return few_digits

    monkeypatch.setattr("kerasbn.experiments.recalibrate.load_dataset", load_dataset)
    run = replace(
        trained,
        record=replace(trained.record, data=replace(trained.record.data, name="mnist-sample")),
    )
    monkeypatch.setattr("kerasbn.runs.read_run", lambda path: run)
    assert request_recalibration(str(trained.path)).source is run
    request_recalibration(str(trained.path), dataset="mnist")
    request_recalibration(str(trained.path), data_dir="folder")
    request_recalibration(str(trained.model_path.rename(trained.path / "copy.keras")))
    (trained.path / "copy.keras").rename(trained.model_path)
    assert loaded == [
        ("mnist-sample", None), ("mnist", None), ("auto", "folder"), ("auto", None)
    ]  # fmt: skip


def test_a_run_keeps_its_name_where_one_stands_in_its_folder(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.path)
    source = request_recalibration("model.keras", dataset="mnist-sample").source
    assert source is not None
    assert source.name == trained.name


def test_a_file_becomes_a_file_beside_it(trained: Run, few_digits: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "net.keras"
    file.write_bytes(trained.model_path.read_bytes())
    want = request_recalibration(str(file), dataset="mnist-sample", unbiased=False)
    assert (want.source, want.out) == (None, tmp_path / "net-recalibrated.keras")
    assert isinstance(want.data, files.Dataset)
    _, place = recalibrate_saved(replace(want, data=few_digits))
    assert place == want.out
    with pytest.raises(InputError, match="add --force"):
        request_recalibration(str(file), dataset="mnist-sample")
    assert request_recalibration(str(file), dataset="mnist-sample", force=True).out == place
