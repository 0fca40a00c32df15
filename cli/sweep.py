"""`kerasbn sweep`."""

import json
import shlex
from pathlib import Path
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
    it does only what is missing.

    \b
    Example:
      kerasbn sweep learning-rate
      kerasbn sweep depth --seeds 1 --set "activation=relu sigmoid"
      kerasbn sweep mygrid.toml --address 10.0.0.5:6379
      kerasbn sweep learning-rate --status
    """
    from kerasbn.sweeps.studies import ROOT, find_study

    if status:
        _show_status(find_study(run or _study_name(grid)), as_json)
        return
    if workers is not None and address is not None:
        raise click.UsageError("received --workers and --address, expected one of the two")
    from kerasbn.digits.files import load
    from kerasbn.runs import check_name
    from kerasbn.sweeps.configurations import configurations
    from kerasbn.sweeps.grid import check_size
    from kerasbn.sweeps.sweep import sweep

    changed = {key: value for key, value in numbers.items() if value is not None}
    changed |= dict(_change(text) for text in changes)
    chosen, name, root = _grid(grid, changed, run, ROOT)
    check_size(chosen, grid, yes=yes)
    check_name(name or chosen.name, force=True)
    configurations(chosen)  # refuses what cannot be, before anything is downloaded
    digits = load(dataset, data_dir, quiet=quiet)
    if digits.note:
        click.echo(digits.note, err=True)
    study = sweep(
        chosen,
        digits,
        name=name,
        root=root,
        workers=workers,
        address=address,
        device=device,
        force=force,
        quiet=quiet,
        verbose=verbose,
        command=_command(grid, numbers, changes, run, digits.name),
    )
    _show(study, as_json)


def _study_name(grid: str) -> str:
    """The name of the study that a grid's file has by default, or what was given."""
    return Path(grid).stem if grid.endswith(".toml") else grid


def _change(text: str) -> tuple[str, Any]:
    """The option and the value, or the list of them, that ``KEY=VALUES`` says."""
    from kerasbn.sweeps.grid import values_of_text

    key, sign, values = text.partition("=")
    if not sign:
        raise click.UsageError(f"--set {text}: received no '=', expected such as --set lr=0.1")
    return key, values_of_text(key, values)


def _grid(grid: str, changes: dict[str, Any], run: str | None, root: Path) -> tuple[Any, Any, Path]:
    """The grid, the name of its study if another than its own, and the folder that goes into."""
    from kerasbn.sweeps.grid import load, recipes
    from kerasbn.sweeps.studies import RECORD, find_study

    if not Path(grid).is_file() and grid not in recipes():
        for folder in (root / grid, Path(grid)):
            if (folder / RECORD).is_file():
                study = find_study(str(folder))
                if changes or run:
                    raise click.UsageError(
                        f"{folder}: received changes to a study that is begun, expected none; give "
                        "its recipe or file, and another --run"
                    )
                return study.grid, folder.resolve().name, folder.parent
    return load(grid, changes), run, root


def _command(
    grid: str,
    numbers: dict[str, int | None],
    changes: tuple[str, ...],
    run: str | None,
    data: str,
) -> str:
    """The command line that repeats it anywhere: without what is this machine's own."""
    words = ["kerasbn", "sweep", Path(grid).name]
    for key, value in numbers.items():
        words += [f"--{key}", str(value)] if value is not None else []
    for text in changes:
        words += ["--set", text]
    words += ["--run", run] if run else []
    return shlex.join([*words, "--dataset", data])


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
