"""What `kerasbn infer` shows: the answers for pictures, or digits of a data set with theirs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasbn.errors import CheckFailedError, InputError, expected
from kerasbn.inference.classifier import Answer, Classifier

if TYPE_CHECKING:
    from kerasbn.data.datasets import Dataset

DEFAULT = Path("model.onnx")

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """Dataset of a data set, answered.

    Attributes:
        data: the name of the data set they are from.
        images: uint8 [count, 28, 28].
        labels: what they are, [count].
        answers: what the network says, one each.
        accuracy: over the whole test set; None where that would mean nothing.
        tested: how many digits the accuracy is over.
        note: why there is no accuracy, or what else must be known of it.
    """

    data: str
    images: Images
    labels: NDArray[Any]
    answers: list[Answer]
    accuracy: float | None
    tested: int
    note: str

    def text(self, columns: int | None = None) -> str:
        """The digits drawn side by side with their answers, and the accuracy under them.

        Args:
            columns: how many characters a line holds; None for those of the terminal.
        """
        captions = [
            caption(answer, str(label))
            for answer, label in zip(self.answers, self.labels, strict=True)
        ]
        from shutil import get_terminal_size

        from kerasbn.inference.drawing import side_by_side

        width = columns or get_terminal_size().columns
        drawn = side_by_side(list(self.images), captions, width, sys.stdout.encoding or "ascii")
        if self.accuracy is None:
            return f"{drawn}\n\n{self.note}"
        return (
            f"{drawn}\n\naccuracy {self.accuracy:.2%} on {self.tested:,} test digits of {self.data}"
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it but the pixels as JSON data."""
        rows = [
            _row(f"{self.data} test digit {at}", answer) | {"true": str(label)}
            for at, (answer, label) in enumerate(zip(self.answers, self.labels, strict=True))
        ]
        return {
            "data": self.data, "images": rows, "accuracy": self.accuracy, "tested": self.tested,
            "note": self.note,
        }  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """Pictures from files, answered, and those that could not be.

    Attributes:
        names: where each came from.
        answers: what the network says, one each.
        failed: by its name, why a file could not be answered.
    """

    names: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        rows = [_row(name, answer) for name, answer in zip(self.names, self.answers, strict=True)]
        return {"images": rows, "failed": self.failed}

    def lines(self) -> list[str]:
        """A line for each picture: its name, the answer and its probability."""
        width = max(map(len, self.names), default=0)
        return [
            f"{name.ljust(width)}  {answer.label}  {percent(answer.probability)}"
            for name, answer in zip(self.names, self.answers, strict=True)
        ]

    def check(self) -> None:
        """Raise `CheckFailedError` if there was a file that could not be answered."""
        if self.failed:
            total = len(self.names) + len(self.failed)
            raise CheckFailedError(f"{len(self.failed)} of {total} pictures could not be answered")


def model_path(given: str | None) -> Path:
    """The ONNX file to ask: the one given, or `./model.onnx`.

    Raises:
        InputError: if none is given and there is none here.
    """
    if given is None and not DEFAULT.is_file():
        raise expected(
            f"./{DEFAULT}", "no such file", "an exported network",
            "make one with: kerasbn train --bn && kerasbn export model.onnx",
        )  # fmt: skip
    return Path(given) if given is not None else DEFAULT


def read_labels(path: Path | None) -> list[str] | None:
    """The lines of a file with the name of a class each; None without a file.

    Raises:
        InputError: if it cannot be read or is empty.
    """
    if path is None:
        return None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise expected(f"--labels {path}", "a file that cannot be read", "a text file") from error
    if not any(lines):
        raise expected(f"--labels {path}", "an empty file", "a line for each class")
    return lines


def show_digits(classifier: Classifier, count: int, data_dir: str | None = None) -> Shown:
    """The first digits of the test set that the network's file names, and its accuracy there.

    Only digits that are at hand are used; nothing is downloaded.

    Raises:
        InputError: if the file names no data set, or its digits are nowhere at hand.
    """
    metadata = classifier.session.metadata
    data = dict(metadata.data) if metadata else {}
    if not classifier.reads_digits:
        raise expected(
            classifier.session.path, "no pictures, and a file that names no data set",
            "pictures to answer", "give some: kerasbn infer PICTURE...",
        )  # fmt: skip
    if count < 1:
        raise expected(f"--count {count}", count, "a whole number above 0")
    digits = _at_hand(str(data["name"]), data_dir)
    test = digits.test
    answers = classifier.classify(test.images[:count])
    note = _why_no_accuracy(digits, data)
    accuracy = None if note else classifier.accuracy(test.images, test.labels)
    return Shown(
        digits.name,
        test.images[:count],
        test.labels[:count],
        answers,
        accuracy,
        0 if note else len(test),
        note,
    )


