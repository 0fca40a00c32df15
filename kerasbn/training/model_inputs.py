"""Batches in the form that a model takes, from MNIST-like splits, image folders or .npz files."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.common.errors import ArgumentError, expected
from kerasbn.data.arrays import read_inputs
from kerasbn.data.datasets import Split
from kerasbn.data.inputs import ImageShape, image_shape, read_images

Array = NDArray[Any]

BATCH_SIZE = 256


def split_batches(
    split: Split, model: keras.Model, scale: float = 1.0, offset: float = 0.0
) -> tf.data.Dataset:
    """Return batches of 28x28 images, scaled as in `folder_batches`, and their labels."""
    height, width, channels, layout = _image_shape(model)
    if (height, width, channels) != (28, 28, 1):
        raise expected(
            f"model '{model.name}'", f"a model for images of {height} x {width} x {channels}",
            "one for images of 28 x 28 x 1",
            "give the data it was trained on by --data, in Python as a tf.data.Dataset",
        )  # fmt: skip
    shape = {"hw": (28, 28), "hwc": (28, 28, 1), "chw": (1, 28, 28)}[layout]
    return _scaled(_batches(split.images.reshape(-1, *shape), split.labels), model, scale, offset)


def folder_batches(
    folder: Path,
    model: keras.Model,
    scale: float = 1.0,
    offset: float = 0.0,
    *,
    digits: bool = False,
) -> tf.data.Dataset:
    """Return batches of the images in a folder, resized for the model and held in memory as bytes.

    If the folder has subfolders, each is a class, numbered in the order of names, and the batches
    include labels. Pixels from 0 to 255 are multiplied by `scale`, then `offset` is added. `digits`
    converts handwritten digits to the form of MNIST.
    """
    images, labels = read_images(folder, _image_shape(model), digits=digits)
    return _scaled(_batches(images, labels), model, scale, offset)


def npz_batches(path: Path, model: keras.Model) -> tf.data.Dataset:
    """Return batches of the arrays in an .npz file, as `read_inputs` reads them."""
    inputs = _inputs(model)
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    values, labels = read_inputs(path, shapes)
    # Keras knows the inputs of a Sequential model, but not their structure.
    structure = inputs[0] if isinstance(model, keras.Sequential) else model.input
    if len(values) == 1 and not isinstance(structure, dict):
        return _batches(values[0], labels)
    packed = keras.tree.pack_sequence_as(structure, values)
    # tf.data turns a list into one tensor; Keras accepts a tuple as well.
    return _batches((tuple(packed) if isinstance(packed, list) else packed,), labels)


def _batches(inputs: Any, labels: Array | None) -> tf.data.Dataset:  # noqa: ANN401 - any structure
    if labels is not None:
        inputs = (*inputs, labels) if isinstance(inputs, tuple) else (inputs, labels)
    return tf.data.Dataset.from_tensor_slices(inputs).batch(BATCH_SIZE)


def _scaled(
    batches: tf.data.Dataset, model: keras.Model, scale: float, offset: float
) -> tf.data.Dataset:
    if (scale, offset) == (1.0, 0.0):
        return batches
    dtype = keras.backend.standardize_dtype(model.inputs[0].dtype)
    if not keras.backend.is_float_dtype(dtype):
        name, value = ("scale", scale) if scale != 1.0 else ("offset", offset)
        raise ArgumentError(
            name, value, "one that takes floating-point numbers", "leave out scale and offset",
            received=f"a model that takes {dtype} pixels",
        )  # fmt: skip

    def scaled(images: tf.Tensor, *labels: tf.Tensor) -> Any:  # noqa: ANN401 - as the batch is
        images = tf.cast(images, tf.float32) * scale + offset
        return (images, *labels) if labels else images

    return batches.map(scaled)


def _image_shape(model: keras.Model) -> ImageShape:
    """Return height, width, channels and layout of the images that a model takes."""
    shapes = [tuple(tensor.shape) for tensor in _inputs(model)]
    advice = "give arrays in an .npz file by --data, in Python as a tf.data.Dataset"
    return image_shape(f"model '{model.name}'", shapes, advice)


def _inputs(model: keras.Model) -> list[Any]:
    if not model.built:
        raise expected(
            f"model '{model.name}'", "a model that was never built", "one with known inputs",
            "start it with keras.Input, or build it, and save it again",
        )  # fmt: skip
    return list(model.inputs)
