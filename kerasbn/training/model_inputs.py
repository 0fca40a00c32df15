"""Batches in the form that a model takes, from MNIST-like splits, image folders or .npz files."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.common.errors import ArgumentError, InputError, expected
from kerasbn.data.datasets import Split
from kerasbn.data.images import Layout, as_digit, as_input, collect, read_picture

Array = NDArray[Any]

BATCH_SIZE = 256
INPUT_NAMES, LABEL_NAMES = ("x", "images"), ("y", "labels")  # of arrays in an .npz file


def split_batches(
    split: Split, model: keras.Model, scale: float = 1.0, offset: float = 0.0
) -> tf.data.Dataset:
    """Return batches of 28x28 images and their labels; see `folder_batches` for the arguments.

    Raises:
        InputError: If the model takes other inputs.
    """
    height, width, channels, layout = _image_shape(model)
    if (height, width, channels) != (28, 28, 1):
        raise expected(
            f"model '{model.name}'", f"a model for images of {height} x {width} x {channels}",
            "one for images of 28 x 28 x 1", "give the data it was trained on by --data",
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
    include labels.

    Args:
        folder: The folder.
        model: A model with one input, an image of fixed size.
        scale: Factor for pixels from 0 to 255.
        offset: Added to the scaled pixels.
        digits: Convert handwritten digits to the form of MNIST.

    Raises:
        InputError: If the model takes no images, or there are none, or one is damaged.
    """
    height, width, channels, layout = _image_shape(model)
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [collect([str(each)]) for each in classes or [folder]]

    def pixels(file: Path) -> Array:
        picture = read_picture(file)
        if digits:
            return as_digit(picture).reshape(model.inputs[0].shape[1:])
        return as_input(picture, height, width, channels, layout)

    images = np.stack([pixels(file) for each in files for file in each])
    labels = np.repeat(np.arange(len(files)), [len(each) for each in files]) if classes else None
    return _scaled(_batches(images, labels), model, scale, offset)


def npz_batches(path: Path, model: keras.Model) -> tf.data.Dataset:
    """Return batches of the arrays in an .npz file, with labels if the file has any.

    Arrays have the names of the model's inputs. For a model with one input it may also be called
    `x` or `images`, or be the only array. Labels are called `y` or `labels`.

    Raises:
        InputError: If the file is missing or damaged, or an array does not fit the model.
    """
    arrays = _read(path)
    labels = next((arrays.pop(name) for name in LABEL_NAMES if name in arrays), None)
    inputs = _inputs(model)
    names = [tensor.name for tensor in inputs]
    if len(names) == 1:
        candidates = [*names, *INPUT_NAMES, *(arrays if len(arrays) == 1 else [])]
        found = next((name for name in candidates if name in arrays), None)
        arrays = {names[0]: arrays[found]} if found else {}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise expected(
            path, f"no array '{missing[0]}'", f"one for each input ({', '.join(names)})",
            f"the only input of a model may also be called {' or '.join(INPUT_NAMES)}",
        )  # fmt: skip
    values = [arrays[name] for name in names]
    for tensor, array in zip(inputs, values, strict=True):
        _check_shape(path, tensor, array)
    sizes = sorted({len(array) for array in [*values, *([] if labels is None else [labels])]})
    if len(sizes) > 1:
        counts = " and ".join(map(str, sizes))
        raise expected(path, f"arrays of {counts} samples", "equally many, labels included")
    # Keras knows the inputs of a Sequential model, but not their structure.
    structure = inputs[0] if isinstance(model, keras.Sequential) else model.input
    if len(names) == 1 and not isinstance(structure, dict):
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


def _image_shape(model: keras.Model) -> tuple[int, int, int, Layout]:
    """Return height, width, channels and layout of the images that a model takes."""
    shapes = [tuple(tensor.shape[1:]) for tensor in _inputs(model)]
    shape = shapes[0]
    if len(shapes) == 1 and None not in shape:
        if len(shape) == 2:
            return shape[0], shape[1], 1, "hw"
        if len(shape) == 3 and shape[2] in (1, 3):
            return shape[0], shape[1], shape[2], "hwc"
        if len(shape) == 3 and shape[0] in (1, 3):
            return shape[1], shape[2], shape[0], "chw"
    raise expected(
        f"model '{model.name}'", f"a model that takes {' and '.join(map(str, shapes))}",
        "one that takes an image of fixed size, grayscale or RGB",
        "give arrays in an .npz file by --data",
    )  # fmt: skip


def _inputs(model: keras.Model) -> list[Any]:
    if not model.built:
        raise expected(
            f"model '{model.name}'", "a model that was never built", "one with known inputs",
            "start it with keras.Input, or build it, and save it again",
        )  # fmt: skip
    return list(model.inputs)


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise expected(path, "no such file", "an .npz file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        received = "a file that is damaged or no .npz"
        raise expected(path, received, "arrays written by numpy.savez") from error


def _check_shape(path: Path, tensor: Any, array: Array) -> None:  # noqa: ANN401 - a KerasTensor
    shape = tuple(tensor.shape)
    fits = array.ndim == len(shape) and all(
        size in (None, actual) for size, actual in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits or not len(array):
        raise expected(
            path, f"an array of shape {array.shape} for the input '{tensor.name}'",
            f"at least one sample of shape {shape}",
        )  # fmt: skip
