"""`kerasbn export`."""

import json
from pathlib import Path

import click

from .options import code_options, inputs_option, json_option, labels_option, no_clip_option
from .output import echo


@click.command()
@click.argument("out", metavar="OUT.onnx", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="RUN|FILE",
    help="A run, a .keras or .h5 file, or a SavedModel folder.  [default: the newest run]",
)
@click.option("--no-fold", is_flag=True, help="Keep BN layers and scalings as they are.")
@no_clip_option
@click.option("--opset", default=18, show_default=True, help="ONNX opset version, 13 to 18.")
@code_options
@click.option("--probabilities", is_flag=True, help="Append a softmax to the output.")
@labels_option
@inputs_option
@json_option
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    out: Path,
    model: str | None,
    no_fold: bool,
    no_clip: bool,
    opset: int,
    probabilities: bool,
    labels: str | None,
    inputs: str | None,
    as_json: bool,
    custom: tuple[Path, ...],
    trust: bool,
) -> None:
    """Export a model as an ONNX file that needs no Keras, with its BN layers folded away.

    The file is checked with onnx, and with onnxruntime against the Keras model, before it is
    written under its name. Equal models give equal bytes.

    \b
    Example:
      kerasbn export model.onnx
      kerasbn export classifier.onnx --model classifier.keras --probabilities
      kerasbn export pets.onnx --model pets.keras --labels cat,dog --inputs photos/
    """
    from kerasbn.common.files import check_new_file
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.common.saved_models import allow_code
    from kerasbn.runs import find_model

    check_new_file(out, ".onnx")
    file = find_model(model)
    quiet_tensorflow(verbose)
    allow_code(custom, trust=trust)
    from kerasbn.inference.infer import parse_labels
    from kerasbn.onnx_export.export import export

    exported = export(
        file,
        out,
        fold=not no_fold,
        clip=not no_clip,
        opset=opset,
        probabilities=probabilities,
        labels=() if labels is None else parse_labels(labels),
        inputs=inputs,
    )
    echo(*([json.dumps(exported.as_dict())] if as_json else exported.lines()))
