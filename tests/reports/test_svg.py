"""A picture within a page: its values lie where its curves are, its colours follow the page."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kerasbn.plotting import COLOR
from kerasbn.reports.svg import Drawing, dark, inline

colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def figure(log: bool = False) -> Figure:
    drawn = Figure(figsize=(8, 3), layout="constrained")
    first, second = drawn.subplots(1, 2)
    first.plot([1, 2, 4], [0.5, 0.25, 0.125], marker="o", label="a", color=COLOR["with_bn"])
    first.plot([2, 3], [0.4, float("nan")], marker="s", label="b", color=COLOR["without_bn"])
    first.plot([1, 2], [0.3, 0.3], label="_unnamed")
    first.set_xlabel("epoch")
    first.yaxis.set_major_formatter(PercentFormatter(1.0))
    second.plot([0, 1000], [3, 4], marker="o", label="c")
    second.set_title("second")
    if log:
        first.set_yscale("log")
        first.set_xscale("log")
    return drawn


def marks(drawing: Drawing) -> list[tuple[float, float]]:
    """Where matplotlib drew its markers."""
    root = ElementTree.fromstring(drawing.markup)  # noqa: S314 - our own
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in root.iter("use")]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_values_lie_where_the_markers_are(log: bool, cut: bool) -> None:
    drawn = figure(log)
    drawing = inline(drawn, "x", "what", only=drawn.axes[0] if cut else None)
    (first, *others) = drawing.panels
    assert len(others) == (0 if cut else 1)
    assert [one["label"] for one in first["series"]] == ["a", "b"]
    placed = marks(drawing)
    for series in first["series"]:
        for x, y in zip(first["x"], series["y"], strict=True):
            if y is not None:
                assert min(abs(x - a) + abs(y - b) for a, b in placed) < 0.2
    left, top, right, bottom = first["box"]
    assert all(left <= x <= right for x in first["x"])
    assert all(top <= y <= bottom for one in first["series"] for y in one["y"] if y is not None)


def test_values_read_as_the_axis_says_or_as_told() -> None:
    first, second = inline(figure(), "x", "what", {"a": {2.0: "a quarter"}}).panels
    assert first["at"] == ["epoch 1", "epoch 2", "epoch 4"]
    assert first["series"][0]["text"] == ["50.00\u00a0%", "a quarter", "12.50\u00a0%"]
    assert first["series"][1]["text"] == [None, "40.00\u00a0%", None]
    assert second["at"] == ["0", "1,000"]
    assert second["series"][0]["text"] == ["3", "4"]


def test_a_place_is_called_as_its_tick_calls_it() -> None:
    drawn = figure()
    drawn.axes[0].set_xticks([1, 2, 4], ["1x8", "2x8", "16,8"])
    first, _ = inline(drawn, "x", "what").panels
    assert first["at"] == ["epoch 1x8", "epoch 2x8", "epoch 16,8"]


def test_a_panel_is_cut_out_alone() -> None:
    drawn = figure()
    whole, cut = inline(drawn, "x", "what"), inline(drawn, "x", "what", only=drawn.axes[1])
    assert cut.width < 0.6 * whole.width
    assert ">second<" in cut.markup
    assert ">epoch<" in whole.markup
    assert ">epoch<" not in cut.markup
    assert all(axes.get_visible() for axes in drawn.axes)


def test_it_has_no_fonts_no_size_and_no_colours_of_its_own() -> None:
    drawing = inline(figure(), "x", 'a <b> & "c"')
    root = ElementTree.fromstring(drawing.markup)  # noqa: S314 - our own
    assert set(root.attrib) == {"viewBox", "role", "class"}
    assert root[0].tag == "title"
    assert root[0].text == 'a <b> & "c"'
    assert "font-family" not in drawing.markup
    assert "<style" not in drawing.markup
    assert "#" not in drawing.markup.replace('href="#x-', "").replace("url(#x-", "")
    assert {each.lower() for each in COLOR.values()} <= drawing.colours


def test_a_heat_map_keeps_its_colours() -> None:
    drawn = Figure()
    drawn.subplots().imshow([[0, 1], [2, 3]])
    drawing = inline(drawn, "x", "what")
    assert drawing.plate
    assert "var(" not in drawing.markup
    assert drawing.last is None


def test_the_values_are_json_without_nan() -> None:
    values = json.loads(inline(figure(), "x", "what").values, parse_constant=pytest.fail)
    assert len(values) == 2


@given(colours, colours)
def test_dark_turns_the_order_of_lightness_over(one: str, two: str) -> None:
    def lightness(colour: str) -> float:
        return (max(to_rgb(colour)) + min(to_rgb(colour))) / 2

    if lightness(one) > lightness(two) + 0.02:
        assert lightness(dark(one)) < lightness(dark(two))


@given(colours)
def test_dark_keeps_the_hue(colour: str) -> None:
    hue, saturation, value = rgb_to_hsv(to_rgb(colour))
    twin, twin_saturation, _ = rgb_to_hsv(to_rgb(dark(colour)))
    if saturation > 0.3 and value > 0.3 and twin_saturation > 0.3:
        assert min(abs(hue - twin), 1 - abs(hue - twin)) < 0.02
