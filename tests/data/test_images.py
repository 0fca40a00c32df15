import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from kerasbn.common.errors import InputError
from kerasbn.data.datasets import Split, load_dataset
from kerasbn.data.images import (
    IMAGE_FORMATS,
    STDIN,
    Picture,
    as_digit,
    as_input,
    collect,
    read_picture,
)

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_dataset("mnist-sample").test


def picture(grey: NDArray[np.generic]) -> Picture:
    return Picture("picture", np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2))


def file_of(image: Image.Image, form: str = "PNG", **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **how)
    return stream.getvalue()


def largest_change(one: Bytes, other: Bytes) -> int:
    return int(np.abs(one.astype(int) - other).max())


def likeness(one: Bytes, other: Bytes) -> float:
    """The correlation of two digits' pixels, 1 for the same; one pixel's shift is forgiven.

    Where the centre of mass lies halfway between two pixels, grain decides which one is taken.
    """
    shifted = (np.roll(one, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1))
    return max(float(np.corrcoef(s.ravel(), other.ravel())[0, 1]) for s in shifted)


def enlarged(digit: Bytes, side: int = 280) -> NDArray[np.float64]:
    """How much ink is at each place, 0 to 1, of a digit as if drawn with a pen."""
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, float) / 255


def photograph(digit: Bytes, light: str, seed: int, margin: int = 60) -> Picture:
    """A digit on paper (or chalk on a board) in uneven light, out of focus, grainy, as a JPEG."""
    chance = np.random.default_rng(seed)
    ink = np.pad(enlarged(digit), chance.integers(10, margin, (2, 2)).tolist())
    y, x = (axis / axis.max() for axis in np.mgrid[: ink.shape[0], : ink.shape[1]].astype(float))
    brightness = np.full(ink.shape, 0.9)
    if light != "even":
        brightness -= 0.4 * x
    if light in ("shadow", "board"):
        brightness *= 1 - 0.4 / (1 + np.exp(-25 * (y + 0.5 * x - 0.8)))
    reflected = 0.25 + 0.6 * ink if light == "board" else 1 - 0.75 * ink
    image = Image.fromarray((255 * brightness * reflected).astype(np.uint8))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), float)
    grain = blurred + chance.normal(0, 5, ink.shape)
    shot = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
    return read_picture(file_of(shot, "JPEG", quality=80))


def test_a_digit_of_mnist_comes_back_as_it_was(digits: Split) -> None:
    changes = [largest_change(as_digit(picture(d)), d) for d in digits.images]
    assert len(changes) == 1000
    assert sorted(changes)[:985][-1] <= 3
    inverted = [largest_change(as_digit(picture(255 - d)), d) for d in digits.images[:200]]
    assert inverted == changes[:200]


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
        for seed, digit in enumerate(digits.images[:12])
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


@pytest.fixture
def seven() -> Image.Image:
    """A black seven on white, 60 x 80."""
    image = Image.new("RGB", (60, 80), "white")
    ImageDraw.Draw(image).line([(12, 15), (48, 15), (24, 65)], fill="black", width=6)
    return image


def variants(seven: Image.Image) -> dict[str, bytes]:
    grey = seven.convert("L")
    drawn = Image.new("RGBA", seven.size, (0, 0, 0, 0))
    drawn.paste((0, 0, 0, 255), mask=Image.eval(grey, lambda level: 255 - level))
    wide = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter to be seen upright
    blank = Image.new("RGB", seven.size, "white")
    return {
        "grey": file_of(grey),
        "alpha": file_of(drawn),
        "grey with alpha": file_of(drawn.convert("LA")),
        "transparent palette": file_of(
            drawn.convert("P"), "GIF", transparency=drawn.convert("P").getpixel((0, 0))
        ),
        "16 bit": file_of(wide),
        "16 bit TIFF": file_of(wide, "TIFF"),
        "fractions": file_of(grey.convert("F"), "TIFF"),
        "CMYK": file_of(seven.convert("CMYK"), "JPEG", quality=95),
        "palette": file_of(seven.convert("P")),
        "1 bit": file_of(seven.convert("1")),
        "animated": file_of(seven, "GIF", save_all=True, append_images=[blank, blank]),
        "animated WebP": file_of(
            seven, "WEBP", save_all=True, append_images=[blank], lossless=True
        ),
        "turned": file_of(
            seven.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned, quality=95
        ),
        "JPEG": file_of(seven, "JPEG", quality=95),
        "BMP": file_of(seven, "BMP"),
        "PPM": file_of(seven, "PPM"),
        "YCbCr TIFF": file_of(seven.convert("YCbCr"), "TIFF"),
    }


