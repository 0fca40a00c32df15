"""`kerasbn compare`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .options import (
    dataset_options,
    load_training_data,
    model_settings,
    run_options,
    settings_options,
    training_settings,
)

if TYPE_CHECKING:
    from kerasbn.experiments.comparison import Comparison


@click.command()
@click.option(
    "--seeds",
    type=int,
    metavar="N",
    help="Train N pairs with consecutive seeds, and report means and a confidence interval.",
)
@settings_options
@dataset_options
@run_options
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    seeds: int | None,
    dataset: str,
    data_dir: str | None,
    device: str,
    run: str | None,
    force: bool,
    tensorboard: bool,
    probe: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - the fields of the settings, as click parsed them
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
    from kerasbn.runs import check_name, check_pair_names
    from kerasbn.training.settings import MODEL_SETTINGS, seed_settings

    model, training = model_settings(settings), training_settings(settings)
    if seeds is None:
        check_pair_names(run, force=force)
    else:
        seed_settings(training, seeds)
        if run is not None:
            check_name(run, force=force)
    data = load_training_data(dataset, data_dir, [model], training, quiet=quiet, verbose=verbose)
    from kerasbn.experiments.compare import compare

    result = compare(
        data,
        seeds=seeds,
        run=run,
        force=force,
        probe=probe,
        tensorboard=tensorboard,
        device=device,
        quiet=quiet,
        **{name: getattr(model, name) for name in MODEL_SETTINGS if name != "bn"},
        **asdict(training),
    )
    _show(result, as_json)


def _show(result: "Comparison", as_json: bool) -> None:
    from kerasbn.common.records import to_plain
    from kerasbn.experiments.comparison import PICTURE
    from kerasbn.probes.results import print_findings

    findings = result.findings()
    if as_json:
        record = {"folder": str(result.path), **to_plain(result.record())}
        click.echo(json.dumps(record | ({"findings": to_plain(findings)} if findings else {})))
    result.check_ending()
    if as_json:
        return
    click.echo(result.summary())
    if method := result.method():
        click.echo(method)
    assert result.path is not None
    folders = [member.run.path for member in result.members if member.run]
    if len(result.seeds) == 1:
        click.echo(f"runs: {', '.join(map(str, folders))}")
    click.echo(f"curves: {result.path / PICTURE}")
    if findings and len(result.seeds) > 1:
        click.echo(f"Probes of the pair with seed {result.seeds[0]}:")
    print_findings(findings)
