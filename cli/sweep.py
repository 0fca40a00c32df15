"""`kerasbn sweep`."""

import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbn.training.settings import SETTINGS

from .options import dataset_options, device_option, force_option, json_option, setting_option
from .output import echo

if TYPE_CHECKING:
    from kerasbn.sweeps.study import Study


@click.command()
@click.argument("grid")
@click.option("--seeds", type=int, metavar="N", help="Trials per configuration, one per seed.")
@setting_option(SETTINGS["epochs"], default=False)
@setting_option(SETTINGS["steps"], default=False)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUES",
    help="Set any option of kerasbn train for all trials; several values, separated by spaces, "
    "make an axis. Repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of processes, with one thread each.  [default: one per core]",
)
@click.option(
    "--address", metavar="HOST:PORT", help="Train on this Ray cluster; auto: the local one."
)
@device_option("Device to train on: auto, cpu, gpu or gpu:N.")
@dataset_options
@click.option("--run", metavar="NAME", help="Name of the study, a folder in saved_models/studies.")
@force_option
@click.option("--yes", is_flag=True, help="Allow more than 1,000 trials.")
@click.option("--status", is_flag=True, help="Show the status of the study and exit.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
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
    force: bool,
    quiet: bool,
    seeds: int | None,
    epochs: int | None,
    steps: int | None,
    **where: Any,  # noqa: ANN401 - workers, address and device
) -> None:
    """Train a grid of configurations, each with and without BN, over several seeds.

    GRID is a recipe, a TOML file, or an existing study. Results, charts, findings.md and the runs
    go to saved_models/studies/NAME. Rerunning a study trains only what is missing, then regenerates
    the charts and findings.

    \b
    Recipes: learning-rate, depth, batch-size, figure1, teaching-table

    A TOML file has a table [axes] with a list of values for each setting to vary, and optionally
    [options], the settings of all trials, and seeds = N, the trials per configuration.

    \b
    Example:
      kerasbn sweep learning-rate
      kerasbn sweep depth --seeds 1 --set "activation=relu sigmoid"
      kerasbn sweep mygrid.toml --address 10.0.0.5:6379
      kerasbn sweep learning-rate --status
    """
    from kerasbn.sweeps.grid import parse_change

    if status:
        _show_status(grid, run, as_json)
        return
    given = {"seeds": seeds, "epochs": epochs, "steps": steps}
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    values |= dict(parse_change(text) for text in changes)
    from kerasbn.data.datasets import Dataset, load_dataset
    from kerasbn.sweeps.sweep import run_sweep

    def load() -> Dataset:
        data = load_dataset(dataset, data_dir, quiet=quiet)
        if data.note:
            echo(data.note, err=True)
        return data

    where |= {"run": run, "yes": yes, "force": force, "quiet": quiet, "verbose": verbose}
    _show(run_sweep(grid, values, load, **where), as_json)


def _show(study: "Study", as_json: bool) -> None:
    from kerasbn.common.records import to_plain
    from kerasbn.sweeps.progress import status_of

    if as_json:
        about = {"folder": str(study.path), "findings": study.findings()}
        echo(json.dumps(to_plain(status_of(study)) | about))
        return
    for line in study.findings():
        echo(*_bullet(line))
    charts = ", ".join(file.name for file in sorted(study.path.glob("*.png")))
    echo(f"study: {study.path} ({charts})")


def _show_status(grid: str, run: str | None, as_json: bool) -> None:
    from kerasbn.common.records import to_plain
    from kerasbn.sweeps.progress import read_status
    from kerasbn.sweeps.study import find_study

    name = run or (Path(grid).stem if grid.endswith(".toml") else grid)
    status = read_status(find_study(name))
    echo(*([json.dumps(to_plain(status))] if as_json else status.lines()))


def _bullet(text: str) -> list[str]:
    """Return the lines of a list item, wrapped between words where the output is a terminal."""
    if not sys.stdout.isatty():
        return [f"- {text}"]
    return textwrap.wrap(
        text, shutil.get_terminal_size().columns, initial_indent="- ", subsequent_indent="  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
