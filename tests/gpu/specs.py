"""What is timed: a training of pairs of models, by kerasbn or by a rival, on a GPU or the CPU.

A rival trains the same models on the same data with the same settings: 784-32-32-10 with and
without BN, Adam, batches in a new order every epoch, and an evaluation of both models on all
training and test images after it. Each is a program of its own that gets a `Spec` as JSON and
prints one line of JSON. Nothing heavy is loaded here.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from kerasbn.data.datasets import Dataset, Split, load_dataset

# One graph of the GPU for the whole loop: its steps are launched without the processor.
GRAPHS = (
    "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CONDITIONAL,WHILE "
    "--xla_gpu_graph_min_graph_size=1"
)
STEPS = 200  # of an epoch in which widths and batch sizes are compared
EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Spec:
    """One training to time.

    Attributes:
        members: The number of pairs that train as one ensemble.
        steps: The number of batches per epoch, with as many examples; None for all.
        per_call: The number of batches per compiled call; None for the default.
        graphs: Whether XLA turns the loop into a CUDA graph.
    """

    rival: str = "kerasbn"
    device: str = "gpu"
    members: int = 1
    hidden: tuple[int, ...] = (32, 32)
    batch_size: int = 32
    epochs: int = 3
    steps: int | None = None
    deterministic: bool = False
    per_call: int | None = None
    graphs: bool = False

    @property
    def name(self) -> str:
        """What distinguishes it, such as ``kerasbn gpu members=8``."""
        plain = Spec(self.rival, self.device, epochs=self.epochs)
        changed = [
            f"{key}={'x'.join(map(str, value)) if isinstance(value, tuple) else value}"
            for key, value in asdict(self).items()
            if value != getattr(plain, key)
        ]
        return " ".join([self.rival, self.device, *changed])

    @property
    def models(self) -> int:
        """The number of models."""
        return 2 * self.members


def full_specs() -> list[Spec]:
    """Return what is timed on a GPU machine, the most important first."""
    gpu, members, deterministic = Spec(), (8, 32, 128), Spec(deterministic=True)
    rivals = [Spec("torch"), Spec("jax"), Spec("keras", epochs=2)]
    return [
        gpu, Spec(device="cpu"), *rivals,
        *(Spec(members=count) for count in members), deterministic,
        Spec(graphs=True), Spec(members=32, graphs=True), Spec(per_call=1875),
        *(Spec(device="cpu", members=count) for count in members),
        *(replace(each, device="cpu") for each in rivals),
        *(Spec("jax", members=count) for count in members),
        *shapes([(128, 128), (512, 512), (2048, 2048)], [256, 2048], STEPS),
    ]  # fmt: skip


def small_specs() -> list[Spec]:
    """Return what is timed on logical devices, to test the programs."""
    alike = [Spec("torch", epochs=2), Spec("jax", epochs=2), Spec("keras", epochs=2)]
    ours = [Spec(epochs=2), Spec(device="cpu", epochs=2), Spec(members=2, epochs=2)]
    return [*ours, *alike, Spec(epochs=2, deterministic=True, per_call=5)]


def shapes(hidden: list[tuple[int, ...]], batch_sizes: list[int], steps: int) -> list[Spec]:
    """Return trainings of few steps with other widths and batch sizes, on both devices."""
    changes = [{"hidden": sizes} for sizes in hidden] + [{"batch_size": n} for n in batch_sizes]
    devices = ("gpu", "cpu")
    return [Spec(device=at, steps=steps, **each) for each, at in product(changes, devices)]


def given() -> tuple[Spec, Dataset, dict[str, Any]]:
    """Return what a program was asked to time, its data, and the rest of its argument."""
    values = json.loads(sys.argv[1])
    fields = values.pop("spec")
    spec = Spec(**{**fields, "hidden": tuple(fields["hidden"])})
    data = load_dataset(values.pop("dataset"))
    if spec.steps is not None:
        data = Dataset("part", _part(data.train, spec.steps * spec.batch_size), data.test)
    return spec, data, values


def _part(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


def report(seconds: list[float], accuracies: dict[str, float], **others: object) -> None:
    """Print the seconds of each epoch, and the mean test accuracy with and without BN."""
    print(json.dumps({"epochs": seconds, "accuracy": accuracies, **others}))  # noqa: T201 - the result
