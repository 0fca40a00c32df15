"""`kerasbn fold`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import code_options, json_option, no_clip_option
from .output import echo

if TYPE_CHECKING:
    from kerasbn.folding.plan import Plan


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
      kerasbn fold classifier.onnx -o folded.onnx
    """
    from kerasbn.common.files import check_new_file

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
    plan = (_fold_onnx if is_onnx else _fold_keras)(
        model, out, check=not no_check, clip=not no_clip
    )
    if as_json:
        added = {"added_bytes": plan.added_bytes} if is_onnx else {}
        echo(json.dumps({"out": out and str(out), "plan": plan.to_json(), **added}))
        return
    echo(*plan, plan.summary() + (f" Written to {out}." if out else ""))


def _fold_onnx(model: str, out: Path | None, *, check: bool, clip: bool) -> "Plan":
    from kerasbn.folding.onnx.files import load_model, save_model
    from kerasbn.folding.onnx.fold import fold_model

    original = load_model(model)
    folded = fold_model(original, check=check, clip=clip)
    if out is not None:
        save_model(folded.model, out, original)
    return folded.plan


def _fold_keras(model: str, out: Path | None, *, check: bool, clip: bool) -> "Plan":
    from kerasbn.common.saved_models import load_model, save_model
    from kerasbn.folding.keras.fold import fold_with_plan

    folded = fold_with_plan(load_model(model), check=check, clip=clip)
    if out is not None:
        save_model(folded.model, out)
    return folded.plan
