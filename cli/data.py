"""`kerasbn data`: which digits there are; `kerasbn data fetch`: download them."""

from __future__ import annotations  # the types below come from modules that help must not load

import json
from typing import TYPE_CHECKING

import click

from .options import dataset_options

if TYPE_CHECKING:
    from kerasbn.data.datasets import Place

# What is said of a place, and in which colour.
STATES = {
    "whole": ("hold", "green"),
    "absent": ("not there", None),
    "incomplete": ("incomplete", "red"),
    "damaged": ("do not hold", "red"),
}
ALIGNED = ("{:{}}", "{:>{}}", "{:>{}}", "{:{}}", "{:{}}", "{}")


@click.group("data", invoke_without_command=True)
@dataset_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(ctx: click.Context, dataset: str, data_dir: str | None, as_json: bool) -> None:
    """Show which digits there are, where, how many, and whether their check sums hold.

    Looks in the folder of --data-dir, in the one that the environment variable KERASBN_DATA names,
    in the cache, and for the sample of 5,000 digits that the extra 'digits' installs. The exit code
    is 1 if something found there does not hold.

    \b
    Example:
      kerasbn data
      kerasbn data --data-dir mnist/ --json
      kerasbn data fetch
    """
    if ctx.invoked_subcommand:
        return
    from kerasbn.data.inventory import take_inventory

    found = take_inventory(dataset, data_dir)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        show(found.places)
        click.echo(f"\n{found.outlook()}")
    found.check()


@command.command("fetch")
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Where to; otherwise the folder that KERASBN_DATA names, or else the cache.",
)
@click.pass_context
def fetch(ctx: click.Context, data_dir: str | None) -> None:
    """Download the full MNIST, 11 MB, from a public mirror, and check it.

    Only what is missing is downloaded, and nothing is overwritten.

    \b
    Example:
      kerasbn data fetch
      kerasbn data fetch --data-dir mnist/
    """
    from kerasbn.data.datasets import fetch as fetch_digits
    from kerasbn.data.datasets import home

    parent = ctx.parent.params if ctx.parent else {}
    folder = data_dir or parent.get("data_dir") or home()
    added = fetch_digits(folder)
    click.echo(f"{len(added)} files added to {folder}" if added else f"MNIST is whole in {folder}")


def show(places: list[Place]) -> None:
    """Print the places as a table."""
    head = ("data set", "training", "test", "sums", "place", "where")
    rows = [head, *(row(place) for place in places)]
    colours = [None, *(STATES[place.state][1] for place in places)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells, colour in zip(rows, colours, strict=True):
        name, train, test, sums, found_in, where = map(str.format, ALIGNED, cells, widths)
        click.echo("  ".join((name, train, test, click.style(sums, fg=colour), found_in, where)))


def row(place: Place) -> tuple[str, ...]:
    """What the table says of a place."""
    digits = place.digits
    train, test = (f"{len(digits.train):,}", f"{len(digits.test):,}") if digits else ("-", "-")
    return place.dataset, train, test, STATES[place.state][0], place.name, place.where
