"""Export a Keras model as an ONNX file: fold, convert, fold what is left, check, then write."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import onnx
import onnx_ir as ir

from kerasbn.common.errors import ArgumentError, CheckFailedError, InputError, quoted
from kerasbn.common.files import check_new_file
from kerasbn.common.keras_internals import all_layers
from kerasbn.common.records import write_json
from kerasbn.common.saved_models import load_model
from kerasbn.folding.carry_out import Folded
from kerasbn.folding.keras.fold import fold_with_plan
from kerasbn.folding.keras.graph import require_graph
from kerasbn.folding.keras.randomize import random_inputs
from kerasbn.folding.keras.rewrite import as_functional, rewrite
from kerasbn.folding.onnx.files import written
from kerasbn.folding.plan import Plan
from kerasbn.inference.classifier import other_count
from kerasbn.inference.metadata import (
    CHECKSUM,
    PLACEHOLDER,
    Metadata,
    data_files,
    digest,
    with_checksum,
)
from kerasbn.inference.parity import Parity, measure_parity, with_softmax
from kerasbn.inference.remaining import remaining_nodes, report_remaining
from kerasbn.inference.samples import Given, samples_for_model
from kerasbn.inference.session import Session, runtime_message
from kerasbn.onnx_export.canonical import canonicalize
from kerasbn.onnx_export.convert import OPSET, OPSETS, check_layers, convert, named_ports
from kerasbn.onnx_export.fold import fold_nodes
from kerasbn.onnx_export.linear import Array
from kerasbn.onnx_export.passes import simplify
from kerasbn.runs import find_model, run_of


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        path: The ONNX file.
        source: The Keras file that was exported; None for a model in memory.
        plan: The fold plan as JSON data: a decision for each layer, and for each node of other
            arithmetic that was folded; empty with ``fold=False``.
        operations: The number of nodes of each operation in the file.
        remaining: The BN layers that are still steps of their own in the file, by their nodes.
        difference: How far the predictions of the file are from those of the Keras model.
        bytes: The size of the file, and of the file of its weights if there is one.
        added_bytes: The size of the weights that the file has several times, because nodes that
            shared them need different ones.
        given: Whether `difference` was measured on given samples, not on random ones.
    """

    path: Path
    source: Path | None
    plan: list[dict[str, Any]]
    operations: dict[str, int]
    remaining: tuple[str, ...]
    difference: Parity
    bytes: int
    added_bytes: int
    given: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        source = str(self.source) if self.source else None
        return asdict(self) | {"path": str(self.path), "source": source}

    def lines(self) -> list[str]:
        """Return the result as lines."""
        source = f" from {self.source}" if self.source else ""
        nodes = ", ".join(f"{count} {kind}" for kind, count in self.operations.items())
        plan = Plan.from_json(self.plan, self.added_bytes)
        return [
            f"{self.path}: {self.bytes:,} bytes{source}",
            f"  nodes: {nodes}",
            *(f"  {line}" for line in report_remaining(self.remaining, plan)),
            f"  {self.difference.line('Keras', given=self.given)}",
        ]

    def __repr__(self) -> str:
        return "\n".join(self.lines())


