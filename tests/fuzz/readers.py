"""Every reader of the product, with valid files to damage."""

import gzip
import hashlib
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.damage import damage_lines
from fuzz.formats import damage_idx, damage_image, damage_npz
from fuzz.models import MODELS
from fuzz.records import RECORDS
from fuzz.trials import Reader
from PIL import Image

from kerasbn.data.arrays import read_inputs
from kerasbn.data.digits import as_digit, as_digits
from kerasbn.data.idx import IdxFile, read_file
from kerasbn.data.images import as_input, read_picture
from kerasbn.inference.infer import read_labels
from kerasbn.training.checkpoint import Checkpoint, Progress, read_checkpoint, read_progress


@cache
def _digits() -> tuple[IdxFile, bytes]:
    """Return an IDX file of a few images."""
    shape = (20, 28, 28)
    header = IdxFile("digits", shape, "", 0, "").header
    content = header + np.random.default_rng(0).integers(0, 9, shape, np.uint8).tobytes()
    return IdxFile("digits", shape, hashlib.sha256(content).hexdigest(), 0, ""), content


def _read_idx(path: Path) -> None:
    read_file(path, _digits()[0])


def _images() -> list[bytes]:
    """Return small images of every format and of many modes."""
    found = []
    pixels = np.full((40, 30, 4), 250, np.uint8)
    pixels[8:32, 8:12, :3] = pixels[28:32, 8:26, :3] = 20  # an L, no digit too wide if it is turned
    image = Image.fromarray(pixels)
    kinds = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"),
        "GIF": ("P",), "BMP": ("1", "L", "RGB"), "TIFF": ("1", "L", "RGB", "CMYK", "F", "I;16"),
        "WEBP": ("RGB", "RGBA"), "PPM": ("1", "L", "RGB", "I;16"),
    }  # fmt: skip
    for kind, modes in kinds.items():
        for mode in modes:
            buffer = io.BytesIO()
            if mode == "I;16":
                made = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            else:
                made = image.convert("RGB").convert(mode) if mode != "RGBA" else image
            made.save(buffer, kind)
            found.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    compressed: list[tuple[str, dict[str, Any]]] = [
        ("JPEG", {"exif": exif, "progressive": True}), ("PNG", {"exif": exif}),
        ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}),
    ]  # fmt: skip
    for kind, options in compressed:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, kind, **options)
        found.append(buffer.getvalue())
    found += [b"P3\n3 2\n255\n" + b"9 " * 18, b"Pf\n3 2\n-1.0\n" + bytes(24)]
    return found


def _read_image(path: Path) -> None:
    picture = read_picture(path)
    assert picture.pixels.ndim == 3
    assert as_input(picture, 8, 9, 3, "hwc").shape == (8, 9, 3)
    if 20 < max(picture.pixels.shape[:2]) < 3000:
        assert as_digit(picture).shape == (28, 28)
        assert all(digit.shape == (28, 28) for digit in as_digits(picture))


SHAPES = {"image": (None, 4, 4, 3), "tokens": (None, 6)}


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type] # as NumPy 2.4 has it
    return buffer.getvalue()


def _two_inputs() -> list[bytes]:
    random = np.random.default_rng(0)
    image, tokens = random.random((5, 4, 4, 3), np.float32), random.integers(0, 9, (5, 6))
    return [
        _npz(image=image, tokens=tokens),
        _npz(image=image.astype(np.float16), tokens=np.asfortranarray(tokens), y=np.arange(5)),
    ]


def _read_npz(path: Path) -> None:
    arrays, labels = read_inputs(path, SHAPES)
    for array in (*arrays, *(() if labels is None else (labels,))):
        assert array[:2].tolist() is not None


def _checkpoints() -> list[bytes]:
    path = Path("made.npz")
    random = np.random.default_rng(0)
    progress = Progress(3, 1.5, {"bn": 7}, {"bn": [{"loss": 0.5, "epoch": 1}], "plain": []})
    arrays = [random.random((4, 3), np.float32), np.int64(3), random.random(5, np.float32)]
    Checkpoint(progress, list(map(np.asarray, arrays)), {"bn": [np.ones(3)]}).write(path)
    content = path.read_bytes()
    path.unlink()
    return [content]


def _read_checkpoint(path: Path) -> None:
    read_progress(path)
    found = read_checkpoint(path)
    assert all(array.dtype.kind != "O" for array in found.variables)


_LABELS = "zero\none\ntwo\nthrée\n"

READERS: dict[str, Reader] = (
    MODELS
    | RECORDS
    | {
        "idx": Reader("digits", lambda: [_digits()[1]], damage_idx, _read_idx),
        "idx.gz": Reader("digits.gz", lambda: [gzip.compress(_digits()[1])], damage_idx, _read_idx),
        "images": Reader("image", _images, damage_image, _read_image, seconds=20),
        "inputs": Reader("inputs.npz", _two_inputs, damage_npz, _read_npz),
        "checkpoint": Reader("model.npz", _checkpoints, damage_npz, _read_checkpoint),
        "labels": Reader("labels.txt", lambda: [_LABELS.encode()], damage_lines, read_labels),
    }
)
