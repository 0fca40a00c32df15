"""Checkpoints: the state of a training after an epoch, from which it continues bit for bit.

The order of the batches depends on (seed, epoch) alone. So the variables, the number of epochs and
what was recorded until then are the whole state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from kerasbn.common.errors import InputError, expected
from kerasbn.common.files import atomic_write
from kerasbn.data.arrays import load_arrays

_WHAT, _ADVICE = "a checkpoint", "train again with --force"

Arrays = list[np.ndarray]
Metrics = dict[str, int | float]
Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Progress:
    """How far a training of several models has come.

    Attributes:
        epochs: The number of complete epochs.
        seconds: How long they took.
        diverged: The step at which each diverged model did.
        history: The metrics of each model after each of its epochs.
    """

    epochs: Count
    seconds: float = 0.0
    diverged: dict[str, int] = field(default_factory=dict)
    history: dict[str, list[Metrics]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Header:
    """The first entry of the file; `kept` counts the weights of each diverged model."""

    progress: Progress
    kept: dict[str, Count]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch.

    Attributes:
        progress: How far it has come.
        variables: The values of all variables of the training, in the order of
            `TrainingLoop.state`.
        weights: The weights of each diverged model after its last epoch with metrics.
    """

    progress: Progress
    variables: Arrays
    weights: dict[str, Arrays]

    def write(self, path: Path) -> None:
        """Write it as an ``.npz`` file, whole or not at all."""
        kept = {key: len(weights) for key, weights in self.weights.items()}
        header = np.frombuffer(msgspec.json.encode(_Header(self.progress, kept)), np.uint8)
        write_arrays(path, [header, *self.variables, *chain(*self.weights.values())])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: If the file is missing or damaged.
    """
    content, *arrays = read_arrays(path)
    header = _header(path, content)
    split = len(arrays) - sum(header.kept.values())
    if split < 0:
        raise _damaged(path)
    rest = iter(arrays[split:])
    weights = {key: list(islice(rest, count)) for key, count in header.kept.items()}
    return Checkpoint(header.progress, arrays[:split], weights)


def read_progress(path: Path) -> Progress:
    """Read from a checkpoint how far the training has come.

    Raises:
        InputError: If the file is missing or damaged.
    """
    return _header(path, read_arrays(path, 1)[0]).progress


def write_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Write arrays as an ``.npz`` file, whole or not at all."""
    with atomic_write(path) as temporary:
        np.savez(temporary, *arrays)


def read_arrays(path: Path, count: int | None = None) -> Arrays:
    """Read the first `count` arrays that `write_arrays` wrote; None for all.

    Raises:
        InputError: If the file is missing or damaged.
    """
    wanted = None if count is None else [f"arr_{i}" for i in range(count)]
    arrays = load_arrays(path, _WHAT, _ADVICE, wanted)
    names = [f"arr_{i}" for i in range(len(arrays))]
    if not names or set(names) != arrays.keys():
        raise _damaged(path)
    return [arrays[name] for name in names]


def _header(path: Path, content: np.ndarray) -> _Header:
    try:
        return msgspec.json.decode(content.tobytes(), type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return expected(path, "a damaged file", _WHAT, _ADVICE)
