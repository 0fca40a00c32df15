"""The page in a real browser.

Without Chromium these tests are skipped; test_document.py parses the HTML everywhere.
"""

import base64
import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import Tab

from kerasbn.reports.report import report

pytestmark = pytest.mark.slow


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
    assert page.requests() == [pages[kind].as_uri()]
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


def test_reading_out_values_moves_nothing(tab: Callable[..., Tab], pages: dict[str, Path]) -> None:
    page = tab(pages["probed"], 360)
    moved = page.run("""(() => {
        const press = (plot, key) => plot.dispatchEvent(new KeyboardEvent("keydown", {key}));
        const places = () => JSON.stringify([...document.querySelectorAll(".plot, .readout span")]
            .map(each => { const box = each.getBoundingClientRect();
                return [box.left, box.top, box.width].map(Math.round); }));
        const found = [];
        for (const plot of document.querySelectorAll(".plot[data-chart]")) {
            const readout = plot.nextElementSibling;
            const [before, text] = [places(), readout.innerText];
            press(plot, "Home");
            if (readout.innerText === text) found.push(["no other values", text]);
            for (let i = 0; i < 5; i++) {
                if (places() !== before) found.push(readout.innerText);
                press(plot, "ArrowRight");
            }
        }
        return found; })()""")
    assert moved == []


def test_a_page_prints(tab: Callable[..., Tab], pages: dict[str, Path]) -> None:
    page = tab(pages["probed"], 1280, dark=True)
    printed = base64.b64decode(page.call("Page.printToPDF", printBackground=False)["data"])
    assert printed.startswith(b"%PDF")
    # The screen has 17 pages, if a page is as high as it is wide times the square root of two.
    assert len(re.findall(rb"/Type */Page\b", printed)) <= 7
    page.call("Emulation.setEmulatedMedia", media="print")
    # Dark on white, whatever the screen.
    colors = page.run("""[getComputedStyle(document.body).color,
        getComputedStyle(document.documentElement).getPropertyValue("--c-0072b2")]""")
    assert colors == ["rgb(28, 32, 38)", "#0072b2"]
    assert page.run('getComputedStyle(document.querySelector(".hint")).display') == "none"


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs pdftotext (poppler-utils)")
def test_no_printed_page_ends_with_a_heading(
    tab: Callable[..., Tab], pages: dict[str, Path], tmp_path: Path
) -> None:
    for kind, path in pages.items():
        page = tab(path, 1280)
        headings = page.run("""[...document.querySelectorAll(
            "h2, h3, figcaption, caption, thead th")].map(each => each.innerText)""")
        file = tmp_path / f"{kind}.pdf"
        file.write_bytes(base64.b64decode(page.call("Page.printToPDF")["data"]))
        command = ["pdftotext", "-layout", str(file), "-"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        printed = [each.strip().split("\n") for each in text.split("\f") if each.strip()]
        assert len(printed) > 1
        for *_, last in printed:
            cells = re.split(r"\s{2,}", last.strip())
            assert not set(cells) <= set(headings), cells


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
