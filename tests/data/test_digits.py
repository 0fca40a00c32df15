from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sample_pictures import (
    enlarged,
    largest_change,
    likeness,
    on_table,
    photograph,
    picture,
    row_of,
)

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Split, load_dataset
from kerasbn.data.digits import as_digit, as_digits
from kerasbn.data.segmentation import find_paper, separate, thickness


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_dataset("mnist-sample").test


def test_a_digit_of_mnist_comes_back_as_it_was(digits: Split) -> None:
    changes = [largest_change(as_digit(picture(d)), d) for d in digits.images]
    assert len(changes) == 1000
    assert sorted(changes)[:985][-1] <= 3
    inverted = [largest_change(as_digit(picture(255 - d)), d) for d in digits.images[:200]]
    assert inverted == changes[:200]


@pytest.mark.slow
def test_a_thousand_digits_of_the_full_test_set_too(full_mnist: Path) -> None:
    test = load_dataset("mnist", full_mnist).test
    kept = [largest_change(as_digit(picture(d)), d) <= 3 for d in test.images[:1000]]
    assert sum(kept) >= 990


@pytest.mark.slow
@pytest.mark.parametrize("light", ["even", "gradient", "shadow", "board"])
def test_a_photograph_gives_the_digit_that_is_on_it(digits: Split, light: str) -> None:
    likenesses = [
        likeness(as_digit(photograph(digit, light, seed)), digit)
        for seed, digit in enumerate(digits.images[:30])
    ]
    # Blur and grain cost a little; another digit, or its negative, is less than 0.5 alike.
    assert np.median(likenesses) > 0.955
    assert np.quantile(likenesses, 0.05) > 0.88


@pytest.mark.slow
def test_a_shadow_is_not_taken_for_the_ink(digits: Split) -> None:
    """Where the digit is small, most of what is dark or light in the picture is no ink."""
    likenesses = [
        likeness(as_digit(photograph(digit, "shadow", seed, margin=900)), digit)
        for seed, digit in enumerate(digits.images[:6])
    ]
    assert np.quantile(likenesses, 0.1) > 0.88


def test_digits_have_mnists_form(digits: Split) -> None:
    for seed, digit in enumerate(digits.images[:12]):
        found = as_digit(photograph(digit, "shadow", seed))
        assert found.shape == (28, 28)
        assert found.dtype == np.uint8
        assert found.max() == 255
        rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        for axis in (0, 1):
            mass = found.sum(axis=1 - axis, dtype=float)
            assert abs(mass @ np.arange(28) / mass.sum() - 14) <= 0.51


def test_proportions_are_kept_and_mass_is_in_the_centre() -> None:
    image = Image.new("L", (200, 300), "white")
    ImageDraw.Draw(image).rectangle((20, 30, 59, 229), fill="black")  # 40 x 200
    rows, columns = np.nonzero(as_digit(picture(np.asarray(image))))
    assert (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1) == (20, 4)
    assert (int(rows.min()), int(columns.min())) in {(4, 12), (5, 12), (4, 13), (5, 13)}


def test_place_and_size_on_the_paper_do_not_matter(digits: Split) -> None:
    for digit in digits.images[:20]:
        small = 255 - np.round(255 * enlarged(digit, 112)).astype(np.uint8)
        paper = np.full((700, 900), 255, np.uint8)
        paper[500:612, 60:172] = small
        assert likeness(as_digit(picture(paper)), digit) > 0.93


def test_a_digit_cut_out_closely(digits: Split) -> None:
    for digit in digits.images[:100]:
        rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
        cut = digit[max(0, rows[0] - 2) : rows[-1] + 3, max(0, columns[0] - 2) : columns[-1] + 3]
        assert likeness(as_digit(picture(cut)), digit) > 0.9


def test_dust_is_no_ink(digits: Split) -> None:
    for digit in digits.images[:20]:
        paper = np.pad(
            255 - np.round(255 * enlarged(digit)).astype(np.uint8), 60, constant_values=255
        )
        clean = as_digit(picture(paper))
        paper[5:9, 5:9] = 0
        paper[-9:-6, -30:-27] = 0
        assert largest_change(as_digit(picture(paper)), clean) <= 2


def test_dust_beside_a_stroke_is_no_ink_either(digits: Split) -> None:
    ring = next(d for d, label in zip(digits.images, digits.labels, strict=True) if label == 0)
    paper = 255 - np.round(255 * enlarged(ring)).astype(np.uint8)
    clean = as_digit(picture(paper))
    assert (paper[125:155, 125:155] == 255).all()  # within the ring
    paper[138:142, 138:142] = 0
    assert largest_change(as_digit(picture(paper)), clean) <= 2


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (28, 28), (300, 200)])
def test_a_blank_page(level: int, shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"picture: received an image without ink, expected"):
        as_digit(picture(np.full(shape, level)))


