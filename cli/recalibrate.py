"""`kerasbn recalibrate`."""

import json
from pathlib import Path
from typing import Any

import click

from .options import (
    code_options,
    dataset_options,
    force_option,
    json_option,
    offset_option,
    scale_option,
)
from .output import echo


@click.command()
@click.argument("model", metavar="RUN|FILE.keras")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE.npz",
    help="Training data: a folder of images, with one subfolder per class if they are labeled, or "
    "arrays.  [default: the dataset]",
)
@scale_option
@offset_option
@click.option(
    "--variance",
    type=click.Choice(["unbiased", "plain"]),
    default="unbiased",
    show_default=True,
    help="unbiased: with the factor m/(m-1), as in Ioffe and Szegedy (2015); plain: without.",
)
@click.option(
    "-o",
    "--out",
    metavar="OUT.keras",
    type=click.Path(path_type=Path),
    help="Output file.  [default: a new run, or FILE-recalibrated.keras]",
)
@code_options
@force_option
@dataset_options
@json_option
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    model: str,
    variance: str,
    as_json: bool,
    custom: tuple[Path, ...],
    trust: bool,
    **options: Any,  # noqa: ANN401 - as click parsed them
) -> None:
    """Recompute a model's BN statistics over the full training set.

    Each BN layer, in the order of the graph, gets the mean and variance of its inputs; weights stay
    as they are. This helps if the momentum was too high for the number of steps, or the data has
    changed. A run is recalibrated on the dataset it was trained on, unless another is named, and
    becomes a new run; a file becomes a new file. Prints how far the statistics were off and, if
    there are labels, the accuracy before and after: on the test set of a dataset, otherwise on the
    data itself.

    \b
    Example:
      kerasbn recalibrate bn
      kerasbn recalibrate classifier.keras --data photos/ --scale 0.00392157 -o better.keras
    """
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.common.saved_models import allow_code
    from kerasbn.experiments.recalibrate import recalibrate_saved

    if custom or trust:  # otherwise, wrong input is reported before TensorFlow loads
        quiet_tensorflow(verbose)
        allow_code(custom, trust=trust)
    unbiased = variance == "unbiased"
    result, written = recalibrate_saved(model, unbiased=unbiased, verbose=verbose, **options)
    if as_json:
        echo(json.dumps({"written": str(written), **result.record()}))
        return
    echo(*result.lines(), f"written: {written}")
