"""A picture of several panels as blocks of a page."""

import pytest
from matplotlib.figure import Figure

from kerasbn.reports.document import Charts
from kerasbn.reports.pictured import pictured

RATES = ["0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1", "3"]


def charts(figure: Figure) -> Charts:
    """What a page shows of a figure."""
    (found,) = [block for block in pictured(figure, "caption", "x") if isinstance(block, Charts)]
    return found


@pytest.mark.parametrize(("names", "turned"), [(RATES, True), (["1x8", "2x8", "4x8"], False)])
def test_names_below_an_axis_turn_where_they_would_run_into_each_other(
    names: list[str], turned: bool
) -> None:
    figure = Figure(figsize=(12, 6))
    axes = figure.subplots()
    axes.plot(range(len(names)), range(len(names)), label="a")
    axes.set_xticks(range(len(names)), names)
    (chart,) = charts(figure).charts
    assert ("rotate(-60)" in chart.drawing.markup) == turned


def test_panels_without_a_curve_to_read_from_stay_one_picture() -> None:
    figure = Figure()
    for axes in figure.subplots(1, 2):
        axes.axvline(1)
    (chart,) = charts(figure).charts
    assert chart.wide
