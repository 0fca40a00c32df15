"""Training uses the requested device; an unknown one is an error that lists the devices."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from kerasbn.common.errors import ArgumentError
from kerasbn.training import devices
from kerasbn.training.devices import Device, choose_device

ON_THE_SECOND_CPU = """
import sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from kerasbn.data.datasets import Dataset, Split, load_dataset
from kerasbn.experiments import train as experiment
from kerasbn.training.devices import Device
from kerasbn.training.settings import ModelSettings, TrainingSettings

placed = {}

def record_predictions(*arguments):
    placed["predictions"] = tf.constant(0.0).device
    return ()

def record_devices(learners, dataset, schedule, callbacks, device, epoch):
    fit(learners, dataset, schedule, callbacks, device, epoch)
    loop = callbacks[0].model
    placed["images"], placed["labels"] = loop._images.device, loop._labels.device
    single, ensemble = learners
    variables = [*single.models["bn"].variables, *ensemble._trainable, *ensemble._non_trainable]
    placed.update({each.path: each.value.device for each in variables})

    (probe,) = [each for each in callbacks if isinstance(each, experiment.Probe)]
    placed["probe"] = probe._device

fit, experiment.fit = experiment.fit, record_devices
experiment.predict_in_batches = record_predictions
experiment.Probe._measure = lambda *arguments: None  # only its device matters here
experiment.choose_device = lambda choice: Device("/CPU:1", "the second one")
small, plain = ModelSettings(hidden=(8,)), ModelSettings(hidden=(8,), bn=False)
jobs = [experiment.TrainingJob("bn", small, TrainingSettings(steps=3), probe=True)] + [
    experiment.TrainingJob(f"plain-{seed}", plain, TrainingSettings(steps=3, seed=seed))
    for seed in (0, 1)
]
test = load_dataset("mnist-sample").test
few = Split(test.images[:96], test.labels[:96])
data = Dataset("few", few, few)
experiment.train_jobs(jobs, data, root=Path(sys.argv[1]), figures=False)
assert len(placed) > 10
wrong = {name: device for name, device in placed.items() if not device.endswith("CPU:1")}
assert not wrong, wrong
"""


@pytest.mark.slow
def test_everything_is_on_the_device(tmp_path: Path) -> None:
    """Two logical CPUs of a new process stand for two devices."""
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_SECOND_CPU, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_cpu_is_described() -> None:
    device = choose_device("cpu")
    assert device.name == "/CPU:0"
    assert device.description.startswith("CPU (")


@pytest.mark.parametrize("choice", ["gpu:", "gpu:-1", "GPU", "cuda", "", "cpu:0", 0])
def test_an_invalid_choice_is_an_error(choice: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^device=.* expected auto, all, cpu, gpu or gpu:N"):
        choose_device(choice)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let TensorFlow report two GPUs; return the names of those with memory growth set."""
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
def test_a_gpu_is_used_if_there_is_one(two_gpus: list[str], choice: str, name: str) -> None:
    device = choose_device(choice)
    assert device.name == name
    assert device.description == f"GPU {name[-1]} (Model T)"
    assert len(two_gpus) == 2


@pytest.mark.usefixtures("two_gpus")
def test_all_gpus_share_the_batches() -> None:
    device = choose_device("all")
    assert device.replicas == ("/GPU:0", "/GPU:1")
    assert device.description == "GPU 0 (Model T), GPU 1 (Model T)"
    with pytest.raises(ArgumentError, match="a multiple of 2"):
        device.check_batch_size(33)


def test_the_cpu_can_be_chosen_despite_a_gpu(two_gpus: list[str]) -> None:
    assert choose_device("cpu").name == "/CPU:0"
    assert len(two_gpus) == 2  # or TensorFlow would fill their memory all the same


@pytest.mark.usefixtures("two_gpus")
def test_a_missing_gpu_is_an_error_that_lists_the_devices() -> None:
    with pytest.raises(ArgumentError) as error:
        choose_device("gpu:2")
    assert str(error.value).startswith(
        "device='gpu:2': received a GPU that TensorFlow does not see, "
        "expected one of the devices it sees: cpu, gpu:0, gpu:1"
    )


def test_what_a_gpu_computes_with_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Oct 7\n")
    monkeypatch.setattr(devices, "_DRIVER", driver)
    monkeypatch.setattr(
        tf.sysconfig, "get_build_info", lambda: {"cuda_version": "12.5.1", "cudnn_version": "9"}
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    cpu, gpu = (devices.environment(Device(name, "")) for name in ("/CPU:0", "/GPU:0"))
    assert cpu.keys() == {"threads", *(name for name in devices._FLAGS if name in os.environ)}
    assert cpu["threads"] == "3"
    software = {"cuda": "12.5.1", "cudnn": "9", "driver": "580.159.04", "TF32": "on"}
    assert gpu == cpu | software
    driver.unlink()
    assert "driver" not in devices.environment(Device("/GPU:0", ""))