def _at_hand(name: str, data_dir: str | None) -> "Dataset":
    """The digits called `name`; for the full MNIST the sample will do."""
    from kerasbn.data.datasets import find_datasets  # needs NumPy

    if name == "mnist-sample":
        data_dir = None
    places = find_datasets("auto" if name == "mnist" else name, data_dir)
    whole = [place.dataset for place in places if place.dataset is not None]
    if not whole:
        problem = next((place.problem for place in places if place.problem), "")
        advice = 'kerasbn data fetch, or pip install "kerasbn[digits]"'
        raise InputError(problem) if problem else expected(name, "no digits", "them here", advice)
    return next((digits for digits in whole if digits.name == name), whole[0])


def _why_no_accuracy(digits: "Dataset", data: dict[str, Any]) -> str:
    if digits.name != data["name"]:
        return (
            "No accuracy: these are digits of the sample, and this network was trained on the full "
            "MNIST, which holds them all. kerasbn data fetch gets MNIST's own test digits."
        )
    if data.get("digest") not in (None, digits.digest):
        return "No accuracy: these are not the digits that the network's file names."
    return ""


def caption(answer: Answer, label: str) -> str:
    """The answer with its probability, and what it should have been if it is wrong."""
    wrong = "" if answer.label == label else f" (is {label})"
    return f"{answer.label} {percent(answer.probability)}{wrong}"


def percent(probability: float) -> str:
    """A probability, rounded down: what is not certain is not called so."""
    return f"{floor(probability * 10_000) / 10_000:.2%}"


def _row(name: str, answer: Answer) -> dict[str, Any]:
    return {
        "image": name, "answer": answer.label, "probability": answer.probability,
        "probabilities": [float(value) for value in answer.probabilities],
    }  # fmt: skip


def answer_pictures(
    classifier: Classifier,
    sources: Sequence[str],
    *,
    raw: bool = False,
    save_inputs: Path | None = None,
) -> Answered:
    """The answers for pictures from files, folders, patterns and standard input.

    Args:
        classifier: the network to ask.
        sources: as `kerasbn.data.images.collect` takes them.
        raw: whether pictures of digits are only turned grey and resized.
        save_inputs: a folder for what the network saw, a PNG for each picture.

    Raises:
        InputError: if a source is not there, or the only picture there is cannot be answered.
    """
    from kerasbn.data.images import STDIN, collect, read_picture

    files = collect(list(sources))
    answered = Answered()
    waiting: list[tuple[str, Images]] = []
    for file in files:
        name = "standard input" if file == STDIN else str(file)
        try:
            image = classifier.prepare(read_picture(file), raw=raw)
        except InputError as error:
            if len(files) == 1:
                raise
            answered.failed[name] = str(error)
            continue
        if save_inputs is not None:
            _save(image, save_inputs, f"{len(answered.names) + len(waiting) + 1}-{Path(name).stem}")
        if waiting and (
            len(waiting) == classifier.batch_size or waiting[0][1].shape != image.shape
        ):
            _answer(classifier, waiting, answered)
        waiting.append((name, image))
    if waiting:
        _answer(classifier, waiting, answered)
    return answered


def _answer(classifier: Classifier, waiting: list[tuple[str, Images]], answered: Answered) -> None:
    """Answer pictures of one size together, and wait for none any more."""
    answered.answers.extend(classifier.classify(np.stack([image for _, image in waiting])))
    answered.names.extend(name for name, _ in waiting)
    waiting.clear()


def _save(image: Images, folder: Path, name: str) -> None:
    from PIL import Image

    from kerasbn.files import atomic_write

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise expected(
            f"--save-inputs {folder}", f"a folder that cannot be made ({error.strerror})",
            "one in a folder that exists",
        ) from error  # fmt: skip
    with atomic_write(folder / f"{name}.png") as temporary:
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(temporary)
