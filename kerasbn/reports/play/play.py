"""The parts of a page to play with: their data as one JSON-able value, and their sections.

Each part has an explanation in ``templates/play/PART.html`` and a script in ``PART.js``. To add
one, add these files and a row to `PARTS`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from kerasbn.data.datasets import Split
from kerasbn.data.examples import read_examples
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.document import Interactive, Paragraph, Section
from kerasbn.reports.play.recorded import Model, record, size_of
from kerasbn.reports.play.training import Training, training
from kerasbn.reports.play.weights import (
    BatchNormalization,
    Dense,
    Layer,
    NotPlayableError,
    read_layers,
)


class Part(NamedTuple):
    """A part to play with; it needs one of these fields of `Play`."""

    heading: str
    needs: tuple[str, ...] = ("models",)


# By the name of its files.
PARTS = {
    "draw": Part("Draw a digit"),
    "batch": Part("Choose the rest of the batch", ("examples",)),
    "normalize": Part("Normalize by hand"),
    "training": Part("Watch it train", ("models", "training")),  # it says if there is no training
    "fold": Part("Fold a layer"),
}
PICK = Part("Pick a digit")  # where nothing can be drawn

RECORDED = (
    "These models are too large for a page: it holds the outputs of {start} (without BN, of the "
    "last layer) for {count} test images, and computes the rest."
)
SOME_UNITS = (
    "These models are too large for a page: it holds the first {units} units of {start}, and what "
    "the models answer for {count} test images, alone and in certain batches."
)
AHEAD = " BN layers ahead of {start} always use their moving statistics and are not folded here."


class Models(Struct):
    """The pair: the model with BN, and the one without."""

    bn: Model
    plain: Model


class Examples(Struct):
    """Test images, 784 bytes each, and their labels."""

    images: bytes
    labels: list[int]


class Play(Struct):
    """All that the scripts of the parts read.

    If it is `drawable`, the models read images; otherwise, they read the numbers of the examples,
    one-hot. `note` says what readers have to know of the models, or why there are none.
    """

    models: Models | None = None
    examples: Examples | None = None
    training: Training | None = None
    drawable: bool = True
    note: str = ""

    def sections(self) -> list[Section]:
        """Return a section for each part that there is data for, or for the note alone."""
        note = Paragraph(self.note, "note") if self.note else None
        parts = PARTS if self.drawable else PARTS | {"draw": PICK}
        found = [
            Section(name, part.heading, Interactive(name), note if self.models else None)
            for name, part in parts.items()
            if any(getattr(self, field) is not None for field in part.needs)
        ]
        if note and not self.models:
            found.insert(0, Section("draw", PARTS["draw"].heading, note))
        return found


def play(comparison: Comparison, room: int) -> Play:
    """Return the data of the first pair of a comparison.

    The arrays of the models and the test images have at most `room` bytes.
    """
    seeds = comparison.seeds
    which = f"These models are the pair with seed {seeds[0]}. " if len(seeds) > 1 else ""
    try:
        found = _playable(comparison, room)
    except NotPlayableError as error:
        found = Play(note=f"At least one of these models cannot run on a page: it {error}.")
    note = f"{which}{found.note}".strip()
    return replace(found, training=training(comparison.probed_runs), note=note)


def _playable(comparison: Comparison, room: int) -> Play:
    """Return the models of the first pair and the test images.

    Raises:
        NotPlayableError: If the page cannot run one of the models.
    """
    if not comparison.probed_runs:
        raise NotPlayableError("no longer exists")
    bn, plain = (read_layers(run.model_path) for run in comparison.probed_runs)
    data = comparison.first.data
    test = read_examples(comparison.path, data.name, data.digest)
    if size_of(bn, plain) + (test.images.nbytes if test else 0) <= room:
        return Play(Models(Model(bn), Model(plain)), _examples(test) if test else None)
    if test is None:
        raise NotPlayableError("is too large for a page without test images")
    later, without = record(bn, plain, test, room)
    start = later.layers[0]
    assert isinstance(start, Dense)
    note = SOME_UNITS if later.answers else RECORDED
    if _count_bn(bn) > _count_bn(later.layers):
        note += AHEAD
    note = note.format(start=start.name, count=start.inputs, units=start.units)
    kept = Split(test.images[: start.inputs], test.labels[: start.inputs])
    return Play(Models(later, without), _examples(kept), drawable=False, note=note)


def _count_bn(layers: Sequence[Layer]) -> int:
    return sum(isinstance(layer, BatchNormalization) for layer in layers)


def _examples(test: Split) -> Examples:
    return Examples(test.images.tobytes(), test.labels.tolist())
