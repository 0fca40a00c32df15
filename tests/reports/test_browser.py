"""The page in a real browser: Chromium, driven through the pipe of its DevTools protocol.

Without Chromium these tests are skipped; test_document.py parses the HTML everywhere.
"""

import base64
import csv
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kerasbn.reports.report import report

pytestmark = pytest.mark.slow
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
# The browser expects the pipes as descriptors 3 and 4, which may be in use here.
START = """
import os, sys
read, write = (os.dup2(int(sys.argv[i]), 100 + i) for i in (1, 2))
os.dup2(read, 3), os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
TIMEOUT = 60  # seconds for any reply; a machine may be busy


class Chromium:
    """A headless browser, driven by JSON messages through two pipes."""

    def __init__(self, program: str, profile: Path) -> None:
        read_theirs, self._write = os.pipe()
        self._read, write_theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(read_theirs), str(write_theirs), program, *FLAGS,
             "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            pass_fds=(read_theirs, write_theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_theirs)
        os.close(write_theirs)
        self._count, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method and return its result; events that arrive meanwhile go to `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._count:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def _receive(self) -> Any:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not reply"
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "the browser exited"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def close(self) -> None:
        """Quit the browser."""
        self.call("Browser.close")
        os.close(self._write)
        os.close(self._read)
        self._process.wait(TIMEOUT)


class Tab:
    """A browser tab of a given width, with its requests and its errors."""

    def __init__(self, browser: Chromium, width: int, *, dark: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=2, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        browser.events.clear()

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method for this tab."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Load a file completely."""
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + TIMEOUT
        while self.run("document.readyState") != "complete" or self.run("location.href") != (
            path.as_uri()
        ):
            assert time.monotonic() < end
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Return the addresses that the page requested."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def errors(self) -> list[Any]:
        """Return console output, exceptions, and log entries of the browser."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [e["params"] for e in self._browser.events if e.get("method") in methods]

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG, to look at."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Close the page."""
        self.call("Page.close")

    def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a position."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def touch(self, x: float, y: float) -> None:
        """Tap at a position."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None or subprocess.run([program, "--version"], capture_output=True).returncode:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}")
    browser = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def tab(chromium: Chromium) -> Iterator[Callable[..., Tab]]:
    """Return a function that opens a page at a width, light or dark."""
    opened = []

    def open_tab(path: Path, width: int, *, dark: bool = False) -> Tab:
        opened.append(Tab(chromium, width, dark=dark))
        opened[-1].open(path)
        return opened[-1]

    yield open_tab
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def pages(
    seeds: Path, probed: Path, swept: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Pages of a comparison over seeds, a probed one, and a study."""
    folder = tmp_path_factory.mktemp("pages")
    subjects = {"seeds": seeds, "probed": probed, "swept": swept}
    return {name: report(path, output=folder / f"{name}.html") for name, path in subjects.items()}


KINDS = ("seeds", "probed", "swept")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1280, False)])
def test_a_page_has_no_errors_requests_or_overflow(
    tab: Callable[..., Tab], pages: dict[str, Path], kind: str, width: int, dark: bool
) -> None:
    page = tab(pages[kind], width, dark=dark)
    assert page.errors() == []
    outside = [u for u in page.requests() if not u.startswith("data:")]
    assert outside == [pages[kind].as_uri()]
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") == width
    # Nothing is cut off: whatever is wider than the page is in a box that scrolls.
    overflowing = page.run("""[...document.querySelectorAll("body *")].filter(each =>
        each.getBoundingClientRect().right > innerWidth + 1 && each.getClientRects().length
        && !each.closest(".scroll, .wide .plot, thead")).map(each => each.outerHTML.slice(0, 99))
    """)
    assert overflowing == []


def test_errors_requests_and_overflow_are_detected(tab: Callable[..., Tab], tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<meta name=viewport content='width=device-width'><div style='width:500px'>x</div>"
        "<img src='http://127.0.0.1:9/a.png'><script>nothing.there</script>"
    )
    page = tab(bad, 360)
    assert page.run("document.documentElement.scrollWidth") > 360
    assert "http://127.0.0.1:9/a.png" in page.requests()
    assert any("nothing is not defined" in json.dumps(each) for each in page.errors())


