"""Samples come from arrays and from images alike, or one line says why they do not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasbn.common.errors import InputError
from kerasbn.data.inputs import read_images, read_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three red cats and six green dogs, of several sizes."""
    for name, count, color in (("cats", 3, (200, 0, 0)), ("dogs", 6, (0, 100, 0))):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (20 + i, 30), color).save(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("shape", "pixel"), [((8, 6, 3), (0, 0)), ((3, 8, 6), (slice(None), 0, 0)), ((8, 6), (0, 0))]
)
def test_images_take_the_layout_of_the_input(
    shape: tuple[int, ...], pixel: tuple[int | slice, ...], folder: Path
) -> None:
    (images,) = read_samples(folder / "cats", {"image": (None, *shape)})
    assert images.shape == (3, *shape)
    red = [200, 0, 0] if 3 in shape else round(0.299 * 200)
    assert images[0][pixel].tolist() == red


def test_of_many_images_some_of_each_class_are_read(folder: Path) -> None:
    for most, labels in ((None, [0] * 3 + [1] * 6), (4, [0, 1, 1]), (5, [0, 0, 1, 1, 1])):
        images, found = read_images(folder, (4, 4, 3, "hwc"), most)
        assert found is not None
        assert found.tolist() == labels
        assert len(images) == len(labels)
        assert (images[:, 0, 0, 0] == 200).tolist() == [label == 0 for label in labels]


def test_of_arrays_the_first_are_read(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "data.npz", x=x)
    (found,) = read_samples(tmp_path / "data.npz", {"x": (None, 3)}, 2)
    np.testing.assert_array_equal(found, x[:2])


@pytest.mark.parametrize("shapes", [{"a": (None, 3), "b": (None, 3)}, {"a": (None, None, 9, 3)}])
def test_a_model_for_no_images_of_fixed_size_takes_arrays(
    shapes: dict[str, tuple[int | None, ...]], folder: Path
) -> None:
    with pytest.raises(InputError, match=r"expected one that takes an image .*; give arrays in"):
        read_samples(folder, shapes)
