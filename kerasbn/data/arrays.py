"""Arrays for the inputs of a model: read from .npz files, and checked against the inputs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasbn.common.errors import InputError, expected
from kerasbn.common.files import check_archive, check_file

Array = NDArray[Any]
Arrays = list[Array]
Shape = tuple[int | None, ...]  # of an input, batch axis first; None for an axis of any size
Layout = Literal["hw", "hwc", "chw"]

ONLY_NAMES, LABEL_NAMES = ("x", "images"), ("y", "labels")


def shape_text(shape: Shape) -> str:
    """Return a shape for a message: ``(any, 28, 28)``."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def image_axes(shape: Sequence[Any]) -> tuple[Any, Any, int, Layout] | None:
    """Return height, width, channels and layout of an example, or None if it is no image."""
    match shape:
        case (height, width) if 1 not in shape:
            return height, width, 1, "hw"
        case (height, width, 1 | 3 as channels):
            return height, width, channels, "hwc"
        case (1 | 3 as channels, height, width):
            return height, width, channels, "chw"
    return None


def load_arrays(
    path: Path, what: str, advice: str = "", names: Iterable[str] | None = None
) -> dict[str, Array]:
    """Return the arrays in an .npz file, or those called `names`.

    `what` and `advice` are for the error: what the file should hold, and what to do if it does not.

    Raises:
        InputError: If the file is missing or damaged, or holds anything but numbers.
    """
    check_file(path, what, advice)
    try:
        check_archive(path, what)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (file.files if names is None else names)}
        for array in arrays.values():  # the bytes of a member that is no array have no type
            if array.dtype.kind not in "biuf":
                raise TypeError
    except InputError:
        raise
    except OSError as error:
        received = f"a file that cannot be read ({error.strerror or 'damaged'})"
        raise expected(path, received, what, advice) from error
    except Exception as error:  # a single array, pickled objects, a damaged archive: many types
        raise expected(path, "a file that is no .npz of numeric arrays", what, advice) from error
    return arrays


def read_inputs(path: Path, shapes: Mapping[str, Shape]) -> tuple[Arrays, Array | None]:
    """Read an array for each input from an .npz file, and labels if there are any.

    Arrays have the names of the inputs. For a model with one input it may also be called `x` or
    `images`, or be the only array. Labels are called `y` or `labels`.

    Raises:
        InputError: If the file is missing or damaged, or an array does not fit its input.
    """
    arrays = load_arrays(path, "an .npz file of arrays", "write it with numpy.savez")
    found = [name for name in LABEL_NAMES if name in arrays and name not in shapes]
    labels = arrays.pop(found[0]) if found else None
    names = {name: name for name in shapes}
    if len(shapes) == 1:
        (only,) = shapes
        others = (*ONLY_NAMES, *(arrays if len(arrays) == 1 else ()))
        names[only] = next((name for name in (only, *others) if name in arrays), only)
    missing = [name for name in names.values() if name not in arrays]
    if missing:
        raise expected(
            path, f"no array '{missing[0]}' but {', '.join(arrays) or 'none'}",
            f"one for each input ({', '.join(shapes)})",
            f"the only input of a model may also be called {' or '.join(ONLY_NAMES)}",
        )  # fmt: skip
    values = [arrays[name] for name in names.values()]
    check_inputs(path, values, shapes, labels)
    return values, labels


def check_inputs(
    subject: object,
    arrays: Sequence[Array],
    shapes: Mapping[str, Shape],
    labels: Array | None = None,
) -> None:
    """Raise `InputError` unless arrays fit their inputs and have equally many examples, above 0."""
    for array, (name, shape) in zip(arrays, shapes.items(), strict=True):
        fits = array.ndim == len(shape) > 0 and all(
            wanted in (None, size) for size, wanted in zip(array.shape[1:], shape[1:], strict=True)
        )
        if not fits or not len(array):
            raise expected(
                f"{subject}, array '{name}'", f"the shape {array.shape}",
                f"{shape_text((None, *shape[1:]))}, not empty",
            )  # fmt: skip
    if labels is not None and not labels.ndim:
        raise expected(f"{subject}, labels", "a single number", "one label for each sample")
    counts = sorted({len(array) for array in (*arrays, *(() if labels is None else (labels,)))})
    if len(counts) > 1:
        received = f"arrays of {' and '.join(map(str, counts))} samples"
        raise expected(subject, received, "equally many, labels included")
