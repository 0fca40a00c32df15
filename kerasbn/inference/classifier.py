"""Pictures in, labels out: what `kerasbn infer` does, without Keras."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from kerasbn.errors import CheckFailedError, expected
from kerasbn.inference.checksum import check_whole
from kerasbn.inference.session import Port, Session

if TYPE_CHECKING:
    from kerasbn.data.images import Picture

Array = NDArray[Any]
Channels = Literal[1, 3]

DIGITS = ("mnist", "mnist-sample")
BATCH_SIZE = 256


@dataclass(frozen=True)
class Answer:
    """What the network says of one picture.

    Attributes:
        label: the class's name, or its number as text where classes have no names.
        index: the class's number.
        probability: of this class, 0 to 1.
        probabilities: of every class.
    """

    label: str
    index: int
    probability: float
    probabilities: Array


@dataclass(frozen=True)
class ImageInput:
    """The one input of a classifier of pictures.

    Attributes:
        height, width: in pixels; None where any size will do.
        channels: 3 for colour, 1 for grey.
        layout: where the channels stand: nowhere (`hw`), last (`hwc`) or first (`chw`).
        kind: the NumPy type of the values.
        batch: how many pictures the file takes at a time; None for any number.
    """

    height: int | None
    width: int | None
    channels: Channels
    layout: Literal["hw", "hwc", "chw"]
    kind: Any
    batch: int | None


class Classifier:
    """A classifier of pictures in an ONNX file, answered by onnxruntime.

    >>> classifier = Classifier("model.onnx")
    >>> [answer.label for answer in classifier.classify(images)]  # uint8 [n, 28, 28]

    Args:
        path: the ONNX file.
        device: `cpu`, or `gpu`.
        batch_size: how many pictures are answered at a time.
        scale: what pixels, 0 to 255, are multiplied by before the network sees them.
        offset: what is added then.
        labels: the names of the classes; None for those in the file's metadata.

    Raises:
        InputError: if the file cannot be read, its input is no picture, or its output is not one
            number per class; or if `labels` are not as many as the classes.
    """

    def __init__(
        self,
        path: Path | str = "model.onnx",
        *,
        device: str = "cpu",
        batch_size: int = BATCH_SIZE,
        scale: float = 1.0,
        offset: float = 0.0,
        labels: Sequence[str] | None = None,
    ) -> None:
        if batch_size < 1:
            raise expected(f"--batch-size {batch_size}", batch_size, "a whole number above 0")
        for option, number in (("--scale", scale), ("--offset", offset)):
            if not np.isfinite(number):
                raise expected(f"{option} {number}", number, "a finite number")
        check_whole(Path(path))
        self.session = Session(path, device)
        self.input = image_input(self.session)
        self.batch_size = self.input.batch or batch_size
        self.scale, self.offset = scale, offset
        if np.issubdtype(self.input.kind, np.integer) and (scale, offset) != (1.0, 0.0):
            raise expected(
                "--scale and --offset", f"a network that takes {np.dtype(self.input.kind)} pixels",
                "one that takes fractions", "leave them out",
            )  # fmt: skip
        metadata = self.session.metadata
        self.labels = tuple(metadata.labels if labels is None and metadata else labels or ())
        classes = self.session.outputs[0].shape[-1] if self.session.outputs[0].shape else None
        if self.labels and classes is not None and classes > 1 and len(self.labels) != classes:
            raise expected(
                f"{path}, labels", f"{len(self.labels)} labels", f"{classes}, one for each class"
            )

    @property
    def reads_digits(self) -> bool:
        """Whether it was trained on MNIST, so that pictures are to be brought into MNIST's form."""
        metadata = self.session.metadata
        return metadata is not None and metadata.data.get("name") in DIGITS

    def prepare(self, picture: "Picture", *, raw: bool = False) -> Array:
        """A picture as the network is to see it: uint8, of the input's size, channels last.

        For a network trained on MNIST the digit is brought into MNIST's form; for any other, the
        picture is resized.

        Args:
            picture: what `kerasbn.data.images.read_picture` gave.
            raw: whether a digit too is only turned grey and resized.

        Raises:
            InputError: if there is no digit in the picture.
        """
        from kerasbn.data.images import as_digit, as_input

        wanted = self.input
        if self.reads_digits and (wanted.height, wanted.width) == (28, 28):
            return as_digit(picture, raw)[..., None]
        height, width = picture.pixels.shape[:2]
        return as_input(
            picture, wanted.height or height, wanted.width or width, wanted.channels, "hwc"
        )

    def classify(self, images: Array) -> list[Answer]:
        """The answer for each picture.

        Args:
            images: uint8 [n, height, width] or [n, height, width, channels], 0 to 255.

        Raises:
            InputError: if they are not of the network's size.
            CheckFailedError: if an answer is not a finite number.
        """
        rows = self.probabilities(images)
        return [self._answer(row) for row in rows]

    def probabilities(self, images: Array) -> Array:
        """The probability of each class for each picture, float64 [n, classes]."""
        return np.concatenate([as_probabilities(rows) for rows in self._outputs(images)])

    def accuracy(self, images: Array, labels: Array) -> float:
        """The part of the pictures that are answered by the number in `labels`."""
        answers = np.concatenate([rows.argmax(-1) for rows in self._outputs(images)])
        return float((answers == labels).mean())

    def _outputs(self, images: Array) -> Iterator[Array]:
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            count = len(batch)
            if self.input.batch and count < self.input.batch:
                batch = np.concatenate([batch, batch[:1].repeat(self.input.batch - count, axis=0)])
            rows = self.session.run([self._arranged(batch)])[0][:count].reshape(count, -1)
            if not (rows < np.inf).all():  # minus infinity may be the logarithm of no chance
                raise CheckFailedError(
                    f"{self.session.path}: the network answers with numbers that are not finite; "
                    "did it diverge in training, or does it want another --scale?"
                )
            yield rows

    def _arranged(self, images: Array) -> Array:
        """Pictures as the input takes them: layout, type and scale."""
        if images.ndim == 3:
            images = images[..., None]
        arranged = {
            "hw": lambda x: x[..., 0],
            "hwc": lambda x: x,
            "chw": lambda x: x.transpose(0, 3, 1, 2),
        }
        values = arranged[self.input.layout](images)
        if (self.scale, self.offset) != (1.0, 0.0):
            values = values.astype(np.float64) * self.scale + self.offset
        with np.errstate(over="ignore"):  # the answers tell
            return np.ascontiguousarray(values, dtype=self.input.kind)

    def _answer(self, row: Array) -> Answer:
        index = int(row.argmax())
        label = self.labels[index] if index < len(self.labels) else str(index)
        return Answer(label, index, float(row[index]), row)


