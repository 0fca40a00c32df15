"""`kerasbn fold`."""

import json
from pathlib import Path

import click

from .options import json_option, no_clip_option
from .output import echo


@click.command()
@click.argument("model", metavar="RUN|FILE.keras")
@click.option(
    "-o",
    "--out",
    metavar="OUT.keras",
    type=click.Path(path_type=Path),
    help="File for the folded model.  [default: only print the plan]",
)
@click.option("--no-check", is_flag=True, help="Skip the comparison with the original model.")
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
) -> None:
    """Fold the BN layers of a model into their neighboring layers.

    Prints for each BN layer and scaling where it was folded, or why it was kept. The folded model
    is compared with the original in float64; a fold that does not agree is undone.

    \b
    Example:
      kerasbn fold classifier.keras -o folded.keras
    """
    from kerasbn.common.files import check_new_file
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.common.saved_models import load_model, save_model
    from kerasbn.runs import find_model

    if out is not None:
        check_new_file(out, ".keras")
    file = find_model(model)
    quiet_tensorflow(verbose)
    from kerasbn.folding.fold import fold_with_plan

    folded = fold_with_plan(load_model(file), check=not no_check, clip=not no_clip)
    if out is not None:
        save_model(folded.model, out)
    if as_json:
        echo(json.dumps({"out": out and str(out), "plan": folded.plan.to_json()}))
        return
    echo(*folded.plan, folded.plan.summary() + (f" Written to {out}." if out else ""))
