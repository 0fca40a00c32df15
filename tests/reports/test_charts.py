"""Figures as charts of a page, and which runs have which colors."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from kerasbn.common.plotting import COLOR
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.curves import colors_of
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.charts import figure_charts, member_curves
from kerasbn.reports.sources import find_subject

RATES = ["0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1", "3"]


@pytest.mark.parametrize(("names", "rotated"), [(RATES, True), (["1x8", "2x8", "4x8"], False)])
def test_tick_labels_rotate_where_they_would_overlap(names: list[str], rotated: bool) -> None:
    figure = Figure(figsize=(12, 6))
    axes = figure.subplots()
    axes.plot(range(len(names)), range(len(names)), label="a")
    axes.set_xticks(range(len(names)), names)
    (chart,) = figure_charts(figure, "caption", "x").charts
    assert ("rotate(-60)" in chart.drawing.markup) == rotated


def test_panels_without_curves_stay_one_chart() -> None:
    figure = Figure()
    for axes in figure.subplots(1, 2):
        axes.axvline(1)
    (chart,) = figure_charts(figure, "caption", "x").charts
    assert chart.wide


def test_the_colors_of_bn_mean_only_that(comparison: tuple[Path, Comparison]) -> None:
    pair = [find_subject(str(comparison[0] / name)) for name in ("bn", "plain")]
    with_bn, without_bn = (each for each in pair if isinstance(each, TrainedModel))
    blue, orange = COLOR["with_bn"], COLOR["without_bn"]
    assert colors_of(member_curves([with_bn])) == [blue]
    assert colors_of(member_curves([without_bn])) == [orange]
    assert colors_of(member_curves([without_bn, with_bn])) == [orange, blue]
    other = replace(with_bn, name="other", training=replace(with_bn.training, lr=0.1))
    for several in ([with_bn, other], [with_bn, without_bn, other]):
        found = colors_of(member_curves(several))
        assert len(set(found)) == len(several)
        assert {blue, orange}.isdisjoint(found)


def test_curves_are_labeled_by_what_differs(comparison: tuple[Path, Comparison]) -> None:
    member = find_subject(str(comparison[0] / "bn"))
    assert isinstance(member, TrainedModel)
    other = replace(member, name="other", training=replace(member.training, lr=0.1))
    labels = [curve.label for curve in member_curves([member, other])]
    assert labels == ["bn (learning rate 0.01)", "other (learning rate 0.1)"]
