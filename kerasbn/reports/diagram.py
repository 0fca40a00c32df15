"""The layers of the models on a page: a row of boxes for each layer, from input to output."""

import base64
import io
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np
from matplotlib.image import imsave

from kerasbn.common import wording
from kerasbn.data.datasets import Split
from kerasbn.data.examples import read_examples
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.document import Box, Diagram, DiagramRow, Image, Section
from kerasbn.reports.inside import PAIRED
from kerasbn.training.settings import ModelSettings

PIXELS, CLASSES = (28, 28), 10
ACTIVATIONS = {
    "relu": "ReLU", "leaky_relu": "Leaky ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU",
}  # fmt: skip
BOTH = f"One model has a BN layer (blue) in each hidden layer. {PAIRED}"
THESE = "These are test images:"


def comparison_diagram(comparison: Comparison) -> Section:
    """Return what the models of a comparison compute, and how they differ."""
    rows = list(rows_of(comparison.first.model))
    examples = read_examples(comparison.path)
    if examples is None:
        diagram = Diagram(rows, BOTH)
    else:
        diagram = Diagram(rows, f"{BOTH} {THESE}", _strip(examples))
    return Section("model", "The two models", diagram)


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


def _strip(examples: Split) -> Image:
    """Return the first examples in a row, dark on white."""
    count = min(CLASSES, len(examples))
    buffer = io.BytesIO()
    row = np.hstack(list(examples.images[:count]))
    imsave(
        buffer, row, format="png", cmap="gray_r", vmin=0, vmax=255, pil_kwargs={"optimize": True}
    )
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    digits = wording.listed([str(label) for label in examples.labels[:count]])
    return Image(source, f"Test images of {digits}")


def _dense(inputs: int, units: int) -> Box:
    return Box("Dense", f"{inputs} → {units}")
