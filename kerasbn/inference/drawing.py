"""Dataset as text, small enough to stand side by side in a terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HALVES = (" ", "▄", "▀", "█")  # neither half inked, the lower, the upper, both
_ASCII = (" ", ".", "'", "#")
_INK = 70  # of 255; the mean of four pixels above which a quarter of them is drawn
WIDTH = 14


def draw(image: NDArray[np.uint8], *, ascii_only: bool = False) -> list[str]:
    """A digit, uint8 [28, 28], as 7 lines of 14 characters; each stands for 2 by 4 pixels."""
    inked = image.reshape(14, 2, 14, 2).mean(axis=(1, 3)) > _INK
    signs = _ASCII if ascii_only else _HALVES
    return ["".join(signs[2 * a + b] for a, b in zip(*pair, strict=True)) for pair in _pairs(inked)]


def side_by_side(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int, encoding: str
) -> str:
    """Dataset in rows that fit `columns` characters, each with its caption under it."""
    try:
        "".join(_HALVES).encode(encoding)
        ascii_only = False
    except (UnicodeEncodeError, LookupError):
        ascii_only = True
    width = max([WIDTH, *map(len, captions)]) + 2
    per_row = max(1, columns // width)
    blocks = [
        [*draw(image, ascii_only=ascii_only), caption]
        for image, caption in zip(images, captions, strict=True)
    ]
    rows = [blocks[start : start + per_row] for start in range(0, len(blocks), per_row)]
    return "\n\n".join(
        "\n".join(
            "".join(line.ljust(width) for line in lines).rstrip()
            for lines in zip(*row, strict=True)
        )
        for row in rows
    )


def _pairs(inked: NDArray[np.bool_]) -> list[tuple[Any, Any]]:
    return [(inked[row].astype(int), inked[row + 1].astype(int)) for row in range(0, 14, 2)]
