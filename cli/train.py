"""`kerasbn train`."""

import json
from dataclasses import asdict
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
    """Train a model with or without BN, and save the run.

    A run is the folder saved_models/NAME. It holds the model (model.keras), the history (a table
    and a plot of the curves) and a record of the settings, dataset and library versions (run.json).
    Ctrl-C keeps the epochs so far.

    \b
    Example:
      kerasbn train --bn
      kerasbn train --no-bn --lr 0.001 --epochs 3 --run slow
    """
    from kerasbn.runs import check_name

    model, training = model_settings(settings), training_settings(settings)
    if run is not None:
        check_name(run, force=force)
    data = load_training_data(dataset, data_dir, [model], training, quiet=quiet, verbose=verbose)
    from kerasbn.common.records import to_plain
    from kerasbn.experiments.train import train
    from kerasbn.probes.results import print_findings

    trained = train(
        data,
        run=run,
        force=force,
        probe=probe,
        tensorboard=tensorboard,
        device=device,
        quiet=quiet,
        **asdict(model),
        **asdict(training),
    )
    kept, findings = trained.run, trained.findings()
    assert kept is not None
    if as_json:
        record = {"run": str(kept.path), **to_plain(kept.record)}
        click.echo(json.dumps(record | ({"findings": to_plain(findings)} if probe else {})))
    else:
        if trained.status == "finished":
            click.echo(f"{kept.path}: {trained.summary()} in {kept.record.seconds:.1f} s")
        print_findings(findings)
    trained.check_ending()
