"""Find the handwritten digits in a picture, and convert them to MNIST's format.

As LeCun, Cortes and Burges describe it ("The MNIST database"), a digit is scaled to fit into
20 x 20 pixels, keeping its proportions, and centered by mass in 28 x 28. An MNIST digit itself
stays nearly the same.
"""

import numpy as np
from PIL import Image

from kerasbn.common.errors import expected
from kerasbn.data.images import Bytes, Picture
from kerasbn.data.segmentation import (
    Gray,
    NoInkError,
    bounds,
    extent,
    find_ink,
    find_paper,
    separate,
)

FIELD, BOX = 28, 20  # MNIST: a digit fits into BOX x BOX, centered by mass in FIELD x FIELD
WORKING_SIZE = 160  # the longer side, in pixels, of the image in which ink is searched
TALL = 3 * BOX  # the height in pixels at which each of several digits is separated from the others
WIDEST = 1.5  # 0.5% of MNIST's digits are wider than this multiple of their height


def as_digit(picture: Picture, raw: bool = False) -> Bytes:
    """Return the digit in a picture: uint8, (28, 28), 255 for ink.

    All ink is taken as one digit. With `raw`, the picture is only converted to grayscale and
    resized.

    Raises:
        InputError: If the picture is blank.
    """
    gray = Image.fromarray(picture.pixels).convert("L")
    if raw:
        fits = gray.size == (FIELD, FIELD)
        return np.asarray(gray if fits else gray.resize((FIELD, FIELD), Image.Resampling.BOX))
    return _in_mnist_form(_ink_of_digit(_paper_of(gray), picture.name))


def as_digits(picture: Picture) -> list[Bytes]:
    """Return the digits in a picture in the order of reading, each as `as_digit` does.

    Digits are apart from each other. Where the ink is much wider than a digit, several may touch,
    or the picture lies on its side.

    Raises:
        InputError: If the picture is blank, or some ink is too wide for a digit.
    """
    gray = Image.fromarray(picture.pixels).convert("L")
    if max(gray.size) <= FIELD:
        return [as_digit(picture)]
    gray = _paper_of(gray)
    ink = _ink_of_digit(gray, picture.name)
    if len(parts := separate(ink)) > 1:
        # Once more at a size at which the smallest of them has enough pixels.
        whole = _find_ink(_brightness(gray), picture.name)
        smallest = min(extent(part)[0] for _, part in separate(whole))
        size = WORKING_SIZE * TALL / smallest
        parts = separate(_find_ink(_brightness(gray, size), picture.name))
    for height, width in (extent(part) for _, part in parts):
        if width > WIDEST * height:
            raise expected(
                picture.name, f"ink that is {width / height:.1f} times as wide as high",
                f"digits, which are at most {WIDEST} times as wide as high",
                "separate digits that touch, or turn the picture upright",
            )  # fmt: skip
    return [_in_mnist_form(part) for _, part in parts]


def _paper_of(gray: Image.Image) -> Image.Image:
    """Return the sheet of paper in a picture of more than that; otherwise the picture itself."""
    levels = _brightness(gray)
    paper = find_paper(levels) if max(gray.size) > FIELD else None
    if paper is None:
        return gray
    rows, columns = bounds(paper)
    scale = max(gray.size) / max(levels.shape)
    box = [round(scale * at) for at in (columns.start, rows.start, columns.stop, rows.stop)]
    cut = gray.crop((box[0], box[1], min(box[2], gray.width), min(box[3], gray.height)))
    inside = Image.fromarray(paper[rows, columns]).resize(cut.size)
    level = round(255 * float(np.median(levels[paper])))
    return Image.composite(cut, Image.new("L", cut.size, level), inside)


def _ink_of_digit(gray: Image.Image, name: str) -> Gray:
    """Return the ink of a digit, at a higher resolution if the digit is small in the picture."""
    # At MNIST's own size no speck is too small to be ink.
    ink = _find_ink(_brightness(gray), name, dirty=max(gray.size) > FIELD)
    if max(gray.size) > WORKING_SIZE and 2 * max(extent(ink)) < max(ink.shape):
        rows, columns = bounds(ink)
        margin = 0.35 * max(extent(ink))
        scale = max(gray.size) / max(ink.shape)
        left, upper = (max(0, scale * (side.start - margin)) for side in (columns, rows))
        right, lower = (scale * (side.stop + margin) for side in (columns, rows))
        inside = (left, upper, min(right, gray.width), min(lower, gray.height))
        ink = _find_ink(_brightness(gray.crop(inside)), name)
    return ink


def _find_ink(levels: Gray, name: str, *, dirty: bool = True) -> Gray:
    try:
        return find_ink(levels, dirty)
    except NoInkError as error:
        raise expected(
            name, "an image without ink", "one digit, dark on light or light on dark",
            "leave out blank pages, or use --raw",
        ) from error  # fmt: skip


def _in_mnist_form(ink: Gray) -> Bytes:
    rows, columns = bounds(ink)
    return _centered(_fitted(ink[rows, columns]))


def _brightness(gray: Image.Image, size: float = WORKING_SIZE) -> Gray:
    """Return brightness, 0 to 1; a picture larger than `size` is reduced to it and smoothed."""
    large = max(gray.size)
    if large > size:
        width, height = (max(1, round(side * size / large)) for side in gray.size)
        gray = gray.resize((width, height), Image.Resampling.BOX)
    levels: Gray = np.asarray(gray, np.float32) / np.float32(255)
    if large > size:
        for _ in range(2):  # along the columns, then along the rows
            padded = np.pad(levels, ((1, 1), (0, 0)), mode="edge")
            levels = ((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / np.float32(4)).T
    return levels


def _fitted(ink: Gray) -> Gray:
    """Return cropped ink scaled to fit the box, with a maximum of 1."""
    scale = BOX / max(ink.shape)
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    if (height, width) != ink.shape:
        ink = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BOX))
    strongest: np.float32 = ink.max()
    return ink / strongest


def _centered(ink: Gray) -> Bytes:
    """Return ink on the field, centered by mass as closely as whole pixels allow."""
    margins = []
    for axis, size in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis)
        center = (mass @ np.arange(size)) / mass.sum()
        before = int(np.clip(np.floor(FIELD / 2 - center + 0.5), 0, FIELD - size))
        margins.append((before, FIELD - size - before))
    return np.pad(np.round(255 * ink).astype(np.uint8), margins)
