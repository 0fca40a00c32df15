"""Predictions of `kerasbn infer`: for image files, or for test images of the training's dataset."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasbn.common.errors import ArgumentError, CheckFailedError, InputError, expected
from kerasbn.inference.classifier import Classifier, Prediction

if TYPE_CHECKING:
    from kerasbn.data.datasets import Dataset

DEFAULT = Path("model.onnx")
_LABELS_BYTES = 1 << 20

# Signs that stand for 2 by 4 pixels of a digit, by which halves have ink: none, lower, upper, both.
_BLOCKS = (" ", "▄", "▀", "█")
_ASCII = (" ", ".", "'", "#")
_INK = 70  # the mean level of 4 pixels, of 255, above which half a sign has ink
DRAWING_WIDTH = 14

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class SamplePredictions:
    """Predictions for test images of a dataset.

    Attributes:
        data: The name of the dataset.
        images: uint8, (count, 28, 28).
        labels: The true classes, (count,).
        predictions: One per image.
        accuracy: Accuracy on the whole test set; None if it would be misleading.
        tested: The number of images the accuracy is measured on.
        note: Why there is no accuracy, or "".
    """

    data: str
    images: Images
    labels: NDArray[Any]
    predictions: list[Prediction]
    accuracy: float | None
    tested: int
    note: str

    def text(self, columns: int | None = None) -> str:
        """Return the images as text with their predictions, then the accuracy.

        Args:
            columns: The length of a line; None for the width of the terminal.
        """
        from shutil import get_terminal_size
        from textwrap import fill

        from kerasbn.common.wording import percent

        width = columns or get_terminal_size().columns
        captions = [
            str(each) if each.label == str(label) else f"{each} (is {label})"
            for each, label in zip(self.predictions, self.labels, strict=True)
        ]
        drawings = side_by_side(list(self.images), captions, width, sys.stdout.encoding or "ascii")
        last = self.note
        if self.accuracy is not None:
            last = f"test accuracy {percent(self.accuracy)} ({self.data}, {self.tested:,} images)"
        return f"{drawings}\n\n{fill(last, max(width, 20), break_long_words=False)}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels as JSON data."""
        rows = [
            _row(f"{self.data} test image {at}", each) | {"true": str(label)}
            for at, (each, label) in enumerate(zip(self.predictions, self.labels, strict=True))
        ]
        return {
            "data": self.data, "images": rows, "accuracy": self.accuracy, "tested": self.tested,
            "note": self.note,
        }  # fmt: skip


@dataclass(frozen=True)
class ImagePredictions:
    """Predictions for image files.

    Attributes:
        names: The names of the classified files.
        predictions: One per name.
        failed: The error for each file that could not be classified, by its name.
    """

    names: list[str] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON data."""
        pairs = zip(self.names, self.predictions, strict=True)
        return {"images": [_row(name, each) for name, each in pairs], "failed": self.failed}

    def lines(self) -> list[str]:
        """Return a line for each image: its name, the label and its probability."""
        width = max(map(len, self.names), default=0)
        return [
            f"{name:{width}}  {each}"
            for name, each in zip(self.names, self.predictions, strict=True)
        ]

    def raise_if_failed(self) -> None:
        """Raise `CheckFailedError` if a file could not be classified."""
        if self.failed:
            total = len(self.names) + len(self.failed)
            raise CheckFailedError(f"{len(self.failed)} of {total} images could not be classified")


def model_path(given: str | None) -> Path:
    """Return the given ONNX file, or ``./model.onnx``.

    Raises:
        InputError: If none is given and there is none here.
    """
    if given is None and not DEFAULT.is_file():
        raise expected(
            f"./{DEFAULT}", "no such file", "an exported model",
            "make one with: kerasbn train --bn && kerasbn export model.onnx",
        )  # fmt: skip
    return Path(given) if given is not None else DEFAULT


def read_labels(path: Path | None) -> list[str] | None:
    """Return the class names in a text file, one per line; None without a file.

    Raises:
        ArgumentError: If the file cannot be read, is empty, or is too large.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_LABELS_BYTES + 1)
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            "labels", path, "a text file", received="a file that cannot be read"
        ) from error
    if not any(lines) or len(content) > _LABELS_BYTES:
        found = "an empty file" if not any(lines) else "a file of more than 1 MiB"
        raise ArgumentError("labels", path, "one class name per line", received=found)
    return lines


def predict_samples(
    classifier: Classifier, count: int, data_dir: str | None = None
) -> SamplePredictions:
    """Classify the first images of the test set that the file names, and measure the accuracy.

    Only local datasets are used; nothing is downloaded.

    Raises:
        InputError: If the file names no dataset, or it is not available.
    """
    metadata = classifier.session.metadata
    data = dict(metadata.data) if metadata else {}
    if not classifier.is_for_mnist:
        raise expected(
            classifier.session.path, "no images, and a file that names no dataset",
            "images to classify", "give some: kerasbn infer IMAGE...",
        )  # fmt: skip
    if count < 1:
        raise ArgumentError("count", count, "a whole number above 0")
    dataset = _local_dataset(str(data["name"]), data_dir)
    test = dataset.test
    note = _why_no_accuracy(dataset, data)
    return SamplePredictions(
        dataset.name,
        test.images[:count],
        test.labels[:count],
        classifier.classify(test.images[:count]),
        None if note else classifier.accuracy(test.images, test.labels),
        0 if note else len(test),
        note,
    )


