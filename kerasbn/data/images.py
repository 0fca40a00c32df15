"""Pictures from files, and digits in them brought into the form MNIST's authors gave theirs."""

import io
import re
import sys
import warnings
from dataclasses import dataclass
from glob import glob
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kerasbn.data.segmentation import Grey, NoInkError, bounds, extent, find_ink
from kerasbn.errors import InputError, expected, quoted

Bytes = NDArray[np.uint8]
Layout = Literal["hw", "hwc", "chw"]

# What is read, by the name of Pillow's class for it, and how such a file begins. No others: Pillow
# hands some, such as EPS, to programs of the system.
_BEGINNINGS = {
    "Png": rb"\x89PNG\r\n\x1a\n",
    "Jpeg": rb"\xff\xd8\xff",
    "Gif": rb"GIF8[79]a",
    "Bmp": rb"BM",
    "Tiff": rb"II[*+]\0|MM\0[*+]|II\0[*]|MM[*]\0",
    "WebP": rb"RIFF....WEBP",
    "Ppm": rb"P[0-6fy]",
}
FORMATS = tuple(kind.upper() for kind in _BEGINNINGS)
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
STDIN = Path("-")

_MOST_PIXELS = 89_478_485  # a quarter of a gigabyte in colour, as Pillow has it

FIELD, BOX = 28, 20  # MNIST: a digit fits into BOX x BOX, and its centre of mass is FIELD's centre
WORKING_SIZE = 160  # the longer side, in pixels, at which ink is looked for


@dataclass(frozen=True)
class Picture:
    """A picture as one sees it: turned upright, without transparency, its first frame.

    Attributes:
        name: what errors call it: its path, or `standard input`.
        pixels: uint8 [height, width, 3], red, green, blue.
    """

    name: str
    pixels: Bytes


