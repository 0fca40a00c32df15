"""Draw a digit on the page of a comparison, and save an image of that part.

python -m tests.screenshot page.html page.png
"""

import argparse
import base64
import math
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `python -m tests.screenshot`

from chromium import NAMES, Chromium, Tab

WIDTH, MARGIN = 1080, 10  # CSS pixels
# The strokes of a 3, in shares of the drawing field.
ARCS = [((0.47, 0.33), 0.17, -150, 80), ((0.48, 0.66), 0.19, -80, 150)]


def three() -> list[tuple[float, float]]:
    """Points along the digit 3: two arcs, given by center, radius and two angles in degrees."""
    return [
        (x + radius * math.cos(math.radians(angle)), y + radius * math.sin(math.radians(angle)))
        for (x, y), radius, first, last in ARCS
        for angle in range(first, last + 1, 10)
    ]


def main() -> int:
    """Save the image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("image", type=Path)
    given = parser.parse_args()
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        parser.error("needs Chromium")
    with tempfile.TemporaryDirectory() as profile:
        browser = Chromium(program, Path(profile))
        page = Tab(browser, WIDTH)
        page.open(given.page.resolve())
        field = "document.querySelector('.field')"
        page.run(f"{field}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        left, top, width = page.run(
            f"(({{left, top, width}}) => [left, top, width])({field}.getBoundingClientRect())"
        )
        page.drag(*[(left + width * x, top + width * y) for x, y in three()])
        y, height = page.run(
            "(({y, height}) => [y + scrollY, height])"
            f"({field}.closest('section').getBoundingClientRect())"
        )
        box = {"x": 0, "y": y - MARGIN, "width": WIDTH, "height": height + 2 * MARGIN}
        shot = page.call(
            "Page.captureScreenshot", clip={**box, "scale": 0.75}, captureBeyondViewport=True
        )
        given.image.write_bytes(base64.b64decode(shot["data"]))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