def predict_files(
    classifier: Classifier,
    sources: Sequence[str],
    *,
    raw: bool = False,
    save_inputs: Path | None = None,
) -> ImagePredictions:
    """Classify image files, folders of them, patterns, and standard input.

    Args:
        classifier: The model.
        sources: As `kerasbn.data.images.collect` takes them.
        raw: Whether to only convert images of digits to grayscale and resize them.
        save_inputs: A folder for the preprocessed inputs, one PNG per image.

    Raises:
        InputError: If a source does not exist, or the only image cannot be classified.
    """
    from kerasbn.data.images import STDIN, collect, read_picture

    files = collect(list(sources))
    found = ImagePredictions()
    batch: list[tuple[str, Images]] = []

    def classify_batch() -> None:
        if batch:
            found.predictions.extend(classifier.classify(np.stack([image for _, image in batch])))
            found.names.extend(name for name, _ in batch)
            batch.clear()

    for number, file in enumerate(files, start=1):
        name = "standard input" if file == STDIN else str(file)
        try:
            image = classifier.prepare(read_picture(file), raw=raw)
        except InputError as error:
            if len(files) == 1:
                raise
            found.failed[name] = str(error)
            continue
        if save_inputs is not None:
            digits = max(3, len(str(len(files))))
            _save(image, save_inputs, f"image-{number:0{digits}}-{Path(name).stem}")
        if len(batch) == classifier.batch_size or (batch and batch[0][1].shape != image.shape):
            classify_batch()
        batch.append((name, image))
    classify_batch()
    return found


def draw(image: Images, *, ascii_only: bool = False) -> list[str]:
    """Return a digit, uint8 (28, 28), as 7 lines of 14 characters."""
    inked = (image.reshape(14, 2, 14, 2).mean(axis=(1, 3)) > _INK).astype(int)
    signs = _ASCII if ascii_only else _BLOCKS
    return ["".join(signs[place] for place in row) for row in 2 * inked[::2] + inked[1::2]]


def side_by_side(
    images: Sequence[Images], captions: Sequence[str], columns: int, encoding: str
) -> str:
    """Return digits as text in rows of at most `columns` characters, each above its caption."""
    try:
        "".join(_BLOCKS).encode(encoding)
        ascii_only = False
    except (UnicodeEncodeError, LookupError):
        ascii_only = True
    width = max([DRAWING_WIDTH, *map(len, captions)]) + 2
    per_row = max(1, (columns + 2) // width)
    blocks = [
        [*draw(image, ascii_only=ascii_only), caption]
        for image, caption in zip(images, captions, strict=True)
    ]
    lines: list[str] = []
    for start in range(0, len(blocks), per_row):
        row = zip(*blocks[start : start + per_row], strict=True)
        lines += ["".join(f"{part:{width}}" for part in parts).rstrip() for parts in row]
        lines.append("")
    return "\n".join(lines[:-1])


def _local_dataset(name: str, data_dir: str | None) -> "Dataset":
    """Return the dataset `name`, or, for the full MNIST, the sample if only that is available."""
    from kerasbn.data.datasets import find_datasets

    if name == "mnist-sample":
        data_dir = None
    places = find_datasets("auto" if name == "mnist" else name, data_dir)
    available = [place.dataset for place in places if place.dataset is not None]
    if not available:
        problem = next((place.problem for place in places if place.problem), "")
        if problem:
            raise InputError(problem)
        advice = 'kerasbn data fetch, or pip install "kerasbn[digits]"'
        raise expected(name, "no dataset", "its files on this machine", advice)
    return next((dataset for dataset in available if dataset.name == name), available[0])


def _why_no_accuracy(dataset: "Dataset", data: dict[str, Any]) -> str:
    if dataset.name != data["name"]:
        return (
            "No accuracy: these images are from the sample, which the model may have been trained "
            "on, since it is part of the full MNIST. kerasbn data fetch gets MNIST's test set."
        )
    if data.get("digest") not in (None, dataset.digest):
        return "No accuracy: this is not the dataset that the model's file names."
    return ""


def _row(name: str, prediction: Prediction) -> dict[str, Any]:
    return {
        "image": name, "prediction": prediction.label, "probability": prediction.probability,
        "probabilities": [float(value) for value in prediction.probabilities],
    }  # fmt: skip


def _save(image: Images, folder: Path, name: str) -> None:
    from PIL import Image

    from kerasbn.common.files import atomic_write

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            "save_inputs", folder, "a folder inside an existing one",
            received=f"a folder that cannot be created ({error.strerror})",
        ) from error  # fmt: skip
    with atomic_write(folder / f"{name}.png") as temporary:
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(temporary)
