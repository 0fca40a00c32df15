"""Separate the ink of a digit from its background: drawings, photographs with shadows, blackboards.

Nothing here is specific to digits. Brightness is a float array (height, width) from 0 to 1. The
filters and components are NumPy code: importing ``scipy.ndimage`` takes longer than all the rest of
``kerasbn infer`` for one picture (measured: 1.2 instead of 0.65 seconds), with equal results.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]  # rows and columns

STROKE = 0.35  # no stroke is wider than this share of the longer side of the picture
DRAWN = 0.3  # the share of pixels with exactly the background's level in a drawing
FAINTEST = 0.06  # the smallest difference in brightness that may be ink
ABOVE_NOISE = 4.0  # ink differs from the background by at least so many deviations of its noise
PAPER = 5.0  # pixels within so many deviations of the background belong to it
NEARLY_BLACK = 0.05  # a background darker than this does not measure the light that falls on it
SPECK = 0.02  # a component with less than this share of the largest one's ink is dirt
BLANK = 1.5  # paper has blank places so many times as wide as what is written on it
SHEET = 0.35  # a sheet of paper is wider than this share of the longer side of the picture
FULL = 0.6  # a sheet fills so much of its bounding box, even if it is turned
SHARP = 0.7  # so much of the difference between a sheet and its surroundings is at its edge
SOLID = 0.33  # some blank place is as wide as this share of the sheet; no stroke of a digit is
INKED = 0.3  # the amount above which ink connects the parts of a digit
MAIN = 0.4  # a component with this share of the largest height is a digit, not a part of one
NEAR = 0.15, 0.06  # parts of a digit are this close, below and beside each other, by its height
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


def find_paper(gray: Gray) -> Mask | None:
    """Return where a sheet of paper lies in a picture, or None if there is only the sheet.

    The sheet, or a board, has a brightness that does not reach most of the picture's border, and
    sharp edges, unlike light that changes over a page. It differs from a thick stroke by its size,
    and in that blank places are wider than the writing, while the gaps within a digit are wider
    than its strokes.
    """
    light = gray > otsu(gray)
    side = max(gray.shape)
    for surface in (light, ~light):
        border = np.concatenate([surface[[0, -1]].ravel(), surface[:, [0, -1]].ravel()])
        if border.mean() > 0.5 or not surface.any():
            continue
        sheet: Mask = np.zeros(gray.size, np.bool_)
        sheet[max(connected_components(surface), key=len)] = True
        sheet = sheet.reshape(gray.shape)
        whole = filled(sheet)
        height, width = extent(whole)
        if min(height, width) < SHEET * side or whole.sum() < FULL * height * width:
            continue
        if not has_sharp_edges(whole, gray):
            continue
        blank = thickness(sheet)
        if blank < SOLID * min(height, width) or blank < BLANK * thickness(whole & ~sheet):
            continue
        margin = 2 * round(0.02 * side) + 1
        inside: Mask = ink_spread(whole, margin, np.minimum)
        return inside if inside.any() else None
    return None


def has_sharp_edges(mask: Mask, gray: Gray) -> bool:
    """Return whether most of the difference between inside and outside is at the very border."""
    inner = mask & ~ink_spread(mask, 7, np.minimum)
    outer = ink_spread(mask, 7, np.maximum) & ~mask
    if not inner.any() or not outer.any():
        return False
    step = float(np.median(gray[inner])) - float(np.median(gray[outer]))
    difference = float(np.median(gray[mask])) - float(np.median(gray[~mask]))
    return abs(difference) > FAINTEST and step / difference > SHARP


def filled(mask: Mask) -> Mask:
    """Return the mask with what lies between two of its pixels, both in a row and in a column."""
    between = [
        np.maximum.accumulate(mask, axis)
        & np.flip(np.maximum.accumulate(np.flip(mask, axis), axis), axis)
        for axis in (0, 1)
    ]
    return between[0] & between[1]


def thickness(mask: Mask) -> int:
    """Return the side of the largest square within a mask, up to 1 pixel."""
    low, high = 0, max(mask.shape)  # by bisection
    while high - low > 1:
        middle = (low + high) // 2
        fits = ink_spread(np.pad(mask, 1), 2 * (middle // 2) + 1, np.minimum).any()
        low, high = (middle, high) if fits else (low, middle)
    return low


def separate(ink: Gray) -> list[tuple[Window, Gray]]:
    """Return where each digit is, and its ink alone, in the order of reading.

    Parts of a digit are its strokes that do not touch: small ones go to the nearest large one, and
    large ones are joined if one lies over the other without a gap as between lines.
    """
    components = connected_components(ink > INKED)
    boxes = [_box(places, ink.shape[1]) for places in components]
    tallest = max(lower - upper for upper, lower, _, _ in boxes)
    groups: list[list[int]] = []
    for at in sorted(range(len(boxes)), key=lambda at: boxes[at][0] - boxes[at][1]):
        upper, lower, _, _ = boxes[at]
        near = [group for group in groups if any(_belong(boxes[at], boxes[k]) for k in group)]
        if near:
            joined = [at, *(k for group in near for k in group)]
            groups = [group for group in groups if group not in near] + [joined]
        elif lower - upper >= MAIN * tallest or not groups:
            groups.append([at])
        else:
            min(groups, key=lambda group: min(_gap(boxes[at], boxes[k]) for k in group)).append(at)
    if len(groups) == 1:
        return [((slice(None), slice(None)), ink)]
    owner = np.zeros(ink.shape, int)
    for number, group in enumerate(groups, start=1):
        for at in group:
            owner.flat[components[at]] = number
    edge = int(np.ceil(EDGE * tallest))
    parts = []
    for number, group in enumerate(groups, start=1):
        first = np.min([boxes[at] for at in group], axis=0)
        last = np.max([boxes[at] for at in group], axis=0)
        rows = slice(max(0, int(first[0]) - edge), int(last[1]) + edge)
        columns = slice(max(0, int(first[2]) - edge), int(last[3]) + edge)
        owners = owner[rows, columns]
        near_own = ink_spread(owners == number, 2 * edge + 1, np.maximum)
        is_own = near_own & ((owners == 0) | (owners == number))
        parts.append(((rows, columns), np.where(is_own, ink[rows, columns], 0)))
    return _in_reading_order(parts)


def _box(places: list[int], width: int) -> tuple[int, int, int, int]:
    """Return the first and last row and column of flat positions."""
    rows, columns = np.divmod(places, width)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def _gap(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the distance of two boxes, along the axis in which they are farther apart."""
    return max(one[0] - other[1], other[0] - one[1], one[2] - other[3], other[2] - one[3])


def _belong(one: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether two components are parts of one digit."""
    height = max(one[1], other[1]) - min(one[0], other[0])
    overlap = min(one[3], other[3]) - max(one[2], other[2])
    below = max(one[0], other[0]) - min(one[1], other[1])
    narrow = min(one[3] - one[2], other[3] - other[2])
    if overlap >= narrow / 2:
        return below < NEAR[0] * height
    return -overlap < NEAR[1] * height and below < 0


def _in_reading_order(parts: list[tuple[Window, Gray]]) -> list[tuple[Window, Gray]]:
    """Sort by lines, from top to bottom, and within a line from left to right."""

    def middle(part: tuple[Window, Gray], axis: int) -> float:
        side = part[0][axis]
        return float(side.start + side.stop) / 2

    line_height = 0.6 * float(np.median([extent(ink)[0] for _, ink in parts]))
    lines: list[list[tuple[Window, Gray]]] = []
    for part in sorted(parts, key=lambda part: middle(part, 0)):
        if lines and middle(part, 0) - middle(lines[-1][-1], 0) < line_height:
            lines[-1].append(part)
        else:
            lines.append([part])
    return [part for line in lines for part in sorted(line, key=lambda part: middle(part, 1))]


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
