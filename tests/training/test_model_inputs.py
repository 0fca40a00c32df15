"""Data of the user becomes batches that fit the model, or one line says why it does not."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Dataset
from kerasbn.training.model_inputs import folder_batches, npz_batches, split_batches
from kerasbn.training.models import mlp


def model_of(*shape: int | None, dtype: str = "float32") -> keras.Model:
    x = keras.Input(shape, dtype=dtype, name="given")
    return keras.Model(x, keras.layers.BatchNormalization()(x), name="net")


def concatenated(batches: tf.data.Dataset) -> Any:
    parts = list(batches.as_numpy_iterator())
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    return np.concatenate(parts)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (1, 28, 28)])
def test_digits_fit_the_model_of(few_digits: Dataset, shape: tuple[int, ...]) -> None:
    images, labels = concatenated(split_batches(few_digits.train, model_of(*shape), 1 / 255, -0.5))
    pixels = few_digits.train.images.reshape(-1, *shape) / 255 - 0.5
    np.testing.assert_allclose(images, pixels, atol=1e-6)
    np.testing.assert_array_equal(labels, few_digits.train.labels)
    raw, _ = concatenated(split_batches(few_digits.train, mlp()))
    assert raw.dtype == np.uint8


def test_a_model_for_other_images_is_an_error(few_digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"images of 64 x 64 x 3, expected .* give .* by --data"):
        split_batches(few_digits.train, model_of(64, 64, 3))


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes of color images of several sizes."""
    for name, count, color in (("cats", 3, (200, 0, 0)), ("dogs", 2, (0, 100, 0))):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (20 + i, 30), color).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_subfolders_are_classes(image_folder: Path) -> None:
    images, labels = concatenated(folder_batches(image_folder, model_of(8, 6, 3)))
    assert images.shape == (5, 8, 6, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert images[0, 0, 0].tolist() == [200, 0, 0]
    assert images[-1, 7, 5].tolist() == [0, 100, 0]


def test_a_plain_folder_has_no_labels(image_folder: Path) -> None:
    images = concatenated(
        folder_batches(image_folder / "dogs", model_of(3, 8, 6), scale=0.01, offset=1)
    )
    assert images.shape == (2, 3, 8, 6)
    assert images[0, :, 0, 0].tolist() == pytest.approx([1, 2, 1])


def test_digits_are_converted_to_the_form_of_mnist(tmp_path: Path) -> None:
    page = np.full((90, 70), 255, np.uint8)
    page[20:70, 30:38] = 0  # a dark stroke on paper
    Image.fromarray(page).save(tmp_path / "one.png")
    (image,) = concatenated(folder_batches(tmp_path, mlp(), digits=True))
    assert image.dtype == np.uint8
    assert image[14, 14] > 200  # ink is bright, and centered
    assert image[:3].max() == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "said"),
    [
        (
            (None, None, 3),
            "float32",
            {},
            r"takes \(None, None, 3\), expected one that takes an image",
        ),
        ((8,), "float32", {}, r"takes \(8,\), expected .*give arrays in an .npz"),
        ((8, 6, 3), "uint8", {"scale": 0.5}, "scale=0.5: received a model that takes uint8"),
    ],
)
def test_a_model_that_takes_no_such_images_is_an_error(
    image_folder: Path, shape: tuple[Any, ...], dtype: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        folder_batches(image_folder, model_of(*shape, dtype=dtype), **options)


def test_an_invalid_image_is_an_error_that_names_it(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "dogs" / "torn.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(InputError, match=r"torn.png: received"):
        folder_batches(image_folder, model_of(8, 6, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        folder_batches(tmp_path / "empty", model_of(8, 6, 3))


X = np.arange(24, dtype="float32").reshape(6, 4)


@pytest.mark.parametrize("name", ["given", "x", "images", "whatever"])
def test_an_array_is_found_by_name_or_as_the_only_one(tmp_path: Path, name: str) -> None:
    named: dict[str, Any] = {name: X}
    np.savez(tmp_path / "a.npz", labels=np.arange(6), **named)
    inputs, labels = concatenated(npz_batches(tmp_path / "a.npz", model_of(4)))
    np.testing.assert_array_equal(inputs, X)
    assert labels.tolist() == list(range(6))
    np.savez(tmp_path / "b.npz", **named)
    np.testing.assert_array_equal(concatenated(npz_batches(tmp_path / "b.npz", model_of(4))), X)


def test_a_sequential_model_has_one_input(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(6))
    inputs, labels = concatenated(npz_batches(tmp_path / "a.npz", model))
    np.testing.assert_array_equal(inputs, X)
    assert labels.tolist() == list(range(6))


def test_a_model_that_was_never_built_is_an_error(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.BatchNormalization()], name="net")
    np.savez(tmp_path / "a.npz", x=X)
    said = "model 'net': received a model that was never built"
    with pytest.raises(InputError, match=said):
        npz_batches(tmp_path / "a.npz", model)
    with pytest.raises(InputError, match=said):
        folder_batches(tmp_path, model)


def test_several_inputs_are_found_by_name(tmp_path: Path) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([a, b], keras.layers.Concatenate()([a, b]))
    np.savez(tmp_path / "a.npz", b=X[:, :2], a=X)
    ((first, second),) = next(iter(npz_batches(tmp_path / "a.npz", model)))
    assert (first.shape, second.shape) == ((6, 4), (6, 2))
    assert model((first, second)).shape == (6, 6)
    np.savez(tmp_path / "a.npz", b=X[:, :2], a=X, y=np.arange(6))
    (first, second), labels = next(iter(npz_batches(tmp_path / "a.npz", model)))
    assert (first.shape, second.shape, labels.shape) == ((6, 4), (6, 2), (6,))
    np.savez(tmp_path / "a.npz", a=X)
    with pytest.raises(
        InputError, match=r"received no array 'b' but a, expected one for each .*\(a, b\)"
    ):
        npz_batches(tmp_path / "a.npz", model)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"p": X, "q": X}, "received no array 'given'"),
        (
            {"x": X[:, :3]},
            r"array 'given': received the shape \(6, 3\), expected \(any, 4\), not empty",
        ),
        ({"x": X[:0]}, r"received the shape \(0, 4\)"),
        ({"x": X, "y": np.arange(5)}, "received arrays of 5 and 6 samples, expected equally many"),
        ({"x": np.array([{}])}, "a file that is no .npz of numeric arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=said) as error:
        npz_batches(tmp_path / "a.npz", model_of(4))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text", None])
def test_an_invalid_file_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a.npz: received .* expected"):
        npz_batches(tmp_path / "a.npz", model_of(4))
