"""The arithmetic of a page in a real browser, with onnxruntime, Keras and Python as judges."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chromium import Tab
from sample_play import Playable, with_batch_statistics

from kerasbn.data.datasets import Dataset
from kerasbn.data.digits import as_digit
from kerasbn.data.examples import choose_examples
from kerasbn.data.images import Picture
from kerasbn.training.settings import ACTIVATIONS

pytestmark = pytest.mark.slow
Open = Callable[..., Tab]
LAYERS = "engine.decode(data.play.models.{}.layers)"


@pytest.fixture(scope="module")
def images(sample_digits: Dataset) -> np.ndarray:
    return sample_digits.test.images[:200]


def logits(page: Tab, layers: str, images: np.ndarray, statistics: str = "moving") -> np.ndarray:
    """What the page's own arithmetic gives for a batch."""
    script = f"""(() => {{
        const pixels = engine.bytes("{base64.b64encode(images.tobytes()).decode()}");
        const batch = Array.from({{length: {len(images)}}}, (_, i) =>
            pixels.subarray(784 * i, 784 * (i + 1)));
        return engine.trace({layers}, batch, "{statistics}").at(-1).map(x => [...x]); }})()"""
    return np.array(page.run(script))


def assert_same_answers(found: np.ndarray, wanted: np.ndarray) -> None:
    assert len(np.unique(wanted.argmax(1))) > 2
    np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_answers_are_those_of_onnxruntime(
    tab: Open, pair: Playable, images: np.ndarray, tmp_path: Path
) -> None:
    import onnxruntime

    from kerasbn.onnx_export.export import export

    page = tab(pair.page, 1280)
    layers = LAYERS.format("bn")
    for fold, computed in [(False, layers), (True, f"engine.fold({layers})")]:
        exported = export(pair.bn, tmp_path / f"{fold}.onnx", fold=fold)
        assert len(exported.remaining) == (0 if fold else 2)
        session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
        (wanted,) = session.run(None, {session.get_inputs()[0].name: images})
        assert_same_answers(logits(page, computed, images), wanted)


@pytest.mark.parametrize("position", ["pair", "after"])
def test_statistics_are_used_as_in_keras(
    tab: Open, position: str, images: np.ndarray, request: pytest.FixtureRequest
) -> None:
    """Batches of several sizes; that of one image normalizes it to beta."""
    made = request.getfixturevalue(position)
    page = tab(made.page, 1280)
    layers = LAYERS.format("bn")
    plain = made.plain(images, training=False).numpy()
    assert_same_answers(logits(page, LAYERS.format("plain"), images), plain)
    moving = made.bn(images, training=False).numpy()
    assert_same_answers(logits(page, layers, images), moving)
    assert_same_answers(logits(page, f"engine.fold({layers})", images), moving)
    for size in (64, 2):
        wanted = with_batch_statistics(made.bn, images[:size])
        found = logits(page, layers, images[:size], "batch")
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
        assert np.abs(found - moving[:size]).max() > 0.01
    one, other = (logits(page, layers, images[i : i + 1], "batch") for i in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_large_models_answer_for_test_images_as_in_keras(
    tab: Open, sample_digits: Dataset, large: Playable
) -> None:
    """Batch statistics are those of the last BN layer alone; the page says so."""
    assert large.page.stat().st_size < 1_500_000
    page, count = tab(large.page, 1280), 64
    names = page.run("data.play.models.bn.layers.map(each => each.name)")
    assert names == ["dense_2", "bn_2", "gelu_2", "logits"]
    images = choose_examples(sample_digits.test).images[:count]
    with_bn = LAYERS.format("bn")

    def logits(layers: str, size: int, statistics: str) -> np.ndarray:
        """Of the first test images, which the models read one-hot."""
        batch = f"Array.from({{length: {size}}}, (_, i) => engine.oneHot(i, {count}))"
        found = page.run(f"engine.trace({layers}, {batch}, '{statistics}').at(-1).map(x => [...x])")
        return np.array(found)

    plain = large.plain(images, training=False).numpy()
    assert_same_answers(logits(LAYERS.format("plain"), count, "moving"), plain)
    fixed = large.bn(images, training=False).numpy()
    assert_same_answers(logits(with_bn, count, "moving"), fixed)
    assert_same_answers(logits(f"engine.fold({with_bn})", count, "moving"), fixed)
    for size in (count, 20):
        wanted = with_batch_statistics(large.bn, images[:size], moving=("bn_1",))
        assert_same_answers(logits(with_bn, size, "batch"), wanted)
        assert np.abs(wanted - fixed[:size]).max() > 0.01
    assert page.errors() == []


def test_activations_are_those_of_keras(tab: Open, pair: Playable) -> None:
    import keras

    page = tab(pair.page, 360)
    grid = np.concatenate([np.linspace(-40, 40, 81), np.linspace(-4, 4, 400)])
    tensor = keras.ops.convert_to_tensor(grid, "float64")
    for name in ACTIVATIONS:
        wanted = keras.activations.get(name)(tensor).numpy()
        found = page.run(f"{json.dumps(grid.tolist())}.map(engine.activations.{name})")
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12, err_msg=name)


CIRCLE = [(80 + 30 * np.cos(a), 80 + 45 * np.sin(a)) for a in np.linspace(0, 6.2, 30)]
DRAWINGS = {
    "seven": [[(40, 30), (110, 34), (70, 130)]],
    "zero": [CIRCLE],
    "small one in a corner": [[(10, 12), (13, 40)]],
    "one at the border": [[(2, 5), (2, 159)]],
    "a flat stroke": [[(20, 80), (140, 84)]],
    "two strokes and a speck": [[(40, 30), (40, 90), (100, 90)], [(90, 40), (90, 140)], [(5, 150)]],
}


def test_a_drawing_takes_the_form_that_infer_gives_it(tab: Open, pair: Playable) -> None:
    page = tab(pair.page, 360)
    for name, lines in DRAWINGS.items():
        segments = [
            (from_, to, 1 if i == 2 else 7)
            for i, line in enumerate(lines)
            for from_, to in zip(line, line[1:] or line, strict=False)
        ]
        gray, found = page.run(f"""(() => {{
            const field = digits.field();
            for (const [from, to, radius] of {json.dumps(segments)})
                digits.stroke(field, from, to, radius);
            return [digits.grayscale(field), digits.toMnist(field)].map(x => [...x]); }})()""")
        pixels = np.array(gray, np.uint8).reshape(160, 160, 1).repeat(3, 2)
        wanted = as_digit(Picture(name, pixels)).astype(int)
        difference = np.abs(np.array(found).reshape(28, 28) - wanted)
        assert difference.max() <= 1, name  # of 255: another order of summation