def as_probabilities(outputs: Array) -> Array:
    """Outputs [n, classes] as probabilities: as they are if they are, otherwise by softmax.

    One column alone is the probability, or the logit, of the second of two classes.
    """
    outputs = outputs.astype(np.float64)
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    if outputs.shape[1] == 1:
        yes = outputs if inside else 1 / (1 + np.exp(-outputs))
        return np.hstack([1 - yes, yes])
    if inside and bool(np.allclose(outputs.sum(axis=1), 1, atol=1e-2)):
        return outputs
    grown: Array = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    grown /= grown.sum(axis=1, keepdims=True)
    return grown


def image_input(session: Session) -> ImageInput:
    """What kind of pictures a file takes, told from the shape of its one input.

    Raises:
        InputError: if it has several inputs, or the one is no picture.
    """
    if len(session.inputs) != 1:
        names = ", ".join(port.name for port in session.inputs)
        raise expected(
            session.path, f"a network with {len(session.inputs)} inputs ({names})", "one, a picture"
        )
    port = session.inputs[0]
    found = (
        _image_input(port) if port.kind in (np.uint8, np.float16, np.float32, np.float64) else None
    )
    if found is None:
        shape = ", ".join("any" if axis is None else str(axis) for axis in port.shape)
        raise expected(
            session.path, f"the input '{port.name}' [{shape}]",
            "a picture: [batch, height, width], with or without an axis of 1 or 3 channels",
            "kerasbn infer answers for classifiers of pictures only",
        )  # fmt: skip
    return found


def _image_input(port: Port) -> ImageInput | None:
    batch, *axes = port.shape if port.shape else (None,)
    if len(axes) == 2 and 1 not in axes:
        return ImageInput(axes[0], axes[1], 1, "hw", port.kind, batch)
    if len(axes) != 3:
        return None
    if axes[2] in (1, 3):
        return ImageInput(axes[0], axes[1], cast(Channels, axes[2]), "hwc", port.kind, batch)
    if axes[0] in (1, 3):
        return ImageInput(axes[1], axes[2], cast(Channels, axes[0]), "chw", port.kind, batch)
    return None
