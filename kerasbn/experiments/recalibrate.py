"""A saved network whose moving statistics are replaced, kept as a run or a file of its own."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.asked import Asked
from kerasbn.records import write_json
from kerasbn.saved_models import load_model, save_model
from kerasbn.training.recalibrate import Recalibration, accuracy, recalibrate
from kerasbn.training.samples import from_digits, from_folder, from_npz

Words = dict[str, Any]


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration did, and on what.

    Attributes:
        found: the new network and how far its statistics moved.
        data: what the statistics are of, in words.
        unbiased: whether variances have the factor m/(m-1).
        before: accuracy before, 0 to 1; None without labels.
        after: accuracy after.
        measured_on: what the accuracy was measured on, in words.
    """

    found: Recalibration
    data: str
    unbiased: bool
    before: float | None
    after: float | None
    measured_on: str

    def record(self) -> Words:
        """The same as JSON holds it."""
        return {
            "data": self.data,
            "variance": "m/(m-1)" if self.unbiased else "plain",
            "accuracy": {"before": self.before, "after": self.after, "on": self.measured_on},
            "shifts": [vars(shift) for shift in self.found.shifts],
        }

    def lines(self) -> list[str]:
        """The same for people: a line for each normalization, then the accuracy."""
        factor = "times m/(m-1), as in the paper" if self.unbiased else "plain"
        lines = [str(shift) for shift in self.found.shifts]
        lines.append(f"statistics of {self.data}, variance {factor}")
        if self.before is None or self.after is None:
            return [*lines, "accuracy not measured: no labels, or no classes"]
        on = f"accuracy on {self.measured_on}"
        return [*lines, f"{on}: {self.before:.2%} before, {self.after:.2%} after"]


class Shown(NamedTuple):
    """What a network is shown: for its statistics, and to measure its accuracy; and in words."""

    population: tf.data.Dataset
    labelled: tf.data.Dataset
    words: str
    measured_on: str


def recalibrate_saved(asked: Asked, root: Path = runs.ROOT) -> tuple[Recalibrated, Path]:
    """Recalibrate a saved network, and keep the result as a new file or, of a run, a new run.

    Statistics are those of the training digits and accuracies are on the test digits; of a folder
    or an `.npz` file both are of all that is there.

    Args:
        asked: what to recalibrate, on what, and where to.
        root: the folder a new run goes into, as `SOURCE-recalibrated`.

    Returns:
        What it did, and the file or the run's folder that was written.

    Raises:
        InputError: if the network cannot be loaded or has no normalization, the data does not suit
            it, or the result cannot be written; then nothing is.
    """
    network = load_model(asked.file)
    shown = _shown(asked, network)
    found = recalibrate(network, shown.population, unbiased=asked.unbiased)
    before, after = (accuracy(each, shown.labelled) for each in (network, found.model))
    result = Recalibrated(found, shown.words, asked.unbiased, before, after, shown.measured_on)
    if asked.out is not None:
        save_model(found.model, asked.out)
        return result, asked.out
    assert asked.source is not None
    return result, _keep_run(asked, asked.source, result, root)


def _shown(asked: Asked, network: keras.Model) -> Shown:
    """What to show the network."""
    data, pixels = asked.data, (asked.scale, asked.offset)
    if isinstance(data, Dataset):
        population, labelled = (
            from_digits(split, network, *pixels) for split in (data.train, data.test)
        )
        words = f"{len(data.train):,} digits of {data.name}"
        return Shown(population, labelled, words, f"{len(data.test):,} other digits")
    if data.is_dir():
        # A run's network knows pictures in MNIST's form alone.
        batches = from_folder(data, network, *pixels, digits=asked.source is not None)
    else:
        batches = from_npz(data, network)
    return Shown(batches, batches, str(data), "the same data")


def _keep_run(asked: Asked, source: runs.Run, result: Recalibrated, root: Path) -> Path:
    """Keep the network as a new run, `SOURCE-recalibrated`; gives its folder.

    Its record is that of the source with what was done, its history the source's. Its final figures
    are those measured anew on the source's own test set: the accuracy or, if other data was shown,
    none.
    """
    data, name = asked.data, f"{source.name}-recalibrated"
    own = isinstance(data, Dataset) and data.digest == source.record.data.digest
    record = replace(
        source.record,
        finished=datetime.now(UTC).isoformat(),
        final={"val_accuracy": result.after} if own and result.after is not None else {},
        recalibrated={"from": source.name, **result.record()},
    )
    with runs.new_run(name if asked.force else None, name, force=asked.force, root=root) as folder:
        shutil.copyfile(source.path / runs.HISTORY, folder.path / runs.HISTORY)
        save_model(result.found.model, folder.path / runs.MODEL)
        write_json(folder.path / runs.RECORD, record)
    assert folder.placed is not None
    return folder.placed
