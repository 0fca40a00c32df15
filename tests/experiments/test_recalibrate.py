"""A model whose statistics are replaced, and a saved one: what is asked, shown and kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sample_runs import job, train_runs

import kerasbn
from kerasbn.common.errors import ArgumentError, InputError
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.recalibrate import recalibrate_saved
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.runs import Run, read_run
from kerasbn.training.settings import ModelSettings, TrainingSettings


@pytest.fixture(scope="module")
def trained(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `few_digits` whose moving statistics are far behind."""
    slow = job(ModelSettings(hidden=(8,), bn_momentum=0.999), "slow")
    root = tmp_path_factory.mktemp("runs") / "saved_models"
    (run,) = train_runs(
        [slow], few_digits, TrainingSettings(steps=40), quiet=True, figures=False, root=root
    )
    return run


@pytest.mark.slow
def test_a_model_can_be_a_run_its_name_or_a_file(
    trained: Run, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.path.parent.parent)
    batches = tf.data.Dataset.from_tensor_slices(few_digits.train.images).batch(100)
    wanted = kerasbn.recalibrate(keras.models.load_model(trained.model_path), batches)
    given: list[Any] = [trained, "slow", trained.path, str(trained.model_path)]
    for model in given:
        found = kerasbn.recalibrate(model, few_digits)
        for weight, same in zip(found.model.weights, wanted.model.weights, strict=True):
            np.testing.assert_allclose(weight, same, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"nobody: received no run .* \(slow\)"):
        kerasbn.recalibrate("nobody", few_digits)


@pytest.mark.parametrize(
    ("model", "data", "line"),
    [
        (3, tf.data.Dataset.range(3), "model=3: received a int, expected a Keras model, a run, or"),
        (None, tf.data.Dataset.range(3), "model=None: received a NoneType, expected a Keras model"),
        ("bn", np.zeros((4, 28, 28)), "data: received a ndarray, expected a kerasbn.Dataset or"),
    ],
)
def test_a_wrong_type_is_an_error_that_names_the_argument(model: Any, data: Any, line: str) -> None:
    with pytest.raises(ArgumentError) as error:
        kerasbn.recalibrate(model, data)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_run_recalibrated_on_its_own_digits_has_their_accuracy(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    result, place = recalibrate_saved(str(trained.path), few_digits, unbiased=False, root=tmp_path)
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
    train = replace(few_digits.train, labels=9 - few_digits.train.labels)
    other = replace(few_digits, name="other", train=train)
    result, place = recalibrate_saved(str(trained.path), other, root=tmp_path)
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
    result, place = recalibrate_saved(str(trained.path), tmp_path / "photos", root=tmp_path)
    assert result.after is not None
    assert result.measured_on == "the same data"
    assert read_run(place).record.final == {}


@pytest.mark.slow
def test_a_second_time_has_its_own_name_unless_it_is_to_replace_the_first(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    places = [
        recalibrate_saved(str(trained.path), few_digits, force=force, root=tmp_path)[1].name
        for force in (False, False, True)
    ]
    assert places == ["slow-recalibrated", "slow-recalibrated-2", "slow-recalibrated"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(places))


@pytest.mark.slow
def test_nothing_is_written_where_it_fails(
    trained: Run, few_digits: Dataset, tmp_path: Path
) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    randomize_parameters(model, 1)
    model.save(tmp_path / "three.keras")
    with pytest.raises(InputError, match="takes"):
        recalibrate_saved(str(tmp_path / "three.keras"), few_digits, tmp_path / "out.keras")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no images"):
        recalibrate_saved(str(trained.path), empty, root=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "three.keras"]


@pytest.mark.slow
def test_a_run_is_shown_the_digits_it_was_trained_on(
    trained: Run, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where others could be had, which `auto` would take for a file on its own."""
    loaded = []

    def load_dataset(*what: str | None, **_: bool) -> Dataset:
        loaded.append(what)
        return few_digits

    monkeypatch.setattr("kerasbn.experiments.recalibrate.load_dataset", load_dataset)
    run, file = str(trained.path), tmp_path / "net.keras"
    file.write_bytes(trained.model_path.read_bytes())
    recalibrate_saved(run, root=tmp_path)
    recalibrate_saved(run, dataset="mnist", root=tmp_path)
    recalibrate_saved(run, data_dir="folder", root=tmp_path)
    recalibrate_saved(str(file))
    assert loaded == [
        ("few-digits", None), ("mnist", None), ("auto", "folder"), ("auto", None)
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_keeps_its_name_where_one_stands_in_its_folder(
    trained: Run, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.path)
    _, place = recalibrate_saved("model.keras", few_digits, root=tmp_path)
    assert place.name == f"{trained.name}-recalibrated"


@pytest.mark.slow
def test_a_file_becomes_a_file_beside_it(trained: Run, few_digits: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "net.keras"
    file.write_bytes(trained.model_path.read_bytes())
    _, place = recalibrate_saved(str(file), few_digits)
    assert place == tmp_path / "net-recalibrated.keras"
    with pytest.raises(InputError, match="add --force"):
        recalibrate_saved(str(file), few_digits)
    assert recalibrate_saved(str(file), few_digits, force=True)[1] == place
