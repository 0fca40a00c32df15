"""Figures inside a page: their values lie on the curves, and their colors follow the page."""

import json
import warnings
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kerasbn.reports.svg import Drawing, dark_variant, to_svg

COLORS = ("#0072b2", "#d55e00")
colors = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def figure(log: bool = False) -> Figure:
    drawn = Figure(figsize=(8, 3), layout="constrained")
    first, second = drawn.subplots(1, 2)
    first.plot([1, 2, 4], [0.5, 0.25, 0.125], marker="o", label="a", color=COLORS[0])
    first.plot([2, 3], [0.4, float("nan")], marker="s", label="b", color=COLORS[1])
    first.plot([1, 2], [0.3, 0.3], label="_unnamed")
    first.set_xlabel("epoch")
    first.yaxis.set_major_formatter(PercentFormatter(1.0))
    second.plot([0, 1000], [3, 4], marker="o", label="c")
    second.set_title("second")
    if log:
        first.set_yscale("log")
        first.set_xscale("log")
    return drawn


def marker_positions(drawing: Drawing) -> list[tuple[float, float]]:
    """Return the positions of matplotlib's markers."""
    root = ElementTree.fromstring(drawing.markup)  # noqa: S314 - written by matplotlib
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in root.iter("use")]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_values_lie_on_the_markers(log: bool, cut: bool) -> None:
    drawn = figure(log)
    drawing = to_svg(drawn, "x", "title", only=drawn.axes[0] if cut else None)
    (first, *others) = drawing.panels
    assert len(others) == (0 if cut else 1)
    assert [one["label"] for one in first["series"]] == ["a", "b"]
    placed = marker_positions(drawing)
    for series in first["series"]:
        for x, y in zip(first["x"], series["y"], strict=True):
            if y is not None:
                assert min(abs(x - a) + abs(y - b) for a, b in placed) < 0.2
    left, top, right, bottom = first["box"]
    assert all(left <= x <= right for x in first["x"])
    assert all(top <= y <= bottom for one in first["series"] for y in one["y"] if y is not None)


def test_values_have_the_format_of_the_axis_or_the_given_text() -> None:
    first, second = to_svg(figure(), "x", "title", {"a": {2.0: "a quarter"}}).panels
    assert first["at"] == ["epoch 1", "epoch 2", "epoch 4"]
    assert first["series"][0]["text"] == ["50.00%", "a quarter", "12.50%"]
    assert first["series"][1]["text"] == [None, "40.00%", None]
    assert second["at"] == ["0", "1,000"]
    assert second["series"][0]["text"] == ["3", "4"]


def test_stops_have_the_names_of_their_ticks() -> None:
    drawn = figure()
    drawn.axes[0].set_xticks([1, 2, 4], ["1x8", "2x8", "16,8"])
    first, _ = to_svg(drawn, "x", "title").panels
    assert first["at"] == ["epoch 1x8", "epoch 2x8", "epoch 16,8"]


def test_a_panel_is_cut_out_alone() -> None:
    drawn = figure()
    whole, cut = to_svg(drawn, "x", "title"), to_svg(drawn, "x", "what", only=drawn.axes[1])
    assert cut.width < 0.6 * whole.width
    assert ">second<" in cut.markup
    assert ">epoch<" in whole.markup
    assert ">epoch<" not in cut.markup
    assert all(axes.get_visible() for axes in drawn.axes)


def test_a_drawing_has_no_fonts_size_or_colors_of_its_own() -> None:
    drawing = to_svg(figure(), "x", 'a <b> & "c"')
    root = ElementTree.fromstring(drawing.markup)  # noqa: S314 - written by matplotlib
    assert set(root.attrib) == {"viewBox", "role", "class"}
    assert root[0].tag == "title"
    assert root[0].text == 'a <b> & "c"'
    assert "font-family" not in drawing.markup
    assert "<style" not in drawing.markup
    assert "#" not in drawing.markup.replace('href="#x-', "").replace("url(#x-", "")
    assert set(COLORS) <= drawing.colors


def test_a_heat_map_keeps_its_colors() -> None:
    drawn = Figure()
    drawn.subplots().imshow([[0, 1], [2, 3]])
    drawing = to_svg(drawn, "x", "title")
    assert drawing.keeps_colors
    assert "var(" not in drawing.markup
    assert drawing.panels == []


def test_panels_are_json_without_nan() -> None:
    text = json.dumps(to_svg(figure(), "x", "title").panels, allow_nan=False)
    assert len(json.loads(text)) == 2


@given(colors, colors)
def test_dark_variants_reverse_the_order_of_lightness(one: str, two: str) -> None:
    def lightness(color: str) -> float:
        return (max(to_rgb(color)) + min(to_rgb(color))) / 2

    if lightness(one) > lightness(two) + 0.02:
        assert lightness(dark_variant(one)) < lightness(dark_variant(two))


@given(colors)
def test_dark_variants_keep_the_hue(color: str) -> None:
    hue, saturation, value = rgb_to_hsv(to_rgb(color))
    twin, twin_saturation, _ = rgb_to_hsv(to_rgb(dark_variant(color)))
    if saturation > 0.3 and value > 0.3 and twin_saturation > 0.3:
        assert min(abs(hue - twin), 1 - abs(hue - twin)) < 0.02


def test_numbers_near_the_largest_there_are_raise_no_warning() -> None:
    figure = Figure()
    figure.subplots().plot([0, 1], [0.5, 1e308])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_svg(figure, "n", "d").markup
