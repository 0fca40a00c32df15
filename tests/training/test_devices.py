"""A training runs on the device that was asked for, or says which there are."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from kerasbn.errors import InputError
from kerasbn.training.devices import choose_device

ON_THE_SECOND = """
import sys
from pathlib import Path
from dataclasses import replace
from pathlib import Path
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from kerasbn.data.datasets import load_dataset
from kerasbn.experiments import train as experiment
from kerasbn.training.devices import Device
from kerasbn.training.settings import ModelSettings, TrainingSettings

placed = {}

def spy(learners, digits, schedule, callbacks, device):
    fit(learners, digits, schedule, callbacks, device)
    model = callbacks[0].model
    placed["pixels"], placed["labels"] = model._pixels.device, model._labels.device
    solo, ensemble = learners
    variables = [*solo.networks["bn"].variables, *ensemble._trainable, *ensemble._others]
    placed.update({each.path: each.value.device for each in variables})

fit, experiment.fit = experiment.fit, spy
experiment.choose_device = lambda choice: Device("/CPU:1", "the second")
seeds = [TrainingSettings(seed=seed) for seed in (0, 1)]
members = [experiment.job(ModelSettings())] + [
    experiment.TrainingJob(f"plain-{each.seed}", ModelSettings(bn=False), training=each)
    for each in seeds
]
experiment.train_jobs(members, load_dataset("mnist-sample"), TrainingSettings(steps=3), quiet=True,
                 root=Path(sys.argv[1]))
assert len(placed) > 10
wrong = {name: device for name, device in placed.items() if not device.endswith("CPU:1")}
assert not wrong, wrong
"""


def test_everything_is_on_the_device(tmp_path: Path) -> None:
    """Two logical devices stand for two real ones, set up in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_SECOND, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_cpu_is_there() -> None:
    device = choose_device("cpu")
    assert device.name == "/CPU:0"
    assert device.description.startswith("CPU (")


@pytest.mark.parametrize("choice", ["gpu:", "gpu:-1", "GPU", "cuda", "", "cpu:0"])
def test_other_words_are_refused(choice: str) -> None:
    with pytest.raises(InputError, match=r"expected auto, all, cpu, gpu or gpu:N"):
        choose_device(choice)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with two GPUs, as far as TensorFlow says; gives those told to grow with need."""
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(2)]
    grown: list[str] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append(gpu.name)
    )
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"device_name": "Model T"}
    )
    return grown


@pytest.mark.parametrize(
    ("choice", "name"), [("auto", "/GPU:0"), ("gpu", "/GPU:0"), ("gpu:1", "/GPU:1")]
)
def test_a_gpu_is_taken_where_there_is_one(two_gpus: list[str], choice: str, name: str) -> None:
    device = choose_device(choice)
    assert device.name == name
    assert device.description == f"GPU {name[-1]} (Model T)"
    assert len(two_gpus) == 2


def test_the_cpu_can_be_taken_beside_a_gpu(two_gpus: list[str]) -> None:
    assert choose_device("cpu").name == "/CPU:0"
    assert two_gpus == []


def test_an_absent_gpu_is_an_error_that_lists_the_devices(two_gpus: list[str]) -> None:
    with pytest.raises(InputError) as error:
        choose_device("gpu:2")
    assert str(error.value).startswith(
        "--device gpu:2: received a GPU that TensorFlow does not see, "
        "expected one of the devices it sees: cpu, gpu:0, gpu:1"
    )
    assert two_gpus == []
