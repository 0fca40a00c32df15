"""Pictures of digits as people make them: photographs with shadows, dark tables, rows of digits."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kerasbn.data.images import Picture, read_picture

Bytes = NDArray[np.uint8]


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


def row_of(digits: list[Bytes], height: int, gap: float, seed: int) -> Picture:
    """Digits side by side on paper in uneven light; the gap is a share of the height."""
    chance = np.random.default_rng(seed)
    strokes = []
    for digit in digits:
        ink = enlarged(digit)
        rows, columns = np.nonzero(ink > 0.2)
        ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        size = (max(2, round(height * ink.shape[1] / ink.shape[0])), height)
        strokes.append(np.asarray(Image.fromarray(ink).resize(size), float).clip(0, 1))
    space = round(gap * height)
    width = sum(each.shape[1] + space for each in strokes) + 2 * height
    paper = 0.9 - np.linspace(0, 0.3, width) * np.ones((round(2.4 * height), 1))
    left = height
    for each in strokes:
        top = round(height * chance.uniform(0.6, 0.8))
        paper[top : top + height, left : left + each.shape[1]] *= 1 - 0.8 * each
        left += each.shape[1] + space
    grainy = 255 * paper + chance.normal(0, 4, paper.shape)
    return picture(grainy.clip(0, 255))


def on_table(page: Picture, seed: int, *, table: float = 0.15) -> Picture:
    """A page that lies on a table, turned by a few degrees."""
    chance = np.random.default_rng(seed)
    sheet = Image.fromarray(page.pixels).convert("LA")
    sheet = sheet.rotate(float(chance.uniform(-12, 12)), Image.Resampling.BICUBIC, expand=True)
    side = round(1.25 * max(sheet.size))
    levels = 255 * table + chance.normal(0, 5, (side, side))
    whole = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    left, upper = chance.integers(4, np.subtract(whole.size, sheet.size) - 3)
    whole.paste(sheet.getchannel(0), (int(left), int(upper)), sheet.getchannel(1))
    return picture(np.asarray(whole.filter(ImageFilter.GaussianBlur(1))))
