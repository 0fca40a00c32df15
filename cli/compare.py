"""`kerasbn compare`."""

import json
from typing import Any

import click

from .options import (
    dataset_options,
    network_options,
    network_settings,
    run_options,
    training_options,
    training_settings,
)


@click.command()
@network_options
@training_options
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
    quiet: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - the fields of the settings, as click parsed them
) -> None:
    """Train the same network with and without batch normalization, on the same batches.

    Keeps two runs, bn and plain, and saved_models/compare with the curves of both as compare.png
    and all figures as compare.json. With --run NAME they are NAME-bn, NAME-plain, NAME-compare.

    \b
    Example:
      kerasbn compare
      kerasbn compare --lr 0.1 --activation sigmoid --hidden 64,64,64
    """
    from kerasbn.digits.files import load
    from kerasbn.quiet import quiet_tensorflow
    from kerasbn.runs import check_pair_names

    network, training = network_settings(settings), training_settings(settings)
    check_pair_names(run, force=force)
    digits = load(dataset, data_dir, quiet=quiet)
    training.check([network], len(digits.train))
    if digits.note:
        click.echo(digits.note, err=True)
    quiet_tensorflow(verbose)
    from kerasbn.study.compare import check_ending, compare, record_of

    result = compare(
        network,
        digits,
        training,
        device=device,
        name=run,
        force=force,
        tensorboard=tensorboard,
        quiet=quiet,
    )
    if as_json:
        record = record_of(result.with_bn, result.without_bn)
        click.echo(json.dumps({"folder": str(result.path), **record}))
    check_ending(result)
    if not as_json:
        click.echo(result.summary())
        click.echo(f"curves: {result.path / 'compare.png'}")