def test_every_kind_of_picture_is_seen_alike(seven: Image.Image) -> None:
    plain = as_digit(read_picture(file_of(seven)))
    for kind, content in variants(seven).items():
        seen = read_picture(content)
        assert seen.pixels.shape == (80, 60, 3), kind
        assert np.abs(seen.pixels.astype(int) - np.asarray(seven)).mean() < 2, kind
        assert likeness(as_digit(seen), plain) > 0.98, kind


def bomb(side: int) -> bytes:
    return file_of(Image.new("1", (side, side)))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "received nothing"),
        (b"hello, world", "received a file that is no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (bomb(20_000), "that is too large, expected at most 89 million pixels"),
        (bomb(10_000), "too large"),
    ],
    ids=["empty", "text", "a program", "20,000 x 20,000", "10,000 x 10,000"],
)
def test_what_is_no_picture(content: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=line) as caught:
        read_picture(path)
    assert str(caught.value).startswith(f"{path}: received ")
    assert "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_picture(path)


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(IMAGE_FORMATS),
    cut=st.integers(0, 3000),
    places=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_picture_is_a_picture_or_one_line(
    form: str, cut: int, places: list[tuple[int, int]]
) -> None:
    content = bytearray(FILES[form])
    for place, value in places:
        content[place % len(content)] = value
    damaged = bytes(content[: max(1, len(content) - cut % len(content))])
    try:
        read = read_picture(damaged)
    except InputError as error:
        message = str(error)
    else:
        message = ""
        assert read.pixels.dtype == np.uint8
        assert read.pixels.shape[2:] == (3,)
    assert "\n" not in message


SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))
FILES = {form: file_of(SMALL, form) for form in IMAGE_FORMATS}


def test_standard_input(seven: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(file_of(seven))

    monkeypatch.setattr(sys, "stdin", Stdin)
    read = read_picture(STDIN)
    assert read.name == "standard input"
    np.testing.assert_array_equal(read.pixels, np.asarray(seven))


def test_as_input() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    given = Picture("picture", pixels)
    np.testing.assert_array_equal(as_input(given, 4, 6, 3, "hwc"), pixels)
    np.testing.assert_array_equal(as_input(given, 4, 6, 3, "chw"), pixels.transpose(2, 0, 1))
    assert as_input(given, 8, 2, 3, "hwc").shape == (8, 2, 3)
    assert as_input(given, 8, 2, 1, "chw").shape == (1, 8, 2)
    assert as_input(given, 8, 2, 1, "hw").shape == (8, 2)
    white = Picture("picture", np.full((50, 70, 3), 255, np.uint8))
    assert (as_input(white, 224, 224, 3, "chw") == 255).all()
    for channels in (2, 4):
        with pytest.raises(InputError, match=f"received {channels} channels"):
            as_input(given, 8, 8, channels, "hwc")
    with pytest.raises(InputError, match="expected"):
        as_input(given, 8, 8, 3, "hw")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.png",
        "a.JPG",
        "notes.txt",
        "c[1].png",
        "deep/d.png",
        "empty/none.txt",
        ".hidden/e.png",
        "deep/.f.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["b.png"], ["b.png"]),
        (["notes.txt"], ["notes.txt"]),
        (["."], ["a.JPG", "b.png", "c[1].png", "deep/d.png"]),
        (["*.png"], ["b.png", "c[1].png"]),
        (["c[1].png"], ["c[1].png"]),
        (["**/*.png"], ["b.png", "c[1].png", "deep/d.png"]),
        (["deep", "b.png", "-"], ["deep/d.png", "b.png", "-"]),
        (["b.png", "*.png", "./b.png"], ["b.png", "c[1].png"]),
        ([], []),
    ],
)
def test_collect(arguments: list[str], meant: list[str]) -> None:
    assert [path.as_posix() for path in collect(arguments)] == meant


def test_collect_names_all_that_is_missing(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        collect(["b.png", "missing.png", "*.bmp", "empty", str(folder / "deep")])
    line = str(caught.value)
    assert line.startswith("missing.png, *.bmp, empty: received no images")
    assert "b.png:" not in line