def read_picture(source: str | Path | bytes) -> Picture:
    """The picture in a file, on standard input (`-`), or in the bytes of a file.

    Raises:
        InputError: if it cannot be read, is no picture, is damaged, or is too large to unpack.
    """
    if isinstance(source, bytes):
        name, content = "the picture", source
    elif Path(source) == STDIN:
        name, content = "standard input", sys.stdin.buffer.read()
    else:
        name, content = str(source), _content(Path(source))
    if not content:
        raise _no_picture(name, "nothing: it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _opened(content) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise Image.DecompressionBombError
                return Picture(name, _as_seen(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"at most {_MOST_PIXELS // 10**6} million pixels"
        raise expected(name, "a picture too large to unpack", limit, "make it smaller") from error
    except SyntaxError as error:  # what Pillow raises where a file's head is not what it should be
        raise _no_picture(name, "a file that is no picture") from error
    except Exception as error:  # decoders stumble over damage in any way there is
        reason = quoted(error, longest=None) or type(error).__name__
        raise _no_picture(name, f"a damaged picture ({reason})") from error


def _opened(content: bytes) -> Image.Image:
    """The picture in the bytes of a file, its pixels not unpacked; its kind is told from its head.

    `Image.open` would load the readers of all common formats to ask each of them.

    Raises:
        SyntaxError: if it is none of `FORMATS`.
    """
    for kind, beginning in _BEGINNINGS.items():
        if re.match(beginning, content, re.DOTALL):
            reader = getattr(import_module(f"PIL.{kind}ImagePlugin"), f"{kind}ImageFile")
            image: Image.Image = reader(io.BytesIO(content))
            return image
    raise SyntaxError("no picture")


def as_digit(picture: Picture, raw: bool = False) -> Bytes:
    """The digit in a picture, in MNIST's form: uint8 [28, 28], 255 for ink.

    As LeCun, Cortes and Burges describe it ("The MNIST database"): scaled to fit a box of 20 x 20,
    its proportions kept, with the greys that come of it, and its centre of mass in the centre of a
    field of 28 x 28. A digit of MNIST itself comes back nearly as it was: of the first 1,000 of
    the test set 997 within 3 of 255 levels, the others scaled or moved by a pixel. A picture is to
    show one digit and the paper around it, dark on light or light on dark.

    Args:
        picture: the picture.
        raw: only turn it grey and resize it.

    Raises:
        InputError: if there is nothing on the paper.
    """
    grey = Image.fromarray(picture.pixels).convert("L")
    if raw:
        fits = grey.size == (FIELD, FIELD)
        return np.asarray(grey if fits else grey.resize((FIELD, FIELD), Image.Resampling.BOX))
    try:
        ink = _ink_of_digit(grey)
    except NoInkError as error:
        raise expected(
            picture.name,
            "a picture with no ink on it",
            "one digit, dark on light or light on dark",
            "leave out blank pages, or use --raw",
        ) from error
    rows, columns = bounds(ink)
    return _centred(_fitted(ink[rows, columns]))


def as_input(picture: Picture, height: int, width: int, channels: int, layout: Layout) -> Bytes:
    """A picture resized to what a network takes: uint8, 0 to 255.

    Args:
        picture: the picture.
        height: pixels from top to bottom.
        width: pixels from left to right.
        channels: 3 for colour, 1 for grey.
        layout: the order of the axes; `hw` has no axis for the one channel.

    Raises:
        InputError: if `channels` is neither, or does not go with `layout`.
    """
    if channels not in (1, 3) or (layout == "hw" and channels != 1):
        raise expected(f"layout {layout}", f"{channels} channels", "3 for colour or 1 for grey")
    image = Image.fromarray(picture.pixels).convert("RGB" if channels == 3 else "L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(height, width, channels)
    if layout == "hw":
        return pixels[:, :, 0]
    return pixels if layout == "hwc" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def collect(arguments: list[str]) -> list[Path]:
    """The files that are meant by paths of files, folders and patterns; `-` stays as it is.

    In the order of the arguments, those of a folder or a pattern by name, and none twice. Of a
    folder, the files with a picture's suffix count, not those of its subfolders.

    Raises:
        InputError: if something is not there or holds no pictures; all such are named.
    """
    found: list[Path] = []
    absent = []
    for argument in arguments:
        path = Path(argument)
        if path == STDIN or path.is_file():
            meant = [path]
        elif path.is_dir():
            meant = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
        else:
            meant = sorted(Path(file) for file in glob(argument, recursive=True))  # noqa: PTH207 - any root
            meant = [file for file in meant if file.is_file()]
        if not meant:
            absent.append(argument)
        found += meant
    if absent:
        raise expected(
            ", ".join(absent),
            "no pictures",
            f"picture files, folders that hold some ({', '.join(SUFFIXES[:2])}, ...), or patterns",
            "correct the path",
        )
    return list(dict.fromkeys(found))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _no_picture(str(path), f"what cannot be read ({error.strerror})") from error


def _no_picture(name: str, received: str) -> InputError:
    return expected(name, received, f"a picture ({', '.join(FORMATS)})", "give another file")


def _as_seen(image: Image.Image) -> Bytes:
    """The pixels of the first frame: upright, on white paper, 8 bits for each of three colours."""
    image.load()
    if image.mode.startswith("I;16"):
        levels = np.asarray(image, np.float64) / 257
        image = Image.fromarray(np.round(levels).astype(np.uint8))
    elif image.mode in ("I", "F"):  # whole numbers or fractions without a range of their own
        levels = np.asarray(image, np.float64)
        span = np.ptp(levels) or 1.0
        image = Image.fromarray(np.round(255 * (levels - levels.min()) / span).astype(np.uint8))
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        drawn = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
    return np.asarray(upright.convert("RGB"))


def _ink_of_digit(grey: Image.Image) -> Grey:
    """The ink, at a resolution that is high enough even if the digit is small in the picture."""
    # At MNIST's own size nothing is too small to be meant.
    ink = find_ink(_brightness(grey), dirty=max(grey.size) > FIELD)
    if max(grey.size) > WORKING_SIZE and 2 * max(extent(ink)) < max(ink.shape):
        rows, columns = bounds(ink)
        margin = 0.35 * max(extent(ink))
        scale = max(grey.size) / max(ink.shape)
        left, right = scale * (columns.start - margin), scale * (columns.stop + margin)
        upper, lower = scale * (rows.start - margin), scale * (rows.stop + margin)
        inside = (max(0, left), max(0, upper), min(right, grey.width), min(lower, grey.height))
        ink = find_ink(_brightness(grey.crop(inside)))
    return ink


def _brightness(grey: Image.Image) -> Grey:
    """Brightness in 0 to 1, shrunk to the working size where larger, and then freed of grain."""
    large = max(grey.size)
    if large <= WORKING_SIZE:
        return _unit(grey)
    size = [max(1, round(side * WORKING_SIZE / large)) for side in grey.size]
    shrunk = grey.resize((size[0], size[1]), Image.Resampling.BOX)
    small = _unit(shrunk)
    for axis in (0, 1):
        lines = np.moveaxis(small, axis, 0)
        before, after = (
            np.concatenate([lines[:1], lines[:-1]]),
            np.concatenate([lines[1:], lines[-1:]]),
        )
        small = np.moveaxis((before + 2 * lines + after) / 4, 0, axis)
    return small


def _unit(grey: Image.Image) -> Grey:
    levels: Grey = np.asarray(grey, np.float32)
    return levels / np.float32(255)


def _fitted(ink: Grey) -> Grey:
    """`ink`, cropped as it is, at the scale at which it just fits the box; the strongest is 1."""
    scale = BOX / max(ink.shape)
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    if (height, width) != ink.shape:
        scaled = Image.fromarray(ink).resize((width, height), Image.Resampling.BOX)
        ink = np.asarray(scaled)
    strongest: np.float32 = ink.max()
    return ink / strongest


def _centred(ink: Grey) -> Bytes:
    """`ink` on the field, its centre of mass as near to the centre as whole pixels allow."""
    field = np.zeros((FIELD, FIELD), np.uint8)
    corner = []
    for axis, size in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis)
        centre = (mass @ np.arange(size)) / mass.sum()
        corner.append(int(np.clip(np.floor(FIELD / 2 - centre + 0.5), 0, FIELD - size)))
    top, left = corner
    place = np.s_[top : top + ink.shape[0], left : left + ink.shape[1]]
    field[place] = np.round(255 * ink).astype(np.uint8)
    return field
