"""Predictions of `kerasbn infer`: for image files, or for test images of the training's dataset."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerasbn.common.errors import ArgumentError, InputError, expected
from kerasbn.common.files import read_file
from kerasbn.common.wording import percent
from kerasbn.inference.classifier import Classifier, Prediction
from kerasbn.inference.confusion import Confusion, confusion
from kerasbn.inference.turned import Turned, turned

if TYPE_CHECKING:
    from PIL.Image import Image

    from kerasbn.data.datasets import Dataset

_LABELS_BYTES = 1 << 20
_MOST_WRONG = 20  # wrong predictions that are listed
_PER_SHEET = 200  # images on a contact sheet

# Signs that stand for 2 by 4 pixels of a digit, by which halves have ink: none, lower, upper, both.
BLOCKS, ASCII = " ▄▀█", " .'#"
_INK = 70  # the mean level of 4 pixels, of 255, above which half a sign has ink

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class SamplePredictions:
    """Predictions for the first test images of a dataset, and the accuracy on its whole test set.

    `note` says why there is no accuracy, where it would be misleading.
    """

    data: str
    images: Images  # (count, 28, 28)
    labels: NDArray[Any]  # (count,)
    predictions: list[Prediction]
    accuracy: float | None
    tested: int  # the number of images the accuracy is measured on
    note: str

    def lines(self) -> list[str]:
        """Return the images as text with their predictions, then the accuracy."""
        width = get_terminal_size().columns
        captions = [
            str(each) if each.label == str(label) else f"{each} (is {label})"
            for each, label in zip(self.predictions, self.labels, strict=True)
        ]
        drawings = side_by_side(self.images, captions, width, sys.stdout.encoding or "ascii")
        last = self.note
        if self.accuracy is not None:
            last = f"test accuracy {percent(self.accuracy)} ({self.data}, {self.tested:,} images)"
        return [*drawings, "", *wrap(last, max(width, 20), break_long_words=False)]

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


class Source(NamedTuple):
    """What is classified: an image, or one of several digits in it, counted from 1."""

    image: str
    digit: int = 1
    digits: int = 1

    def __str__(self) -> str:
        return f"{self.image} [{self.digit}/{self.digits}]" if self.digits > 1 else self.image


@dataclass(frozen=True)
class ImagePredictions:
    """Predictions for image files, and the errors for those that could not be classified.

    `true` has the class of each file in a folder with a subfolder per class, by index. `note` says
    why there is no accuracy, where one may be expected. `turned` has the digits that seem to lie on
    their side.
    """

    predictions: dict[Source, Prediction] = field(default_factory=dict)
    turned: dict[Source, Turned] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    true: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def confusion(self) -> Confusion | None:
        """The confusion matrix, if the true classes are known."""
        if not self.true or not self.predictions:
            return None
        predicted = [each.index for each in self.predictions.values()]
        true = [self.true[source.image] for source in self.predictions]
        return confusion(self.classes, true, predicted)

    def lines(self) -> list[str]:
        """Return a line for each image: its name, the label and its probability.

        If the true classes are known, only wrong predictions are listed, the first 20 of them, and
        the confusion matrix follows.
        """
        columns = max(get_terminal_size().columns, 20)
        matrix = self.confusion
        if matrix is None:
            doubts = {at: f", {each}" for at, each in self.turned.items()}
            texts = {at: f"{each}{doubts.get(at, '')}" for at, each in self.predictions.items()}
            lines = _aligned({str(at): text for at, text in texts.items()})
            return [*lines, *wrap(self.note, columns)]
        wrong = {
            str(source): f"{each} (is {self.classes[self.true[source.image]]})"
            for source, each in self.predictions.items()
            if each.index != self.true[source.image]
        }
        lines = _aligned(dict(list(wrong.items())[:_MOST_WRONG]))
        if len(wrong) > len(lines):
            lines.append(f"... and {len(wrong) - len(lines):,} more wrong predictions")
        return [*lines, *([""] if lines else []), *matrix.lines(columns)]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON data."""
        rows = [
            _row(source.image, each) | ({"digit": source.digit} if source.digits > 1 else {})
            for source, each in self.predictions.items()
        ]
        for row, source in zip(rows, self.predictions, strict=True):
            if doubt := self.turned.get(source):
                row["turned"] = doubt.as_dict()
        for row in rows if self.true else ():
            row["true"] = self.classes[self.true[row["image"]]]
        matrix = self.confusion
        return {
            "images": rows, "failed": self.failed,
            "accuracy": matrix and matrix.accuracy, "confusion": matrix and matrix.as_dict(),
            "note": self.note,
        }  # fmt: skip


