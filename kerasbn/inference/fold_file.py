"""Fold a model file, and compare the result with the original on samples of the user."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kerasbn.folding.agreement import Agreement, first_batch
from kerasbn.folding.plan import Plan
from kerasbn.inference.metadata import MNIST_DATASETS, read_metadata
from kerasbn.inference.samples import Given, given_samples, samples_for_model
from kerasbn.inference.session import Port
from kerasbn.runs import run_of

if TYPE_CHECKING:
    import onnx_ir as ir


class FoldedFile(NamedTuple):
    """The plan that was carried out, and how the predictions differ on given samples, if any."""

    plan: Plan
    difference: Agreement | None


def fold_file(
    model: Path, out: Path | None, *, inputs: Given | None, check: bool, clip: bool
) -> FoldedFile:
    """Fold the model in a Keras or ONNX file, and write the result to `out`, if there is one.

    Of the samples in `inputs`, one batch is part of the self-check.

    Raises:
        InputError: If the model or the samples cannot be read, or the result cannot be written.
        CheckFailedError: If even a copy without any fold predicts something else.
    """
    fold = _fold_onnx if model.suffix == ".onnx" else _fold_keras
    return fold(model, out, inputs, check=check, clip=clip)


def _fold_onnx(
    path: Path, out: Path | None, inputs: Given | None, *, check: bool, clip: bool
) -> FoldedFile:
    from kerasbn.folding.onnx.files import load_model, save_model
    from kerasbn.folding.onnx.fold import compare, fold_model

    model, samples, first = load_model(path), None, None
    if inputs is not None:
        metadata = read_metadata(model.metadata_props)
        digits = metadata is not None and metadata.is_for_mnist
        ports = _ports(model)
        samples = given_samples(inputs, ports, digits=digits)
        first = first_batch(samples, ports[0].shape[0])
    folded = fold_model(model, check=check, clip=clip, inputs=first)
    if out is not None:
        save_model(folded.model, out, model)
    return FoldedFile(folded.plan, compare(model, folded.model, samples) if samples else None)


def _fold_keras(
    path: Path, out: Path | None, inputs: Given | None, *, check: bool, clip: bool
) -> FoldedFile:
    from kerasbn.common.saved_models import load_model, save_model
    from kerasbn.folding.keras.fold import compare, fold_with_plan
    from kerasbn.folding.keras.graph import require_graph

    model, samples, first = load_model(path), None, None
    if inputs is not None:
        require_graph(model)
        run = run_of(path)
        digits = run is not None and run.record.data.name in MNIST_DATASETS
        names = [tensor.name for tensor in model.inputs]
        samples = samples_for_model(model, names, inputs, digits=digits)
        first = first_batch(samples, model.inputs[0].shape[0])
    folded = fold_with_plan(model, check=check, clip=clip, inputs=first)
    if out is not None:
        save_model(folded.model, out)
    return FoldedFile(folded.plan, compare(model, folded.model, samples) if samples else None)


def _ports(model: "ir.Model") -> list[Port]:
    """Return the inputs of an ONNX model."""
    from kerasbn.folding.onnx.nodes import named_axes, plain

    values = [value for value in model.graph.inputs if not value.is_initializer()]
    return [
        Port(str(v.name), v.dtype and v.dtype.numpy(), plain(named_axes(v.shape))) for v in values
    ]
