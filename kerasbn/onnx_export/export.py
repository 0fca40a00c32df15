"""A Keras network to an ONNX file: fold, convert, canonical form, check, and only then a file."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from kerasbn.errors import CheckFailedError, InputError, expected, quoted
from kerasbn.files import atomic_write
from kerasbn.folding.fold import fold_with_plan
from kerasbn.folding.keras.randomize import random_inputs
from kerasbn.inference.checksum import KEY, PLACEHOLDER, with_checksum
from kerasbn.inference.metadata import Metadata, digest
from kerasbn.inference.onnx_graph import write_graph
from kerasbn.inference.parity import Difference, compare, with_softmax
from kerasbn.inference.remaining import KINDS, Residual, residuals
from kerasbn.inference.session import Session, what_it_says
from kerasbn.onnx_export.canonical import canonical
from kerasbn.onnx_export.convert import OPSET, convert, scaling_paths
from kerasbn.onnx_export.paths import check_path
from kerasbn.onnx_export.trace import all_layer_names
from kerasbn.runs import find_model, run_of
from kerasbn.saved_models import load_model

# Protocol buffers end here; ONNX has a form in several files for more, which this does not write.
_LARGEST_FILE = 2**31 - 1

DATASETS = ("mnist", "mnist-sample")
DIGIT_LABELS = tuple("0123456789")


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it answers.

    Attributes:
        path: the ONNX file.
        source: the Keras file it is from, if it is from one.
        plan: the fold plan as JSON data, a decision each; empty with ``fold=False``.
        operations: how many nodes of each kind the graph has.
        residuals: the normalizations and scalings left in it.
        difference: how far onnxruntime's answers are from the Keras network's.
        bytes: the size of the file.
    """

    path: Path
    source: Path | None
    plan: list[dict[str, Any]]
    operations: dict[str, int]
    residuals: tuple[Residual, ...]
    difference: Difference
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        paths = {"path": str(self.path), "source": str(self.source) if self.source else None}
        return asdict(self) | paths

    def summary(self) -> str:
        """All of it as a few lines to read."""
        nodes = ", ".join(f"{count} {kind}" for kind, count in self.operations.items())
        # What normalizes by the batch, or within a layer of one's own, is no step by constants.
        counts = Counter(residual.kind for residual in self.residuals)
        counts |= Counter(
            "normalization" if each["kind"] == "BN layer" else "scaling"
            for each in self.plan
            if each["decision"] == "keep"
        )
        left = [
            f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in KINDS if counts[kind]
        ]
        source = f" from {self.source}" if self.source else ""
        difference = self.difference
        return (
            f"{self.path}: {self.bytes:,} bytes{source}\n"
            f"  nodes: {nodes}\n"
            f"  left unfolded: {' and '.join(left) or 'nothing'}\n"
            f"  against Keras: largest difference {difference.absolute:.1e}, relative "
            f"{difference.relative:.1e}; {difference.changed} of {difference.decisions:,} "
            "decisions changed"
        )


def export_file(
    source: Path,
    path: Path | str,
    *,
    fold: bool = True,
    clip: bool = True,
    opset: int = OPSET,
    probabilities: bool = False,
) -> Exported:
    """Export the network in a .keras or .h5 file; a run's with all that its record says of it.

    Beside a run's network the plan is written too, as plan.json.

    Raises:
        InputError: as `export`, or if the file holds no network.
        CheckFailedError: as `export`.
    """
    model = load_model(source)
    run = run_of(source)
    data = asdict(run.record.data) if run else {}
    labels = DIGIT_LABELS if data.get("name") in DATASETS else ()
    exported = export(
        model,
        path,
        fold=fold,
        clip=clip,
        opset=opset,
        probabilities=probabilities,
        labels=labels,
        data=data,
        run=run.name if run else "",
    )
    if run and fold:
        with atomic_write(run.path / "plan.json") as temporary:
            temporary.write_text(json.dumps(exported.plan, indent=2) + "\n", encoding="utf-8")
    return replace(exported, source=source)


