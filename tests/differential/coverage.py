"""What a long run has to have tried: every layer in every direction, and every reason."""

from collections import Counter
from collections.abc import Iterator

from kerasbn.folding.keras.activations import _CLIPS
from kerasbn.folding.keras.affine_layers import AFFINE_LAYERS
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS
from kerasbn.folding.keras.pass_through_layers import PASS_THROUGH_LAYERS

from .layers import L
from .reasons import HIDDEN, REASONS
from .refusals import WAYS, name_of

Key = tuple[str, ...]


def expected() -> Iterator[Key]:
    """Everything that folding can do, as the tables of the package say."""
    for kind, law in LINEAR_LAYERS.items():
        yield from (("linear", name_of(kind), WAYS[side]) for side in law.sides)
    for kind in PASS_THROUGH_LAYERS:
        yield from (("pass-through", name_of(kind), way) for way in WAYS.values())
    for kind in AFFINE_LAYERS:
        yield from (("affine", kind.__name__, way) for way in (*WAYS.values(), "merge"))
    for kind in (L.BatchNormalization, L.Rescaling):  # a Normalization takes no map
        yield ("affine", kind.__name__, "both")
        yield from (("merged into", kind.__name__, way) for way in WAYS.values())
    yield from (("clip", name_of(key)) for key, _ in _CLIPS)
    yield from (("reason", reason.pattern) for reason in [*REASONS, *HIDDEN])


def missing(counts: Counter[Key]) -> list[Key]:
    """What did not occur."""
    return [key for key in expected() if not counts[key]]
