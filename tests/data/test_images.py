import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sample_pictures import file_of, likeness

from kerasbn.common.errors import InputError
from kerasbn.data.digits import as_digit
from kerasbn.data.images import (
    IMAGE_FORMATS,
    STDIN,
    Picture,
    as_input,
    collect,
    read_picture,
)

Bytes = NDArray[np.uint8]


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
    for path, found in {tmp_path / "missing.png": "no such file", tmp_path: "a folder"}.items():
        with pytest.raises(InputError, match=f"received {found}, expected an image"):
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
