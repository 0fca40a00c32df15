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
from kerasbn.reports.play.weights import Dense, Layer, NotPlayableError, TooLargeError, read_layers
from kerasbn.runs import Run

MOST_WEIGHTS = 131_072  # of both models: 683 KB in the page

TOO_LARGE = (
    "These models are too large to run on a page: together they may have at most "
    f"{MOST_WEIGHTS:,} weights in Dense layers."
)

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
    """All that the scripts of the parts read; `seed` is that of the pair if there are several.

    `too_large` says that the models are left out because they have too many weights.
    """

    models: Models | None = None
    examples: Examples | None = None
    training: Training | None = None
    seed: int | None = None
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
        note = None
        if self.seed is not None:
            note = Paragraph(f"The models of this part are the pair with seed {self.seed}.", "note")
        found = [
            Section(part, heading, Interactive(part), note)
            for part, heading in PARTS.items()
            if has_data[part]
        ]
        if self.too_large:
            found.insert(0, Section("draw", PARTS["draw"], Paragraph(TOO_LARGE, "note")))
        return found


def play(comparison: Comparison) -> Play:
    """Return the data of the first pair of a comparison."""
    pair = comparison.probed_runs
    models, too_large = None, False
    try:
        models = _models(pair)
    except TooLargeError:
        too_large = True
    except NotPlayableError:
        pass
    examples = _examples(comparison) if models else None
    seed = comparison.seeds[0] if len(comparison.seeds) > 1 else None
    return Play(models, examples, training(pair), seed, too_large)


def _models(pair: list[Run]) -> Models | None:
    """Return the models, None if the runs kept none.

    Raises:
        TooLargeError: If they have more weights than a page holds.
        NotPlayableError: If the scripts cannot compute them.
    """
    layers = [read_layers(run.model_path) for run in pair]
    denses = [each for model in layers for each in model if isinstance(each, Dense)]
    if sum(each.inputs * each.units for each in denses) > MOST_WEIGHTS:
        raise TooLargeError
    return Models(*map(Model, layers)) if layers else None


def _examples(comparison: Comparison) -> Examples | None:
    data = comparison.first.data
    found = read_examples(comparison.path, data.name, data.digest)
    if found is None:
        return None
    return Examples(base64.b64encode(found.images.tobytes()).decode(), found.labels.tolist())
