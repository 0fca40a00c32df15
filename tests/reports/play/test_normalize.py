"""Normalizing by hand: the numbers and histograms of the page against NumPy."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from chromium import Tab, number

from kerasbn.reports.play.play import Play
from kerasbn.reports.play.recorded import Model
from kerasbn.reports.play.weights import BatchNormalization, Dense, floats

pytestmark = pytest.mark.slow


def preactivations(data: Play) -> np.ndarray:
    """The inputs of the first BN layer, `[examples, units]`."""
    assert data.models is not None
    assert data.examples is not None
    images = np.frombuffer(data.examples.images, np.uint8).reshape(-1, 784)
    dense = next(each for each in data.models.bn.layers if isinstance(each, Dense))
    kernel: np.ndarray = floats(dense.kernel).reshape(784, -1)
    return np.asarray(images / 255 @ kernel)


def set_slider(page: Tab, label: str, value: float) -> None:
    page.run(f"""(() => {{ const slider = document.querySelector("input[aria-label^={label!r}]");
        slider.value = {value}; slider.dispatchEvent(new Event("input")); }})()""")


def show(page: Tab, stage: int) -> None:
    page.run(f"document.querySelectorAll('.stages input')[{stage}].click()")


def chosen(page: Tab) -> str:
    label = page.run("document.querySelector('.stages input:checked').parentElement.innerText")
    assert isinstance(label, str)
    return label


def click(page: Tab, text: str) -> None:
    page.run(f"""[...document.querySelectorAll("button")].find(
        each => each.innerText === {text!r}).click()""")


def bars(page: Tab) -> str:
    shape = page.run("document.querySelector('.histogram .filled').getAttribute('d')")
    assert isinstance(shape, str)
    return shape


def finding(page: Tab) -> str:
    text = page.run("document.querySelector('[data-finding]').innerText")
    assert isinstance(text, str)
    return text


def test_each_step_does_what_it_says(open_part: Callable[..., Tab], trained: Play) -> None:
    page = open_part("normalize", trained)
    inputs = preactivations(trained)
    assert trained.models is not None
    bn = next(x for x in trained.models.bn.layers if isinstance(x, BatchNormalization))
    for unit in (0, 7, 31):
        set_slider(page, "Unit", unit + 1)
        click(page, "As trained")
        x = inputs[:, unit]
        centered = x - x.mean()
        normalized = centered / np.sqrt(x.var() + bn.epsilon)
        scaled = floats(bn.gamma)[unit] * normalized + floats(bn.beta)[unit]
        for stage, values in enumerate((x, centered, normalized, scaled, np.maximum(scaled, 0))):
            show(page, stage)
            words = finding(page).split()
            mean, sd = (number(words[words.index(name) + 1].rstrip(".,"))
                        for name in ("mean", "deviation"))  # fmt: skip
            assert (mean, sd) == pytest.approx((values.mean(), values.std()), rel=0.05, abs=1e-9)
    assert page.errors() == []


def test_undo_brings_the_histogram_back(open_part: Callable[..., Tab], trained: Play) -> None:
    page = open_part("normalize", trained)
    for unit, epsilon in ((1, -8), (8, -5), (20, 1), (32, 0)):
        set_slider(page, "Unit", unit)
        assert chosen(page) == "none"
        before = bars(page)
        set_slider(page, "ε", epsilon)
        assert bars(page) != before
        click(page, "Undo the normalization")
        assert bars(page) == before
        assert chosen(page).endswith("β")
        assert "the normalization is undone" in finding(page)
        set_slider(page, "β", 1)
        assert "undone" not in finding(page)
        show(page, 0)


def test_bn_after_the_activation_is_undone_too(
    open_part: Callable[..., Tab], trained: Play
) -> None:
    """Its inputs are often exactly 0, and no activation follows."""
    assert trained.models is not None
    first, dense, bn, relu, *others = trained.models.bn.layers
    after = Model([first, dense, relu, bn, *others])
    models = msgspec.structs.replace(trained.models, bn=after)
    page = open_part("normalize", msgspec.structs.replace(trained, models=models))
    assert page.run("document.querySelectorAll('.stages input').length") == 4
    before = bars(page)
    click(page, "Undo the normalization")
    assert bars(page) == before
    assert (
        page.run("document.querySelectorAll('.example tr:last-child td:not([hidden])').length") == 4
    )
    assert page.errors() == []


def test_the_arrow_keys_choose_the_step(open_part: Callable[..., Tab], trained: Play) -> None:
    page = open_part("normalize", trained)
    page.run("document.querySelector('.stages input').focus()")
    for name in ("mean", "deviation"):
        page.press("ArrowRight")
        assert chosen(page).endswith(name)
    assert "mean 0, standard deviation 1." in finding(page)


def test_every_slider_to_its_ends(open_part: Callable[..., Tab], trained: Play) -> None:
    """The numbers stay finite, and the bars within the drawing."""
    page = open_part("normalize", trained, 360)
    sliders = page.run("document.querySelectorAll('[data-part] input[type=range]').length")
    assert sliders == 4
    for i in range(sliders):
        for key in ("End", "Home"):
            page.run(f"document.querySelectorAll('[data-part] input[type=range]')[{i}].focus()")
            before = page.run("document.activeElement.value")
            page.press(key)
            end = "max" if key == "End" else "min"
            value, limit = page.run(f"[document.activeElement.value, document.activeElement.{end}]")
            assert (i, value) == (i, limit)
            assert page.run("document.activeElement.value") != before
            for stage in range(5):
                show(page, stage)
                text = page.run("document.querySelector('[data-part]').innerText")
                assert not any(word in text for word in ("NaN", "Infinity", "undefined"))
                heights = [float(each.split()[1]) for each in bars(page)[1:-1].split("L")]
                assert 0 <= min(heights) < 100
                assert max(heights) == 100
    assert page.run("document.documentElement.scrollWidth") == 360
    assert page.errors() == []


def test_the_table_is_what_numpy_computes(open_part: Callable[..., Tab], trained: Play) -> None:
    page = open_part("normalize", trained)
    set_slider(page, "ε", 0)
    set_slider(page, "γ", -2.5)  # noqa: RUF001 - the letter of the paper
    set_slider(page, "β", 0.75)
    for values in ([4.0, -1.5, 0.25, 9.0], [2.0, 2.0, 2.0, 2.0], [1e9, -1e9, 0.0, 1.0]):
        for i, value in enumerate(values, start=1):
            page.run(f"""(() => {{ const cell = document.querySelector("[aria-label='Value {i}']");
                cell.value = {value}; cell.dispatchEvent(new Event("input")); }})()""")
        x = np.clip(values, -1e6, 1e6)
        centered = x - x.mean()
        normalized = centered / np.sqrt(x.var() + 1)
        scaled = -2.5 * normalized + 0.75
        rows = page.run("""[...document.querySelectorAll(".example tbody tr")].map(row =>
            [...row.querySelectorAll("td")].slice(1).map(cell => cell.innerText))""")
        shown = [[number(cell) for cell in row] for row in rows]
        wanted = np.stack([centered, normalized, scaled, np.maximum(scaled, 0)], axis=1)
        np.testing.assert_allclose(shown, wanted, rtol=6e-3, atol=1e-9)
    page.run("""(() => { const cell = document.querySelector("[aria-label='Value 1']");
        cell.value = ""; cell.dispatchEvent(new Event("input")); })()""")
    assert page.errors() == []


def test_without_images_there_is_the_table(open_part: Callable[..., Tab], trained: Play) -> None:
    page = open_part("normalize", msgspec.structs.replace(trained, examples=None))
    assert "no histogram" in finding(page)
    click(page, "Undo the normalization")
    assert page.run("document.querySelectorAll('.example tbody tr').length") == 4
    assert page.errors() == []