def export(
    model: keras.Model | Path | str | None,
    path: Path | str,
    *,
    fold: bool = True,
    clip: bool = True,
    opset: int = OPSET,
    probabilities: bool = False,
    labels: Sequence[str] = (),
    data: dict[str, Any] | None = None,
    run: str = "",
) -> Exported:
    """Write a Keras network as an ONNX file that answers as the network does at inference.

    The inputs and outputs have the Keras model's names, the batch axis is `batch` and free, nodes
    are named after their layers. The file is checked by onnx and by a run in onnxruntime against
    the Keras model before it takes its place. Equal networks give equal bytes.

    Args:
        model: a network with fixed inputs; or a run, or a .keras or .h5 file, None for the newest
            run: then `labels`, `data` and `run` are what its record says.
        path: the ONNX file, replaced if it exists.
        fold: whether normalizations and scalings are folded into the layers beside them.
        clip: whether, folding, a relu may become a clip between constants.
        opset: the version of ONNX's operations.
        probabilities: whether a softmax follows the one output.
        labels: the names of the classes, for the file's metadata.
        data: what it was trained on, for the metadata: a run's record has it as `data`.
        run: the name of the run it is from, for the metadata.

    Raises:
        InputError: if the network, or one of its layers, cannot be written as ONNX, or the file
            cannot be written.
        CheckFailedError: if the file would not answer as the network.
    """
    path = Path(path)
    check_path(path)
    if not isinstance(model, keras.Model):
        source = find_model(None if model is None else str(model))
        return export_file(
            source, path, fold=fold, clip=clip, opset=opset, probabilities=probabilities
        )
    _check_size(model, sum(prod(v.shape) * np.dtype(v.dtype).itemsize for v in model.variables))
    name = digest(model)
    folded, plan = (model, [])
    if fold:
        result = fold_with_plan(model, clip=clip)
        folded, plan = result.model, result.plan.to_json()
    network = with_softmax(folded) if probabilities else folded
    original = with_softmax(model) if probabilities else model
    graph = canonical(convert(network, opset), all_layer_names(network))
    proto = write_graph(graph, model.name)
    metadata = Metadata(
        digest=name,
        plan=plan,
        labels=tuple(labels),
        data=data or {},
        run=run,
        scalings=scaling_paths(network),
        probabilities=probabilities,
    )
    onnx.helper.set_model_props(proto, metadata.properties() | {KEY: PLACEHOLDER})
    _check_size(model, proto.ByteSize())
    with atomic_write(path) as temporary:
        temporary.write_bytes(with_checksum(proto.SerializeToString(deterministic=True)))
        difference = _check(temporary, original)
    return Exported(
        path,
        None,
        plan,
        operations(proto),
        residuals(graph, metadata.scalings),
        difference,
        path.stat().st_size,
    )


def _check_size(model: keras.Model, size: int) -> None:
    """Refuse what no ONNX file holds: by the weights before the work, by the file after it."""
    if size > _LARGEST_FILE:
        raise expected(
            f"model '{model.name}'", f"{size:,} bytes of weights", "less than 2 GiB",
            "ONNX files of one piece hold no more",
        )  # fmt: skip


def _check(path: Path, model: keras.Model) -> Difference:
    """How far the file's answers are from the model's, after onnx's own check."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:
        raise InputError(
            f"model '{model.name}': gives no valid ONNX file ({quoted(error)}); "
            "try the network in float32"
        ) from error
    try:
        session = Session(path)
    except InputError as error:
        reason = what_it_says(error.__cause__ or error)
        raise InputError(
            f"model '{model.name}': onnxruntime cannot compute it ({reason}); "
            "try the network in float32"
        ) from error
    inputs = [
        array.astype(tensor.dtype)
        for array, tensor in zip(random_inputs(model), model.inputs, strict=True)
    ]
    difference = compare(session, model, inputs)
    if not difference.is_close:
        raise CheckFailedError(
            f"model '{model.name}': as ONNX it would answer otherwise than in Keras, by "
            f"{difference.from_float64:.1e} of its largest output where {difference.allowed:.1e} "
            "is allowed; nothing was written. Try --no-fold, and report it"
        )
    return difference


def operations(proto: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each kind a graph has, in the order of their first."""
    counts: dict[str, int] = {}
    for node in proto.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
