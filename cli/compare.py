"""`kerasbn compare`."""

import json
from typing import Any

import click

from .options import (
    dataset_options,
    load_training_data,
    model_settings,
    run_options,
    settings_options,
    training_settings,
)


@click.command()
@click.option(
    "--seeds",
    type=int,
    metavar="N",
    help="Train N pairs, with the seeds from --seed on, and give means and an interval.",
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
    """Train the same network with and without batch normalization, on the same batches.

    Keeps two runs, bn and plain, and saved_models/compare with the curves of both as compare.png
    and all figures as compare.json. With --run NAME they are NAME-bn, NAME-plain, NAME-compare.

    With --seeds N there is one folder, compare or NAME, with the statistics of N pairs, their
    picture with error bars, and a run of every network.

    \b
    Example:
      kerasbn compare
      kerasbn compare --seeds 8
      kerasbn compare --lr 0.1 --activation sigmoid --hidden 64,64,64
    """
    from kerasbn.runs import check_name, check_pair_names
    from kerasbn.training.settings import seed_settings

    network, training = model_settings(settings), training_settings(settings)
    if seeds is None:
        check_pair_names(run, force=force)
    else:
        seed_settings(training, seeds)
        if run is not None:
            check_name(run, force=force)
    digits = load_training_data(
        dataset, data_dir, [network], training, quiet=quiet, verbose=verbose
    )
    from kerasbn.experiments import compare as pair
    from kerasbn.experiments import ensemble

    kept: dict[str, Any] = {
        "device": device,
        "name": run,
        "force": force,
        "tensorboard": tensorboard,
        "quiet": quiet,
        "probe": probe,
    }
    if seeds is None:
        _show(pair, pair.compare(network, digits, training, **kept), as_json)
    else:
        _show(ensemble, ensemble.compare_seeds(network, digits, training, seeds, **kept), as_json)


def _show(kind: Any, result: Any, as_json: bool) -> None:  # noqa: ANN401 - one pair or many seeds
    """Print what was found; `kind` is the module that made it."""
    if as_json:
        found = result.findings()
        told = {"findings": found} if found else {}
        click.echo(json.dumps({"folder": str(result.path), **kind.record_of(result), **told}))
    kind.check_ending(result)
    if not as_json:
        click.echo(result.summary())
        click.echo(f"curves: {result.path / 'compare.png'}")
        for line in result.findings():
            click.echo(line)
