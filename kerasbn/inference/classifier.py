"""Classify images with an ONNX model, without Keras."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import floor, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasbn.common.errors import ArgumentError, CheckFailedError, expected
from kerasbn.data.arrays import Array, Layout, Shape, image_axes, shape_text
from kerasbn.inference.metadata import check_intact
from kerasbn.inference.session import Port, Session

if TYPE_CHECKING:
    from kerasbn.data.images import Picture


@dataclass(frozen=True)
class Prediction:
    """The predicted class of one image.

    Attributes:
        label: The name of the class; its index as text if the classes have no names.
        index: The index of the class.
        probability: The probability of this class, 0 to 1.
        probabilities: The probability of every class, shape (classes,).
    """

    label: str
    index: int
    probability: float
    probabilities: Array = field(repr=False)

    def __str__(self) -> str:
        """Return the label and its probability, rounded down so that 100% means certain."""
        return f"{self.label} {floor(self.probability * 10_000) / 10_000:.2%}"


class Classifier:
    """Image classifier in an ONNX file, run by onnxruntime.

    Args:
        path: The ONNX file.
        device: "cpu" or "gpu".
        batch_size: The number of images per batch.
        scale: Factor applied to pixels, which are 0 to 255, before the model.
        offset: Number added after scaling.
        labels: The class names; None for those in the file.

    Raises:
        InputError: If the file cannot be read, the model takes no images, its output is not one
            number per class, or `labels` are not one per class.

    Examples:
        >>> import kerasbn
        >>> model = kerasbn.mlp(hidden=(8,))
        >>> exported = kerasbn.export(model, "model.onnx", labels=list("0123456789"))
        >>> classifier = kerasbn.Classifier("model.onnx")
        >>> classifier
        Classifier('model.onnx', input=(any, 28, 28) uint8, 10 labels)
        >>> images = kerasbn.load_dataset("mnist-sample").test.images[:2]
        >>> [prediction.label for prediction in classifier.classify(images)]
        ['...', '...']
    """

    def __init__(
        self,
        path: Path | str = "model.onnx",
        *,
        device: str = "cpu",
        batch_size: int = 256,
        scale: float = 1.0,
        offset: float = 0.0,
        labels: Sequence[str] | None = None,
    ) -> None:
        _check_arguments(batch_size, scale, offset, labels)
        self.session = Session(path, device)
        check_intact(self.session.path)
        self._port, image = _image_input(self.session)
        self._height, self._width, self._channels, self._layout = image
        self.batch_size = self._port.shape[0] or batch_size
        self.scale, self.offset = scale, offset
        dtype = np.dtype(self._port.dtype)
        if dtype.kind == "u" and (scale, offset) != (1.0, 0.0):
            name, value = ("scale", scale) if scale != 1.0 else ("offset", offset)
            raise ArgumentError(
                name, value, "a model with a floating-point input", "leave it out",
                received=f"a model that takes {dtype} pixels",
            )  # fmt: skip
        metadata = self.session.metadata
        self.labels = tuple(metadata.labels if labels is None and metadata else labels or ())
        if classes := other_count(self.labels, self.session.outputs[0].shape):
            found = f"{len(self.labels)} labels"
            raise expected(f"{path}, labels", found, f"{classes}, one per class")

    def __repr__(self) -> str:
        """Return the file, the input of the model and the number of labels."""
        image = f"{shape_text(self._port.shape)} {np.dtype(self._port.dtype)}"
        labels = f"{len(self.labels) or 'no'} labels"
        return f"Classifier({str(self.session.path)!r}, input={image}, {labels})"

    @property
    def is_for_mnist(self) -> bool:
        """Whether the model was trained on MNIST, so that images are converted to its format."""
        return self.session.metadata is not None and self.session.metadata.is_for_mnist

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; their indices as text if they have no names."""
        *_, count = self.session.outputs[0].shape or (None,)
        return self.labels or tuple(map(str, range(2 if count == 1 else count or 0)))

    @property
    def takes_digits(self) -> bool:
        """Whether pictures of handwritten digits are converted to MNIST's format."""
        return self.is_for_mnist and (self._height, self._width) == (28, 28)

    def prepare(self, picture: "Picture", *, raw: bool = False) -> Array:
        """Return a picture as the model's input: uint8, (height, width, channels).

        For a model trained on MNIST, a digit is converted to MNIST's format. For other models, the
        picture is resized.

        Args:
            picture: The result of `kerasbn.data.images.read_picture`.
            raw: Whether to only convert a digit to grayscale and resize it.

        Raises:
            InputError: If there is no digit in the picture.
        """
        from kerasbn.data.digits import as_digit
        from kerasbn.data.images import as_input

        if self.takes_digits:
            return as_digit(picture, raw)[..., None]
        height, width = picture.pixels.shape[:2]
        height, width = self._height or height, self._width or width
        return as_input(picture, height, width, self._channels, "hwc")

    def prepare_all(self, picture: "Picture") -> list[Array]:
        """Return each digit in a picture as an input, in the order of reading.

        For models of other images, there is one input, as `prepare` returns it.

        Raises:
            InputError: If there is no digit in the picture, or several touch.
        """
        from kerasbn.data.digits import as_digits

        if not self.takes_digits:
            return [self.prepare(picture)]
        return [digit[..., None] for digit in as_digits(picture)]

    def classify(self, images: Array) -> list[Prediction]:
        """Return a prediction for each image.

        Args:
            images: uint8, (n, height, width) or (n, height, width, channels), 0 to 255.

        Raises:
            InputError: If they do not have the size that the model takes.
            CheckFailedError: If an output is not finite.
        """
        found = []
        for row in self.probabilities(images):
            index = int(row.argmax())
            label = self.labels[index] if index < len(self.labels) else str(index)
            found.append(Prediction(label, index, float(row[index]), row))
        return found

    def probabilities(self, images: Array) -> Array:
        """Return the class probabilities of each image: float64, (n, classes)."""
        return np.concatenate([as_probabilities(rows) for rows in self._outputs(images)])

    def accuracy(self, images: Array, labels: Array) -> float:
        """Return the share of images whose predicted class is that in `labels`."""
        predicted = np.concatenate([rows.argmax(-1) for rows in self._outputs(images)])
        return float((predicted == labels).mean())

    def _outputs(self, images: Array) -> Iterator[Array]:
        if not isinstance(images, np.ndarray) or images.ndim not in (3, 4) or not len(images):
            found = f"shape {images.shape}" if isinstance(images, np.ndarray) else type(images)
            raise expected("images", found, "an array (n, height, width[, channels]) with n > 0")
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            count = len(batch)
            if self._port.shape[0] is not None:  # it takes full batches only
                batch = np.resize(batch, (self.batch_size, *batch.shape[1:]))
            rows = self.session.run([self._as_model_input(batch)])[0][:count].reshape(count, -1)
            if not (rows < np.inf).all():  # minus infinity may be the logarithm of zero
                raise CheckFailedError(
                    f"{self.session.path}: the model gives numbers that are not finite; did it "
                    "diverge in training, or does it need another --scale?"
                )
            yield rows

    def _as_model_input(self, images: Array) -> Array:
        """Return images in the layout, type and scale of the input."""
        if images.ndim == 3:
            images = images[..., None]
        layouts = {"hwc": images, "hw": images[..., 0], "chw": images.transpose(0, 3, 1, 2)}
        values = layouts[self._layout]
        if (self.scale, self.offset) != (1.0, 0.0):
            values = values.astype(np.float64) * self.scale + self.offset
        with np.errstate(over="ignore"):  # the outputs are checked
            return np.ascontiguousarray(values, dtype=self._port.dtype)


