"""Inputs of a model from files of the user: arrays in an .npz file, or the images in a folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerasbn.common.errors import expected
from kerasbn.data.arrays import Array, Arrays, Layout, Shape, image_axes, read_inputs
from kerasbn.data.digits import as_digit
from kerasbn.data.images import as_input, collect, read_picture

ImageShape = tuple[int, int, int, Layout]  # height, width, channels, layout


def read_samples(
    path: Path, shapes: Mapping[str, Shape], most: int | None = None, *, digits: bool = False
) -> Arrays:
    """Return up to `most` samples for each input: of an .npz file the first, of a folder any.

    Args:
        path: An .npz file, as `read_inputs` takes it, or a folder of images, for a model with one
            input. Pixels are 0 to 255, and images are resized.
        shapes: The shape of each input by name.
        most: The largest number of samples.
        digits: Whether images are handwritten digits, to be converted to the form of MNIST.

    Raises:
        InputError: If the files cannot be read, or do not fit the model.
    """
    if path.is_dir():
        image = image_shape(str(path), list(shapes.values()), "give arrays in an .npz file")
        images, _ = read_images(path, image, most, digits=digits)
        return [images]
    values, _ = read_inputs(path, shapes)
    return [array[:most] for array in values]


def image_shape(subject: str, shapes: list[Shape], advice: str) -> ImageShape:
    """Return the shape of the images that a model with inputs of such shapes takes.

    Raises:
        InputError: If it takes anything else, or images of any size; the line begins with
            `subject` and ends with `advice`.
    """
    image = image_axes(shapes[0][1:])
    if len(shapes) == 1 and image is not None and None not in image:
        return image
    raise expected(
        subject, f"a model that takes {' and '.join(str(shape[1:]) for shape in shapes)}",
        "one that takes an image of fixed size, grayscale or RGB", advice,
    )  # fmt: skip


def read_images(
    folder: Path, image: ImageShape, most: int | None = None, *, digits: bool = False
) -> tuple[Array, Array | None]:
    """Return the images in a folder as bytes, resized, and their labels, None if they have none.

    If the folder has subfolders, each is a class, numbered in the order of names. Of more than
    `most` images, some of each class are read.

    Raises:
        InputError: If there is no image in a folder, or one cannot be read.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [
        (file, label)
        for label, each in enumerate(classes or [folder])
        for file in collect([str(each)])
    ]
    files = files[:: -(-len(files) // (most or len(files)))]
    height, width, channels, layout = image
    axes = {"h": height, "w": width, "c": channels}
    shape = [axes[name] for name in layout]
    images = [
        as_digit(read_picture(file)).reshape(shape)
        if digits
        else as_input(read_picture(file), *image)
        for file, _ in files
    ]
    labels = np.array([label for _, label in files]) if classes else None
    return np.stack(images), labels
