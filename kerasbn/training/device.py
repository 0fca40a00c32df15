"""The device a training runs on."""

import os
import platform
import re
from dataclasses import dataclass

import tensorflow as tf

from kerasbn.errors import expected


@dataclass(frozen=True)
class Device:
    """A device: TensorFlow's name of it, such as ``/GPU:0``, and words for the run's record."""

    name: str
    description: str


def choose_device(choice: str = "auto") -> Device:
    """The device that `choice` names; a GPU's memory is made to grow with need.

    Args:
        choice: ``auto`` (the first GPU, or else the CPU), ``cpu``, ``gpu`` or ``gpu:N``.

    Raises:
        InputError: if it is none of these, or the GPU it asks for is not there.
    """
    match = re.fullmatch(r"auto|cpu|gpu(?::(\d+))?", choice)
    if not match:
        raise expected(f"--device {choice}", f"'{choice}'", "auto, cpu, gpu or gpu:N")
    gpus = tf.config.list_physical_devices("GPU")
    if choice == "cpu" or (choice == "auto" and not gpus):
        return Device("/CPU:0", f"CPU ({platform.machine()}, {os.cpu_count()} cores)")
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
        except RuntimeError:  # the GPUs are in use already, with whatever was set then
            break
    details = tf.config.experimental.get_device_details(gpus[number])
    return Device(f"/GPU:{number}", f"GPU {number} ({details.get('device_name', 'unnamed')})")