def other_count(labels: Sequence[str], shape: Shape) -> int | None:
    """Return the number of classes of an output if there are labels, but not as many."""
    *_, classes = shape or (None,)
    return classes if labels and (classes or 1) > 1 and len(labels) != classes else None


def as_probabilities(outputs: Array) -> Array:
    """Return outputs (n, classes) as probabilities: unchanged if they are, otherwise by softmax.

    A single column is the probability, or the logit, of the second of two classes.
    """
    outputs = outputs.astype(np.float64)
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    if outputs.shape[1] == 1:
        second = outputs if within else 1 / (1 + np.exp(-outputs))
        return np.hstack([1 - second, second])
    if within and bool(np.allclose(outputs.sum(axis=1), 1, atol=1e-2)):
        return outputs
    exponentials: Array = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def _image_input(session: Session) -> tuple[Port, tuple[Any, Any, int, Layout]]:
    """Return the one input of a model, with the height, width, channels and layout of an image."""
    if len(session.inputs) != 1:
        names = ", ".join(port.name for port in session.inputs)
        found = f"a model with {len(session.inputs)} inputs ({names})"
        raise expected(session.path, found, "one input, an image")
    (port,) = session.inputs
    image = image_axes(port.shape[1:])
    if image is None or port.dtype not in (np.uint8, np.float16, np.float32, np.float64):
        raise expected(
            session.path, f"the input '{port.name}' {shape_text(port.shape)}",
            "an image: (batch, height, width), with or without an axis of 1 or 3 channels",
            "kerasbn infer is for image classifiers only",
        )  # fmt: skip
    return port, image


def _check_arguments(batch_size: object, scale: object, offset: object, labels: object) -> None:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ArgumentError("batch_size", batch_size, "a whole number above 0")
    for name, value in (("scale", scale), ("offset", offset)):
        if not isinstance(value, int | float) or not isfinite(value):
            raise ArgumentError(name, value, "a finite number")
    is_list = isinstance(labels, list | tuple) and all(isinstance(each, str) for each in labels)
    if labels is not None and not is_list:
        raise ArgumentError("labels", labels, "a list of class names")
