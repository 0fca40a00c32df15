"""Every batch shared out among devices: two logical CPUs stand for two real ones."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kerasbn import runs

TWICE = """
import sys
from dataclasses import replace
from pathlib import Path
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras

keras.config.set_dtype_policy("float64")  # which judges
keras.config.set_floatx("float64")

from kerasbn.data.datasets import Split, load_dataset
from kerasbn.errors import InputError
from kerasbn.training.settings import ModelSettings, TrainingSettings

digits = load_dataset("mnist-sample")
digits = replace(digits, train=Split(digits.train.images[:640], digits.train.labels[:640]))
pair = ModelSettings(), ModelSettings(bn=False)
training = TrainingSettings(steps=50)  # two epochs of 20 and a part of a third
for device in ("cpu", "all"):
    members = [job(each, f"{device}-{each.bn}", probe=True) for each in pair]
    train_runs(members, digits, training, device=device, quiet=True, root=Path(sys.argv[1]))
other = job(ModelSettings(hidden=(8, 16, 8), bn_position="after"), "other")
train_runs([other], digits, training, device="all", quiet=True, root=Path(sys.argv[1]))
try:
    train_runs(members[:1], digits, replace(training, batch_size=31), device="all", force=True,
          root=Path(sys.argv[1]))
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("saved_models")
    done = subprocess.run([sys.executable, "-c", TWICE, str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return root, done.stdout


@pytest.mark.parametrize("bn", [True, False])
def test_the_figures_are_those_of_one_device(on_two_devices: tuple[Path, str], bn: bool) -> None:
    one, two = (runs.read_run(on_two_devices[0] / f"{device}-{bn}") for device in ("cpu", "all"))
    assert list(one.history["step"]) == two.history["step"] == [20, 40, 50]
    # Statistics of half a batch, or a gradient summed or averaged once too often, differ by 1e-2.
    for figure in ("loss", "val_loss"):  # summed in float32
        np.testing.assert_allclose(two.history[figure], one.history[figure], rtol=1e-6)
    for mine, theirs in zip(weights(two), weights(one), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)


def test_another_network_can_follow_in_the_same_process(
    on_two_devices: tuple[Path, str],
) -> None:
    assert runs.read_run(on_two_devices[0] / "other").status == "finished"


def test_what_is_kept_is_a_plain_network(on_two_devices: tuple[Path, str]) -> None:
    network = keras.models.load_model(on_two_devices[0] / "all-True" / runs.MODEL)
    normalizations = [
        each for each in network.layers if isinstance(each, keras.layers.BatchNormalization)
    ]
    assert [each.synchronized for each in normalizations] == [False, False]


def test_the_record_names_both_devices(on_two_devices: tuple[Path, str]) -> None:
    record = json.loads((on_two_devices[0] / "all-True" / runs.RECORD).read_text())
    assert record["device"].count("CPU") == 2
    assert record["status"] == "finished"


def test_a_batch_that_cannot_be_shared_out_is_refused(on_two_devices: tuple[Path, str]) -> None:
    assert on_two_devices[1] == (
        "--device all, --batch-size 31: received a batch of 31 for 2 devices, expected a multiple "
        "of 2\n"
    )


def weights(run: runs.Run) -> list[Any]:
    found: list[Any] = keras.models.load_model(run.model_path).get_weights()
    return found
