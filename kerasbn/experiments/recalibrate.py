"""Recalibrate a saved model, and keep the result as a run or a file.

What can be refused is refused by `request_recalibration`, which loads no Keras.
"""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.files import check_new_file
from kerasbn.common.records import write_json
from kerasbn.common.wording import percent, plural
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.runs import Run, find_model, run_of

if TYPE_CHECKING:
    import keras

    from kerasbn.training.recalibrate import Recalibration


@dataclass(frozen=True)
class RecalibrationRequest:
    """What to recalibrate on what data, and where to write the result.

    Attributes:
        file: The file of the model.
        source: The run it belongs to; None for a file on its own.
        data: A dataset, a folder of images or an `.npz` file.
        out: The file to write; None for a new run.
        unbiased: Whether variances have the factor m/(m-1).
        scale: Factor for pixels, 0 to 255.
        offset: Added after scaling.
        force: Whether to replace what exists; otherwise a new run is numbered.
    """

    file: Path
    source: Run | None
    data: Dataset | Path
    out: Path | None
    unbiased: bool = True
    scale: float = 1.0
    offset: float = 0.0
    force: bool = False


@dataclass(frozen=True)
class RecalibrationResult:
    """What a recalibration changed.

    Attributes:
        recalibration: The new model and how far its statistics moved.
        data: The data of the statistics, in words.
        unbiased: Whether variances have the factor m/(m-1).
        before: Accuracy before, 0 to 1; None without labels.
        after: Accuracy after.
        measured_on: The data of the accuracy, in words.
    """

    recalibration: "Recalibration"
    data: str
    unbiased: bool
    before: float | None
    after: float | None
    measured_on: str

    def record(self) -> dict[str, Any]:
        """Return what the record of a run holds."""
        return {
            "data": self.data,
            "variance": "m/(m-1)" if self.unbiased else "plain",
            "accuracy": {"before": self.before, "after": self.after, "on": self.measured_on},
            "shifts": [vars(shift) for shift in self.recalibration.shifts],
        }

    def lines(self) -> list[str]:
        """Return one line per BN layer, the data and the accuracy."""
        factor = "unbiased variance, m/(m-1)" if self.unbiased else "plain variance"
        lines = [*map(str, self.recalibration.shifts), f"statistics of {self.data}, {factor}"]
        if self.before is None or self.after is None:
            return [*lines, "accuracy not measured: no labels, or no classes"]
        change = f"{percent(self.before)} before, {percent(self.after)} after"
        return [*lines, f"accuracy on {self.measured_on}: {change}"]


def request_recalibration(
    model: str,
    data: Path | None = None,
    out: Path | None = None,
    *,
    dataset: str = "auto",
    data_dir: str | None = None,
    unbiased: bool = True,
    scale: float = 1.0,
    offset: float = 0.0,
    force: bool = False,
) -> RecalibrationRequest:
    """Check a request and load its dataset; loads no Keras.

    Args:
        model: The name or folder of a run, or a model file.
        data: A folder of images or an `.npz` file; None for a dataset.
        out: The file to write; None for a new run, or for `FILE-recalibrated.keras`.
        dataset: Which dataset; ``auto`` means the one that the run was trained on.
        data_dir: The folder with MNIST's four files.
        unbiased: See `RecalibrationRequest`, also for the following.
        scale: Factor for pixels.
        offset: Added after scaling.
        force: Whether to replace what exists.

    Raises:
        InputError: If there is no such model or data, or the result cannot be written.
    """
    file = find_model(model)
    source = run_of(file)
    if source is None and out is None:
        out = file.with_name(f"{file.stem}-recalibrated.keras")
    if out is not None:
        check_new_file(out, ".keras")
        if out.exists() and not force:
            raise expected(out, "a file that exists", "a new one", "add --force to replace it")
    if data is not None and not data.exists():
        found = "no such file or folder"
        raise ArgumentError("data", str(data), "a folder or an .npz file", received=found)
    if source is not None and (dataset, data_dir) == ("auto", None):
        dataset = source.record.data.name
    chosen = load_dataset(dataset, data_dir, quiet=False) if data is None else data
    return RecalibrationRequest(file, source, chosen, out, unbiased, scale, offset, force)


def recalibrate_saved(
    request: RecalibrationRequest, root: Path = runs.ROOT
) -> tuple[RecalibrationResult, Path]:
    """Recalibrate a saved model and write the result.

    With a dataset, statistics are those of the training images and accuracies are measured on the
    test images. With a folder or an `.npz` file, both use all of it.

    Args:
        request: What to recalibrate, on what, and where to write the result.
        root: The folder of a new run, `SOURCE-recalibrated`.

    Returns:
        What changed, and the written file or run folder.

    Raises:
        InputError: If the model cannot be loaded or has no BN layer, the data does not fit it, or
            the result cannot be written; then nothing is written.
    """
    from kerasbn.common.saved_models import load_model, save_model
    from kerasbn.training.recalibrate import accuracy, recalibrate

    model = load_model(request.file)
    population, labeled, words, measured_on = _batches(request, model)
    found = recalibrate(model, population, unbiased=request.unbiased)
    before, after = (accuracy(each, labeled) for each in (model, found.model))
    result = RecalibrationResult(found, words, request.unbiased, before, after, measured_on)
    if request.source is None or request.out is not None:
        assert request.out is not None
        save_model(found.model, request.out)
        return result, request.out
    return result, _write_run(request, request.source, result, root)


def _batches(request: RecalibrationRequest, model: "keras.Model") -> tuple[Any, Any, str, str]:
    """Return the batches for statistics and for accuracy, and both in words."""
    from kerasbn.training.model_inputs import folder_batches, npz_batches, split_batches

    data, pixels = request.data, (request.scale, request.offset)
    if isinstance(data, Dataset):
        train, test = (split_batches(split, model, *pixels) for split in (data.train, data.test))
        counts = plural(len(data.train), "training image"), plural(len(data.test), "test image")
        return train, test, f"{counts[0]} of {data.name}", counts[1]
    if data.is_dir():
        # The model of a run takes images in MNIST's form.
        batches = folder_batches(data, model, *pixels, digits=request.source is not None)
    else:
        batches = npz_batches(data, model)
    return batches, batches, str(data), "the same data"


def _write_run(
    request: RecalibrationRequest, source: Run, result: RecalibrationResult, root: Path
) -> Path:
    """Write the model as a new run, and return its folder.

    The record is that of the source with what changed; the history is the source's. The final
    metrics are those measured anew on the source's own test set: the accuracy or, with other data,
    none.
    """
    from kerasbn.common.saved_models import save_model

    data, name = request.data, f"{source.name}-recalibrated"
    same_data = isinstance(data, Dataset) and data.digest == source.record.data.digest
    record = replace(
        source.record,
        finished=datetime.now(UTC).isoformat(),
        final={"val_accuracy": result.after} if same_data and result.after is not None else {},
        recalibrated={"from": source.name, **result.record()},
    )
    requested = name if request.force else None
    with runs.new_run(requested, name, force=request.force, root=root) as folder:
        shutil.copyfile(source.path / runs.HISTORY, folder.path / runs.HISTORY)
        save_model(result.recalibration.model, folder.path / runs.MODEL)
        write_json(folder.path / runs.RECORD, record)
    assert folder.placed is not None
    return folder.placed
