"""Charts show the figures of the study: as lines, heat maps and parallel coordinates."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from kerasbn.common.plotting import COLOR, height
from kerasbn.sweeps.charts import draw_charts, save_charts
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import summarize
from kerasbn.sweeps.trials import Trial

MadeUp = Callable[[Mapping[str, Any], Callable[[Trial, int], float | str | None]], Study]

RATES = [0.001, 0.01, 0.1, 1.0]
ONE = {"seeds": 3, "axes": {"lr": RATES}}
TWO = {"seeds": 2, "axes": {"lr": RATES, "activation": ["relu", "tanh"]}}
THREE = {"seeds": 1, "axes": {"lr": RATES, "activation": ["relu", "tanh"], "batch_size": [8, 16]}}
SAMPLE = {"sample": 12, "axes": {"lr": {"log": [0.001, 1]}, "batch_size": [8, 16]}}


def figures(trial: Trial, epoch: int) -> float | None:
    """Without BN all seeds diverge at a learning rate of 1, and one at 0.1."""
    rate, seed = trial.training.lr, trial.training.seed
    if not trial.bn and (rate >= 1 or (rate >= 0.1 and seed == 1)):
        return None
    return 0.9 + 0.02 * epoch - 0.05 * rate - (0.0 if trial.bn else 0.1) + 0.01 * seed


def means(axes: Axes, colour: str) -> np.ndarray:
    """The points of the thick line of a colour."""
    (line,) = [
        each for each in axes.lines if each.get_color() == colour and each.get_linewidth() == 2
    ]
    return np.asarray(line.get_xydata(), float)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.slow
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
def test_the_number_of_axes_decides_which_charts_there_are(
    grid: dict[str, Any], names: list[str], made_up: MadeUp
) -> None:
    study = made_up(grid, figures)
    found = draw_charts(study)
    assert [each.name for each in found] == names
    assert all(each.caption.endswith(".") for each in found)
    save_charts(study)
    for name in names:
        assert (study.path / f"{name}.png").stat().st_size > 10_000


def test_without_results_there_are_no_charts(made_up: MadeUp) -> None:
    study = made_up(ONE, figures)
    assert draw_charts(replace(study, outcomes={})) == []


def test_lines_are_the_means_of_finished_trials(made_up: MadeUp) -> None:
    study = made_up(ONE, figures)
    (axes,) = draw_charts(study)[0].figure.axes
    assert axes.get_xscale() == "log"
    listed = summarize(study)
    for bn, colour in ((True, COLOR["with_bn"]), (False, COLOR["without_bn"])):
        drawn = means(axes, colour)
        expected = [
            (each.configuration["lr"], side.spread.mean)
            for each in listed
            if (side := each.of(bn)) and side.accuracies
        ]
        np.testing.assert_allclose(drawn, np.asarray(expected, float))
    # One of three at 0.1, all at 1.
    assert {"1 of 3", "3 of 3"} <= set(texts(axes))
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["With BN", "Without BN (4 of 12 diverged)"]


def test_the_band_is_one_standard_deviation_to_each_side(made_up: MadeUp) -> None:
    (axes,) = draw_charts(made_up(ONE, figures))[0].figure.axes
    edges = np.asarray(axes.collections[0].get_paths()[0].vertices)
    at_first = edges[np.isclose(edges[:, 0], 0.001)][:, 1]
    mean = means(axes, COLOR["with_bn"])[0, 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((mean - 0.01, mean + 0.01))


def test_values_that_are_not_numbers_keep_their_order(made_up: MadeUp) -> None:
    grid = {"axes": {"hidden": ["8", "8,8", "8,8,8,8", "16,8"]}}
    (axes,) = draw_charts(made_up(grid, figures))[0].figure.axes
    assert axes.get_xscale() == "linear"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "2x8", "4x8", "16,8"]


def test_over_steps_without_an_axis(made_up: MadeUp) -> None:
    study = made_up({"seeds": 2}, lambda trial, epoch: figures(trial, epoch))
    (axes,) = draw_charts(study)[0].figure.axes
    thick = [line for line in axes.lines if line.get_linewidth() > 2]
    assert [line.get_color() for line in thick] == [*COLOR.values()]
    xy = np.asarray(thick[0].get_xydata(), float)
    lr = study.trials[0].training.lr
    np.testing.assert_allclose(xy[:, 0], [100, 200, 300])
    np.testing.assert_allclose(xy[:, 1], 0.905 + 0.02 * np.arange(1, 4) - 0.05 * lr)


def test_heat_maps_show_the_figures_in_their_cells(made_up: MadeUp) -> None:
    study = made_up(TWO, figures)
    with_bn, without, difference = draw_charts(study)[1].figure.axes[:3]
    assert [axes.get_title() for axes in (with_bn, without, difference)] == [
        "With BN", "Without BN", "With BN minus without",
    ]  # fmt: skip
    for axes, bn in ((with_bn, True), (without, False)):
        shown = np.asarray(axes.images[0].get_array(), float)
        assert shown.shape == (2, 4)
        for each in summarize(study):
            row = ["relu", "tanh"].index(str(each.configuration["activation"]))
            cell = shown[row, RATES.index(float(str(each.configuration["lr"])))]
            results = each.of(bn)
            assert results is not None
            if results.spread.mean is None:
                assert np.isnan(cell)
            else:
                assert cell == pytest.approx(100 * results.spread.mean)
                assert any(text.startswith(f"{cell:.1f}") for text in texts(axes))
    assert texts(without).count("diverged") == 2  # at 1, both activations
    assert sum("1 div." in text for text in texts(without)) == 2  # at 0.1
    assert not any("div" in text for text in texts(with_bn))
    assert any(text.startswith("+10.0") for text in texts(difference))


def test_parallel_coordinates_have_a_line_for_each_combination_with_and_without_bn(
    made_up: MadeUp,
) -> None:
    panels = draw_charts(made_up(THREE, figures))[1].figure.axes
    assert [axes.get_title() for axes in panels] == ["With BN", "Without BN"]
    without_accuracy = []
    for axes, top in zip(panels, (0.96, 0.86), strict=True):
        ends = [np.asarray(patch.get_path().vertices)[-1] for patch in axes.patches]
        assert len(ends) == 16
        assert {end[0] for end in ends} == {3.0}
        assert max(end[1] for end in ends) == pytest.approx(height(top - 0.05 * 0.001))
        without_accuracy.append(sum(end[1] < 0 for end in ends))  # below the axis: diverged
        in_front = max(axes.patches, key=lambda patch: patch.get_zorder())
        assert np.asarray(in_front.get_path().vertices)[-1, 1] == min(end[1] for end in ends)
    assert without_accuracy == [0, 4]


def test_final_values_are_beside_the_ends_of_their_curves(made_up: MadeUp) -> None:
    study = made_up({"seeds": 2}, lambda trial, _: 0.98 if trial.bn else 0.9)
    (axes,) = draw_charts(study)[0].figure.axes
    labels = {text.get_text(): float(text.xy[1]) for text in axes.texts if hasattr(text, "xy")}
    assert labels == pytest.approx({"98.00%": 0.98, "90.00%": 0.9})


def test_the_band_stays_within_the_range_of_the_seeds(made_up: MadeUp) -> None:
    def uneven(trial: Trial, _: int) -> float:
        return 0.11 if trial.training.seed == 0 else 0.9

    study = made_up(ONE, uneven)
    (axes,) = draw_charts(study)[0].figure.axes
    edges = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    side = summarize(study)[0].with_bn
    assert side is not None
    mean, sd = side.spread.mean, side.spread.sd
    assert mean is not None
    assert sd is not None
    assert mean + sd > 1
    assert (edges.min(), edges.max()) == pytest.approx((mean - sd, 0.9))


def test_the_note_about_the_dataset_is_shown(made_up: MadeUp, tmp_path: Path) -> None:
    study = made_up(ONE, figures)
    data = replace(study.record.data, note="only a few")
    again = replace(study, path=tmp_path, record=replace(study.record, data=data))
    legend = draw_charts(again)[0].figure.legends[0]
    assert legend.get_title().get_text() == "only a few"