def export(
    model: keras.Model | Path | str | None,
    path: Path | str,
    *,
    fold: bool = True,
    clip: bool = True,
    opset: int = OPSET,
    probabilities: bool = False,
    labels: Sequence[str] = (),
    inputs: Given | None = None,
    data: dict[str, Any] | None = None,
    run: str = "",
) -> Exported:
    """Write a Keras model as an ONNX file that makes the same predictions.

    Inputs and outputs have the names of the Keras model's, the batch axis is called `batch` and is
    free, and nodes are named after their layers. onnx checks the file, and onnxruntime runs it
    against the Keras model, before it is written under its name. Equal models give equal bytes. The
    model itself stays as it is.

    Args:
        model: A model with fixed inputs; or the name of a run, a .keras or an .h5 file, or None
            for the newest run. For a run, `data`, `run` and by default `labels` come from its
            record, and the plan is also written as plan.json beside it.
        path: The ONNX file. An existing file is replaced. The weights of a model of more than 2 GB
            are written to a file beside it, which is called like it and ``.data``.
        fold: Whether to fold BN layers and scalings into their neighboring layers.
        clip: Whether folding may turn a ReLU into a clip between constants.
        opset: The version of the ONNX operations, 13 to 18.
        probabilities: Whether to append a softmax to the single output.
        labels: The names of the classes, for the file's metadata.
        inputs: Samples to check the predictions on, as `kerasbn.verify` takes them. By default
            random ones.
        data: The training data, for the metadata, as the `data` of a run's record.
        run: The name of the run that the model is from, for the metadata.

    Returns:
        What was written: nodes, remaining BN layers, and the difference from Keras.

    Raises:
        InputError: If an argument cannot be used, the model or one of its layers cannot be written
            as ONNX, or the file cannot be written.
        CheckFailedError: If the file would make other predictions than the model.

    Examples:
        >>> import keras, kerasbn
        >>> model = keras.Sequential([
        ...     keras.Input((4,)),
        ...     keras.layers.Dense(3),
        ...     keras.layers.BatchNormalization(),
        ... ])
        >>> exported = kerasbn.export(model, "model.onnx")
        >>> exported.operations
        {'Gemm': 1}
    """
    _check_arguments(model, path, opset, labels, fold=fold, clip=clip, probabilities=probabilities)
    path = Path(path)
    check_new_file(path, ".onnx")
    given: keras.Model = model
    source = origin = None
    if not isinstance(model, keras.Model):
        source = find_model(None if model is None else str(model))
        origin = run_of(source)
        data, run = (asdict(origin.record.data), origin.name) if origin else ({}, "")
        given = load_model(source)
    original = as_functional(given)
    require_graph(original)
    check_layers(original)
    if wanted := other_count(labels, original.outputs[0].shape):
        found = f"{len(labels)} labels"
        raise ArgumentError("labels", labels, f"{wanted}, one per class", received=found)
    kind = keras.layers.BatchNormalization
    bn_layers = sorted({layer.name for layer in all_layers(original) if isinstance(layer, kind)})
    metadata = Metadata(
        digest=digest(given), labels=tuple(labels), data=data or {}, run=run,
        bn_layers=tuple(bn_layers), probabilities=probabilities,
    )  # fmt: skip
    if metadata.is_for_mnist and not labels:
        metadata = replace(metadata, labels=tuple("0123456789"))
    random = random_inputs(original)
    names, chosen = named_ports(original, "input", set()), random if inputs is None else inputs
    samples = samples_for_model(original, names, chosen, digits=metadata.is_for_mnist)
    # A softmax is appended to copies, since it would add a node to the model's graph.
    judge = with_softmax(rewrite(original, Plan())) if probabilities else original

    graph, plan = _graph_and_plan(
        original, random, fold=fold, clip=clip, opset=opset, probabilities=probabilities
    )
    decisions = plan.to_json()
    metadata = replace(metadata, plan=decisions, added_bytes=plan.added_bytes)
    graph.metadata_props.update(metadata.properties() | {CHECKSUM: PLACEHOLDER})
    with written(graph, path, seal=with_checksum) as temporary:
        difference = _check(temporary, judge, samples)
    if origin and fold:
        write_json(origin.path / "plan.json", decisions)
    return Exported(
        path, source, decisions,
        operations=dict(Counter(node.op_type for node in graph.graph)),
        remaining=remaining_nodes(graph, bn_layers),
        difference=difference,
        bytes=sum(file.stat().st_size for file in [path, *data_files(path)]),
        added_bytes=plan.added_bytes,
        given=inputs is not None,
    )  # fmt: skip


def _graph_and_plan(
    model: keras.Model,
    random: list[Array],
    *,
    fold: bool,
    clip: bool,
    opset: int,
    probabilities: bool,
) -> tuple[ir.Model, Plan]:
    """Return a model as an ONNX graph in canonical form, folded before and after conversion."""
    clone, plan = (
        fold_with_plan(model, clip=clip) if fold else Folded(rewrite(model, Plan()), Plan())
    )
    graph = convert(with_softmax(clone) if probabilities else clone, opset)
    simplify(graph)
    if fold:
        graph, plan = fold_nodes(graph, plan, random, clip=clip)
    canonicalize(graph)
    graph.graph.name = model.name
    return graph, plan


def _check_arguments(
    model: object, path: object, opset: object, labels: object, **flags: object
) -> None:
    """Raise `ArgumentError` for a wrong type or an unknown choice."""
    if not isinstance(model, keras.Model | Path | str | None):
        wanted = "a Keras model, the name of a run, or a .keras or .h5 file"
        raise ArgumentError("model", model, wanted, received=f"a {type(model).__name__}")
    if not isinstance(path, Path | str):
        raise ArgumentError("path", path, "a path ending in .onnx")
    if isinstance(opset, bool) or not isinstance(opset, int) or opset not in OPSETS:
        raise ArgumentError("opset", opset, f"{OPSETS[0]} to {OPSETS[-1]}")
    if not isinstance(labels, list | tuple) or not all(isinstance(each, str) for each in labels):
        raise ArgumentError("labels", labels, "a list of class names")
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ArgumentError(name, value, "True or False")


def _check(path: Path, model: keras.Model, inputs: list[Array]) -> Parity:
    """Check a file with onnx, and return how far its predictions are from the model's."""
    try:
        onnx.checker.check_model(path, full_check=True)
        session = Session(path)
    except Exception as error:
        problem = f"gives no valid ONNX file ({quoted(error)})"
        if isinstance(error, InputError):  # of the session
            problem = f"onnxruntime cannot compute it ({runtime_message(error.__cause__ or error)})"
        raise InputError(f"model '{model.name}': {problem}; try the model in float32") from error
    difference = measure_parity(session, model, inputs)
    if not difference.is_close:
        raise CheckFailedError(
            f"model '{model.name}': as ONNX it would make other predictions than in Keras, off by "
            f"{difference.from_float64:.1e} of its largest output where {difference.allowed:.1e} "
            "is allowed; nothing was written. Try --no-fold, and report it"
        )
    return difference