def test_a_blank_page_with_grain_and_uneven_light() -> None:
    for seed in range(20):
        grain = np.random.default_rng(seed).normal(0, 5 + seed, (150, 120))
        page = np.clip(np.linspace(230, 150, 120) + grain, 0, 255)
        with pytest.raises(InputError, match="without ink"):
            as_digit(picture(page))


def test_raw_only_resizes(digits: Split) -> None:
    digit = digits.images[0]
    np.testing.assert_array_equal(as_digit(picture(digit), raw=True), digit)
    np.testing.assert_array_equal(as_digit(picture(255 - digit), raw=True), 255 - digit)
    doubled = digit.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(as_digit(picture(doubled), raw=True), digit)
    assert (as_digit(picture(np.full((1, 1), 7)), raw=True) == 7).all()


@pytest.mark.slow
@pytest.mark.parametrize(("height", "gap"), [(120, 0.35), (60, 0.2), (200, 0.5)])
def test_several_digits_are_read_in_order(digits: Split, height: int, gap: float) -> None:
    alike = []
    for seed in range(6):
        written = list(digits.images[5 * seed : 5 * seed + 4])
        found = as_digits(row_of(written, height, gap, seed))
        assert len(found) == 4
        for one, other in zip(found, written, strict=True):
            alike.append(likeness(one, as_digit(picture(enlarged(other) * 255))))
    # Blur and grain cost a little; another digit is less than 0.5 alike.
    assert np.median(alike) > 0.93
    assert min(alike) > 0.8


def test_lines_are_read_from_top_to_bottom(digits: Split) -> None:
    rows = [row_of(list(digits.images[at : at + 3]), 80, 0.4, at).pixels[..., 0] for at in (0, 3)]
    width = max(row.shape[1] for row in rows)
    page = np.vstack(
        [np.pad(row, ((0, 0), (0, width - row.shape[1])), mode="edge") for row in rows]
    )
    found = as_digits(picture(page))
    assert len(found) == 6
    for one, digit in zip(found, digits.images[:6], strict=True):
        assert likeness(one, as_digit(picture(enlarged(digit) * 255))) > 0.85


@pytest.mark.slow
def test_one_digit_is_one(digits: Split) -> None:
    pages = [picture(enlarged(digit) * 255) for digit in digits.images[:30]]
    pages += [picture(digit) for digit in digits.images[:30]]
    pages += [photograph(digit, "shadow", i) for i, digit in enumerate(digits.images[:6])]
    for page in pages:
        (found,) = as_digits(page)
        np.testing.assert_array_equal(found, as_digit(page))


def test_strokes_that_do_not_touch_are_one_digit() -> None:
    ink = np.zeros((100, 100), np.float32)
    ink[10:16, 45:75] = 1  # the bar of a 5
    ink[22:80, 40:46] = 1  # its body, 6 pixels below
    ink[74:80, 40:70] = 1
    assert len(separate(ink)) == 1
    ink[22:80, 86:92] = 1  # a 1 beside it
    first, second = np.zeros((2, 100, 100), np.float32)
    for whole, (window, part) in zip((first, second), separate(ink), strict=True):
        whole[window] = part
    assert first[12, 50] == 1
    assert second[12, 50] == 0
    assert second[50, 88] == 1


def test_digits_that_touch_or_lie_on_their_side_are_refused() -> None:
    image = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(image).line([(60, 80), (240, 100)], fill=0, width=14)  # a 1, turned
    with pytest.raises(InputError, match="times as wide as high") as caught:
        as_digits(picture(np.asarray(image)))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("table", [0.15, 0.45])
def test_paper_on_a_dark_table(digits: Split, table: float) -> None:
    likenesses = []
    for seed, digit in enumerate(digits.images[:10]):
        page = row_of([digit], 140, 0.2, seed)
        (clean,) = as_digits(page)
        (found,) = as_digits(on_table(page, seed, table=table))
        likenesses.append(likeness(found, clean))
    assert np.quantile(likenesses, 0.1) > 0.7  # turned by up to 12 degrees
    assert np.median(likenesses) > 0.85


def test_a_blank_sheet_on_a_table_is_blank() -> None:
    sheet = picture(np.full((200, 160), 220))
    with pytest.raises(InputError, match="an image without ink"):
        as_digits(on_table(sheet, 3))


@pytest.mark.slow
def test_no_digit_is_taken_for_a_sheet(digits: Split) -> None:
    for seed, digit in enumerate(digits.images[:50]):
        ink = enlarged(digit, 150).clip(0, 1).astype(np.float32)
        assert find_paper(1 - ink) is None
        assert find_paper(ink) is None
        if seed < 5:
            gray = Image.fromarray(photograph(digit, "shadow", seed).pixels).convert("L")
            levels = np.asarray(gray.resize((150, 150)), np.float32)
            assert find_paper(levels / np.float32(255)) is None


def test_thickness_is_the_side_of_a_square() -> None:
    mask = np.zeros((60, 80), bool)
    assert thickness(mask) == 0
    mask[10:41, 5:70] = True
    assert abs(thickness(mask) - 31) <= 1
