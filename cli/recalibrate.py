"""`kerasbn recalibrate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import dataset_options

if TYPE_CHECKING:
    import tensorflow as tf


@click.command()
@click.argument("model", metavar="RUN|FILE.keras")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE.npz",
    help="What the network was trained on: pictures, a subfolder for each class if there are "
    "classes, or arrays.  [default: the digits]",
)
@click.option("--scale", default=1.0, show_default=True, help="Multiply pixels, 0 to 255, by this.")
@click.option("--offset", default=0.0, show_default=True, help="Then add this.")
@click.option(
    "--variance",
    type=click.Choice(["unbiased", "plain"]),
    default="unbiased",
    show_default=True,
    help="With the factor m/(m-1), as in the paper of 2015, or without.",
)
@click.option(
    "-o",
    "--out",
    metavar="OUT.keras",
    type=click.Path(path_type=Path),
    help="Where to write the network.  [default: a new run, or FILE-recalibrated.keras]",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@dataset_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    model: str,
    data: Path | None,
    scale: float,
    offset: float,
    variance: str,
    out: Path | None,
    force: bool,
    dataset: str,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Replace the moving statistics of a network by those of all its data.

    Each normalization, in the order of the graph, gets the mean and variance of what reaches it;
    weights stay as they are. This helps where the momentum was too high for the number of steps, or
    the data is another. Prints how far the statistics were off and, where there are labels, the
    accuracy before and after: on the test set for digits, otherwise on the data itself.

    \b
    Example:
      kerasbn recalibrate bn
      kerasbn recalibrate classifier.keras --data photos/ --scale 0.00392157 -o better.keras
    """
    from kerasbn.digits.files import load
    from kerasbn.errors import expected
    from kerasbn.models import check_place, load_network, save_network
    from kerasbn.quiet import quiet_tensorflow
    from kerasbn.runs import MODEL, RECORD, find_model, read_run

    file = find_model(model)
    source = (
        read_run(file.parent) if file.name == MODEL and (file.parent / RECORD).is_file() else None
    )
    if source is None and out is None:
        out = file.with_name(f"{file.stem}-recalibrated.keras")
    if out is not None:
        check_place(out)
        if out.exists() and not force:
            raise expected(out, "a file that exists", "a new one", "add --force to replace it")
    if data is not None and not data.exists():
        raise expected(f"--data {data}", "no such file or folder", "a folder or an .npz file")
    digits = load(dataset, data_dir) if data is None else None
    quiet_tensorflow(verbose)
    from kerasbn.study.recalibrated import Recalibrated, keep_run
    from kerasbn.training import samples
    from kerasbn.training.recalibrate import accuracy, recalibrate

    network = load_network(file)
    population: tf.data.Dataset
    if digits is not None:
        population, labelled = (
            samples.from_digits(split, network, scale, offset)
            for split in (digits.train, digits.test)
        )
        words = f"{len(digits.train):,} digits of {digits.name}"
        on = f"{len(digits.test):,} other digits"
    else:
        assert data is not None
        if data.is_dir():
            is_digits = source is not None
            population = samples.from_folder(data, network, scale, offset, digits=is_digits)
        else:
            population = samples.from_npz(data, network)
        labelled, words, on = population, f"{data}", "the same data"
    found = recalibrate(network, population, unbiased=variance == "unbiased")
    before, after = (accuracy(each, labelled) for each in (network, found.model))
    result = Recalibrated(found, words, variance == "unbiased", before, after, on)
    if out is not None:
        save_network(found.model, out)
        place = out
    else:
        assert source is not None
        place = keep_run(source, result, force=force).path
    if as_json:
        click.echo(json.dumps({"written": str(place), **result.record()}))
        return
    for line in result.lines():
        click.echo(line)
    click.echo(f"written: {place}")
