"""The device to train on."""

import os
import platform
import re
from dataclasses import dataclass

import tensorflow as tf

from kerasbn.errors import expected


@dataclass(frozen=True)
class Device:
    """The device, or devices, of a training.

    Attributes:
        name: TensorFlow's name of the (first) device, such as ``/GPU:0``.
        description: The device in words, for the record of a run.
        replicas: The names of all devices if each batch is split among several.
    """

    name: str
    description: str
    replicas: tuple[str, ...] = ()

    def check_batch(self, size: int) -> None:
        """Raise `InputError` if a batch of this size cannot be split evenly."""
        count = len(self.replicas)
        if count and size % count:
            raise expected(
                f"--device all, --batch-size {size}",
                f"a batch of {size} for {count} devices",
                f"a multiple of {count}",
            )


def choose_device(choice: str = "auto") -> Device:
    """Return the device that `choice` names, and let the memory use of GPUs grow on demand.

    Args:
        choice: ``auto`` (the first GPU, or the CPU), ``cpu``, ``gpu``, ``gpu:N``, or ``all`` (every
            GPU, or every logical CPU of TensorFlow, by default one).

    Raises:
        InputError: If it is none of these, or there is no such GPU.
    """
    match = re.fullmatch(r"auto|all|cpu|gpu(?::(\d+))?", choice)
    if not match:
        raise expected(f"--device {choice}", f"'{choice}'", "auto, all, cpu, gpu or gpu:N")
    gpus = tf.config.list_physical_devices("GPU")
    if choice == "cpu" or (choice in ("auto", "all") and not gpus):
        cpus = len(tf.config.list_logical_devices("CPU")) if choice == "all" else 1
        return _one_or_all("CPU", [f"CPU ({platform.machine()}, {os.cpu_count()} cores)"] * cpus)
    number = int(match[1] or 0)
    if number >= len(gpus):
        have = ", ".join(["cpu", *(f"gpu:{i}" for i in range(len(gpus)))])
        raise expected(
            f"--device {choice}",
            "a GPU that TensorFlow does not see",
            f"one of the devices it sees: {have}",
            'a GPU needs a driver and pip install "kerasbn[gpu]"',
        )
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPUs are already in use
            break
    chosen = range(len(gpus)) if choice == "all" else [number]
    details = [tf.config.experimental.get_device_details(gpus[i]) for i in chosen]
    names = [each.get("device_name", "unnamed") for each in details]
    words = [f"GPU {i} ({name})" for i, name in zip(chosen, names, strict=True)]
    return _one_or_all("GPU", words, number)


def _one_or_all(kind: str, descriptions: list[str], first: int = 0) -> Device:
    """Return the devices of a kind from number `first` on, one for each description."""
    replicas = tuple(f"/{kind}:{first + i}" for i in range(len(descriptions)))
    return Device(replicas[0], ", ".join(descriptions), replicas if len(replicas) > 1 else ())
