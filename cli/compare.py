"""`kerasbn compare`."""

import json
from typing import Any

import click

from .options import training_arguments, training_options
from .output import echo


@click.command()
@click.option(
    "--seeds",
    type=int,
    metavar="N",
    help="Train N pairs with consecutive seeds, and report means and a confidence interval.",
)
@training_options
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    seeds: int | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - as click parsed them
) -> None:
    """Train the same model with and without BN on the same batches, and compare them.

    Creates the runs bn and plain, and saved_models/compare with their curves (compare.png) and all
    metrics (compare.json, compare.csv). With --run NAME they are called NAME-bn, NAME-plain and
    NAME-compare.

    With --seeds N, one folder, compare or NAME, holds the statistics of N pairs, their curves with
    error bands, and all their runs.

    \b
    Example:
      kerasbn compare
      kerasbn compare --seeds 8
      kerasbn compare --lr 0.1 --activation sigmoid --hidden 64,64,64
    """
    from kerasbn.runs import check_comparison_name
    from kerasbn.training.settings import TrainingSettings, seed_settings

    if seeds is not None:
        seed_settings(TrainingSettings(seed=options["seed"]), seeds)
    check_comparison_name(options["run"], several=seeds is not None, force=options["force"])
    arguments = training_arguments(options, verbose=verbose)
    arguments.pop("bn", None)  # both are trained
    from kerasbn.common.records import to_plain
    from kerasbn.experiments.compare import compare
    from kerasbn.experiments.comparison import PICTURE
    from kerasbn.probes.results import print_findings

    result = compare(seeds=seeds, **arguments)
    findings = result.findings()
    if as_json:
        record = {"folder": str(result.path), **to_plain(result.record())}
        echo(json.dumps(record | ({"findings": to_plain(findings)} if findings else {})))
    result.check_ending()
    if as_json:
        return
    echo(result.summary())
    if method := result.method():
        echo(method)
    assert result.path is not None
    if len(result.seeds) == 1:
        echo(f"runs: {', '.join(str(run.path) for run in result.probed_runs)}")
    echo(f"curves: {result.path / PICTURE}")
    if findings and len(result.seeds) > 1:
        echo(f"Probes of the pair with seed {result.seeds[0]}:")
    print_findings(findings)
