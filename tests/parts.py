"""What the interactive parts of a page show, and their controls."""

from typing import Any

import numpy as np
from chromium import Tab

FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def settle(page: Tab) -> None:
    """Wait until what was asked for is on the screen."""
    page.call("Runtime.evaluate", expression=FRAMES, awaitPromise=True)


def show(page: Tab, selector: str) -> tuple[float, float, float]:
    """Scroll to an element, and return its left, top and width once it stands still."""
    script = f"""(() => {{ const each = document.querySelector({selector!r});
        each.scrollIntoView({{behavior: "instant", block: "center"}});
        const box = each.getBoundingClientRect(); return [box.left, box.top, box.width]; }})()"""
    found = None
    while found != (found := page.run(script)):
        settle(page)
    left, top, width = found
    return left, top, width


def seen(page: Tab) -> np.ndarray:
    """The image that the models see: uint8 (28, 28)."""
    settle(page)
    script = """(() => { const canvas = document.querySelector(".seen canvas");
        const copy = new OffscreenCanvas(28, 28).getContext("2d", {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        const pixels = copy.getImageData(0, 0, 28, 28).data;
        return Array.from({length: 784}, (_, i) => 255 - pixels[4 * i]); })()"""
    return np.array(page.run(script), np.uint8).reshape(28, 28)


def columns(page: Tab, part: str) -> np.ndarray:
    """The probabilities that the bars of a part state, one row for each table."""
    script = f"""[...document.querySelectorAll("[data-part={part}] .bars")].map(table =>
        [...table.querySelectorAll("td:last-child")].map(cell => parseFloat(cell.textContent)))"""
    return np.array(page.run(script)) / 100


def finding(page: Tab, part: str) -> str:
    text = page.run(f'document.querySelector("[data-part={part}] .finding").textContent')
    assert isinstance(text, str)
    return text


def texts(page: Tab, selector: str) -> list[str]:
    script = f"[...document.querySelectorAll({selector!r})].map(each => each.innerText.trim())"
    return [str(text) for text in page.run(script)]


def softmax(values: Any) -> np.ndarray:
    powers = np.exp(np.asarray(values) - np.max(values, -1, keepdims=True))
    result: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return result


def members(page: Tab) -> list[str]:
    """What the images of the batch are called."""
    settle(page)
    script = '[...document.querySelectorAll(".members button")].map(x => x.ariaLabel)'
    return [str(name) for name in page.run(script)]


def set_slider(page: Tab, part: str, value: object) -> None:
    page.run(f"""(() => {{ const slider = document.querySelector("[data-part={part}] [type=range]");
        slider.value = {value}; slider.dispatchEvent(new Event("input")); }})()""")


def select(page: Tab, selector: str, value: object) -> None:
    page.run(f"""(() => {{ const choice = document.querySelector({selector!r});
        choice.value = {value}; choice.dispatchEvent(new Event("change")); }})()""")


def middle(page: Tab, selector: str, index: int) -> tuple[float, float]:
    x, y = page.run(f"""(() => {{ const box =
        document.querySelectorAll({selector!r})[{index}].getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]; }})()""")
    return x, y
