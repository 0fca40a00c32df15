"""Read image files, resize images, and lay them out on contact sheets."""

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from kerasbn.common.errors import InputError, expected, quoted
from kerasbn.common.files import read_file
from kerasbn.data.arrays import Layout

Bytes = NDArray[np.uint8]

# The supported formats, by the name of Pillow's class, with the first bytes of a file. No others:
# Pillow hands some, such as EPS, to programs of the system.
_BEGINNINGS = {
    "Png": rb"\x89PNG\r\n\x1a\n",
    "Jpeg": rb"\xff\xd8\xff",
    "Gif": rb"GIF8[79]a",
    "Bmp": rb"BM",
    "Tiff": rb"II[*+]\0|MM\0[*+]|II\0[*]|MM[*]\0",
    "WebP": rb"RIFF....WEBP",
    "Ppm": rb"P[0-6fy]",
}
IMAGE_FORMATS = tuple(kind.upper() for kind in _BEGINNINGS)
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
STDIN = Path("-")
_EXPECTED = f"an image ({', '.join(IMAGE_FORMATS)})", "give another file"

_MOST_BYTES = 2**29  # of a file; Pillow needs no more for the most pixels
_MOST_PIXELS = 89_478_485  # Pillow's limit: a quarter of a gigabyte in color

TILE = 84  # the longer side of an image on a contact sheet: three times a digit's


@dataclass(frozen=True)
class Picture:
    """The first frame of an image file, upright, without transparency.

    `name` is for errors: its path, or "standard input". `pixels` is RGB, uint8, (height, width, 3).
    """

    name: str
    pixels: Bytes


def read_picture(source: str | Path | bytes) -> Picture:
    """Read an image from a file, from standard input (`-`), or from the bytes of a file.

    Raises:
        InputError: If it cannot be read, is no image, is damaged, or is too large.
    """
    if isinstance(source, bytes):
        name, content = "the image", source
    elif Path(source) == STDIN:
        name, content = "standard input", sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        name, path = str(source), Path(source)
        content = read_file(path, _MOST_BYTES, *_EXPECTED)
    if not content:
        raise _no_image(name, "nothing: it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _quiet_decoders(), _opened(content) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise Image.DecompressionBombError
                return Picture(name, _as_seen(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"at most {_MOST_PIXELS // 10**6} million pixels"
        raise expected(name, "an image that is too large", limit, "make it smaller") from error
    except SyntaxError as error:  # Pillow's error for a wrong header
        raise _no_image(name, "a file that is no image") from error
    except Exception as error:  # damage makes decoders raise many types
        reason = quoted(error, longest=None) or type(error).__name__
        raise _no_image(name, f"a damaged image ({reason})") from error


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Hide what libtiff prints about damage, straight to descriptor 2, within the block."""
    if sys.stderr is None:  # descriptor 2 is closed
        yield
        return
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _opened(content: bytes) -> Image.Image:
    """Open an image by its first bytes; ``Image.open`` would load the readers of all formats first.

    Raises:
        SyntaxError: If it has none of the `IMAGE_FORMATS`.
    """
    for kind, beginning in _BEGINNINGS.items():
        if re.match(beginning, content, re.DOTALL):
            reader = getattr(import_module(f"PIL.{kind}ImagePlugin"), f"{kind}ImageFile")
            image: Image.Image = reader(io.BytesIO(content))
            return image
    raise SyntaxError("no image")


def as_input(picture: Picture, height: int, width: int, channels: int, layout: Layout) -> Bytes:
    """Return a picture resized to the input of a model: uint8, 0 to 255, axes as in `layout`.

    Raises:
        InputError: If `channels` is not 3 for color or 1 for grayscale, or does not match `layout`.
    """
    if channels not in (1, 3) or (layout == "hw" and channels != 1):
        raise expected(f"layout {layout}", f"{channels} channels", "3 for color or 1 for grayscale")
    image = Image.fromarray(picture.pixels).convert("RGB" if channels == 3 else "L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(height, width, channels)
    if layout == "hw":
        return pixels[:, :, 0]
    return pixels if layout == "hwc" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def collect(arguments: list[str]) -> list[Path]:
    """Return the files of paths, folders and patterns; `-` stays as it is.

    Files keep the order of the arguments; those of a folder or pattern are sorted by name. No file
    appears twice. Of a folder and its subfolders, the files with an image suffix are taken, except
    hidden ones.

    Raises:
        InputError: If an argument matches no image; the message names all such arguments.
    """
    found: list[Path] = []
    missing = []
    for argument in arguments:
        path = Path(argument)
        if path == STDIN or path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = _images_in(path)
        else:
            files = map(Path, glob(argument, recursive=True))  # noqa: PTH207 - any root
            matches = sorted(file for file in files if file.is_file())
        if not matches:
            missing.append(argument)
        found += matches
    if missing:
        some = ", ".join(SUFFIXES[:2])
        wanted = f"image files, folders that contain some ({some}, ...), or patterns"
        raise expected(", ".join(missing), "no images", wanted, "correct the path")
    return list(dict.fromkeys(found))


def contact_sheet(tiles: Sequence[tuple[Bytes, str]]) -> Image.Image:
    """Return one image of many, each above its caption; small ones are enlarged."""
    columns = min(len(tiles), 20)
    rows = -(-len(tiles) // columns)
    width, height = TILE + 8, TILE + 22
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for at, (pixels, caption) in enumerate(tiles):
        left, upper = at % columns * width + 4, at // columns * height + 4
        image = Image.fromarray(pixels)
        scale = TILE / max(image.size)
        size = [max(1, round(scale * side)) for side in image.size]
        resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        sheet.paste(image.resize(size, resample), (left, upper))
        draw.text((left, upper + TILE), caption[:14], fill="black")
    return sheet


def _images_in(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    inside = (file for file in files if not _is_hidden(file.relative_to(folder)))
    return sorted(file for file in inside if file.is_file())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _no_image(name: str, received: str) -> InputError:
    return expected(name, received, *_EXPECTED)


def _as_seen(image: Image.Image) -> Bytes:
    """Return the first frame: upright, on a white background, 8-bit RGB."""
    image.load()
    if image.mode[0] in "IF":  # 16 bits; or integers or floats without a fixed range
        levels = np.asarray(image, np.float64)
        is_fixed = image.mode.startswith("I;16")
        low, span = (0, 65_535) if is_fixed else (levels.min(), np.ptp(levels) or 1.0)
        image = Image.fromarray(np.round(255 * (levels - low) / span).astype(np.uint8))
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"))
