"""What a page has of models too large for it: values computed in Python, with Keras as judge."""

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

from kerasbn.data.datasets import Dataset, Split
from kerasbn.data.examples import choose_examples
from kerasbn.reports import report
from kerasbn.reports.play.recorded import ACTIVATIONS, SIZES, Model, record, size_of
from kerasbn.reports.play.weights import Dense, NotPlayableError, floats, read_layers
from kerasbn.training import settings

Open = Callable[..., Tab]
SAVED = Path(__file__).parents[3] / "saved_models"


def test_all_activations_that_kerasbn_trains_with_are_known() -> None:
    assert {*ACTIVATIONS, "linear"} == set(settings.ACTIVATIONS)


def test_layers_that_do_not_fit_for_16_images_have_some_units_only() -> None:
    bn, plain = (read_layers(SAVED / f"mnist-{name}" / "model.keras") for name in ("bn", "plain"))
    test = Split(np.zeros((64, 28, 28), np.uint8), np.arange(64, dtype=np.uint8) % 10)
    dense_2 = 16 * 32 + 4 * 32  # products with the images; gamma, beta, mean and variance
    logits = 32 * 10 + 10
    without_bn = 16 * 10 + 10
    room = 4 * (dense_2 + logits + without_bn) + 16 * 784
    for model in record(bn, plain, test, room):
        assert inputs(model) == 16
        assert model.answers is None
    later, without = record(bn, plain, test, room - 1)
    assert (inputs(later), inputs(without)) == (64, 64)
    answers = later.answers
    assert answers is not None
    recorded = [answers.moving, answers.folded, answers.batches]
    assert test.images.nbytes + size_of(later.layers, without.layers, recorded) <= report.LEAST_ROOM
    with pytest.raises(NotPlayableError, match="is too large"):
        record(bn[5:], plain, test, room)


def inputs(model: Model) -> int:
    """How many numbers a model reads."""
    start = model.layers[0]
    assert isinstance(start, Dense)
    return start.inputs


@pytest.mark.slow
def test_activations_are_those_of_keras() -> None:
    import keras

    grid = np.linspace(-40, 40, 1601)
    for name, function in ACTIVATIONS.items():
        wanted = keras.activations.get(name)(keras.ops.convert_to_tensor(grid, "float64")).numpy()
        np.testing.assert_allclose(function(grid), wanted, rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["pair", "after"])
