"""`kerasbn fold`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import code_options, inputs_option, json_option, no_clip_option
from .output import echo


@click.command()
@click.argument("model", metavar="RUN|FILE")
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="File for the folded model.  [default: only print the plan]",
)
@click.option("--no-check", is_flag=True, help="Skip the comparison with the original model.")
@inputs_option
@code_options
@no_clip_option
@json_option
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    model: str,
    out: Path | None,
    no_check: bool,
    inputs: str | None,
    no_clip: bool,
    as_json: bool,
    custom: tuple[Path, ...],
    trust: bool,
) -> None:
    """Fold the BN layers of a model into their neighboring layers.

    Takes a .keras, .h5 or .onnx file, a SavedModel folder or a run. Prints for each BN layer and
    scaling where it was folded, or why it was kept. The folded model is compared with the original
    in float64; a fold that does not agree is undone. An ONNX file stays one, with the same inputs,
    outputs and opset.

    \b
    Example:
      kerasbn fold classifier.keras -o folded.keras
      kerasbn fold classifier.onnx -o folded.onnx --inputs photos/
    """
    from kerasbn.common.files import check_new_file

    if inputs is not None and no_check:
        raise click.UsageError("received --inputs and --no-check, expected one of the two")
    is_onnx = Path(model).suffix == ".onnx"
    if out is not None:
        check_new_file(out, ".onnx" if is_onnx else ".keras")
    if not is_onnx:
        from kerasbn.common.keras_internals import quiet_tensorflow
        from kerasbn.common.saved_models import allow_code
        from kerasbn.runs import find_model

        model = str(find_model(model))
        quiet_tensorflow(verbose)
        allow_code(custom, trust=trust)
    from kerasbn.inference.fold_file import fold_file

    plan, difference = fold_file(
        Path(model), out, inputs=inputs, check=not no_check, clip=not no_clip
    )
    if as_json:
        found: dict[str, Any] = {"out": out and str(out), "plan": plan.to_json()}
        found |= {"added_bytes": plan.added_bytes, "unrun": plan.unrun} if is_onnx else {}
        found |= {"difference": asdict(difference)} if difference else {}
        echo(json.dumps(found))
        return
    echo(*plan, plan.summary() + (f" Written to {out}." if out else ""))
    if difference:
        echo(difference.line("the original", given=True))
