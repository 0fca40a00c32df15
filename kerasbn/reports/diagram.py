"""The layers of the models on a page: a row of boxes for each layer, from input to output."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.document import Box, Diagram, DiagramRow, Section
from kerasbn.reports.inside import PAIRED
from kerasbn.training.settings import ModelSettings

PIXELS, CLASSES = (28, 28), 10
ACTIVATIONS = {
    "relu": "ReLU", "leaky_relu": "Leaky ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU",
}  # fmt: skip
BOTH = f"One model has a BN layer (blue) in each hidden layer. {PAIRED}"


def comparison_diagram(comparison: Comparison) -> Section:
    """Return what the models of a comparison compute, and how they differ."""
    rows = list(rows_of(comparison.first.model))
    return Section("model", "The two models", Diagram(rows, BOTH))


def runs_diagram(members: Sequence[TrainedModel]) -> Section | None:
    """Return what the models of runs compute, or None if they have different layers."""
    diagrams = [list(rows_of(member.model)) for member in members]
    if any(rows != diagrams[0] for rows in diagrams):
        return None
    return Section("model", "The model", Diagram(diagrams[0]))


def rows_of(model: ModelSettings) -> Iterator[DiagramRow]:
    """Yield one row for the input, for each hidden layer or several equal ones, and the output."""
    height, width = PIXELS
    yield DiagramRow([Box("Image", f"{height}x{width}"), Box("Flatten", f"{height * width}")])
    hidden = pairwise((height * width, *model.hidden))
    for (inputs, units), equal in groupby(hidden):
        boxes = [_dense(inputs, units)]
        if model.activation != "linear":
            boxes.append(Box(ACTIVATIONS.get(model.activation, model.activation)))
        if model.bn:
            boxes.insert(1 if model.bn_position == "before" else len(boxes), Box("BN", tone="bn"))
        yield DiagramRow(boxes, len(list(equal)))
    yield DiagramRow([_dense(model.hidden[-1], CLASSES), Box("Softmax", f"{CLASSES} classes")])


def _dense(inputs: int, units: int) -> Box:
    return Box("Dense", f"{inputs} → {units}")
