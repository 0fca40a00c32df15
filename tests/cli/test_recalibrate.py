"""`kerasbn recalibrate` as a user types it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from sample_runs import job, train_runs

from kerasbn.data.datasets import Dataset
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.runs import read_run
from kerasbn.training.models import mlp
from kerasbn.training.settings import ModelSettings, TrainingSettings

Kerasbn = Callable[..., tuple[int, str, str]]
SAMPLE = ["--dataset", "mnist-sample"]


@pytest.fixture
def recalibrate(kerasbn: Kerasbn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kerasbn:
    """Run `kerasbn recalibrate` in an empty folder; gives exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    return partial(kerasbn, "recalibrate")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file with a randomized model of three inputs and two outputs."""
    x = keras.Input((3,), name="x")
    y = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(x, keras.layers.Dense(2)(y))
    randomize_parameters(model, 1)
    model.save(tmp_path / "small.keras")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=rng.normal(9, 2, (50, 3)), y=rng.integers(0, 2, 50))
    return tmp_path / "small.keras"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_run_becomes_a_new_run(
    recalibrate: Kerasbn, sample_digits: Dataset, tmp_path: Path
) -> None:
    slow = job(ModelSettings(bn_momentum=0.999), "slow")
    root, settings = tmp_path / "saved_models", TrainingSettings(steps=60)
    train_runs([slow], sample_digits, settings, quiet=True, figures=False, root=root)
    code, out, _ = recalibrate("slow", *SAMPLE)
    assert code == 0
    first, second, what, accuracy, written = out.splitlines()
    assert first.startswith("bn_1: mean off by up to ")
    assert second.startswith("bn_2: mean off by up to ")
    assert what == "statistics of 4,000 training images of mnist-sample, unbiased variance, m/(m-1)"
    assert accuracy.startswith("accuracy on 1,000 test images: ")
    assert written == f"written: {Path('saved_models/slow-recalibrated')}"
    run, source = (read_run(tmp_path / "saved_models" / n) for n in ("slow-recalibrated", "slow"))
    assert run.record.recalibrated is not None
    found = run.record.recalibrated["accuracy"]
    assert found["after"] > found["before"] + 0.1
    assert run.record.final == {"val_accuracy": found["after"]}
    assert run.record.recalibrated["from"] == "slow"
    assert run.history == source.history
    new, old = (keras.models.load_model(each.model_path) for each in (run, source))
    np.testing.assert_array_equal(new.get_layer("logits").kernel, old.get_layer("logits").kernel)
    variances = [np.asarray(each.get_layer("bn_1").moving_variance) for each in (new, old)]
    assert np.abs(variances[0] - variances[1]).max() > 1


@pytest.mark.slow
def test_a_file_becomes_a_file(recalibrate: Kerasbn, small: Path) -> None:
    data = small.with_name("data.npz")
    code, out, err = recalibrate(small, "--data", data, "--variance", "plain", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    place = small.with_name("small-recalibrated.keras")
    assert found["written"] == str(place)
    assert found["variance"] == "plain"
    assert found["accuracy"]["on"] == "the same data"
    assert [shift["layer"] for shift in found["shifts"]] == ["norm"]
    layer = keras.models.load_model(place).get_layer("norm")
    np.testing.assert_allclose(layer.moving_mean, np.load(data)["x"].mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, np.load(data)["x"].var(0), rtol=1e-5)
    before = place.read_bytes()
    code, _, err = recalibrate(small, "--data", data)
    assert code == 2
    assert "add --force" in err
    assert place.read_bytes() == before
    assert recalibrate(small, "--data", data, "--force")[0] == 0
    assert recalibrate(small, "--data", data, "-o", small.with_name("other.keras"))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.keras"], "none.keras: received no such file"),
        (["plain.keras", *SAMPLE], "received a model without BN layers, expected"),
        (["small.keras", *SAMPLE], "takes (3,), expected one that takes an image"),
        (["small.keras", "--data", "absent"], "--data absent: received no such file or folder"),
        (["small.keras", "--data", "small.keras"], "no .npz of numeric arrays"),
        (["small.keras", "--data", "data.npz", "-o", "a.h5"], "received a file ending in '.h5'"),
    ],
)
def test_bad_input_is_one_line(
    recalibrate: Kerasbn, small: Path, arguments: list[str], said: str
) -> None:
    mlp(bn=False).save(small.with_name("plain.keras"))
    files = sorted(small.parent.iterdir())
    code, out, err = recalibrate(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert sorted(small.parent.iterdir()) == files