def read_labels(path: Path) -> list[str]:
    """Return the class names in a text file, one per line.

    Raises:
        InputError: If the file cannot be read, is no text or empty, or is larger than 1 MiB.
    """
    what = "a text file with one class name per line"
    content = read_file(path, _LABELS_BYTES, what)
    try:
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise expected(path, "a file that is not text", what) from error
    if not any(lines):
        raise expected(path, "an empty file", what)
    return lines


def parse_labels(text: str) -> list[str]:
    """Return class names, given a text file or the names themselves, separated by commas.

    Raises:
        InputError: If a file cannot be read.
    """
    if "," not in text or Path(text).is_file():
        return read_labels(Path(text))
    return [name.strip() for name in text.split(",")]


def predict_samples(
    classifier: Classifier, count: int, data_dir: str | None = None
) -> SamplePredictions:
    """Classify the first images of the test set that the file names, and measure the accuracy.

    Only local datasets are used; nothing is downloaded.

    Raises:
        InputError: If the file names no dataset, or it is not available.
    """
    metadata = classifier.session.metadata
    if metadata is None or not classifier.is_for_mnist:
        raise expected(
            classifier.session.path, "no images, and a file that names no dataset",
            "images to classify", "give some: kerasbn infer IMAGE...",
        )  # fmt: skip
    if count < 1:
        raise ArgumentError("count", count, "a whole number above 0")
    dataset = _local_dataset(str(metadata.data["name"]), data_dir)
    note = ""
    if dataset.name != metadata.data["name"]:
        note = (
            "No accuracy: these images are from the sample, which the model may have been trained "
            "on, since it is part of the full MNIST. kerasbn data fetch gets MNIST's test set."
        )
    elif metadata.data.get("digest") not in (None, dataset.digest):
        note = "No accuracy: this is not the dataset that the model's file names."
    test = dataset.test
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

    With a model trained on MNIST, an image may hold several digits, and those that seem to lie on
    their side are marked. Neither applies to `raw` images, nor to a folder with one subfolder per
    class. With `save_inputs`, the preprocessed inputs are written into this folder, one PNG per
    input, and contact sheets of them with their predictions.

    Raises:
        InputError: If a source does not exist, or the only image cannot be classified.
    """
    from kerasbn.data.images import STDIN, collect, read_picture

    files = collect(list(sources))
    classes = classifier.classes
    places, note = _true_classes(sources, files, classes, has_names=bool(classifier.labels))
    names = {file: "standard input" if file == STDIN else str(file) for file in files}
    true = {names[file]: at for file, at in places.items()}
    found = ImagePredictions(classes=classes, true=true, note=note)
    sheets = None if save_inputs is None else _Inputs(save_inputs, max(3, len(str(len(files)))))

    def prepared() -> Iterator[tuple[int, int, Source, Images]]:
        for at, (file, name) in enumerate(names.items()):
            try:
                picture = read_picture(file)
                if raw or true:
                    images = [classifier.prepare(picture, raw=raw)]
                else:
                    images = classifier.prepare_all(picture)
            except InputError as error:
                if len(files) == 1:
                    raise
                found.failed[name] = str(error)
                continue
            for digit, image in enumerate(images, start=1):
                yield at // classifier.batch_size, at, Source(name, digit, len(images)), image

    for _, group in groupby(prepared(), lambda each: (each[0], each[3].shape)):
        _, numbers, batch, images = zip(*group, strict=True)
        predictions = classifier.classify(np.stack(images))
        found.predictions.update(zip(batch, predictions, strict=True))
        if classifier.takes_digits and not raw and not true:
            doubts = zip(batch, turned(classifier, np.stack(images), predictions), strict=True)
            found.turned.update((source, doubt) for source, doubt in doubts if doubt)
        if sheets is not None:
            for at, source, image, each in zip(numbers, batch, images, predictions, strict=True):
                is_wrong = true.get(source.image, each.index) != each.index
                wrong = f" (is {classes[true[source.image]]})" if is_wrong else ""
                sheets.add(at, source, image, f"{each.label}{wrong}")
    if sheets is not None:
        sheets.flush()
    return found


def _true_classes(
    sources: Sequence[str], files: Sequence[Path], classes: Sequence[str], *, has_names: bool
) -> tuple[dict[Path, int], str]:
    """Return the class of each file, by index, where each source is a folder of class folders.

    Otherwise the result is empty, with a note if it looks as if classes were meant. Subfolders have
    the names of classes. For a model without class names they may also be as many as the classes,
    which are then in the order of the names, as in ``keras.utils.image_dataset_from_directory``.
    """
    roots = [Path(source) for source in sources]
    parts: dict[Path, str] = {}
    for file in files:
        root = next((each for each in roots if each.is_dir() and each in file.parents), None)
        inside = file.relative_to(root).parts if root else ()
        if len(inside) < 2:
            return {}, ""
        parts[file] = inside[0]
    folders = sorted(set(parts.values()))
    unknown = [name for name in folders if name not in classes]
    if not unknown:
        return {file: classes.index(name) for file, name in parts.items()}, ""
    if not has_names and len(folders) == len(classes):
        return {file: folders.index(name) for file, name in parts.items()}, ""
    if len(unknown) < len(folders):
        return {}, f"No accuracy: the model has no class with the name of subfolder '{unknown[0]}'."
    return {}, ""


def draw(image: Images, signs: str = BLOCKS) -> list[str]:
    """Return a digit, uint8 (28, 28), as 7 lines of 14 signs."""
    inked = image.reshape(14, 2, 14, 2).mean(axis=(1, 3)) > _INK
    return ["".join(signs[place] for place in row) for row in 2 * inked[::2] + inked[1::2]]


def side_by_side(images: Images, captions: Sequence[str], columns: int, encoding: str) -> list[str]:
    """Return lines of at most `columns` characters: digits in rows, each above its caption."""
    try:
        BLOCKS.encode(encoding)
        signs = BLOCKS
    except (UnicodeEncodeError, LookupError):
        signs = ASCII
    blocks = [
        [*draw(image, signs), caption] for image, caption in zip(images, captions, strict=True)
    ]
    width = max(len(line) for block in blocks for line in block) + 2
    per_row = max(1, (columns + 2) // width)
    rows: list[str] = []
    for start in range(0, len(blocks), per_row):
        lines = zip(*blocks[start : start + per_row], strict=True)
        rows += [""] * bool(rows)
        rows += ["".join(f"{part:{width}}" for part in parts).rstrip() for parts in lines]
    return rows


def _local_dataset(name: str, data_dir: str | None) -> "Dataset":
    """Return the dataset `name`, or, for the full MNIST, the sample if only that is available."""
    from kerasbn.data.datasets import find_datasets

    is_full = name == "mnist"
    places = find_datasets("auto" if is_full else name, data_dir if is_full else None)
    for place in places:
        if place.dataset is not None:
            return place.dataset
    for place in places:
        if place.problem:
            raise InputError(place.problem)
    advice = 'kerasbn data fetch, or pip install "kerasbn[digits]"'
    raise expected(name, "no dataset", "its files on this machine", advice)


def _row(name: str, prediction: Prediction) -> dict[str, Any]:
    return {
        "image": name, "prediction": prediction.label, "probability": prediction.probability,
        "probabilities": prediction.probabilities.tolist(),
    }  # fmt: skip


def _aligned(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"{name:{width}}  {text}" for name, text in rows.items()]


class _Inputs:
    """Writes preprocessed inputs into a folder, one by one and as contact sheets."""

    def __init__(self, folder: Path, digits: int) -> None:
        self.folder, self.digits = folder, digits
        self.tiles: list[tuple[Images, str]] = []
        self.sheets = 0
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            received = f"a folder that cannot be created ({error.strerror})"
            raise ArgumentError(
                "save_inputs", folder, "a folder inside an existing one", received=received
            ) from error

    def add(self, at: int, source: Source, image: Images, caption: str) -> None:
        """Write the input made from a file, and keep it for the next sheet."""
        from PIL import Image

        pixels = image[..., 0] if image.shape[-1] == 1 else image
        digit = f"-{source.digit}" if source.digits > 1 else ""
        stem = f"image-{at + 1:0{self.digits}}-{Path(source.image).stem}{digit}"
        self._save(Image.fromarray(pixels), stem)
        self.tiles.append((pixels, caption))
        if len(self.tiles) == _PER_SHEET:
            self.flush()

    def flush(self) -> None:
        """Write a sheet of what was kept."""
        from kerasbn.data.images import contact_sheet

        if self.tiles:
            self.sheets += 1
            self._save(contact_sheet(self.tiles), f"contact-sheet-{self.sheets}")
            self.tiles = []

    def _save(self, image: "Image", stem: str) -> None:
        from kerasbn.common.files import atomic_write

        with atomic_write(self.folder / f"{stem}.png") as temporary:
            image.save(temporary)