def test_the_policy_blocks_foreign_images_and_scripts(
    tab: Callable[..., Tab], pages: dict[str, Path], tmp_path: Path
) -> None:
    altered = tmp_path / "altered.html"
    text = pages["seeds"].read_text()
    added = "<img src='http://127.0.0.1:9/a.png'><script>window.added = 1</script></body>"
    altered.write_text(text.replace("</body>", added))
    page = tab(altered, 360)
    assert page.run("window.added") is None
    assert "Content Security Policy" in json.dumps(page.errors())


def test_the_numbers_on_the_page_are_those_of_the_csv(
    tab: Callable[..., Tab], pages: dict[str, Path], seeds: Path
) -> None:
    page = tab(pages["seeds"], 1280)
    with (seeds / "compare.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["metric"] == "val_accuracy"]
    page.run('document.querySelector("details").open = true')
    shown = page.run('document.querySelector("details table").innerText').splitlines()[1:]
    assert len(shown) == len(rows) == 3
    for line, row in zip(shown, rows, strict=True):
        epoch, *figures = line.split("\t")
        assert epoch == row["epoch"]
        for text, kind in zip(figures, ("with_bn", "without_bn"), strict=False):
            mean, sd = (100 * float(row[f"{kind}_{name}"]) for name in ("mean", "sd"))
            assert text == f"{mean:.2f} ± {sd:.2f}%"
    tiles = page.run('[...document.querySelectorAll(".tile p")].map(each => each.innerText)')
    assert tiles[2] == f"{100 * float(rows[-1]['difference']):+.2f} points"


def readout(page: Tab) -> str:
    """Return the values below the first chart."""
    text = page.run('document.querySelector(".readout").innerText.replace(/\\s+/g, " ").trim()')
    assert isinstance(text, str)
    return text


def wanted(seeds: Path, epoch: int) -> list[str]:
    """Return test accuracy after an epoch, from the CSV."""
    with (seeds / "compare.csv").open(newline="") as lines:
        row = [r for r in csv.DictReader(lines) if r["metric"] == "val_accuracy"][epoch - 1]
    kinds = ("with_bn", "without_bn")
    return [
        f"{100 * float(row[f'{k}_mean']):.2f} ± {100 * float(row[f'{k}_sd']):.2f}%" for k in kinds
    ]


def assert_reads_out(page: Tab, seeds: Path, epoch: int) -> None:
    text = readout(page)
    assert text.startswith(f"epoch {epoch} ")
    for each in wanted(seeds, epoch):
        assert each in text


PLACE = """(() => { const box = document.querySelector(".plot svg").getBoundingClientRect();
    const all = JSON.parse(document.getElementById("page-data").textContent)
        .charts[document.querySelector(".plot").dataset.chart][0];
    const scale = box.width / document.querySelector(".plot svg").viewBox.baseVal.width;
    return all.x.map((x, i) => [box.left + x * scale, box.top + all.series[0].y[i] * scale]);
})()"""


def test_the_mouse_reads_out_values(
    tab: Callable[..., Tab], pages: dict[str, Path], seeds: Path
) -> None:
    page = tab(pages["seeds"], 1280)
    page.run('document.querySelector(".plot").scrollIntoView({behavior: "instant"})')
    assert_reads_out(page, seeds, 3)
    for epoch, (x, y) in enumerate(page.run(PLACE), start=1):
        page.point(x + 3, y + 20)
        assert_reads_out(page, seeds, epoch)
        # The marker of the script lies on one of matplotlib.
        distance = page.run("""(() => { const svg = document.querySelector(".plot svg");
            const [cx, cy] = ["cx", "cy"].map(k => +svg.querySelector(".marker").getAttribute(k));
            return Math.min(...[...svg.querySelectorAll("use")].map(each => Math.hypot(
                each.getAttribute("x") - cx, each.getAttribute("y") - cy))); })()""")
        assert distance < 0.1
    page.point(2, 2)
    assert_reads_out(page, seeds, 3)
    assert page.errors() == []


def test_the_arrow_keys_read_out_values(
    tab: Callable[..., Tab], pages: dict[str, Path], seeds: Path
) -> None:
    page = tab(pages["seeds"], 1280)
    page.run('document.querySelector(".plot").focus()')
    for key, epoch in [("ArrowLeft", 3), ("ArrowLeft", 2), ("Home", 1), ("ArrowLeft", 1),
                       ("ArrowRight", 2), ("End", 3), ("ArrowRight", 3), ("Home", 1),
                       ("Escape", 3)]:  # fmt: skip
        page.press(key)
        assert_reads_out(page, seeds, epoch)


def test_a_tap_reads_out_values(
    tab: Callable[..., Tab], pages: dict[str, Path], seeds: Path
) -> None:
    page = tab(pages["seeds"], 360)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    page.run('document.querySelector(".plot").scrollIntoView({behavior: "instant"})')
    page.touch(*page.run(PLACE)[0])
    assert_reads_out(page, seeds, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_contrasts_with_its_background(
    tab: Callable[..., Tab], pages: dict[str, Path], kind: str, dark: bool
) -> None:
    """The contrast is 4.5 (WCAG 2.2, AA), or 3 for numbers in the color of their curve."""
    page = tab(pages[kind], 360, dark=dark)
    low = page.run("""(() => {
        const parts = color => color.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(
            v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
        ).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const background = each => { for (let e = each; e; e = e.parentElement) {
            const own = parts(getComputedStyle(e).backgroundColor);
            if (own.length < 4 || own[3] > 0) return own; } return [255, 255, 255]; };
        const found = [];
        for (const each of document.querySelectorAll("body *")) {
            const bare = [...each.childNodes].some(n => n.nodeType === 3 && n.data.trim());
            if (!bare || each.closest("script, svg title, .fixed-colors")) continue;
            const inside = each.closest("svg");
            const style = getComputedStyle(each);
            const [a, b] = [light(parts(inside ? style.fill : style.color)),
                light(background(each))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < (inside ? 3 : 4.5)) found.push([each.outerHTML.slice(0, 150), ratio]);
        }
        return found; })()""")
    assert low == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_charts_is_legible_on_a_phone(
    tab: Callable[..., Tab], pages: dict[str, Path], kind: str
) -> None:
    """The font size is at least 8 pixels in a chart scaled to 360 pixels."""
    page = tab(pages[kind], 360)
    sizes = page.run("""[...document.querySelectorAll(".plot svg")].flatMap(svg => {
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        return [...svg.querySelectorAll("text")].filter(t => t.textContent.trim()).map(
            t => scale * parseFloat(getComputedStyle(t).fontSize)); })""")
    assert len(sizes) > 40
    assert min(sizes) >= 8


def test_a_page_prints(tab: Callable[..., Tab], pages: dict[str, Path]) -> None:
    page = tab(pages["probed"], 1280, dark=True)
    printed = page.call("Page.printToPDF", printBackground=False)["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    page.call("Emulation.setEmulatedMedia", media="print")
    # Dark on white, whatever the screen.
    colors = page.run("""[getComputedStyle(document.body).color,
        getComputedStyle(document.documentElement).getPropertyValue("--c-0072b2")]""")
    assert colors == ["rgb(28, 32, 38)", "#0072b2"]


def test_without_scripts_the_last_values_are_shown(
    tab: Callable[..., Tab], pages: dict[str, Path], seeds: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.html"
    text = pages["seeds"].read_text()
    bare.write_text(text[: text.index("<script")] + "</body></html>")
    assert_reads_out(tab(bare, 360), seeds, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_curves_and_axes_contrast_with_a_dark_page(
    tab: Callable[..., Tab], pages: dict[str, Path], kind: str
) -> None:
    """The contrast is 3, as WCAG 2.2 requires of graphics, and 7 for axes, which print black."""
    page = tab(pages[kind], 360, dark=True)
    found = page.run("""(() => {
        const probe = document.body.appendChild(document.createElement("i"));
        const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = color => { probe.style.color = color;
            const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3);
            return parts.map(v => linear(v / 255)).reduce(
                (sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0); };
        const background = light(getComputedStyle(document.body).backgroundColor);
        const data = JSON.parse(document.getElementById("page-data").textContent);
        const names = Object.values(data.charts).flat().flatMap(panel => panel.series).map(
            series => series.color);
        return [...new Set(["#000000", ...names])].map(name =>
            [name, (light(`var(--c-${name.slice(1)})`) + 0.05) / (background + 0.05)]); })()""")
    contrasts = dict(found)
    assert contrasts.pop("#000000") > 7
    assert len(contrasts) >= 2
    assert {name: value for name, value in contrasts.items() if value < 3} == {}
