"""Checkpoints: the state of a training after an epoch, from which it continues bit for bit.

The order of the batches depends on (seed, epoch) alone. So the variables, the number of epochs and
what was recorded until then are the whole state.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np

from kerasbn.common.errors import expected
from kerasbn.common.files import atomic_write

_WHAT, _ADVICE = "a checkpoint", "train again with --force"
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # that NumPy finds

Arrays = list[np.ndarray]
Metrics = dict[str, int | float]


@dataclass(frozen=True)
class Progress:
    """How far a training of several models has come.

    Attributes:
        epochs: The number of complete epochs.
        seconds: How long they took.
        diverged: The step at which each diverged model did.
        history: The metrics of each model after each of its epochs.
    """

    epochs: int
    seconds: float = 0.0
    diverged: dict[str, int] = field(default_factory=dict)
    history: dict[str, list[Metrics]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Header:
    """The first entry of the file; `kept` counts the weights of each diverged model."""

    progress: Progress
    kept: dict[str, int]


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
    rest = iter(arrays[len(arrays) - sum(header.kept.values()) :])
    weights = {key: list(islice(rest, count)) for key, count in header.kept.items()}
    variables = arrays[: len(arrays) - sum(header.kept.values())]
    return Checkpoint(header.progress, variables, weights)


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
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files) if count is None else count)]
    except FileNotFoundError as error:
        raise expected(path, "no such file", _WHAT, _ADVICE) from error
    except _DAMAGE as error:
        raise expected(path, "a damaged file", _WHAT, _ADVICE) from error


def _header(path: Path, content: np.ndarray) -> _Header:
    try:
        return msgspec.json.decode(content.tobytes(), type=_Header)
    except msgspec.DecodeError as error:
        raise expected(path, "a damaged file", _WHAT, _ADVICE) from error
