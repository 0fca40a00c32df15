"""The interactive parts of a page in a real browser, used by mouse, finger and keyboard."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chromium import Tab, number
from parts import (
    columns,
    finding,
    members,
    middle,
    seen,
    select,
    set_slider,
    settle,
    show,
    softmax,
    texts,
)
from sample_play import Playable, with_batch_statistics

from kerasbn.data.datasets import Dataset
from kerasbn.data.examples import choose_examples
from kerasbn.reports import report

pytestmark = pytest.mark.slow
Open = Callable[..., Tab]
SEVEN = [(40, 30), (110, 34), (70, 130)]  # on a field of 160 x 160


def assert_shows_the_answers(page: Tab, pair: Playable) -> None:
    image = seen(page)[None]
    with_bn, without = (softmax(model(image, training=False))[0] for model in (pair.bn, pair.plain))
    shown = columns(page, "draw")
    np.testing.assert_allclose(shown, [with_bn, with_bn, without], atol=0.00051)
    np.testing.assert_array_equal(shown[0], shown[1])
    winners = texts(page, "[data-part=draw] .bars caption b")
    assert winners == [str(each.argmax()) for each in (with_bn, with_bn, without)]
    assert f"With BN the answer is {with_bn.argmax()} (" in finding(page, "draw")
    # The parts further down follow.
    np.testing.assert_allclose(columns(page, "batch")[1], with_bn, atol=0.00051)
    np.testing.assert_allclose(columns(page, "fold")[0], with_bn, atol=0.00051)


def test_a_digit_is_drawn_with_the_mouse(tab: Open, pair: Playable) -> None:
    page = tab(pair.page, 1280)
    assert_shows_the_answers(page, pair)
    before = seen(page)
    left, top, width = show(page, ".field")
    path = [(left + width * x / 160, top + width * y / 160) for x, y in SEVEN]
    page.drag(*path)
    drawn = seen(page)
    assert not np.array_equal(before, drawn)
    assert drawn.any(axis=1).sum() == 20  # pixels high
    assert_shows_the_answers(page, pair)
    assert page.run('document.querySelector(".invitation").hidden')
    page.run('document.querySelector(".tools button").click()')
    page.drag(*path)  # the eraser
    assert seen(page).astype(int).sum() < drawn.astype(int).sum() / 2
    assert page.errors() == []


def drag_by_finger(page: Tab, *points: tuple[float, float]) -> None:
    for i, (x, y) in enumerate(points):
        kind = "touchMove" if i else "touchStart"
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def test_a_digit_is_drawn_with_the_finger(tab: Open, pair: Playable) -> None:
    page = tab(pair.page, 360)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    left, top, width = show(page, ".field")
    scrolled = page.run("scrollY")
    drag_by_finger(page, *[(left + width * x / 160, top + width * y / 160) for x, y in SEVEN])
    assert seen(page).any(axis=1).sum() == 20
    assert page.run("scrollY") == scrolled  # the finger draws instead of scrolling
    assert_shows_the_answers(page, pair)


def test_a_digit_is_drawn_with_the_keyboard(tab: Open, pair: Playable) -> None:
    page = tab(pair.page, 1280)
    page.run('document.querySelector(".field").focus()')
    for key in ("ArrowUp", "ArrowUp", " ", *["ArrowDown"] * 8, " ", *["ArrowRight"] * 3):
        page.press(key)
    one = seen(page)
    height, width = (np.ptp(np.nonzero(one.any(axis=axis))) + 1 for axis in (1, 0))
    assert height == 20
    assert width < 8  # the pen was up when it moved to the right
    assert_shows_the_answers(page, pair)
    for key in (" ", *["ArrowUp"] * 4):
        page.press(key)
    assert np.ptp(np.nonzero(seen(page).any(axis=0))) > width
    page.press("Delete")
    assert not seen(page).any()
    assert page.errors() == []


def test_a_test_image_is_chosen_with_the_keyboard(
    tab: Open, pair: Playable, sample_digits: Dataset
) -> None:
    page = tab(pair.page, 1280)
    page.run('document.querySelector("[data-part=draw] .examples button").focus()')
    chosen = choose_examples(sample_digits.test).images
    for key, index in [("ArrowRight", 1), ("ArrowRight", 2), ("End", 63), ("ArrowRight", 63)]:
        page.press(key)
        page.press("Enter")
        np.testing.assert_array_equal(seen(page), chosen[index])
    assert_shows_the_answers(page, pair)


def test_the_batch_changes_the_answer_under_batch_statistics(
    tab: Open, pair: Playable, sample_digits: Dataset
) -> None:
    page = tab(pair.page, 1280)
    examples = choose_examples(sample_digits.test)
    fixed = columns(page, "batch")[1:]
    found = []
    for fill, size in [(0, 64), (0, 1), (3, 5), (3, 40)]:
        select(page, ".fill select", fill)
        set_slider(page, "batch", size)
        names = members(page)
        assert len(names) == size
        labels = [int(name[-1]) for name in names[1:]]
        assert set(labels) <= ({2} if fill else set(range(10)))
        same = [examples.images[examples.labels == label] for label in range(10)]
        at = dict.fromkeys(range(10), 0)
        batch = [examples.images[3]]
        for label in labels:  # each class in the order of the test images, and then again
            batch.append(same[label][at[label] % len(same[label])])
            at[label] += 1
        wanted = softmax(with_batch_statistics(pair.bn, np.array(batch)))[0]
        found.append(columns(page, "batch"))
        np.testing.assert_allclose(found[-1][0], wanted, atol=0.0006)
        np.testing.assert_array_equal(found[-1][1:], fixed)
        assert f"the answer is {wanted.argmax()} (" in finding(page, "batch")
        assert ("batch of one" in finding(page, "batch")) == (size == 1)
    assert np.ptp([each[0] for each in found], axis=0).max() > 0.05
    label = fixed[0].argmax()
    text = finding(page, "batch")
    low, high = (100 * f([each[0, label] for each in found]) for f in (min, max))
    assert f"The probability of {label} over the " in text
    assert f"{low:.1f}% to " in text
    assert high > low + 1
    assert f"always {100 * fixed[0].max():.1f}% with moving statistics" in text
    assert page.errors() == []


def test_images_are_moved_with_the_finger(tab: Open, pair: Playable) -> None:
    page = tab(pair.page, 360)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    set_slider(page, "batch", 3)
    show(page, "[data-part=batch] .tools")
    scrolled = page.run("scrollY")
    source, batch = "[data-part=batch] .examples button", ".members button"
    left, top = start = middle(page, source, 4)
    drag_by_finger(page, start, (left, top - 20), (left, top - 60), middle(page, batch, 1))
    assert [name[-1] for name in members(page)[1:]] == ["0", "1", "4"]
    left, top = start = middle(page, batch, 1)
    drag_by_finger(page, start, (left + 20, top), (left + 60, top), middle(page, source, 2))
    assert [name[-1] for name in members(page)[1:]] == ["1", "4"]
    page.touch(*middle(page, source, 3))
    end = time.monotonic() + 10
    while len(members(page)) == 3 and time.monotonic() < end:
        settle(page)  # the browser takes a moment to see that it was a tap
    assert [name[-1] for name in members(page)[1:]] == ["1", "4", "3"]
    assert page.run("scrollY") == scrolled
    assert page.errors() == []


def test_images_are_added_removed_and_duplicated(tab: Open, pair: Playable) -> None:
    page = tab(pair.page, 1280)
    set_slider(page, "batch", 4)
    start = members(page)
    assert start[1:] == [f"test image of a {i}" for i in range(3)]
    # By keyboard: add a 1, duplicate the first of the others, remove the second and third.
    page.run('document.querySelector("[data-part=batch] .examples button").focus()')
    page.press("ArrowRight")
    page.press("Enter")
    assert [name[-1] for name in members(page)[1:]] == ["0", "1", "2", "1"]
    page.run('document.querySelectorAll(".members button")[1].focus()')
    page.press("d")
    page.press("Delete")
    page.press("Delete")
    assert [name[-1] for name in members(page)[1:]] == ["1", "2", "1"]
    # By its buttons.
    page.run('document.querySelectorAll(".members button")[2].click()')
    buttons = '[...document.querySelectorAll("[data-part=batch] .tools button")]'
    page.run(f"{buttons}[1].click()")
    assert page.run("document.activeElement.textContent") == "Duplicate"
    assert [name[-1] for name in members(page)[1:]] == ["1", "2", "2", "1"]
    page.run(f"{buttons}[0].click()")
    assert [name[-1] for name in members(page)[1:]] == ["1", "2", "1"]
    # By dragging: a 9 in, the first one out; the digit itself stays.
    show(page, ".members")

    source, batch = "[data-part=batch] .examples button", ".members button"
    page.drag(middle(page, source, 9), (500, 400), middle(page, batch, 2))
    assert [name[-1] for name in members(page)[1:]] == ["1", "2", "1", "9"]
    page.drag(middle(page, batch, 1), (500, 400), middle(page, source, 5))
    assert [name[-1] for name in members(page)[1:]] == ["2", "1", "9"]
    page.drag(middle(page, batch, 0), (500, 400), middle(page, source, 5))
    page.drag(middle(page, batch, 1), (500, 400), middle(page, batch, 2))
    assert members(page)[0] == start[0]
    assert [name[-1] for name in members(page)[1:]] == ["2", "1", "9"]
    assert page.errors() == []


@pytest.mark.parametrize("position", ["pair", "after"])
def test_folding_keeps_the_output_of_every_unit(
    tab: Open, position: str, request: pytest.FixtureRequest
) -> None:
    import keras

    made = request.getfixturevalue(position)
    page = tab(made.page, 1280)
    chosen = texts(page, ".pick option")
    order = [("bn_1", "dense_1"), ("bn_2", "dense_2")]
    if position == "after":
        order = [("bn_1", "dense_2"), ("bn_2", "logits")]
    assert chosen == [f"{bn} into {dense}" for bn, dense in order]
    for index, (bn, dense) in enumerate(order):
        select(page, ".pick select", index)
        last = bn if position == "pair" else dense
        part = keras.Model(made.bn.input, made.bn.get_layer(last).output)
        wanted = part(seen(page)[None], training=False).numpy()[0]
        for unit in (1, len(wanted)):
            set_slider(page, "fold", unit)
            results = texts(page, ".result b")
            before, after = (number(text.removeprefix("y = ")) for text in results[-2:])
            np.testing.assert_allclose([before, after], wanted[unit - 1], rtol=6e-5)
            if position == "pair":
                cells = texts(page, ".symbols td:last-child")
                stated = [number(text) for text in cells[1:5]]
                layer = made.bn.get_layer(bn)
                weights = [each.numpy()[unit - 1] for each in layer.weights]
                np.testing.assert_allclose(stated, weights, rtol=0.006)
    shown = columns(page, "fold")
    np.testing.assert_array_equal(shown[0], shown[1])
    np.testing.assert_array_equal(shown[0], shown[2])
    assert page.errors() == []


@pytest.mark.parametrize(("width", "dark"), [(360, True), (768, False), (2560, False)])
def test_parts_fit_and_request_nothing(tab: Open, pair: Playable, width: int, dark: bool) -> None:
    page = tab(pair.page, width, dark=dark)
    assert page.errors() == []
    assert page.requests() == [pair.page.as_uri()]
    assert page.run("document.documentElement.scrollWidth") == width
    low = page.run("""[...document.querySelectorAll(".part button, .part select, .part input")]
        .filter(x => x.getBoundingClientRect().height < 24).map(x => x.outerHTML)""")
    assert low == []  # WCAG 2.2, 2.5.8: targets of 24 pixels


def test_a_static_page_has_no_parts(pair: Playable, tmp_path: Path) -> None:
    compared = pair.page.parent / "saved_models" / "compare"
    static = report.report(compared, output=tmp_path / "static.html", interactive=False).read_text()
    assert "data-part" not in static
    assert "engine" not in static
    parts = pair.page.read_text()
    assert parts.count("data-part=") == 5
    assert len(parts) < len(static) + 400_000


def test_without_scripts_the_explanations_stay(tab: Open, pair: Playable, tmp_path: Path) -> None:
    bare = tmp_path / "bare.html"
    text = pair.page.read_text()
    bare.write_text(text[: text.index("<script")] + "</body></html>")
    page = tab(bare, 360)
    shown = texts(page, ".part")
    assert len(shown) == 5
    for each in shown:
        assert each.endswith("This part needs JavaScript.")
        assert "BN" in each
