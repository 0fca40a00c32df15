"""The probes of a run as files: their schema, and how they are written and read.

    saved_models/NAME/probes.csv    step,layer,quantity,which,value: one row per reading
                      probes.json   how the probes were taken, and predictions by batch composition

The topics in `kerasbn.probes.topics` define the quantities. Loads neither TensorFlow nor Keras.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kerasbn.common.errors import expected
from kerasbn.common.records import read_csv, read_json, write_csv, write_json
from kerasbn.runs import Run

FILES = TABLE, RECORD = "probes.csv", "probes.json"
MODEL = "model"  # in place of a layer's name where a quantity belongs to the whole model

Floats = NDArray[np.float64]


class Reading(NamedTuple):
    """One value of one quantity."""

    step: int  # number of training steps before it
    layer: str  # name of the Keras layer, or `MODEL`
    quantity: str  # such as "kernel_gradient"
    which: str  # tells several values of one quantity apart, such as a percentile; may be empty
    value: float  # NaN or infinite once the model has diverged


@dataclass(frozen=True)
class LayerNames:
    """Names of a Dense layer and of the BN layer that follows it, if any."""

    dense: str
    bn: str | None = None


@dataclass(frozen=True)
class BatchResult:
    """Predictions for the test set in batches of one composition."""

    statistics: str  # what BN layers normalize with: "moving" or "batch"
    batch_size: int
    order: str  # "shuffled", or "sorted" by class, so that most batches hold a single class
    accuracy: float
    changed: float  # share of predictions that differ from those in another, shuffled order
    largest: float  # largest absolute difference of any logit between the two orders


@dataclass(frozen=True)
class ProbeRecord:
    """The content of probes.json."""

    examples: int  # training examples that each probe runs through the model
    batches: int  # that the loss landscape is measured on
    batch_size: int  # of those batches
    # Distances along the gradient, as multiples of the gradient.
    step_sizes: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]
    # From first to last; the last one computes the logits.
    layers: Annotated[tuple[LayerNames, ...], msgspec.Meta(min_length=2)]
    batch_composition: tuple[BatchResult, ...] = ()  # test predictions of the trained model


class Series(NamedTuple):
    """One quantity over the training: the steps of its readings and their values."""

    steps: Floats
    values: Floats

    @property
    def start(self) -> np.float64:
        """The first value, finite or not; NaN if there is none."""
        return np.float64(self.values[0] if len(self.values) else np.nan)

    @property
    def finite(self) -> Floats:
        """The finite values; a single NaN if there are none."""
        found = self.values[np.isfinite(self.values)]
        return found if len(found) else np.array([np.nan])

    def median(self) -> float:
        """Return the median of the finite values, or NaN."""
        return float(np.median(self.finite))


@dataclass(frozen=True)
class ProbedRun:
    """A run with its probes: the series by layer, quantity and which."""

    name: str
    record: ProbeRecord
    readings: Mapping[tuple[str, str, str], Series]

    @property
    def bn(self) -> bool:
        """Whether the model has BN layers."""
        return bool(self.bn_layers)

    @cached_property
    def layers(self) -> list[str]:
        """Names of the Dense layers; the last one computes the logits."""
        return [layer.dense for layer in self.record.layers]

    @cached_property
    def bn_layers(self) -> list[str]:
        """Names of the BN layers."""
        return [layer.bn for layer in self.record.layers if layer.bn]

    @property
    def diverged(self) -> bool:
        """Whether some reading is NaN or infinite."""
        return not all(np.isfinite(each.values).all() for each in self.readings.values())

    def series(self, layer: str, quantity: str, which: object = "") -> Series:
        """Return one quantity over the training; empty if it was not recorded."""
        return self.readings.get((layer, quantity, str(which)), Series(np.empty(0), np.empty(0)))

    def pooled(self, layers: Iterable[str], quantity: str) -> Series:
        """Return the readings of one quantity in several layers as a single series."""
        found = (self.series(layer, quantity) for layer in layers)
        return Series(*map(np.concatenate, zip(*found, strict=True)))


def write_probes(folder: Path, readings: Iterable[Reading], record: ProbeRecord) -> None:
    """Write the probes of a run into its folder."""
    write_csv(folder / TABLE, Reading._fields, readings)
    write_json(folder / RECORD, record)


def has_probes(run: Run) -> bool:
    """Return whether a run has probes."""
    return (run.path / TABLE).is_file()


def read_probes(run: Run) -> ProbedRun:
    """Read the probes of a run.

    Raises:
        InputError: If the run has none, or a file is missing or damaged.
    """
    if not has_probes(run):
        raise expected(
            run.path, f"a run without {TABLE}", "a run with probes", "train again with --probe"
        )
    what, advice = "the probes of a run", "train again with --probe"
    columns = {"step": int, "layer": str, "quantity": str, "which": str, "value": float}
    table = read_csv(run.path / TABLE, columns, what, advice, finite=False)
    record = read_json(run.path / RECORD, ProbeRecord, what, advice)
    collected = defaultdict(list)
    for step, layer, quantity, which, value in zip(*table.values(), strict=True):
        collected[layer, quantity, which].append((step, value))
    series = {key: Series(*np.array(pairs, float).T) for key, pairs in collected.items()}
    return ProbedRun(run.name, record, series)
