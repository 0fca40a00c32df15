"""`kerasbn export`."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("out", metavar="OUT.onnx", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="RUN|FILE",
    help="A run, or a .keras or .h5 file.  [default: the newest run]",
)
@click.option("--no-fold", is_flag=True, help="Leave normalizations and scalings as they are.")
@click.option("--no-clip", is_flag=True, help="Leave out folds that turn a relu into a clip.")
@click.option(
    "--opset", default=18, show_default=True, help="The version of ONNX's operations, 13 to 18."
)
@click.option("--probabilities", is_flag=True, help="Let a softmax follow the output.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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
    as_json: bool,
) -> None:
    """Write a network as an ONNX file that needs no Keras, its normalizations folded away.

    The file is checked by onnx, and by a run in onnxruntime against the Keras network, before it
    takes its place. The same network always gives the same bytes.

    \b
    Example:
      kerasbn export model.onnx
      kerasbn export classifier.onnx --model classifier.keras --probabilities
    """
    from kerasbn.keras_internals import quiet_tensorflow
    from kerasbn.onnx_export.paths import check_path
    from kerasbn.runs import find_model

    check_path(out)
    file = find_model(model)
    quiet_tensorflow(verbose)
    from kerasbn.onnx_export.export import export_file

    exported = export_file(
        file,
        out,
        fold=not no_fold,
        clip=not no_clip,
        opset=opset,
        probabilities=probabilities,
    )
    click.echo(json.dumps(exported.as_dict()) if as_json else exported.summary())
