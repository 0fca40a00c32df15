"""Figures are saved deterministically, and their axes and labels can be read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from kerasbn.common.errors import InputError
from kerasbn.common.plotting import (
    COLOR,
    OTHER_COLORS,
    End,
    accuracy_at,
    accuracy_axis,
    height,
    label_ends,
    save_figure,
)


def simple_figure() -> Figure:
    figure = Figure(figsize=(11, 7.6))
    figure.subplots().plot([1, 2, 3], [0.1, 0.5, 0.3])
    return figure


def axes_of(low: float, high: float) -> Axes:
    axes = Figure().subplots()
    axes.set_xlim(0, 10)
    axes.set_ylim(low, high)
    return axes


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_same_figure_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_figure(simple_figure(), tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_a_figure_is_large_enough_for_a_talk(tmp_path: Path) -> None:
    picture = Image.open(save_figure(simple_figure(), tmp_path / "a.png"))
    assert picture.width >= 1600
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"received '.gif' as a format, expected one of .png"):
        save_figure(simple_figure(), tmp_path / "a.gif")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(simple_figure(), tmp_path / "none" / "a.png")


def test_the_colors_of_a_pair_mean_nothing_else() -> None:
    assert not set(COLOR.values()) & set(OTHER_COLORS)
    assert len({*COLOR.values(), *OTHER_COLORS}) == len(COLOR) + len(OTHER_COLORS)


@given(st.floats(0, 1))
def test_positions_on_a_stretched_axis_can_be_inverted(accuracy: float) -> None:
    assert 0 <= height(accuracy) <= 1
    assert accuracy_at(height(accuracy)) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.1, 0.98), (0.93, 0.99), (0.95, 0.95), (0.9712, 0.9731), (1, 1)]
)
def test_an_accuracy_axis_contains_its_limits_and_has_distinct_ticks(
    low: float, high: float
) -> None:
    axes = Figure().subplots()
    accuracy_axis(axes, low, high)
    bottom, top = axes.get_ylim()
    assert 0 <= bottom <= low <= high <= top <= 1
    ticks = sorted(tick for tick in axes.get_yticks() if bottom <= tick <= top)
    assert 3 <= len(ticks) <= 9
    assert np.diff(height(np.array(ticks))).min() > 0.1 * (height(top) - height(bottom))
    labels = [axes.yaxis.get_major_formatter()(tick) for tick in ticks]
    assert [float(label.removesuffix("%")) / 100 for label in labels] == pytest.approx(ticks)


def labels_of(axes: Axes) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.xy for text in axes.texts if isinstance(text, Annotation)}


def test_labels_of_ends_at_the_same_place_are_moved_apart() -> None:
    axes = axes_of(0, 1)
    label_ends(axes, [End(10, 0.99, name, "#000000") for name in "abc"])
    heights = sorted(y for _, y in labels_of(axes).values())
    assert np.diff(heights).min() > 0.06
    assert heights[-1] <= 1


def test_a_label_stands_beside_the_end_of_its_own_curve() -> None:
    axes = axes_of(0, 1)
    label_ends(axes, [End(1, 0.5, "short", "#000000"), End(10, 0.5, "long", "#000000")])
    assert labels_of(axes) == {"short": (1, 0.5), "long": (10, 0.5)}
