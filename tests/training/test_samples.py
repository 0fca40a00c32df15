"""Networks are shown what the user has, as it is, or told in one line why not."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Dataset
from kerasbn.training.models import mlp
from kerasbn.training.samples import from_digits, from_folder, from_npz


def network(*shape: int | None, dtype: str = "float32") -> keras.Model:
    given = keras.Input(shape, dtype=dtype, name="given")
    return keras.Model(given, keras.layers.BatchNormalization()(given), name="net")


def all_of(batches: tf.data.Dataset) -> Any:
    """Everything in the batches, put together."""
    parts = list(batches.as_numpy_iterator())
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    return np.concatenate(parts)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (1, 28, 28)])
def test_digits_fit_the_network(few_digits: Dataset, shape: tuple[int, ...]) -> None:
    images, labels = all_of(from_digits(few_digits.train, network(*shape), 1 / 255, -0.5))
    pixels = few_digits.train.images.reshape(-1, *shape) / 255 - 0.5
    np.testing.assert_allclose(images, pixels, atol=1e-6)
    np.testing.assert_array_equal(labels, few_digits.train.labels)
    raw, _ = all_of(from_digits(few_digits.train, mlp()))
    assert raw.dtype == np.uint8


def test_digits_are_no_photographs(few_digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"pictures of 64 x 64 x 3, expected .* give .* by --data"):
        from_digits(few_digits.train, network(64, 64, 3))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of coloured pictures of several sizes."""
    for name, count, colour in (("cats", 3, (200, 0, 0)), ("dogs", 2, (0, 100, 0))):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (20 + i, 30), colour).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_subfolders_are_classes(pictures: Path) -> None:
    images, labels = all_of(from_folder(pictures, network(8, 6, 3)))
    assert images.shape == (5, 8, 6, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert images[0, 0, 0].tolist() == [200, 0, 0]
    assert images[-1, 7, 5].tolist() == [0, 100, 0]


def test_a_plain_folder_has_no_labels(pictures: Path) -> None:
    images = all_of(from_folder(pictures / "dogs", network(3, 8, 6), scale=0.01, offset=1))
    assert images.shape == (2, 3, 8, 6)
    assert images[0, :, 0, 0].tolist() == pytest.approx([1, 2, 1])


def test_pictures_of_digits_take_mnists_form(tmp_path: Path) -> None:
    page = np.full((90, 70), 255, np.uint8)
    page[20:70, 30:38] = 0  # a dark stroke on paper
    Image.fromarray(page).save(tmp_path / "one.png")
    (image,) = all_of(from_folder(tmp_path, mlp(), digits=True))
    assert image.dtype == np.uint8
    assert image[14, 14] > 200  # ink is bright, and in the middle
    assert image[:3].max() == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "said"),
    [
        ((None, None, 3), "float32", {}, r"takes \(None, None, 3\), expected one that takes a pic"),
        ((8,), "float32", {}, r"takes \(8,\), expected .*give arrays as an .npz"),
        ((8, 6, 3), "uint8", {"scale": 0.5}, "--scale and --offset: received a network that takes"),
    ],
)
def test_networks_that_take_no_such_pictures(
    pictures: Path, shape: tuple[Any, ...], dtype: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        from_folder(pictures, network(*shape, dtype=dtype), **options)


def test_bad_pictures_are_named(pictures: Path, tmp_path: Path) -> None:
    (pictures / "dogs" / "torn.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(InputError, match=r"torn.png: received"):
        from_folder(pictures, network(8, 6, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        from_folder(tmp_path / "empty", network(8, 6, 3))


X = np.arange(24, dtype="float32").reshape(6, 4)


@pytest.mark.parametrize("name", ["given", "x", "images", "whatever"])
def test_an_array_is_found_by_its_name_or_alone(tmp_path: Path, name: str) -> None:
    named: dict[str, Any] = {name: X}
    np.savez(tmp_path / "a.npz", labels=np.arange(6), **named)
    inputs, labels = all_of(from_npz(tmp_path / "a.npz", network(4)))
    np.testing.assert_array_equal(inputs, X)
    assert labels.tolist() == list(range(6))
    np.savez(tmp_path / "b.npz", **named)
    np.testing.assert_array_equal(all_of(from_npz(tmp_path / "b.npz", network(4))), X)


def test_a_sequential_network_has_one_input(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(6))
    inputs, labels = all_of(from_npz(tmp_path / "a.npz", model))
    np.testing.assert_array_equal(inputs, X)
    assert labels.tolist() == list(range(6))


def test_a_network_without_a_shape_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.BatchNormalization()], name="net")
    np.savez(tmp_path / "a.npz", x=X)
    said = "model 'net': received a network that was never built"
    with pytest.raises(InputError, match=said):
        from_npz(tmp_path / "a.npz", model)
    with pytest.raises(InputError, match=said):
        from_folder(tmp_path, model)


def test_several_inputs_go_by_name(tmp_path: Path) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([a, b], keras.layers.Concatenate()([a, b]))
    np.savez(tmp_path / "a.npz", b=X[:, :2], a=X)
    ((first, second),) = next(iter(from_npz(tmp_path / "a.npz", model)))
    assert (first.shape, second.shape) == ((6, 4), (6, 2))
    assert model((first, second)).shape == (6, 6)
    np.savez(tmp_path / "a.npz", b=X[:, :2], a=X, y=np.arange(6))
    (first, second), labels = next(iter(from_npz(tmp_path / "a.npz", model)))
    assert (first.shape, second.shape, labels.shape) == ((6, 4), (6, 2), (6,))
    np.savez(tmp_path / "a.npz", a=X)
    with pytest.raises(
        InputError, match=r"received no array 'b', expected one for each .*\(a, b\)"
    ):
        from_npz(tmp_path / "a.npz", model)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"p": X, "q": X}, "received no array 'given'"),
        (
            {"x": X[:, :3]},
            r"shape \(6, 3\) for the input 'given', expected at least one .*\(None, 4",
        ),
        ({"x": X[:0]}, r"received an array of shape \(0, 4\)"),
        ({"x": X, "y": np.arange(5)}, "received arrays of 5 and 6 samples, expected as many"),
        ({"x": np.array([{}])}, "damaged or no .npz"),
    ],
)
def test_bad_arrays_are_one_line(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=said) as error:
        from_npz(tmp_path / "a.npz", network(4))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text", None])
def test_bad_files_are_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a.npz: received .* expected"):
        from_npz(tmp_path / "a.npz", network(4))
