"""`kerasbn report`."""

import os
import sys
from pathlib import Path

import click

from .output import echo


@click.command()
@click.argument("subjects", nargs=-1, metavar="[RUN|COMPARISON|STUDY]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.png",
    show_default=True,
    metavar="FILE",
    help="A page (.html), or a figure of the learning curves (.png, .svg or .pdf).",
)
def command(subjects: tuple[str, ...], output: Path) -> None:
    """Build a report from runs, comparisons or studies. Without arguments, list them.

    Each is named by its folder in saved_models, or by the path of a folder. The page is a single
    file: the results and how certain they are, learning curves with their values, what probes
    recorded, how the model was folded and exported, all settings, and the command to reproduce
    them.

    \b
    Example:
      kerasbn report
      kerasbn report compare -o report.html
      kerasbn report bn plain -o both.svg
    """
    if subjects:
        from kerasbn.reports.report import report

        echo(report(*subjects, output=output))
        return
    from kerasbn.common.terminal import Terminal
    from kerasbn.reports.sources import inventory_tables, take_inventory

    found, problems = take_inventory()
    # A pipe or a file has no width: lines stay whole.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 1000
    console = Terminal(width=width)
    for table in inventory_tables(found, console.width):
        console.print(table)
        console.print()
    if not found:
        echo("no runs yet; train one: kerasbn train --bn")
    echo(*problems, err=True)
