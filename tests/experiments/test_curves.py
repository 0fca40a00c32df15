"""The figure of learning curves shows the values of the histories."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from sample_runs import trained_member

from kerasbn.common.plotting import COLOR, height, save_figure
from kerasbn.experiments.comparison import comparison_of
from kerasbn.experiments.curves import (
    MAX_MARKERS,
    PANELS,
    Curve,
    colors_of,
    draw_curves,
)
from kerasbn.runs import DataRecord


def curve(label: str, epochs: int, seed: int, ending: str = "", color: str = "") -> Curve:
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(0.1, 0.9, epochs).tolist() for name in PANELS}
    history = {"epoch": [float(i + 1) for i in range(epochs)], **columns}
    return Curve(label, history, ending, color=color)


PAIR = [
    curve("With BN", 10, 1, color=COLOR["with_bn"]),
    curve("Without BN", 10, 2, color=COLOR["without_bn"]),
]


def lines(figure: Figure, panel: int) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in figure.axes[panel].lines]


def test_four_panels_in_order() -> None:
    figure = draw_curves(PAIR, "title")
    assert [axes.get_title() for axes in figure.axes] == [
        "Training loss", "Training accuracy", "Test loss", "Test accuracy",
    ]  # fmt: skip
    assert figure.axes[1].get_ylim() == figure.axes[3].get_ylim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["With BN", "Without BN"]


@pytest.mark.parametrize(("panel", "column"), list(enumerate(PANELS)))
def test_each_panel_draws_its_column(panel: int, column: str) -> None:
    for drawn, each in zip(lines(draw_curves(PAIR, "t"), panel), PAIR, strict=True):
        np.testing.assert_array_equal(drawn[:, 0], each.history["epoch"])
        np.testing.assert_array_equal(drawn[:, 1], each.history[column])


def test_curves_of_many_runs_differ_in_color_or_dashes() -> None:
    figure = draw_curves([curve(f"run {i}", 3, i) for i in range(20)], "title")
    for axes in figure.axes:
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(looks) == len(axes.lines) == 20


@pytest.mark.parametrize("epochs", [1, 10, 59, 60, 500])
def test_markers_do_not_run_into_each_other(epochs: int) -> None:
    line = draw_curves([curve("a", epochs, 1)], "t").axes[0].lines[0]
    every = line.get_markevery()
    assert isinstance(every, int)
    assert min(epochs, MAX_MARKERS) <= len(range(0, epochs, every)) < 60


def heights_of_values(axes: Axes) -> list[float]:
    """Return the positions of the labels on the axis, from below."""
    scale = axes.yaxis.get_transform()
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    return sorted(float(scale.transform(text.xy[1])) for text in labels)


def test_the_label_of_a_large_value_stays_within_its_panel() -> None:
    history = {"epoch": [1.0, 2.0], **{name: [1.0, 0.1] for name in PANELS}}
    large = Curve("Without BN", history | {"loss": [9e15, 941469.082]})
    figure = draw_curves([large], "t")
    figure.canvas.draw()
    (value,) = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    assert value.get_text() == "941,000"
    next_panel = figure.axes[1].get_tightbbox()
    assert next_panel is not None
    assert value.get_window_extent().x1 < next_panel.x0


def test_the_last_values_are_labeled() -> None:
    figure = draw_curves(PAIR, "t")
    texts = {text.get_text() for text in figure.axes[3].texts}
    assert texts == {f"{each.history['val_accuracy'][-1]:.2%}" for each in PAIR}
    heights = heights_of_values(figure.axes[3])
    low, high = height(np.array(figure.axes[3].get_ylim()))
    assert heights[1] - heights[0] > 0.06 * (high - low)


def test_labels_of_equal_values_do_not_overlap() -> None:
    figure = draw_curves([PAIR[0], PAIR[0], PAIR[0]], "t")
    for axes in figure.axes:
        heights = heights_of_values(axes)
        low, high = axes.yaxis.get_transform().transform(axes.get_ylim())
        assert np.diff(heights).min() > 0.06 * (high - low)


def test_the_figure_contains_note_and_ending() -> None:
    cut = curve("Without BN", 3, 3, ending="diverged at step 12")
    figure = draw_curves([PAIR[0], cut], "t", note="a sample")
    legend = figure.legends[0]
    assert legend.get_title().get_text() == "a sample"
    assert legend.get_texts()[1].get_text() == "Without BN (diverged at step 12)"


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_short_histories_are_drawn(epochs: int, tmp_path: Path) -> None:
    save_figure(draw_curves([curve("With BN", epochs, 4)], "t"), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_the_colors_of_a_pair_are_kept_and_others_are_never_taken_for_them() -> None:
    assert colors_of(PAIR) == list(COLOR.values())
    assert colors_of([PAIR[1]]) == [COLOR["without_bn"]]
    several = colors_of([curve(f"run {i}", 3, i) for i in range(20)])
    assert not set(several) & set(COLOR.values())


def test_two_comparisons_in_one_figure_differ_in_dashes() -> None:
    for axes in draw_curves([*PAIR, *PAIR], "t").axes:
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(looks) == 4


def test_a_short_curve_is_labeled_at_its_own_end() -> None:
    for axes in draw_curves([PAIR[0], curve("short", 1, 3)], "t").axes:
        assert {text.xy[0] for text in axes.texts if isinstance(text, Annotation)} == {1.0, 10.0}


def test_curves_of_runs_have_the_color_of_their_kind() -> None:
    sample = DataRecord("mnist-sample", "0" * 64, 4000, 1000)
    compared = comparison_of([replace(trained_member(bn, 0), data=sample) for bn in (True, False)])
    assert compared is not None
    assert colors_of(compared.curves()) == list(COLOR.values())
    plain = compared.without_bn[0].curve()
    assert (plain.label, plain.color) == ("Without BN", COLOR["without_bn"])
    figure = compared.figure()
    assert "sample of MNIST (4,000 examples)" in figure.get_suptitle()
