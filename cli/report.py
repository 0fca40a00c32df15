"""`kerasbn report`."""

import os
import sys
import webbrowser
from pathlib import Path
from tempfile import mkdtemp

import click
from click.core import ParameterSource

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
@click.option("--static", is_flag=True, help="Leave out the interactive parts of the page.")
@click.option(
    "--open", "show", is_flag=True, help="Show the file in the browser; without -o, a page."
)
@click.pass_context
def command(
    context: click.Context, /, subjects: tuple[str, ...], output: Path, static: bool, show: bool
) -> None:
    """Build a report from runs, comparisons or studies. Without arguments, list them.

    Each is named by its folder in saved_models, or by the path of a folder. The page is a single
    file: the results and how certain they are, learning curves with their values, what probes
    recorded, how the model was folded and exported, all settings, and the command to reproduce
    them. The page of a comparison has interactive parts: its models classify what you draw.

    \b
    Example:
      kerasbn report
      kerasbn report compare -o report.html
      kerasbn report compare --open
      kerasbn report bn plain -o both.svg
    """
    if subjects or show:
        from kerasbn.reports.report import report

        if show and context.get_parameter_source("output") is ParameterSource.DEFAULT:
            output = Path(mkdtemp(prefix="kerasbn-"), "report.html")
        path = report(*subjects, output=output, interactive=not static)
        echo(path)
        if show and not webbrowser.open(path.resolve().as_uri()):
            echo("no browser was found; open the file yourself", err=True)
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
