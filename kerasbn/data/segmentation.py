"""Ink told from paper: in a clean picture, in a photograph with a shadow over it, on a blackboard.

Nothing here knows what a digit is. Brightness is float in 0 to 1, [height, width].
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

STROKE = 0.35  # no stroke is broader than this share of a picture's longer side
DRAWN = 0.3  # the share of a drawn picture that has the paper's level to the last bit
FAINTEST = 0.06  # the smallest difference in brightness that may be ink
ABOVE_NOISE = 4.0  # ink stands out from the paper by so many deviations of the paper's noise
PAPER = 5.0  # what differs by fewer deviations from the paper is paper
NEARLY_BLACK = 0.05  # paper darker than this is no measure of how much light falls on it
SPECK = 0.02  # a patch with less than this share of the largest one's ink is dirt
EDGE = 0.0625  # the soft edge of a stroke, as a share of the ink's longer side


class NoInkError(ValueError):
    """There is nothing on the paper."""


def find_ink(grey: Grey, dirty: bool = True) -> Grey:
    """How much ink is at each place: 0 for paper, 1 for the middle of a stroke.

    Ink takes away or gives back a share of the light, so the difference from the paper's brightness
    is measured in that, and a shadow makes no ink fainter. It is split by Otsu's threshold (A
    Threshold Selection Method from Gray-Level Histograms, 1979): patches above it are ink, with the
    soft edge around them; the rest is paper.

    Args:
        grey: brightness, of dark ink on light paper or light ink on dark paper.
        dirty: whether specks, and what lies farther from a stroke than its soft edge, are no ink.

    Raises:
        NoInkError: if nothing stands out from the paper.
    """
    paper = find_paper(grey)
    difference = np.abs(grey - paper)
    ink = difference / (paper + NEARLY_BLACK)
    threshold = otsu(ink)
    strong = ink > threshold
    if not strong.any() or quantile(difference[strong], 0.95) < FAINTEST:
        raise NoInkError
    level = quantile(ink, 0.5)
    noise = 1.4826 * quantile(np.abs(ink - level), 0.5)  # of a normal distribution
    full = quantile(ink[strong], 0.95)
    if full - level < ABOVE_NOISE * noise:
        raise NoInkError
    none = min(level + PAPER * noise, threshold)
    amount: Grey = np.clip((ink - none) / (full - none), 0, 1).astype(np.float32)
    if dirty:
        strong = without_specks(strong, ink)
        within = np.zeros_like(strong)
        within[bounds(strong)] = True
        edge = int(np.ceil(EDGE * max(extent(strong))))
        amount[~within | ~spread(strong, 2 * edge + 1, np.maximum)] = 0
    return amount


def quantile(values: Grey, share: float) -> float:
    """The level that this share of the values lies below, between two of them by proportion.

    As `numpy.quantile` has it, which loads masked arrays for it and takes ten times as long.
    """
    place = share * (values.size - 1)
    below = int(place)
    above = min(below + 1, values.size - 1)
    sorted_there = np.partition(values, (below, above), axis=None)
    low, high = float(sorted_there[below]), float(sorted_there[above])
    return low + (place - below) * (high - low)


def find_paper(grey: Grey) -> Grey:
    """The brightness the paper has at each place, under the ink too.

    A drawn picture has one: the level that much of it has. In a photograph it is what remains once
    everything as narrow as a stroke is filled in, by a morphological closing or, of light ink, an
    opening (Serra, Image Analysis and Mathematical Morphology, 1982; the difference is the "top
    hat"). So a shadow belongs to the paper where it changes more slowly than a stroke is broad.
    """
    counts = np.bincount(np.round(255 * grey).astype(np.intp).ravel())
    if counts.max() >= DRAWN * grey.size:
        return np.full_like(grey, np.float32(counts.argmax()) / np.float32(255))
    breadth = 1 + 2 * round(STROKE * max(grey.shape) / 2)
    return closing(grey, breadth) if is_dark_on_light(grey, breadth) else -closing(-grey, breadth)


def is_dark_on_light(grey: Grey, breadth: int) -> bool:
    """Whether the ink is the darker of the two.

    Within reach of a stroke most is paper, so the mean brightness there lies nearer to the paper's
    than to the ink's. Where there is no ink, a slow change of light has its mean in the middle.
    """
    darkest, lightest = spread(grey, breadth, np.minimum), spread(grey, breadth, np.maximum)
    return bool((mean_around(grey, breadth) - (darkest + lightest) / 2).sum() > 0)


def bounds(mask: NDArray[Any]) -> tuple[slice, slice]:
    """The rows and columns from the first to the last that hold anything."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def extent(mask: NDArray[Any]) -> tuple[int, int]:
    """Height and width of what a mask holds."""
    rows, columns = bounds(mask)
    return rows.stop - rows.start, columns.stop - columns.start


def closing(grey: Grey, breadth: int) -> Grey:
    """`grey` with every dark thing filled in that is narrower than `breadth`.

    Beyond its border the picture goes on as it ends, else paper there would count as narrow.
    """
    wide: Grey = np.pad(grey, breadth, mode="edge")
    closed = spread(spread(wide, breadth, np.maximum), breadth, np.minimum)
    return closed[breadth:-breadth, breadth:-breadth]


def spread(values: NDArray[Any], breadth: int, largest: np.ufunc) -> NDArray[Any]:
    """The `largest` (maximum or minimum) in the square of odd `breadth` around each place.

    Windows double until they are broad enough, so it takes log2(breadth) steps.
    """
    for axis in (0, 1):
        margin = [(0, 0), (0, 0)]
        margin[axis] = (breadth // 2, breadth // 2)
        values = np.moveaxis(np.pad(values, margin, mode="edge"), axis, 0)
        have = 1
        while have < breadth:
            step = min(have, breadth - have)
            values = largest(values[:-step], values[step:])
            have += step
        values = np.moveaxis(values, 0, axis)
    return values


def mean_around(grey: Grey, breadth: int) -> Grey:
    """The mean of the square of odd `breadth` around each place."""
    sums = np.pad(grey, breadth // 2, mode="edge").astype(np.float64)
    for axis in (0, 1):
        sums = np.insert(np.cumsum(sums, axis), 0, 0, axis)
        sums = np.moveaxis(sums, axis, 0)
        sums = np.moveaxis(sums[breadth:] - sums[:-breadth], 0, axis)
    return (sums / breadth**2).astype(np.float32)


def otsu(values: Grey) -> float:
    """The threshold that best splits `values` in two: with the most variance between the halves."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sum_below = np.cumsum(counts)[:-1], np.cumsum(counts * middles)[:-1]
    above, sum_above = counts.sum() - below, (counts * middles).sum() - sum_below
    both = (below > 0) & (above > 0)
    if not both.any():
        return float(values.max())
    between = np.zeros(len(below))
    means_apart = sum_below[both] / below[both] - sum_above[both] / above[both]
    between[both] = below[both] * above[both].astype(float) * means_apart**2
    return float(edges[1 + int(between.argmax())])


def without_specks(mask: Mask, ink: Grey) -> Mask:
    """`mask` without the patches that hold next to no ink beside the largest."""
    patches = connected(mask)
    weights = [ink.ravel()[patch].sum() for patch in patches]
    kept = np.zeros(mask.size, bool)
    for patch, weight in zip(patches, weights, strict=True):
        if weight >= SPECK * max(weights):
            kept[patch] = True
    return kept.reshape(mask.shape)


def connected(mask: Mask) -> list[list[int]]:
    """The patches of a mask, as flat positions; neighbours across a corner belong together."""
    width = mask.shape[1] + 2  # with a margin, no position has neighbours in another row
    left = set(np.flatnonzero(np.pad(mask, 1)).tolist())
    around = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    patches = []
    while left:
        patch = [left.pop()]
        for place in patch:  # grows while it is walked
            found = left.intersection([place + step for step in around])
            left -= found
            patch.extend(found)
        patches.append([(p // width - 1) * mask.shape[1] + p % width - 1 for p in patch])
    return patches
