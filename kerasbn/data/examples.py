"""A few test images that show what a model was evaluated on: equally many of every class."""

from pathlib import Path

import numpy as np

from kerasbn.common.files import atomic_write
from kerasbn.data.arrays import load_arrays
from kerasbn.data.datasets import Split, find_datasets

EXAMPLES = "examples.npz"
COUNT = 64
_WHAT = "the example images of a comparison"


def choose_examples(test: Split) -> Split:
    """Return the first images of each class, `COUNT` in all, ordered 0, 1, ..., 9, 0, 1, ..."""
    earlier = np.zeros(len(test), np.intp)  # images of the same class before each image
    for label in np.unique(test.labels):
        same = test.labels == label
        earlier[same] = np.arange(same.sum())
    rows = np.lexsort((test.labels, earlier))[:COUNT]
    return Split(test.images[rows], test.labels[rows])


def write_examples(folder: Path, test: Split) -> None:
    """Write the examples of a test set into a folder.

    Raises:
        InputError: If the file cannot be written.
    """
    chosen = choose_examples(test)
    with atomic_write(folder / EXAMPLES) as temporary:
        np.savez_compressed(temporary, images=chosen.images, labels=chosen.labels)


def read_examples(folder: Path | None, name: str = "", digest: str = "") -> Split | None:
    """Return the examples in a folder, or those of the dataset with this name and digest.

    None if the folder has none and the dataset is not on this machine: nothing is downloaded.

    Raises:
        InputError: If the file is damaged.
    """
    if folder is not None and (folder / EXAMPLES).is_file():
        arrays = load_arrays(folder / EXAMPLES, _WHAT, names=("images", "labels"))
        return Split(arrays["images"], arrays["labels"])
    if name not in ("mnist", "mnist-sample"):
        return None
    found = [each.dataset for each in find_datasets(name) if each.dataset is not None]
    same = next((each for each in found if each.digest == digest), None)
    return choose_examples(same.test) if same else None
