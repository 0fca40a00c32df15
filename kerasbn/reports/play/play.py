"""The parts of a page to play with: their data as one JSON-able value, and their sections.

Each part has an explanation in ``templates/play/PART.html`` and a script in ``PART.js``. To add
one, add these files and a row to `PARTS`.
"""

import base64
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from kerasbn.data.datasets import Split
from kerasbn.data.examples import read_examples
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.document import Interactive, Paragraph, Section
from kerasbn.reports.play.training import Training, training
from kerasbn.reports.play.weights import (
    Dense,
    Layer,
    NotPlayableError,
    TooLargeError,
    on_images,
    read_layers,
)

MOST_WEIGHTS = 131_072  # of both models: 683 KB in the page

PICK = "Pick a digit"
ON_EXAMPLES = (
    "The kernel of the first layer is too large for a page: the page holds its products with these "
    "test images instead."
)
TOO_LARGE = (
    "These models are too large to run on a page: behind their first layers they may have at most "
    f"{MOST_WEIGHTS:,} weights together."
)

PARTS = {
    "draw": "Draw a digit",
    "batch": "Choose the rest of the batch",
    "normalize": "Normalize by hand",
    "training": "Watch it train",
    "fold": "Fold a layer",
}


class Model(Struct):
    """One model, in the order of its layers."""

    layers: list[Layer]


class Models(Struct):
    """The pair: the model with BN, and the one without."""

    bn: Model
    plain: Model


class Examples(Struct):
    """Test images, 784 bytes each in base64, and their labels."""

    images: str
    labels: list[int]


class Play(Struct):
    """All that the scripts of the parts read; `seed` is that of the pair if there are several.

    If it is `drawable`, the models read images; large ones read the numbers of the examples,
    one-hot. `too_large` says that the models are left out because even so they are too large.
    """

    models: Models | None = None
    examples: Examples | None = None
    training: Training | None = None
    seed: int | None = None
    drawable: bool = True
    too_large: bool = False

    def sections(self) -> list[Section]:
        """Return a section for each part that there is data for.

        Where the models can be played with, the training says if it was not recorded.
        """
        has_data = {
            "draw": self.models is not None,
            "batch": self.examples is not None,
            "normalize": self.models is not None,
            "training": self.models is not None or self.training is not None,
            "fold": self.models is not None,
        }
        notes = [] if self.drawable else [ON_EXAMPLES]
        if self.seed is not None:
            notes.append(f"The models of this part are the pair with seed {self.seed}.")
        note = Paragraph(" ".join(notes), "note") if notes else None
        found = [
            Section(part, heading, Interactive(part), note)
            for part, heading in (PARTS if self.drawable else PARTS | {"draw": PICK}).items()
            if has_data[part]
        ]
        if self.too_large:
            found.insert(0, Section("draw", PARTS["draw"], Paragraph(TOO_LARGE, "note")))
        return found


def play(comparison: Comparison) -> Play:
    """Return the data of the first pair of a comparison."""
    pair = comparison.probed_runs
    seed = comparison.seeds[0] if len(comparison.seeds) > 1 else None
    found = Play(training=training(pair), seed=seed)
    try:
        layers = [read_layers(run.model_path) for run in pair]
        examples = _examples(comparison) if layers else None
        drawable = _weights(layers) <= MOST_WEIGHTS
        if examples and not drawable:
            layers = [on_images(each, examples.images) for each in layers]
    except TooLargeError:
        return replace(found, too_large=True)
    except NotPlayableError:
        return found
    if not layers or _weights(layers) > MOST_WEIGHTS:
        return replace(found, too_large=bool(layers))
    return replace(
        found,
        models=Models(*map(Model, layers)),
        examples=examples and Examples(_base64(examples.images), examples.labels.tolist()),
        drawable=drawable,
    )


def _weights(models: Sequence[Sequence[Layer]]) -> int:
    """Return how many weights the Dense layers of models have."""
    denses = [each for layers in models for each in layers if isinstance(each, Dense)]
    return sum(each.inputs * each.units for each in denses)


def _examples(comparison: Comparison) -> Split | None:
    data = comparison.first.data
    return read_examples(comparison.path, data.name, data.digest)


def _base64(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(array.tobytes()).decode()
