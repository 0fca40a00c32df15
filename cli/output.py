"""What commands print: each line through `echo` or a `Terminal`, so that no text acts on it."""

import sys

import click

from kerasbn.common.wording import escaped


def echo(*lines: object, err: bool = False) -> None:
    """Print lines to standard output, or standard error, whatever characters they hold."""
    for line in lines:
        click.echo(escaped(str(line)), err=err)


def fail(line: str, exit_code: int) -> None:
    """Print one line to standard error, even if it quotes input with line breaks, and exit."""
    echo(" ".join(line.splitlines()), err=True)
    sys.exit(exit_code)
