"""The pictures show the study's figures: as lines, as tables, as parallel coordinates."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from kerasbn.plotting import COLOR, accuracy_at, height
from kerasbn.sweeps.plots import pictures, save_pictures
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import summaries
from kerasbn.sweeps.trials import Configuration

MadeUp = Callable[[Mapping[str, Any], Callable[[Configuration, int], float | str | None]], Study]

RATES = [0.001, 0.01, 0.1, 1.0]
ONE = {"seeds": 3, "axes": {"lr": RATES}}
TWO = {"seeds": 2, "axes": {"lr": RATES, "activation": ["relu", "tanh"]}}
THREE = {"seeds": 1, "axes": {"lr": RATES, "activation": ["relu", "tanh"], "batch_size": [8, 16]}}
SAMPLE = {"sample": 12, "axes": {"lr": {"log": [0.001, 1]}, "batch_size": [8, 16]}}


def figures(each: Configuration, epoch: int) -> float | None:
    """Without normalization all diverge at a rate of 1, and one seed at 0.1."""
    rate, seed = each.training.lr, each.training.seed
    if not each.bn and (rate >= 1 or (rate >= 0.1 and seed == 1)):
        return None
    return 0.9 + 0.02 * epoch - 0.05 * rate - (0.0 if each.bn else 0.1) + 0.01 * seed


def means(axes: Axes, colour: str) -> np.ndarray:
    """The points of the thick line of a colour."""
    (line,) = [
        each for each in axes.lines if each.get_color() == colour and each.get_linewidth() == 2
    ]
    return np.asarray(line.get_xydata(), float)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ({"seeds": 2}, ["accuracy"]),
        (ONE, ["accuracy"]),
        (TWO, ["accuracy", "heat-map"]),
        (THREE, ["heat-map", "parallel"]),
        (SAMPLE, ["parallel"]),
        # An axis with one value is none.
        ({"axes": {"lr": RATES, "activation": ["relu"]}}, ["accuracy"]),
        ({"options": {"bn": True}, "axes": {"lr": RATES}}, ["accuracy"]),
        ({"options": {"bn": False}, "axes": dict(TWO["axes"])}, ["accuracy", "heat-map"]),  # type: ignore[call-overload] # a dict
    ],
)
def test_as_many_axes_so_many_pictures(
    grid: dict[str, Any], names: list[str], made_up: MadeUp
) -> None:
    study = made_up(grid, figures)
    found = pictures(study)
    assert [each.name for each in found] == names
    assert all(each.caption.endswith(".") for each in found)
    save_pictures(study)
    for name in names:
        assert (study.path / f"{name}.png").stat().st_size > 10_000


def test_without_a_result_there_is_no_picture(made_up: MadeUp) -> None:
    study = made_up(ONE, figures)
    assert pictures(Study(study.path, study.record, study.grid, study.configurations, {})) == []


def test_lines_are_the_means_of_those_that_came_through(made_up: MadeUp) -> None:
    study = made_up(ONE, figures)
    (axes,) = pictures(study)[0].figure.axes
    assert axes.get_xscale() == "log"
    listed = summaries(study)
    for bn, colour in ((True, COLOR["with_bn"]), (False, COLOR["without_bn"])):
        drawn = means(axes, colour)
        expected = [
            (each.point["lr"], side.spread.mean)
            for each in listed
            if (side := each.side(bn)) and side.accuracies
        ]
        np.testing.assert_allclose(drawn, np.asarray(expected, float))
    # One of three at 0.1, all at 1.
    assert {"1 of 3", "3 of 3"} <= set(texts(axes))
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["With BN", "Without BN (4 of 12 diverged)"]


def test_the_band_is_one_deviation_to_each_side(made_up: MadeUp) -> None:
    (axes,) = pictures(made_up(ONE, figures))[0].figure.axes
    edges = np.asarray(axes.collections[0].get_paths()[0].vertices)
    at_first = edges[np.isclose(edges[:, 0], 0.001)][:, 1]
    mean = means(axes, COLOR["with_bn"])[0, 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((mean - 0.01, mean + 0.01))


def test_values_that_are_no_numbers_stand_in_their_order(made_up: MadeUp) -> None:
    grid = {"axes": {"hidden": ["8", "8,8", "8,8,8,8", "16,8"]}}
    (axes,) = pictures(made_up(grid, figures))[0].figure.axes
    assert axes.get_xscale() == "linear"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1x8", "2x8", "4x8", "16,8"]


def test_over_steps_without_an_axis(made_up: MadeUp) -> None:
    study = made_up({"seeds": 2}, lambda each, epoch: figures(each, epoch))
    (axes,) = pictures(study)[0].figure.axes
    thick = [line for line in axes.lines if line.get_linewidth() > 2]
    assert [line.get_color() for line in thick] == [*COLOR.values()]
    xy = np.asarray(thick[0].get_xydata(), float)
    lr = study.configurations[0].training.lr
    np.testing.assert_allclose(xy[:, 0], [100, 200, 300])
    np.testing.assert_allclose(xy[:, 1], 0.905 + 0.02 * np.arange(1, 4) - 0.05 * lr)


def test_heat_maps_have_the_figures_in_their_cells(made_up: MadeUp) -> None:
    study = made_up(TWO, figures)
    with_bn, without, difference = pictures(study)[1].figure.axes[:3]
    assert [axes.get_title() for axes in (with_bn, without, difference)] == [
        "With BN", "Without BN", "With less without",
    ]  # fmt: skip
    for axes, bn in ((with_bn, True), (without, False)):
        shown = np.asarray(axes.images[0].get_array(), float)
        assert shown.shape == (2, 4)
        for each in summaries(study):
            row = ["relu", "tanh"].index(str(each.point["activation"]))
            cell = shown[row, RATES.index(float(str(each.point["lr"])))]
            side = each.side(bn)
            assert side is not None
            if side.spread.mean is None:
                assert np.isnan(cell)
            else:
                assert cell == pytest.approx(100 * side.spread.mean)
                assert any(text.startswith(f"{cell:.1f}") for text in texts(axes))
    assert texts(without).count("diverged") == 2  # at 1, both activations
    assert sum("1 div." in text for text in texts(without)) == 2  # at 0.1
    assert not any("div" in text for text in texts(with_bn))
    assert any(text.startswith("+10.0") for text in texts(difference))


def test_parallel_coordinates_have_a_line_for_each_combination_and_kind(made_up: MadeUp) -> None:
    panels = pictures(made_up(THREE, figures))[1].figure.axes
    assert [axes.get_title() for axes in panels] == ["With BN", "Without BN"]
    lost = []
    for axes, top in zip(panels, (0.96, 0.86), strict=True):
        ends = [np.asarray(patch.get_path().vertices)[-1] for patch in axes.patches]
        assert len(ends) == 16
        assert {end[0] for end in ends} == {3.0}
        assert max(end[1] for end in ends) == pytest.approx(height(top - 0.05 * 0.001))
        lost.append(sum(end[1] < 0 for end in ends))  # below the axis: diverged
        in_front = max(axes.patches, key=lambda patch: patch.get_zorder())
        assert np.asarray(in_front.get_path().vertices)[-1, 1] == min(end[1] for end in ends)
    assert lost == [0, 4]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_stretched_axis_keeps_the_order_and_can_be_read_back(one: float, two: float) -> None:
    assert accuracy_at(height(one)) == pytest.approx(one, abs=1e-9)
    if one > two + 1e-9:
        assert height(one) > height(two)
    assert (height(0.0), height(1.0)) == (0, 1)
    # What is wrong counts: from 90 to 95 % is about as far as from 95 to 98 %.
    steps = height(0.95) - height(0.9), height(0.98) - height(0.95)
    assert steps[0] == pytest.approx(steps[1], rel=0.2)


def test_the_last_values_stand_beside_the_ends_of_their_curves(made_up: MadeUp) -> None:
    study = made_up({"seeds": 2}, lambda each, _: 0.98 if each.bn else 0.9)
    (axes,) = pictures(study)[0].figure.axes
    told = {text.get_text(): float(text.xy[1]) for text in axes.texts if hasattr(text, "xy")}
    assert told == pytest.approx({"98.00%": 0.98, "90.00%": 0.9})


def test_a_band_reaches_no_further_than_the_seeds(made_up: MadeUp) -> None:
    def uneven(each: Configuration, _: int) -> float:
        return 0.11 if each.training.seed == 0 else 0.9

    study = made_up(ONE, uneven)
    (axes,) = pictures(study)[0].figure.axes
    edges = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    side = summaries(study)[0].with_bn
    assert side is not None
    mean, sd = side.spread.mean, side.spread.sd
    assert mean is not None
    assert sd is not None
    assert mean + sd > 1
    assert (edges.min(), edges.max()) == pytest.approx((mean - sd, 0.9))


def test_a_sample_of_digits_is_said_to_be_one(made_up: MadeUp, tmp_path: Path) -> None:
    study = made_up(ONE, figures)
    noted = study.record | {"data": study.record["data"] | {"note": "only a few"}}
    again = Study(tmp_path, noted, study.grid, study.configurations, study.results)
    legend = pictures(again)[0].figure.legends[0]
    assert legend.get_title().get_text() == "only a few"
