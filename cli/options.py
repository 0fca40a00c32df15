"""Options that several commands share, each written once."""

from collections.abc import Callable
from typing import Any

import click

Function = Callable[..., Any]


def dataset_options(function: Function) -> Function:
    """Add `--dataset` and `--data-dir`: which digits, and where they are."""
    function = click.option(
        "--data-dir",
        metavar="FOLDER",
        help="The folder with MNIST's four files; then no other place is looked in.",
    )(function)
    return click.option(
        "--dataset",
        type=click.Choice(["auto", "mnist", "mnist-sample"]),
        default="auto",
        show_default=True,
        help="The full MNIST, the 5,000 digits of the extra 'digits', or whichever can be had.",
    )(function)
