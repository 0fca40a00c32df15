"""What a network is shown, as batches for Keras: digits, a folder of pictures, or arrays."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasbn.common.errors import InputError, expected
from kerasbn.data.datasets import Split
from kerasbn.data.images import Layout, as_digit, as_input, collect, read_picture

Array = NDArray[Any]

BATCH = 256
SAMPLES, LABELS = ("x", "images"), ("y", "labels")  # names of arrays in an .npz


def from_digits(
    split: Split, model: keras.Model, scale: float = 1.0, offset: float = 0.0
) -> tf.data.Dataset:
    """Batches of digits and their labels, for a network that takes pictures of 28 x 28.

    Raises:
        InputError: if it takes something else.
    """
    height, width, channels, layout = _picture(model)
    if (height, width, channels) != (28, 28, 1):
        raise expected(
            f"model '{model.name}'", f"a network for pictures of {height} x {width} x {channels}",
            "one for digits of 28 x 28", "give what it was trained on by --data",
        )  # fmt: skip
    images = {
        "hw": split.images,
        "hwc": split.images[..., None],
        "chw": split.images[:, None],
    }[layout]
    return _scaled(_batches(images, split.labels), model, scale, offset)


def from_folder(
    folder: Path,
    model: keras.Model,
    scale: float = 1.0,
    offset: float = 0.0,
    *,
    digits: bool = False,
) -> tf.data.Dataset:
    """Batches of the pictures in a folder, brought to the size the network takes.

    Where the folder has subfolders, each is a class, numbered by the order of the names, and its
    pictures carry that label; otherwise there are no labels. All are held in memory, as bytes.

    Args:
        folder: the folder.
        model: a network with one input, for pictures.
        scale: what pixels, 0 to 255, are multiplied by.
        offset: what is added then.
        digits: whether each picture is of a digit, to be brought into MNIST's form.

    Raises:
        InputError: if the network takes no pictures, or there are none, or one is damaged.
    """
    height, width, channels, layout = _picture(model)
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


def from_npz(path: Path, model: keras.Model) -> tf.data.Dataset:
    """Batches of the arrays in an `.npz` file, and of their labels if they are there.

    Each input of the network is an array by its name; the one of a network with a single input may
    be called `x` or `images`, or be the only one. Labels are called `y` or `labels`.

    Raises:
        InputError: if there is no such file, it is damaged, or its arrays are not what the network
            takes; the line names the array.
    """
    arrays = _read(path)
    labels = next((arrays.pop(name) for name in LABELS if name in arrays), None)
    inputs = _inputs(model)
    names = [tensor.name for tensor in inputs]
    if len(names) == 1 and names[0] not in arrays:
        only = list(arrays) if len(arrays) == 1 else []
        called = [name for name in SAMPLES if name in arrays] or only
        if called:
            arrays[names[0]] = arrays[called[0]]
    absent = [name for name in names if name not in arrays]
    if absent:
        raise expected(
            path, f"no array '{absent[0]}'", f"one for each input ({', '.join(names)})",
            f"the one input of a network may also be called {' or '.join(SAMPLES)}",
        )  # fmt: skip
    for tensor in inputs:
        _check_shape(path, tensor, arrays[tensor.name])
    sizes = {len(array) for array in (*[arrays[name] for name in names], *_given(labels))}
    if len(sizes) > 1:
        raise expected(path, f"arrays of {' and '.join(map(str, sorted(sizes)))} samples",
                       "as many in each, labels included")  # fmt: skip
    values = [arrays[name] for name in names]
    # Of a Sequential network Keras knows the inputs, but not the structure that holds them.
    structure = inputs[0] if isinstance(model, keras.Sequential) else model.input
    if len(names) == 1 and not isinstance(structure, dict):
        return _batches(values[0], labels)
    given = keras.tree.pack_sequence_as(structure, values)
    # tf.data makes one tensor of a list; Keras takes a tuple as well.
    return _batches((tuple(given) if isinstance(given, list) else given,), labels)


def _batches(inputs: Any, labels: Array | None) -> tf.data.Dataset:  # noqa: ANN401 - what the network takes
    if labels is None:
        given = inputs
    else:
        given = (*inputs, labels) if isinstance(inputs, tuple) else (inputs, labels)
    return tf.data.Dataset.from_tensor_slices(given).batch(BATCH)


def _scaled(
    batches: tf.data.Dataset, model: keras.Model, scale: float, offset: float
) -> tf.data.Dataset:
    """The batches with their pixels scaled."""
    if (scale, offset) == (1.0, 0.0):
        return batches
    kind = keras.backend.standardize_dtype(model.inputs[0].dtype)
    if not keras.backend.is_float_dtype(kind):
        raise expected(
            "--scale and --offset", f"a network that takes {kind} pixels",
            "one that takes floating-point numbers", "leave them out",
        )  # fmt: skip

    def scaled(images: tf.Tensor, *labels: tf.Tensor) -> Any:  # noqa: ANN401 - as the batch was
        images = tf.cast(images, tf.float32) * scale + offset
        return (images, *labels) if labels else images

    return batches.map(scaled)


def _picture(model: keras.Model) -> tuple[int, int, int, Layout]:
    """Height, width, channels and layout of the pictures a network takes."""
    shapes = [tuple(tensor.shape[1:]) for tensor in _inputs(model)]
    shape = shapes[0]
    if len(shapes) == 1 and None not in shape:
        if len(shape) == 2:
            return shape[0], shape[1], 1, "hw"
        if len(shape) == 3 and shape[2] in (1, 3):
            return shape[0], shape[1], shape[2], "hwc"
        if len(shape) == 3 and shape[0] in (1, 3):
            return shape[1], shape[2], shape[0], "chw"
    words = " and ".join(str(each) for each in shapes)
    raise expected(
        f"model '{model.name}'", f"a network that takes {words}",
        "one that takes a picture of a fixed size, grey or in colour",
        "give arrays as an .npz file by --data",
    )  # fmt: skip


def _inputs(model: keras.Model) -> list[Any]:
    """The network's inputs, in order."""
    if not model.built:
        raise expected(
            f"model '{model.name}'", "a network that was never built", "one that knows its inputs",
            "begin it with keras.Input, or build it, and save it again",
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
        raise expected(
            path, "a file that is damaged or no .npz", "arrays written by numpy.savez"
        ) from error


def _check_shape(path: Path, tensor: Any, array: Array) -> None:  # noqa: ANN401 - a KerasTensor
    wanted = tuple(tensor.shape)
    fits = array.ndim == len(wanted) and all(
        want in (None, size) for want, size in zip(wanted[1:], array.shape[1:], strict=True)
    )
    if not fits or not len(array):
        raise expected(
            path, f"an array of shape {array.shape} for the input '{tensor.name}'",
            f"at least one sample, shaped {wanted}",
        )  # fmt: skip


def _given(labels: Array | None) -> list[Array]:
    return [] if labels is None else [labels]
