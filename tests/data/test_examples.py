"""The test images that a comparison keeps."""

from pathlib import Path

import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Dataset, Split
from kerasbn.data.examples import EXAMPLES, choose_examples, read_examples, write_examples


def test_classes_take_turns(few_digits: Dataset) -> None:
    chosen = choose_examples(few_digits.test)
    assert chosen.labels[:20].tolist() == [*range(10), *range(10)]
    assert len(chosen) == 64
    for label in range(10):
        same = few_digits.test.images[few_digits.test.labels == label]
        found = chosen.images[chosen.labels == label]
        np.testing.assert_array_equal(found, same[: len(found)])


def test_few_images_of_few_classes_are_all_taken(few_digits: Dataset) -> None:
    rows = np.flatnonzero(few_digits.test.labels % 3 == 0)[:30]
    test = Split(few_digits.test.images[rows], few_digits.test.labels[rows])
    assert sorted(choose_examples(test).labels) == sorted(test.labels)


def test_what_is_written_is_read(few_digits: Dataset, tmp_path: Path) -> None:
    write_examples(tmp_path, few_digits.test)
    found = read_examples(tmp_path, few_digits.name, few_digits.digest)
    assert found is not None
    np.testing.assert_array_equal(found.images, choose_examples(few_digits.test).images)
    np.testing.assert_array_equal(found.labels, choose_examples(few_digits.test).labels)


def test_without_a_file_the_dataset_is_searched(sample_digits: Dataset, tmp_path: Path) -> None:
    found = read_examples(tmp_path, "mnist-sample", sample_digits.digest)
    assert found is not None
    np.testing.assert_array_equal(found.images, choose_examples(sample_digits.test).images)
    assert read_examples(tmp_path, "mnist-sample", "another") is None
    assert read_examples(None, "few-digits", "any") is None


@pytest.mark.usefixtures("alone")
def test_nothing_is_downloaded(tmp_path: Path) -> None:
    assert read_examples(tmp_path, "mnist", "any") is None


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / EXAMPLES).write_text("nothing")
    with pytest.raises(InputError, match="the example images of a comparison"):
        read_examples(tmp_path, "mnist", "any")


def test_a_full_disk_is_an_error_in_one_line(few_digits: Dataset, full_disk: Path) -> None:
    with pytest.raises(InputError, match=r"examples\.npz: cannot be written"):
        write_examples(full_disk, few_digits.test)
