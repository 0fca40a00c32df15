"""`kerasbn data` lists the available datasets, `kerasbn data fetch` downloads MNIST."""

from __future__ import annotations  # the types below come from modules that help must not load

import json
from typing import TYPE_CHECKING, Any

import click

from .options import dataset_options, json_option
from .output import echo

if TYPE_CHECKING:
    from kerasbn.data.datasets import Location

STATUS_STYLES = {"ok": "green", "missing": "", "incomplete": "red", "damaged": "red"}


@click.group("data", invoke_without_command=True)
@dataset_options
@json_option
@click.pass_context
def command(ctx: click.Context, dataset: str, data_dir: str | None, as_json: bool) -> None:
    """List the available datasets and verify their checksums.

    Searches the folder given by --data-dir, the folder named by the environment variable
    KERASBN_DATA, the cache, and the package with the sample of 5,000 images, which the extra
    'digits' installs. The exit code is 1 if a dataset is damaged or incomplete.

    \b
    Example:
      kerasbn data
      kerasbn data --data-dir mnist/ --json
      kerasbn data fetch
    """
    if ctx.invoked_subcommand:
        return
    from kerasbn.common.errors import CheckFailedError
    from kerasbn.data.datasets import find_datasets, selected

    locations = find_datasets(dataset, data_dir)
    choice = selected(locations)
    if as_json:
        listed = [as_dict(location) for location in locations]
        found = {"dataset": dataset, "selected": choice and choice.kind, "locations": listed}
        echo(*json.dumps(found, indent=2).splitlines())
    else:
        show_locations(locations, next_run(dataset, choice))
    problems = [each.problem for each in locations if each.status in ("incomplete", "damaged")]
    if problems:
        raise CheckFailedError("; ".join(problems))


@command.command("fetch")
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Target folder; by default the one named by KERASBN_DATA, or else the cache.",
)
@click.pass_context
def fetch(ctx: click.Context, data_dir: str | None) -> None:
    """Download the full MNIST (11 MB) from a public mirror and verify it.

    Downloads only missing files and never overwrites any.

    \b
    Example:
      kerasbn data fetch
      kerasbn data fetch --data-dir mnist/
    """
    from kerasbn.data import datasets

    parent = ctx.parent.params if ctx.parent else {}
    folder = data_dir or parent.get("data_dir") or datasets.cache_folder()
    added = datasets.fetch(folder, quiet=False)
    echo(f"{len(added)} files added to {folder}" if added else f"{folder}: MNIST is complete")


def show_locations(locations: list[Location], conclusion: str) -> None:
    """Print the locations as a table, or as a list where the terminal is too narrow for it."""
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    from kerasbn.common.terminal import Terminal

    table = Table("Dataset", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for heading in ("Train", "Test"):
        table.add_column(heading, justify="right")
    for heading in ("Status", "Location", "Path"):
        table.add_column(heading)
    blocks = Text()
    for each in locations:
        data, status = each.dataset, Text(each.status, STATUS_STYLES[each.status])
        train, test = (f"{len(data.train):,}", f"{len(data.test):,}") if data else ("-", "-")
        table.add_row(each.name, train, test, status, each.kind, Text(each.path))
        blocks.append_text(Text.assemble(f"{each.name} ({each.kind}): ", status, "\n"))
        blocks.append(f"  {train} training images\n  {test} test images\n" if data else "")
        blocks.append(f"  {each.path}\n")
    console = Terminal()
    width = Measurement.get(console, console.options.update(width=10_000), table).maximum
    if console.is_terminal and width > console.width:
        console.print(blocks, soft_wrap=True)
    else:
        Terminal(width=width).print(table)
        console.print()
    console.print(conclusion, soft_wrap=not console.is_terminal)


def next_run(dataset: str, choice: Location | None) -> str:
    """Return a sentence that says which data a run with `dataset` would use."""
    run = f"A run with --dataset {dataset}"
    if choice and choice.status != "ok":
        return f"{run} fails: {choice.path} is {choice.status}."
    if choice and (choice.name == "mnist" or dataset == "mnist-sample"):
        return f"{run} uses {choice.name} from {choice.path}."
    if dataset == "mnist-sample":
        return f"{run} fails: the package with the sample is not installed."
    otherwise = "uses the sample of 5,000 images" if choice else "fails"
    return (
        f"{run} first tries to download MNIST, as `kerasbn data fetch` does; without a connection "
        f"it {otherwise}."
    )


def as_dict(location: Location) -> dict[str, Any]:
    """Return a location as JSON has it."""
    data = location.dataset
    return {
        "kind": location.kind, "name": location.name, "path": location.path,
        "status": location.status, "train": len(data.train) if data else None,
        "test": len(data.test) if data else None, "digest": data.digest if data else None,
        "problem": location.problem or None,
    }  # fmt: skip
