"""The parts of a page to play with: their data as one JSON-able value, and their sections.

Each part has an explanation in ``templates/play/PART.html`` and a script in ``PART.js``. To add
one, add these files and a row to `PARTS`.
"""

import base64

import msgspec

from kerasbn.data.examples import read_examples
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.document import Interactive, Paragraph, Section
from kerasbn.reports.play.training import Training, training
from kerasbn.reports.play.weights import Dense, Layer, NotPlayableError, read_layers
from kerasbn.runs import Run

MOST_WEIGHTS = 131_072  # of both models: 683 KB in the page

PARTS = {
    "draw": "Draw a digit",
    "batch": "Choose the rest of the batch",
    "normalize": "Normalize by hand",
    "training": "Watch it train",
    "fold": "Fold a layer",
}


class Model(msgspec.Struct):
    """One model, in the order of its layers."""

    layers: list[Layer]


class Models(msgspec.Struct):
    """The pair: the model with BN, and the one without."""

    bn: Model
    plain: Model


class Examples(msgspec.Struct):
    """Test images, 784 bytes each in base64, and their labels."""

    images: str
    labels: list[int]


class Play(msgspec.Struct):
    """All that the scripts of the parts read; `seed` is that of the pair if there are several."""

    models: Models | None = None
    examples: Examples | None = None
    training: Training | None = None
    seed: int | None = None

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
        note = None
        if self.seed is not None:
            note = Paragraph(f"The models of this part are the pair with seed {self.seed}.", "note")
        return [
            Section(part, heading, Interactive(part), note)
            for part, heading in PARTS.items()
            if has_data[part]
        ]


def play(comparison: Comparison) -> Play:
    """Return the data of the first pair of a comparison."""
    pair = comparison.probed_runs
    models = _models(pair)
    examples = _examples(comparison) if models else None
    seed = comparison.seeds[0] if len(comparison.seeds) > 1 else None
    return Play(models, examples, training(pair), seed)


def _models(pair: list[Run]) -> Models | None:
    """Return the models, or None if the scripts cannot compute them or they are too large."""
    try:
        layers = [read_layers(run.model_path) for run in pair]
    except NotPlayableError:
        return None
    denses = [each for model in layers for each in model if isinstance(each, Dense)]
    sizes = [each.inputs * each.units for each in denses]
    if not layers or sum(sizes) > MOST_WEIGHTS:
        return None
    return Models(*map(Model, layers))


def _examples(comparison: Comparison) -> Examples | None:
    data = comparison.first.data
    found = read_examples(comparison.path, data.name, data.digest)
    if found is None:
        return None
    return Examples(base64.b64encode(found.images.tobytes()).decode(), found.labels.tolist())
