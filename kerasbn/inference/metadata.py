"""What an exported file says of itself, in ONNX's `metadata_props`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import kerasbn

if TYPE_CHECKING:
    import keras

_PREFIX = "kerasbn."


@dataclass(frozen=True)
class Metadata:
    """Where a file comes from.

    Attributes:
        version: the version of kerasbn that wrote it.
        digest: the `digest` of the Keras network.
        plan: the fold plan as JSON data, a decision each; empty where nothing was folded.
        labels: the name of each class, empty if they have none.
        data: the digits it was trained and tested on, as a run's record has them: `name`, `digest`,
            the counts `train` and `test`, and a `note`; empty if unknown.
        run: the name of the run the network is from, or empty.
        scalings: the layers that are scalings, by which those left are told from normalizations.
        probabilities: whether a softmax was added to the network's output.
    """

    version: str = kerasbn.__version__
    digest: str = ""
    plan: Sequence[Mapping[str, Any]] = ()
    labels: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    scalings: tuple[str, ...] = ()
    probabilities: bool = False

    def properties(self) -> dict[str, str]:
        """As the strings a file holds, in a fixed order."""
        return {
            _PREFIX + key: value if isinstance(value, str) else _json(value)
            for key, value in sorted(asdict(self).items())
        }


def read_metadata(properties: Mapping[str, str]) -> Metadata | None:
    """The metadata in a file's properties; None for a file that kerasbn did not write."""
    found = {key: properties.get(_PREFIX + key) for key in Metadata.__dataclass_fields__}
    if not found["version"]:
        return None
    kinds = {"plan": list, "data": dict, "labels": list, "scalings": list, "probabilities": bool}
    values: dict[str, Any] = {key: _parsed(text or "", kinds[key]) if key in kinds else text or ""
              for key, text in found.items()}  # fmt: skip
    for key in ("labels", "scalings", "plan"):
        values[key] = tuple(values[key])
    return Metadata(**values)


def digest(model: "keras.Model") -> str:
    """SHA-256 of a network's configuration and weights, wherever it is saved."""
    import hashlib

    import keras
    import numpy as np

    sums = hashlib.sha256()
    configuration = keras.saving.serialize_keras_object(model)
    configuration.pop("compile_config", None)
    configuration.pop("build_config", None)
    sums.update(_json(configuration).encode())
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        sums.update(f"{weight.dtype}{value.shape}".encode())
        sums.update(value.tobytes())
    return sums.hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)


def _parsed(text: str, kind: type) -> Any:  # noqa: ANN401 - of the kind asked for
    """JSON of one kind, or an empty one: a damaged note about a file is no reason to refuse it."""
    try:
        value = json.loads(text)
    except ValueError:
        return kind()
    return value if isinstance(value, kind) else kind()
