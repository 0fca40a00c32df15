"""The devices to train on."""

import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from kerasbn.common.errors import ArgumentError

_FLAGS = (
    "XLA_FLAGS", "TF_XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS", "TF_DETERMINISTIC_OPS",
    "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Device:
    """Where to train."""

    name: str  # TensorFlow's, such as `/GPU:0`; of the first of several
    description: str  # for the record of a run
    replicas: tuple[str, ...] = ()  # all names for data-parallel training; empty for one device

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name.startswith("/GPU")

    def check_batch_size(self, size: int) -> None:
        """Raise `ArgumentError` if a batch of this size cannot be split evenly."""
        count = len(self.replicas)
        if count and size % count:
            wanted = f"a multiple of {count}, to split each batch over {count} devices"
            raise ArgumentError("batch_size", size, wanted)


def choose_device(choice: str = "auto") -> Device:
    """Return the device that `choice` names, and let TensorFlow allocate GPU memory as needed.

    Otherwise TensorFlow fills the memory of every GPU, even if it computes on the CPU.

    `auto` is the first GPU, otherwise the CPU; `all` is all GPUs, otherwise all logical CPUs; the
    others are `cpu`, `gpu` and `gpu:N`.
    """
    match = isinstance(choice, str) and re.fullmatch(r"auto|all|cpu|gpu(?::(\d+))?", choice)
    if not match:
        raise ArgumentError("device", choice, "auto, all, cpu, gpu or gpu:N")
    gpus = tf.config.list_physical_devices("GPU")
    with suppress(RuntimeError):  # the GPUs are in use already
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    if choice == "cpu" or (choice in ("auto", "all") and not gpus):
        cpus = len(tf.config.list_logical_devices("CPU")) if choice == "all" else 1
        return _device("CPU", [f"CPU ({platform.machine()}, {os.cpu_count()} cores)"] * cpus)
    number = int(match[1] or 0)
    if number >= len(gpus):
        found = ", ".join(["cpu", *(f"gpu:{i}" for i in range(len(gpus)))])
        raise ArgumentError(
            "device", choice, f"one of the devices it sees: {found}",
            'a GPU needs a driver and pip install "kerasbn[gpu]"',
            received="a GPU that TensorFlow does not see",
        )  # fmt: skip
    numbers = range(len(gpus)) if choice == "all" else [number]
    details = [tf.config.experimental.get_device_details(gpus[i]) for i in numbers]
    names = [each.get("device_name", "unnamed") for each in details]
    return _device("GPU", [f"GPU {i} ({n})" for i, n in zip(numbers, names, strict=True)], number)


def environment(device: Device) -> dict[str, str]:
    """Return what results may depend on besides device and versions, such as XLA's flags."""
    threads = (
        tf.config.threading.get_intra_op_parallelism_threads()
        or os.environ.get("TF_NUM_INTRAOP_THREADS")  # TensorFlow reads it where none is set
        or os.cpu_count()
    )
    flags = {name: os.environ[name] for name in _FLAGS if name in os.environ}
    return {"threads": str(threads), **flags, **(_gpu_environment() if device.is_gpu else {})}


def _gpu_environment() -> dict[str, str]:
    """Return the libraries that TensorFlow was built for, the driver, and the rounding of products.

    TF32 keeps 10 bits of the factors' mantissas; TensorFlow uses it where the GPU has it.
    """
    build = tf.sysconfig.get_build_info()
    found = {name: build.get(f"{name}_version") for name in ("cuda", "cudnn")}
    with suppress(OSError):
        release = re.search(r"\d+(\.\d+)+", _DRIVER.read_text())
        found["driver"] = release and release[0]
    found["TF32"] = "on" if tf.config.experimental.tensor_float_32_execution_enabled() else "off"
    return {name: str(value) for name, value in found.items() if value}


def _device(kind: str, descriptions: list[str], first: int = 0) -> Device:
    """Return one or several devices of a kind, numbered from `first`."""
    names = tuple(f"/{kind}:{first + i}" for i in range(len(descriptions)))
    return Device(names[0], ", ".join(descriptions), names if len(names) > 1 else ())
