"""`kerasbn train`."""

import json
from typing import Any

import click

from .options import (
    bn_options,
    dataset_options,
    load_training_data,
    model_settings,
    run_options,
    settings_options,
    training_settings,
)


@click.command()
@bn_options
@settings_options
@dataset_options
@run_options
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
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
    """Train a network, with or without batch normalization, and keep the run.

    A run is the folder saved_models/NAME: the network as model.keras, its curves as a picture, its
    history as a table and everything about the training as run.json.

    \b
    Example:
      kerasbn train --bn
      kerasbn train --no-bn --lr 0.001 --epochs 3 --run slow
    """
    from kerasbn.runs import check_name

    network, training = model_settings(settings), training_settings(settings)
    if run is not None:
        check_name(run, force=force)
    digits = load_training_data(
        dataset, data_dir, [network], training, quiet=quiet, verbose=verbose
    )
    from kerasbn.experiments.curves import check_ending, summary
    from kerasbn.experiments.train import member, train
    from kerasbn.probes.results import findings_of, print_findings
    from kerasbn.records import to_plain

    (kept,) = train(
        [member(network, run, probe=probe)],
        digits,
        training,
        device=device,
        force=force,
        tensorboard=tensorboard,
        quiet=quiet,
    )
    findings = findings_of([kept])
    if as_json:
        told = {"findings": to_plain(findings)} if probe else {}
        click.echo(json.dumps({"run": str(kept.path), **to_plain(kept.record), **told}))
    else:
        if kept.status == "finished":
            click.echo(summary(kept))
        print_findings(findings)
    check_ending(kept)
