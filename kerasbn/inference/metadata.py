"""What an exported file records about itself: its `metadata_props` and its checksum.

The checksum is stored in the metadata together with the size of the file. A file of another size
was rewritten by another tool, such as an optimizer, and is not checked.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn.common.errors import expected
from kerasbn.common.records import own_version

if TYPE_CHECKING:
    import keras

MNIST_DATASETS = ("mnist", "mnist-sample")
_PREFIX = "kerasbn."
# The properties that are JSON, with their types; all others are plain text.
_TYPES = {
    "plan": list, "data": dict, "labels": list, "bn_layers": list, "probabilities": bool,
    "added_bytes": int,
}  # fmt: skip

_LARGEST_GRAPH = 2**26  # bytes of a file whose weights are in another one
CHECKSUM = "kerasbn.checksum"
_SIZE_DIGITS, _SUM_DIGITS = 12, 64
PLACEHOLDER = "0" * _SIZE_DIGITS + " " + "0" * _SUM_DIGITS


@dataclass(frozen=True)
class Metadata:
    """Origin of an exported file.

    Attributes:
        version: The version of kerasbn that wrote the file.
        digest: The `digest` of the Keras model.
        plan: The fold plan as JSON data, one decision per entry; empty if nothing was folded.
        labels: The class names; empty if the classes have none.
        data: The dataset of the training, as in the run's record: `name`, `digest`, the counts
            `train` and `test`, and a `note`; empty if unknown.
        run: The name of the run, or "".
        bn_layers: The names of the model's BN layers, folded or not; None if unknown.
        probabilities: Whether export added a softmax to the output.
        added_bytes: The size of the weights that the file has several times, because nodes that
            shared them need different ones.
    """

    version: str = field(default_factory=own_version)
    digest: str = ""
    plan: Sequence[Mapping[str, Any]] = ()
    labels: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    bn_layers: tuple[str, ...] | None = None
    probabilities: bool = False
    added_bytes: int = 0

    @property
    def is_for_mnist(self) -> bool:
        """Whether the model was trained on MNIST, so that images are converted to its format."""
        return self.data.get("name") in MNIST_DATASETS

    def properties(self) -> dict[str, str]:
        """Return the metadata as strings, in a fixed order; `added_bytes` only where there are."""
        return {
            _PREFIX + key: value if isinstance(value, str) else _json(value)
            for key, value in sorted(asdict(self).items())
            if key != "added_bytes" or value
        }


def read_metadata(properties: Mapping[str, str]) -> Metadata | None:
    """Return the metadata in a file's properties, or None if kerasbn did not write the file.

    A damaged property is ignored: the model can be used without it. This reads JSON itself, since
    the schemas of `kerasbn.common.records` would add 30 ms to each start of ``kerasbn infer``.
    """
    if not properties.get(f"{_PREFIX}version"):
        return None
    found: dict[str, Any] = {}
    for name in Metadata.__dataclass_fields__:
        kind = _TYPES.get(name, str)
        with suppress(KeyError, ValueError, RecursionError):
            text = properties[_PREFIX + name]
            value = text if kind is str else json.loads(text)
            if isinstance(value, kind):
                found[name] = tuple(value) if isinstance(value, list) else value
    return Metadata(**found)


def digest(model: "keras.Model") -> str:
    """Return the SHA-256 of a model's configuration and weights, independent of its file."""
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


def with_checksum(content: bytes, data: Path | None = None) -> bytes:
    """Return a file's content with the checksum in place of its one `PLACEHOLDER`.

    The checksum is that of the content, followed by that of the file of its weights, if any.
    """
    sums = hashlib.sha256(content)
    _add(sums, [data] if data else [])
    checksum = f"{len(content):0{_SIZE_DIGITS}} {sums.hexdigest()}"
    return content.replace(PLACEHOLDER.encode(), checksum.encode())


def is_altered(path: Path) -> bool | None:
    """Return whether a file changed since export, or None if it has no checksum for its size."""
    content = path.read_bytes()
    position = content.rfind(CHECKSUM.encode())
    # Protocol buffers put two bytes between the key and its value.
    start = position + len(CHECKSUM) + 2
    end = start + len(PLACEHOLDER)
    recorded = content[start:end]
    if position < 0 or not recorded.startswith(f"{len(content):0{_SIZE_DIGITS}} ".encode()):
        return None
    sums = hashlib.sha256()
    for part in (memoryview(content)[:start], PLACEHOLDER.encode(), memoryview(content)[end:]):
        sums.update(part)
    _add(sums, data_files(path))
    return recorded[_SIZE_DIGITS + 1 :] != sums.hexdigest().encode()


def data_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its weights, none if it cannot be read."""
    # Tensors name their files under the key `location`; without it, onnx need not be loaded.
    if path.stat().st_size > _LARGEST_GRAPH or b"location" not in path.read_bytes():
        return []
    import onnx

    names: set[str] = set()
    with suppress(Exception):  # a damaged file makes onnx raise many types
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            names |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    files = [path.resolve().parent / name for name in sorted(names) if Path(name).name == name]
    return [file for file in files if file.is_file()]


def _add(sums: "hashlib._Hash", files: Sequence[Path]) -> None:
    """Add the content of files to a checksum."""
    for file in files:
        with file.open("rb") as opened:
            while part := opened.read(1 << 20):
                sums.update(part)


def check_intact(path: Path) -> None:
    """Raise `InputError` if a file changed since export."""
    if path.is_file() and is_altered(path):
        raise expected(
            path, "a file that was altered or damaged (its checksum does not match)",
            "an ONNX model as exported", "export or copy it again",
        )  # fmt: skip


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)