def test_values_are_those_of_keras(
    sample_digits: Dataset,
    position: str,
    request: pytest.FixtureRequest,
) -> None:
    import keras

    made = request.getfixturevalue(position)
    saved = made.page.parent / "saved_models"
    bn, plain = (read_layers(saved / name / "model.keras") for name in ("bn", "plain"))
    images = sample_digits.test.images[:64]
    found = record(bn, plain, sample_digits.test, room=57_000)  # less than with dense_1
    for model, name, recorded in zip(made[1:], ("dense_2", "logits"), found, strict=True):
        start = recorded.layers[0]
        assert isinstance(start, Dense)
        assert start.name == name
        layer = model.get_layer(name)
        inputs = keras.Model(model.input, layer.input)(images, training=False).numpy()
        wanted = inputs @ layer.kernel.numpy()
        products = floats(start.kernel).reshape(wanted.shape)
        assert np.abs(products - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.slow
def test_recorded_answers_are_those_of_keras(wide: Playable, sample_digits: Dataset) -> None:
    saved = wide.page.parent / "saved_models"
    bn, plain = (read_layers(saved / name / "model.keras") for name in ("bn", "plain"))
    test = choose_examples(sample_digits.test)
    answers = record(bn, plain, test, room=0)[0].answers
    assert answers is not None
    moving, folded, batches = (
        floats(each.kernel).reshape(-1, 10)
        for each in (answers.moving, answers.folded, answers.batches)
    )
    wanted = wide.bn(test.images, training=False).numpy()
    assert_same_answers(moving, wanted)
    assert_same_answers(folded, wanted)
    assert np.abs(folded - moving).max() > 0  # the weights are rounded again
    groups = [np.arange(64), *(np.flatnonzero(test.labels == label) for label in range(10))]
    found = batches.reshape(64, 12, len(SIZES), 10)
    cases = [(i, (5 * i) % 12, i % len(SIZES)) for i in range(0, 64, 3)]
    judged = []
    for image, filling, size in cases:
        rest = [*groups, np.array([image])][filling]
        batch = [image, *(rest[i % len(rest)] for i in range(SIZES[size] - 1))]
        judged.append(with_batch_statistics(wide.bn, test.images[batch])[0])
    assert_same_answers(np.array([found[each] for each in cases]), np.array(judged))


def assert_same_answers(found: np.ndarray, wanted: np.ndarray) -> None:
    assert len(np.unique(wanted.argmax(1))) > 2
    np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_parts_of_a_layer_that_is_too_wide_look_answers_up(
    tab: Open, wide: Playable, sample_digits: Dataset
) -> None:
    import keras

    page, images = tab(wide.page, 360), choose_examples(sample_digits.test).images
    notes = texts(page, "section > .note")
    assert sum("it holds the first 32 units of dense_1" in note for note in notes) == 5
    page.run('document.querySelector("[data-part=draw] .examples").children[6].click()')
    with_bn, without = (
        softmax(each(images[6:7], training=False))[0] for each in (wide.bn, wide.plain)
    )
    assert len(texts(page, ".fill option")) == 12
    sevens = [i for i in range(64) if i % 10 == 7]
    for filling, value, size in [(0, 7, 64), (8, 7, 64), (8, 3, 4), (11, 2, 2), (0, 1, 1)]:
        select(page, ".fill select", filling)
        set_slider(page, "batch", value)
        rest = {0: range(64), 8: sevens, 11: [6]}[filling]
        batch = [6, *(rest[i % len(rest)] for i in range(size - 1))]
        assert [name[-1] for name in members(page)] == [str(i % 10) for i in batch]
        answers = [softmax(with_batch_statistics(wide.bn, images[batch]))[0], with_bn, without]
        np.testing.assert_allclose(columns(page, "batch"), answers, atol=0.00051)
        assert texts(page, "[data-part=batch] .fill output") == [str(size)]
        assert np.abs(answers[0] - with_bn).max() > 0.01
    np.testing.assert_allclose(columns(page, "draw"), [with_bn, with_bn, without], atol=0.00051)
    # Images can neither be dragged nor selected.
    assert page.run('[...document.querySelectorAll(".members button")].every(x => x.disabled)')
    assert not page.run('document.querySelectorAll("[data-part=batch] .source button").length')
    set_slider(page, "batch", 3)
    show(page, ".members")
    page.drag(middle(page, ".members button", 2), (180, 20), (180, 10))
    assert len(members(page)) == 4

    # Of the layer, the first 32 units are here; those that are summed, if BN comes last.
    bn, logits = wide.bn.get_layer("bn_1"), wide.bn.get_layer("logits")
    inside = keras.Model(wide.bn.input, [wide.bn.get_layer("dense_1").output, bn.input, bn.output])
    dense, before, after = (each.numpy()[:, :32] for each in inside(images, training=False))
    comes_last = not np.array_equal(dense, before)
    kernel, bias = (each.numpy() for each in logits.weights)
    share = after[6] @ kernel[:32] + bias
    wanted = [share[9]] * 2 if comes_last else [dense[6, 31], *[after[6, 31]] * 2]
    set_slider(page, "fold", 32)
    assert texts(page, ".pick output") == ["10" if comes_last else "32"]
    shown = [number(text.split(" = ")[1]) for text in texts(page, ".result b")]
    np.testing.assert_allclose(shown, wanted, rtol=6e-5)
    np.testing.assert_allclose(columns(page, "fold"), [with_bn] * 2, atol=0.00051)
    sums = "Of the inputs of logits, y sums the first 32 only."
    assert finding(page, "fold").endswith(sums if comes_last else "rounded to float32.")
    unit = int(texts(page, "[data-part=normalize] output")[0]) - 1
    words = texts(page, "[data-finding]")[0].split()
    mean, deviation = (
        number(words[words.index(name) + 1].rstrip(".,")) for name in ("mean", "deviation")
    )
    assert mean == pytest.approx(before[:, unit].mean(), rel=0.05)
    assert deviation == pytest.approx(before[:, unit].std(), rel=0.05)
    assert page.errors() == []
