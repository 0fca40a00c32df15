"""The picture shows the figures of the history, and the same figures make the same picture."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from kerasbn.errors import InputError
from kerasbn.plotting import PANELS, Curve, draw_curves, save_figure


def curve(label: str, epochs: int, seed: int, ending: str = "") -> Curve:
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(0.1, 0.9, epochs).tolist() for name in PANELS}
    return Curve(label, {"epoch": [float(i + 1) for i in range(epochs)], **columns}, ending)


PAIR = [curve("With BN", 10, 1), curve("Without BN", 10, 2)]


def lines(figure: Figure, panel: int) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in figure.axes[panel].lines]


def test_four_panels_in_order() -> None:
    figure = draw_curves(PAIR, "title")
    assert [axes.get_title() for axes in figure.axes] == [
        "Training loss", "Training accuracy", "Validation loss", "Validation accuracy",
    ]  # fmt: skip
    assert figure.axes[1].get_ylim() == (0, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["With BN", "Without BN"]


@pytest.mark.parametrize(("panel", "column"), list(enumerate(PANELS)))
def test_every_panel_draws_its_column(panel: int, column: str) -> None:
    for drawn, each in zip(lines(draw_curves(PAIR, "t"), panel), PAIR, strict=True):
        np.testing.assert_array_equal(drawn[:, 0], each.history["epoch"])
        np.testing.assert_array_equal(drawn[:, 1], each.history[column])


def test_curves_of_many_runs_can_be_told_apart() -> None:
    figure = draw_curves([curve(f"run {i}", 3, i) for i in range(20)], "title")
    for axes in figure.axes:
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(looks) == len(axes.lines) == 20


@pytest.mark.parametrize("epochs", [1, 10, 59, 60, 500])
def test_markers_do_not_run_into_one_another(epochs: int) -> None:
    line = draw_curves([curve("a", epochs, 1)], "t").axes[0].lines[0]
    every = line.get_markevery()
    assert isinstance(every, int)
    assert min(epochs, 30) <= len(range(0, epochs, every)) < 60


def heights_of_values(axes: Axes) -> list[float]:
    """Where a panel's last values stand, from below."""
    return sorted(float(text.xy[1]) for text in axes.texts if isinstance(text, Annotation))


def test_a_large_last_value_stays_within_its_panel() -> None:
    history = {"epoch": [1.0, 2.0], **{name: [1.0, 0.1] for name in PANELS}}
    large = Curve("Without BN", history | {"loss": [9e15, 941469.082]})
    figure = draw_curves([large], "t")
    figure.canvas.draw()
    (value,) = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    assert value.get_text() == "9.41e+05"
    next_panel = figure.axes[1].get_tightbbox()
    assert next_panel is not None
    assert value.get_window_extent().x1 < next_panel.x0


def test_the_last_values_can_be_read() -> None:
    figure = draw_curves(PAIR, "t")
    texts = {text.get_text() for text in figure.axes[3].texts}
    assert texts == {f"{each.history['val_accuracy'][-1]:.1%}" for each in PAIR}
    heights = heights_of_values(figure.axes[3])
    low, high = figure.axes[3].get_ylim()
    assert heights[1] - heights[0] > 0.06 * (high - low)


def test_equal_last_values_do_not_cover_each_other() -> None:
    figure = draw_curves([PAIR[0], PAIR[0], PAIR[0]], "t")
    for axes in figure.axes:
        heights = heights_of_values(axes)
        low, high = axes.get_ylim()
        assert np.diff(heights).min() > 0.06 * (high - low)


def test_a_note_and_an_ending_are_on_the_picture() -> None:
    cut = curve("Without BN", 3, 3, ending="diverged at step 12")
    figure = draw_curves([PAIR[0], cut], "t", note="a sample")
    legend = figure.legends[0]
    assert legend.get_title().get_text() == "a sample"
    assert legend.get_texts()[1].get_text() == "Without BN (diverged at step 12)"


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_short_histories_are_drawn(epochs: int, tmp_path: Path) -> None:
    save_figure(draw_curves([curve("With BN", epochs, 4)], "t"), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_same_figures_make_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_figure(draw_curves(PAIR, "t"), tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_the_picture_is_large_enough_for_a_talk(tmp_path: Path) -> None:
    picture = Image.open(save_figure(draw_curves(PAIR, "t"), tmp_path / "a.png"))
    assert picture.width >= 1600
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"received '.gif' as a format, expected one of .png"):
        save_figure(draw_curves(PAIR, "t"), tmp_path / "a.gif")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(draw_curves(PAIR, "t"), tmp_path / "none" / "a.png")
