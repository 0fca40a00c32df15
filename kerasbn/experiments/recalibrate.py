"""Recalibrate a model in memory, or a saved one and keep the result as a run or a file.

No Keras is loaded before it is needed.
"""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.files import check_new_file
from kerasbn.common.keras_internals import quiet_tensorflow
from kerasbn.common.records import write_json
from kerasbn.common.saved_models import load_model, save_model
from kerasbn.common.wording import percent, plural
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.runs import Run, find_model, run_of

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerasbn.training.recalibrate import Recalibration


def recalibrate(
    model: "keras.Model | Run | Path | str",
    data: "Dataset | tf.data.Dataset",
    *,
    unbiased: bool = True,
) -> "Recalibration":
    """Replace the moving statistics of a copy of a model by the population statistics of `data`.

    Follows Algorithm 2 of Ioffe and Szegedy (2015), with all of the data as one batch, so that the
    batch size does not matter. Each BN layer, in the order of the graph, gets the mean and variance
    of its inputs; the layers before it already use their new statistics, and dropout is off. Sums
    are in float64. Every BN layer takes one pass over the data.

    Args:
        model: A functional or Sequential model, which does not change; or a run, its name, or a
            .keras or .h5 file.
        data: A dataset, of which the training images are taken; or a finite `tf.data.Dataset` of
            batches of the model's inputs, or of tuples that begin with them.
        unbiased: Multiply variances by m/(m-1), as the paper does, where m is the number of values
            per channel.

    Returns:
        A `Recalibration` with the new `model`, and in `shifts` how far its statistics moved.

    Raises:
        InputError: If an argument cannot be used, the model has no BN layer or cannot be copied, or
            there is no data, or the inputs of a BN layer are not finite.

    Examples:
        >>> import kerasbn
        >>> model = kerasbn.mlp(hidden=(16,))  # moving statistics are initially 0 and 1
        >>> result = kerasbn.recalibrate(model, kerasbn.load_dataset("mnist-sample"))
        >>> result
        Recalibration of mlp_bn
          bn_1: mean off by up to ... standard deviations, variance by up to a factor of ...
        >>> result.model.get_layer("bn_1").moving_mean.numpy().shape
        (16,)
    """
    import keras
    import tensorflow as tf

    from kerasbn.training.model_inputs import split_batches
    from kerasbn.training.recalibrate import recalibrate_model

    if not isinstance(data, Dataset | tf.data.Dataset):
        wanted = "a kerasbn.Dataset or a tf.data.Dataset"
        raise ArgumentError("data", data, wanted, received=f"a {type(data).__name__}")
    if isinstance(model, Run | str | Path):
        model = load_model(find_model(str(model.path if isinstance(model, Run) else model)))
    if not isinstance(model, keras.Model):
        wanted = "a Keras model, a run, or a .keras or .h5 file"
        raise ArgumentError("model", model, wanted, received=f"a {type(model).__name__}")
    batches = split_batches(data.train, model) if isinstance(data, Dataset) else data
    return recalibrate_model(model, batches, unbiased=unbiased)


@dataclass(frozen=True)
class SavedRecalibration:
    """What the recalibration of a saved model changed; accuracies are None without labels."""

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


def recalibrate_saved(
    model: str,
    data: Dataset | Path | None = None,
    out: Path | None = None,
    *,
    dataset: str = "auto",
    data_dir: str | None = None,
    unbiased: bool = True,
    scale: float = 1.0,
    offset: float = 0.0,
    force: bool = False,
    verbose: bool = False,
    root: Path = runs.ROOT,
) -> tuple[SavedRecalibration, Path]:
    """Recalibrate a run or a model file; return what changed, and the written folder or file.

    The statistics are those of the training images of a dataset, and accuracies are measured on its
    test images. With a folder of images or an `.npz` file as `data`, both use all of it. By default
    a run is recalibrated on the dataset it was trained on and becomes a new run in `root`, numbered
    unless `force` is set; a file becomes `FILE-recalibrated.keras`. What can be refused without
    TensorFlow is refused before it loads, `verbose` or silently.

    Raises:
        InputError: If the model cannot be loaded or has no BN layer, the data is missing or does
            not fit it, or the result cannot be written; then nothing is written.
    """
    file = find_model(model, root)
    source = run_of(file)
    if source is None and out is None:
        out = file.with_name(f"{file.stem}-recalibrated.keras")
    if out is not None:
        check_new_file(out, ".keras")
        if out.exists() and not force:
            raise expected(out, "a file that exists", "a new one", "add --force to replace it")
    if isinstance(data, Path) and not data.exists():
        missing = "no such file or folder"
        raise ArgumentError("data", str(data), "a folder or an .npz file", received=missing)
    if source is not None and (dataset, data_dir) == ("auto", None):
        dataset = source.record.data.name
    data = load_dataset(dataset, data_dir, quiet=False) if data is None else data
    quiet_tensorflow(verbose)
    from kerasbn.training.model_inputs import folder_batches, npz_batches, split_batches
    from kerasbn.training.recalibrate import accuracy, recalibrate_model

    keras_model, pixels = load_model(file), (scale, offset)
    words, measured_on = str(data), "the same data"
    if isinstance(data, Dataset):
        words = f"{plural(len(data.train), 'training image')} of {data.name}"
        measured_on = plural(len(data.test), "test image")
        population = split_batches(data.train, keras_model, *pixels)
        labeled = split_batches(data.test, keras_model, *pixels)
    elif data.is_dir():
        # The model of a run takes images in MNIST's form.
        digits = source is not None
        population = labeled = folder_batches(data, keras_model, *pixels, digits=digits)
    else:
        population = labeled = npz_batches(data, keras_model)
    found = recalibrate_model(keras_model, population, unbiased=unbiased)
    before, after = (accuracy(each, labeled) for each in (keras_model, found.model))
    result = SavedRecalibration(found, words, unbiased, before, after, measured_on)
    if out is not None:
        save_model(found.model, out)
        return result, out
    assert source is not None
    is_own = isinstance(data, Dataset) and data.digest == source.record.data.digest
    return result, _write_run(source, result, is_own=is_own, force=force, root=root)


def _write_run(
    source: Run, result: SavedRecalibration, *, is_own: bool, force: bool, root: Path
) -> Path:
    """Write the model as a new run, and return its folder.

    Record and history are the source's but for what changed. The final metrics are the accuracy
    measured anew if the data is the source's own, otherwise there are none.
    """
    name = f"{source.name}-recalibrated"
    record = replace(
        source.record,
        finished=datetime.now(UTC).isoformat(),
        final={"val_accuracy": result.after} if is_own and result.after is not None else {},
        recalibrated={"from": source.name, **result.record()},
    )
    with runs.new_run(name if force else None, name, force=force, root=root) as folder:
        shutil.copyfile(source.path / runs.HISTORY, folder.path / runs.HISTORY)
        save_model(result.recalibration.model, folder.path / runs.MODEL)
        write_json(folder.path / runs.RECORD, record)
    assert folder.placed is not None
    return folder.placed
