"""Separate the ink of a digit from its background: drawings, photographs with shadows, blackboards.

Nothing here is specific to digits. Brightness is a float array (height, width) from 0 to 1. The
filters and components are NumPy code: importing ``scipy.ndimage`` takes longer than all the rest of
``kerasbn infer`` for one picture (measured: 1.2 instead of 0.65 seconds), with equal results.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]
Mask = NDArray[np.bool_]

STROKE = 0.35  # no stroke is wider than this share of the longer side of the picture
DRAWN = 0.3  # the share of pixels with exactly the background's level in a drawing
FAINTEST = 0.06  # the smallest difference in brightness that may be ink
ABOVE_NOISE = 4.0  # ink differs from the background by at least so many deviations of its noise
PAPER = 5.0  # pixels within so many deviations of the background belong to it
NEARLY_BLACK = 0.05  # a background darker than this does not measure the light that falls on it
SPECK = 0.02  # a component with less than this share of the largest one's ink is dirt
EDGE = 0.0625  # the soft edge of a stroke, as a share of the longer side of the ink


class NoInkError(ValueError):
    """The picture is blank."""


def find_ink(gray: Gray, dirty: bool = True) -> Gray:
    """Return how much ink each pixel has: 0 for background, 1 for the middle of a stroke.

    Ink reflects a share of the light, so its difference from the background is measured relative to
    the background, and a shadow makes no ink fainter. Otsu's threshold ("A Threshold Selection
    Method from Gray-Level Histograms", 1979) separates the two. Components above it are ink,
    together with their soft edges. If `dirty`, specks are removed, and everything farther from a
    stroke than its soft edge.

    Raises:
        NoInkError: If nothing stands out from the background.
    """
    background = find_background(gray)
    difference = np.abs(gray - background)
    ink = difference / (background + NEARLY_BLACK)
    threshold = otsu(ink)
    strong = ink > threshold
    if not strong.any() or quantile(difference[strong], 0.95) < FAINTEST:
        raise NoInkError
    level = quantile(ink, 0.5)
    noise = 1.4826 * quantile(np.abs(ink - level), 0.5)  # the deviation of a normal distribution
    full = quantile(ink[strong], 0.95)
    if full - level < ABOVE_NOISE * noise:
        raise NoInkError
    none = min(level + PAPER * noise, threshold)
    amount: Gray = np.clip((ink - none) / (full - none), 0, 1).astype(np.float32)
    if dirty:
        strong = without_specks(strong, ink)
        within = np.zeros_like(strong)
        within[bounds(strong)] = True
        edge = int(np.ceil(EDGE * max(extent(strong))))
        amount[~within | ~ink_spread(strong, 2 * edge + 1, np.maximum)] = 0
    return amount


def find_background(gray: Gray) -> Gray:
    """Return the brightness of the background at each pixel, also under the ink.

    A drawing has one level for most of its pixels. In a photograph, the background is what remains
    when everything as narrow as a stroke is removed by a morphological closing or, for light ink,
    an opening (Serra, "Image Analysis and Mathematical Morphology", 1982).
    """
    counts = np.bincount(np.round(255 * gray).astype(np.intp).ravel())
    if counts.max() >= DRAWN * gray.size:
        return np.full_like(gray, np.float32(counts.argmax()) / np.float32(255))
    width = 1 + 2 * round(STROKE * max(gray.shape) / 2)
    return closing(gray, width) if is_dark_on_light(gray, width) else -closing(-gray, width)


def is_dark_on_light(gray: Gray, width: int) -> bool:
    """Return whether the ink is darker than the background.

    Near a stroke most pixels are background, so the mean there is nearer to the background than to
    the ink. Without ink, a slow change of light has its mean in the middle.
    """
    middle = (ink_spread(gray, width, np.minimum) + ink_spread(gray, width, np.maximum)) / 2
    return bool((local_mean(gray, width) - middle).sum() > 0)


def closing(gray: Gray, width: int) -> Gray:
    """Return `gray` without the dark structures that are narrower than `width`.

    Beyond its border the picture continues, or else background there would count as narrow.
    """
    padded: Gray = np.pad(gray, width, mode="edge")
    closed = ink_spread(ink_spread(padded, width, np.maximum), width, np.minimum)
    return closed[width:-width, width:-width]


def ink_spread(values: NDArray[Any], width: int, extreme: np.ufunc) -> NDArray[Any]:
    """Return the maximum or minimum in the square of odd `width` around each pixel.

    Windows double until they are wide enough, which takes log2(width) steps.
    """
    for _ in range(2):  # along the columns, then along the rows
        values = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="edge")
        reached = 1
        while reached < width:
            step = min(reached, width - reached)
            values = extreme(values[:-step], values[step:])
            reached += step
        values = values.T
    return values


def local_mean(gray: Gray, width: int) -> Gray:
    """Return the mean of the square of odd `width` around each pixel."""
    sums = np.pad(gray, width // 2, mode="edge").astype(np.float64)
    for _ in range(2):  # along the columns, then along the rows
        sums = np.insert(np.cumsum(sums, axis=0), 0, 0, axis=0)
        sums = (sums[width:] - sums[:-width]).T
    return (sums / width**2).astype(np.float32)


def quantile(values: Gray, share: float) -> float:
    """Return a quantile by linear interpolation.

    ``numpy.quantile`` loads masked arrays first and takes ten times as long.
    """
    place = share * (values.size - 1)
    below = int(place)
    above = min(below + 1, values.size - 1)
    partitioned = np.partition(values, (below, above), axis=None)
    low, high = float(partitioned[below]), float(partitioned[above])
    return low + (place - below) * (high - low)


def bounds(mask: NDArray[Any]) -> tuple[slice, slice]:
    """Return the rows and columns of the bounding box of the nonzero pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def extent(mask: NDArray[Any]) -> tuple[int, int]:
    """Return height and width of that bounding box."""
    rows, columns = bounds(mask)
    return rows.stop - rows.start, columns.stop - columns.start


def otsu(values: Gray) -> float:
    """Return the threshold with the largest variance between the two classes."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sum_below = np.cumsum(counts)[:-1], np.cumsum(counts * middles)[:-1]
    above, sum_above = counts.sum() - below, (counts * middles).sum() - sum_below
    # Where a class is empty, its sum is 0 as well, and so is the variance between the two.
    difference = sum_below / np.maximum(below, 1) - sum_above / np.maximum(above, 1)
    between = below * above.astype(float) * difference**2
    return float(edges[1 + int(between.argmax())] if between.any() else values.max())


def without_specks(mask: Mask, ink: Gray) -> Mask:
    """Return the mask without the connected components that hold hardly any ink."""
    components = connected_components(mask)
    amounts = [ink.ravel()[places].sum() for places in components]
    kept = np.zeros(mask.size, bool)
    for places, amount in zip(components, amounts, strict=True):
        kept[places] = amount >= SPECK * max(amounts)
    return kept.reshape(mask.shape)


def connected_components(mask: Mask) -> list[list[int]]:
    """Return the components of a mask as flat positions; diagonal neighbors are connected."""
    width = mask.shape[1] + 2  # with a margin, no position has neighbors in another row
    left = set(np.flatnonzero(np.pad(mask, 1)).tolist())
    around = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    components = []
    while left:
        component = [left.pop()]
        for place in component:  # grows during the loop
            found = left.intersection([place + step for step in around])
            left -= found
            component.extend(found)
        components.append([(p // width - 1) * mask.shape[1] + p % width - 1 for p in component])
    return components
