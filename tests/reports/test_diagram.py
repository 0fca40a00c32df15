"""The diagram of the models: its rows are the layers that Keras builds."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from kerasbn.data.datasets import Dataset
from kerasbn.data.examples import choose_examples, write_examples
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.diagram import comparison_diagram, rows_of, runs_diagram
from kerasbn.reports.document import Box, Diagram, DiagramRow
from kerasbn.training.settings import ModelSettings


def names(model: ModelSettings) -> list[list[str]]:
    return [[box.name for box in row.boxes] for row in rows_of(model)]


def test_a_row_is_a_layer_with_bn_in_its_place() -> None:
    first, hidden, last = rows_of(ModelSettings(hidden=(32,)))
    assert [box.detail for box in first.boxes] == ["28x28", "784"]
    assert hidden == DiagramRow([Box("Dense", "784 → 32"), Box("BN", tone="bn"), Box("ReLU")])
    assert [box.detail for box in last.boxes] == ["32 → 10", "10 classes"]
    after = names(ModelSettings(hidden=(32,), bn_position="after", activation="tanh"))
    assert after[1] == ["Dense", "tanh", "BN"]
    assert names(ModelSettings(hidden=(32,), bn=False))[1] == ["Dense", "ReLU"]
    linear = ModelSettings(hidden=(32,), bn_position="after", activation="linear")
    assert names(linear)[1] == ["Dense", "BN"]


def test_equal_layers_share_a_row() -> None:
    rows = list(rows_of(ModelSettings(hidden=(9, 9, 9, 4, 9))))
    assert [row.repeats for row in rows] == [1, 1, 2, 1, 1, 1]
    assert [row.boxes[0].detail for row in rows[1:]] == [
        "784 → 9", "9 → 9", "9 → 4", "4 → 9", "9 → 10",
    ]  # fmt: skip


def test_runs_with_different_layers_have_no_diagram(comparison: tuple[object, Comparison]) -> None:
    _, pair = comparison
    with_bn, without_bn = pair.members
    assert runs_diagram([with_bn, with_bn]) is not None
    assert runs_diagram([with_bn, without_bn]) is None
    tanh = replace(with_bn, model=ModelSettings(activation="tanh"))
    assert runs_diagram([with_bn, tanh]) is None
    (diagram,) = comparison_diagram(pair).blocks
    assert isinstance(diagram, Diagram)
    assert "BN layer" in diagram.caption


def test_the_examples_of_a_comparison_are_shown(
    comparison: tuple[object, Comparison], few_digits: Dataset, tmp_path: Path
) -> None:
    write_examples(tmp_path, few_digits.test)
    (diagram,) = comparison_diagram(replace(comparison[1], path=tmp_path)).blocks
    assert isinstance(diagram, Diagram)
    assert diagram.image is not None
    shown = imread(io.BytesIO(base64.b64decode(diagram.image.source.partition(",")[2])))
    wanted = np.hstack(list(choose_examples(few_digits.test).images[:10]))
    np.testing.assert_allclose(shown[..., 0], 1 - wanted / 255, atol=0.01)  # dark on white
    assert diagram.image.description == "Test images of 0, 1, 2, 3, 4, 5, 6, 7, 8 and 9"
