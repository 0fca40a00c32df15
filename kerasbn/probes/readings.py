"""What probes recorded of a run: written, read, and put into sentences. Loads no TensorFlow.

    saved_models/NAME/probes.csv    step,layer,quantity,which,value: a row for every reading
                      probes.json   what they were taken with, and the answers in batches

The quantities are defined in `kerasbn.probes.activations` and `kerasbn.probes.landscape`.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbn.errors import expected
from kerasbn.records import write_json
from kerasbn.runs import Run

TABLE, RECORD = "probes.csv", "probes.json"
COLUMNS = ("step", "layer", "quantity", "which", "value")
NETWORK = "network"  # in place of a layer's name

Floats = NDArray[np.float64]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Series:
    """One quantity over the training: the steps it was read at, and its values (NaN: none)."""

    steps: Floats
    values: Floats

    def finite(self) -> tuple[Floats, Floats]:
        """The steps and values where there is one."""
        there = np.isfinite(self.values)
        return self.steps[there], self.values[there]

    def median(self) -> float:
        """The median of the finite values; NaN if there is none."""
        values = self.finite()[1]
        return float(np.median(values)) if len(values) else float("nan")

    def first(self) -> float:
        """The first finite value; NaN if there is none."""
        values = self.finite()[1]
        return float(values[0]) if len(values) else float("nan")

    def last(self) -> float:
        """The last finite value; NaN if there is none."""
        values = self.finite()[1]
        return float(values[-1]) if len(values) else float("nan")


@dataclass(frozen=True)
class Probes:
    """What probes recorded of a run.

    Attributes:
        run: the run.
        about: what they were taken with: `digits`, `batches`, `batch_size`, `step_sizes`, `layers`
            and `batch_mates`.
        readings: the series by layer, quantity and which of several.
    """

    run: Run
    about: Mapping[str, Any]
    readings: Mapping[Key, Series]

    @property
    def bn(self) -> bool:
        """Whether the network has normalizations."""
        return bool(self.normalizations)

    @cached_property
    def layers(self) -> list[str]:
        """The names of the Dense layers, from the first to the logits."""
        return [str(layer["dense"]) for layer in self.about["layers"]]

    @cached_property
    def normalizations(self) -> list[str]:
        """The names of the normalizations, from the first on."""
        return [
            str(each["normalization"]) for each in self.about["layers"] if each["normalization"]
        ]

    @property
    def step_sizes(self) -> list[float]:
        """How far along the gradient the loss was looked at, as multiples of the gradient."""
        return [float(size) for size in self.about["step_sizes"]]

    def series(self, layer: str, quantity: str, which: object = "") -> Series:
        """One quantity over the training; empty where it was not read."""
        return self.readings.get((layer, quantity, str(which)), Series(np.empty(0), np.empty(0)))

    def over(self, layers: Iterable[str], quantity: str) -> Series:
        """One quantity of several layers, one after the other."""
        found = [self.series(layer, quantity) for layer in layers]
        return Series(
            np.concatenate([np.empty(0), *(each.steps for each in found)]),
            np.concatenate([np.empty(0), *(each.values for each in found)]),
        )

    def answered(self, statistics: str, batch_size: int, order: str) -> Mapping[str, Any] | None:
        """How the test digits were answered in such batches; None where they were not."""
        wanted = {"statistics": statistics, "batch_size": batch_size, "order": order}
        for row in self.about.get("batch_mates", []):
            if wanted.items() <= row.items():
                return dict(row)
        return None


def write_probes(
    folder: Path,
    readings: Iterable[Sequence[object]],
    about: Mapping[str, Any],
    batch_mates: Iterable[Mapping[str, Any]],
) -> None:
    """Write what was recorded into a run's folder."""
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        writer.writerows(readings)
    write_json(folder / RECORD, {**about, "batch_mates": list(batch_mates)})


def has_probes(run: Run) -> bool:
    """Whether a run was probed."""
    return (run.path / TABLE).is_file()


def read_probes(run: Run) -> Probes:
    """What probes recorded of a run.

    Raises:
        InputError: if it was not probed, or what was recorded is damaged.
    """
    if not has_probes(run):
        raise expected(run.path, f"a run without {TABLE}", "one that was probed", "add --probe")
    collected: dict[Key, tuple[list[float], list[float]]] = {}
    try:
        with (run.path / TABLE).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                key = (row["layer"], row["quantity"], row["which"])
                steps, values = collected.setdefault(key, ([], []))
                steps.append(float(row["step"]))
                values.append(float(row["value"]))
        about = json.loads((run.path / RECORD).read_text(encoding="utf-8"))
        found = Probes(
            run, about, {key: Series(*map(np.array, pair)) for key, pair in collected.items()}
        )
        if not found.layers or not found.step_sizes:
            raise ValueError("no layers")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise expected(
            run.path / TABLE, f"damaged probes ({error})", "what --probe wrote", "train again"
        ) from error
    return found
