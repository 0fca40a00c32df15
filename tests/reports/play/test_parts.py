"""The interactive parts of a page in a real browser, used by mouse, finger and keyboard."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Tab
from sample_play import Playable, with_batch_statistics

from kerasbn.data.datasets import Dataset
from kerasbn.data.examples import choose_examples
from kerasbn.reports import report

pytestmark = pytest.mark.slow
Open = Callable[..., Tab]
SEVEN = [(40, 30), (110, 34), (70, 130)]  # on a field of 160 x 160
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


def number(text: str) -> float:
    """A number of the page, with its minus sign and its commas."""
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def softmax(values: Any) -> np.ndarray:
    powers = np.exp(np.asarray(values) - np.max(values, -1, keepdims=True))
    result: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return result


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


def members(page: Tab) -> list[str]:
    """What the images of the batch are called."""
    settle(page)
    script = '[...document.querySelectorAll(".members button")].map(x => x.ariaLabel)'
    return [str(name) for name in page.run(script)]


def set_slider(page: Tab, part: str, value: object) -> None:
    page.run(f"""(() => {{ const slider = document.querySelector("[data-part={part}] [type=range]");
        slider.value = {value}; slider.dispatchEvent(new Event("input")); }})()""")


def test_the_batch_changes_the_answer_under_batch_statistics(
    tab: Open, pair: Playable, sample_digits: Dataset
) -> None:
    page = tab(pair.page, 1280)
    examples = choose_examples(sample_digits.test)
    fixed = columns(page, "batch")[1:]
    found = []
    for fill, size in [(0, 64), (0, 1), (3, 5), (3, 40)]:
        page.run(f"""(() => {{ const choice = document.querySelector(".fill select");
            choice.value = {fill}; choice.dispatchEvent(new Event("change")); }})()""")
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


def middle(page: Tab, selector: str, index: int) -> tuple[float, float]:
    x, y = page.run(f"""(() => {{ const box =
        document.querySelectorAll({selector!r})[{index}].getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]; }})()""")
    return x, y


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
        page.run(f"""(() => {{ const choice = document.querySelector(".pick select");
            choice.value = {index}; choice.dispatchEvent(new Event("change")); }})()""")
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


def test_large_models_answer_for_the_test_images_as_they_do_for_any(
    tab: Open, pair: Playable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(page: Tab) -> tuple[list[np.ndarray], list[str]]:
        page.run('document.querySelector("[data-part=draw] .examples").children[6].click()')
        settle(page)
        assert page.errors() == []
        values = page.run("""[...document.querySelectorAll("[data-part=fold] .result b, "
            + "[data-part=normalize] [data-finding]")].map(each => each.textContent)""")
        return [columns(page, part) for part in ("draw", "batch", "fold")], values

    wanted, values = answers(tab(pair.page, 1280))
    monkeypatch.setattr(report, "MOST_BYTES", 0)
    monkeypatch.setattr(report, "LEAST_ROOM", 60_000)
    comparison = pair.page.parent / "saved_models" / "compare"
    page = tab(report.report(comparison, output=tmp_path / "large.html"), 1280)
    assert page.run('document.querySelector(".pad").hidden')
    found, found_values = answers(page)
    for each, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each, other, atol=0.0011)  # one in the last digit
    assert len(values) == 4
    assert found_values == values


def test_parts_of_the_largest_models_start_at_a_later_layer(
    tab: Open, large: Playable, sample_digits: Dataset
) -> None:
    import keras

    page, model = tab(large.page, 360), large.bn
    images = choose_examples(sample_digits.test).images
    page.run('document.querySelector("[data-part=draw] .examples").children[6].click()')
    settle(page)
    np.testing.assert_array_equal(seen(page), images[6])
    with_bn, without = (
        softmax(each(images[6:7], training=False))[0] for each in (model, large.plain)
    )
    np.testing.assert_allclose(columns(page, "draw"), [with_bn, with_bn, without], atol=0.00051)
    set_slider(page, "batch", 12)
    assert len(members(page)) == 12
    batch = images[[6, *range(11)]]
    wanted = softmax(with_batch_statistics(model, batch, moving=("bn_1",)))[0]
    np.testing.assert_allclose(columns(page, "batch"), [wanted, with_bn, without], atol=0.00051)
    assert np.abs(wanted - with_bn).max() > 0.01
    inside = keras.Model(
        model.input, [model.get_layer(f"{each}_2").output for each in ("dense", "bn")]
    )
    dense, bn = (each.numpy() for each in inside(images, training=False))
    assert texts(page, ".pick option") == ["bn_2 into dense_2"]
    set_slider(page, "fold", 512)
    shown = [number(text.split(" = ")[1]) for text in texts(page, ".result b")]
    np.testing.assert_allclose(shown, [dense[6, 511], *[bn[6, 511]] * 2], rtol=6e-5)
    np.testing.assert_allclose(columns(page, "fold"), [with_bn] * 2, atol=0.00051)
    unit = int(texts(page, "[data-part=normalize] output")[0]) - 1
    words = texts(page, "[data-finding]")[0].split()
    mean, deviation = (
        number(words[words.index(name) + 1].rstrip(".,")) for name in ("mean", "deviation")
    )
    values = dense[:, unit]
    assert (mean, deviation) == pytest.approx((values.mean(), values.std()), rel=0.05)
    assert page.errors() == []


def test_parts_of_a_very_wide_layer_have_a_few_images(
    tab: Open, wide: Playable, sample_digits: Dataset
) -> None:
    page, images = tab(wide.page, 360), choose_examples(sample_digits.test).images[:4]
    notes = texts(page, "section > .note")
    assert (
        sum("of dense_1 (without BN, of the last layer) for 4 test images" in x for x in notes) == 5
    )
    choices = [f"only {label}s" for label in range(4)]
    assert texts(page, ".fill option") == ["all test images", *choices, "copies of your image"]
    set_slider(page, "batch", 7)
    assert [name[-1] for name in members(page)] == [*"3", *"012301"]
    batch = images[[3, 0, 1, 2, 3, 0, 1]]
    wanted = [
        with_batch_statistics(wide.bn, batch),
        *(each(batch, training=False).numpy() for each in (wide.bn, wide.plain)),
    ]
    answers = [softmax(each)[0] for each in wanted]
    np.testing.assert_allclose(columns(page, "batch"), answers, atol=0.00051)
    assert np.abs(answers[0] - answers[1]).max() > 0.01
    set_slider(page, "fold", 40)
    output = wide.bn.get_layer("bn_1").output
    value = type(wide.bn)(wide.bn.input, output)(images[3:], training=False).numpy()[0, 39]
    shown = [number(text.split(" = ")[1]) for text in texts(page, ".result b")]
    np.testing.assert_allclose(shown[1:], [value] * 2, rtol=6e-5)
    assert texts(page, "[data-finding]")[0].startswith("4 test images: mean ")
    assert page.errors() == []
