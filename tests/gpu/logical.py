"""`kerasbn` on a machine where two logical CPUs stand for two GPUs: `python -m gpu.logical`.

The CPU is the first of three logical devices and the GPUs are the others, so whatever is not placed
where it should be is on another device. Only what TensorFlow says about GPUs is made up.
"""

from typing import Any

from kerasbn.common.keras_internals import quiet_tensorflow

quiet_tensorflow()
import tensorflow as tf  # noqa: E402 - silenced

from kerasbn.training import callbacks, devices  # noqa: E402 - as above

GPUS = 2


class LogicalGpu(devices.Device):
    """A logical CPU that is taken for a GPU."""

    is_gpu = True


def pretend() -> None:
    """Let TensorFlow report GPUs in this process, before it is used."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * (1 + GPUS)
    tf.config.set_logical_device_configuration(cpu, parts)
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(GPUS)]
    listed = tf.config.list_physical_devices
    tf.config.list_physical_devices = lambda kind=None: gpus if kind == "GPU" else listed(kind)
    experimental: Any = tf.config.experimental
    experimental.set_memory_growth = lambda gpu, on: None
    experimental.get_device_details = lambda gpu: {"device_name": "logical"}
    made = devices._device

    def on_a_logical_cpu(kind: str, descriptions: list[str], first: int = 0) -> devices.Device:
        if kind == "CPU":
            return made(kind, descriptions[:1], first)
        found = made(kind, descriptions, first + 1)
        names = [name.replace("GPU", "CPU") for name in (found.name, *found.replicas)]
        return LogicalGpu(names[0], found.description, tuple(names[1:]))

    devices._device = on_a_logical_cpu
    callbacks.EVERY, callbacks.SHARE = 0.0, 1e9  # the trainings are short


if __name__ in ("__main__", "__mp_main__"):  # the second in the workers of a sweep
    pretend()
if __name__ == "__main__":
    from kerasbn.__main__ import start

    start()
