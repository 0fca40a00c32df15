"""`kerasbn sweep`."""

import json
from typing import Any

import click

from .options import dataset_options


@click.command()
@click.argument("grid")
@click.option("--seeds", type=int, metavar="N", help="Seeds of every network.")
@click.option("--epochs", type=int, help="Passes over the training set.")
@click.option("--steps", type=int, help="Batches in all; overrides --epochs.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUES",
    help="Any option of kerasbn train, for all networks; with several values, between blanks, an "
    "axis of the grid.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that train, a core each.  [default: one for every core]",
)
@click.option(
    "--address", metavar="HOST:PORT", help="Train on this Ray cluster; 'auto' for the one here."
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="auto (a GPU where there is one), cpu, gpu or gpu:N.",
)
@dataset_options
@click.option("--run", metavar="NAME", help="Name of the folder in saved_models/studies.")
@click.option("--force", is_flag=True, help="Replace another study of that name.")
@click.option("--yes", is_flag=True, help="Train a grid of more than 1,000 networks.")
@click.option("--status", is_flag=True, help="Only show how far the study is.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    grid: str,
    changes: tuple[str, ...],
    dataset: str,
    data_dir: str | None,
    run: str | None,
    yes: bool,
    status: bool,
    as_json: bool,
    workers: int | None,
    address: str | None,
    device: str,
    force: bool,
    quiet: bool,
    **numbers: int | None,
) -> None:
    """Train a whole GRID of networks, with and without batch normalization, and keep the study.

    GRID is a TOML file, the name of a recipe (learning-rate, depth, batch-size, figure1,
    teaching-table), or a study to go on with. The study is the folder saved_models/studies/NAME:
    results.csv, pictures, what they say as findings.md, and a run of every network. Started again,
    it does only what is missing; a study that lacks nothing is drawn and told from its tables.

    \b
    Example:
      kerasbn sweep learning-rate
      kerasbn sweep depth --seeds 1 --set "activation=relu sigmoid"
      kerasbn sweep mygrid.toml --address 10.0.0.5:6379
      kerasbn sweep learning-rate --status
    """
    from kerasbn.sweeps.asked import asked_for, study_asked_for

    if status:
        _show_status(study_asked_for(grid, run), as_json)
        return
    if workers is not None and address is not None:
        raise click.UsageError("received --workers and --address, expected one of the two")
    from kerasbn.data.datasets import load_dataset
    from kerasbn.sweeps.sweep import finish, sweep

    asked = asked_for(grid, numbers, changes, run, yes=yes)
    if asked.is_whole and not force:
        _show(finish(asked.root / asked.name), as_json)
        return
    digits = load_dataset(dataset, data_dir, quiet=quiet)
    if digits.note:
        click.echo(digits.note, err=True)
    study = sweep(
        asked.grid,
        digits,
        name=asked.name,
        root=asked.root,
        workers=workers,
        address=address,
        device=device,
        force=force,
        quiet=quiet,
        verbose=verbose,
        command=f"{asked.command} --dataset {digits.name}",
    )
    _show(study, as_json)


def _show(study: Any, as_json: bool) -> None:  # noqa: ANN401 - a Study, whose module is not loaded yet
    from kerasbn.sweeps.findings import findings
    from kerasbn.sweeps.progress import status_of

    if as_json:
        record = status_of(study, None, alive=False)
        click.echo(json.dumps({"folder": str(study.path), **record, "findings": findings(study)}))
        return
    for line in findings(study):
        click.echo(line)
    pictures = ", ".join(str(file) for file in sorted(study.path.glob("*.png")))
    click.echo(f"study: {study.path}; pictures: {pictures}")


def _show_status(study: Any, as_json: bool) -> None:  # noqa: ANN401 - as above
    from kerasbn.sweeps.progress import is_running, read_progress, status_of
    from kerasbn.sweeps.view import lines

    alive = is_running(study.path)
    record = status_of(study, read_progress(study.path), alive=alive)
    click.echo(json.dumps(record) if as_json else lines(record))
