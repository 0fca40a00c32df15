"""What Keras layers keep beside their variables, and so is lost where only these are copied."""

from typing import Any

import keras

# What these learned is in none of their variables.
VOCABULARIES = (
    keras.layers.StringLookup,
    keras.layers.IntegerLookup,
    keras.layers.TextVectorization,
)


def complete(new: Any, old: Any) -> None:  # noqa: ANN401 - Keras ships no types
    """Bring a layer that has the variables of `old`, of the same class, to do as `old` does."""
    if isinstance(new, keras.layers.Normalization):
        new.finalize_state()  # it keeps its variables in a second form
    if isinstance(new, VOCABULARIES):
        new.set_vocabulary(old.get_vocabulary(include_special_tokens=False))
