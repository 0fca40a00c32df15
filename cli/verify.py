"""`kerasbn verify`."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="RUN|FILE",
    help="The network to compare with: a run, or a .keras or .h5 file.  "
    "[default: the run that the file names]",
)
@click.option("--inputs", metavar="FILE.npz", help="Samples, an array for each input by its name.")
@click.option("--strict", is_flag=True, help="Fail if answers are not equal to the last bit.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    verbose: bool,
    /,
    *,
    model: Path,
    against: str | None,
    inputs: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure whether an ONNX file is whole, folded, faithful and deterministic.

    Whole: not a bit changed since export wrote it. Folded: no normalization is left. Faithful: it
    answers as the Keras network does. Deterministic: the answer for one input is the same whatever
    else is in the batch, for batch sizes from 1 to 256 (as many as can be tried in 20 seconds), in
    another order, with 1 and 2 threads, in a repeated run, a fresh session and another process.

    The exit code is 1 if one of the four fails.

    \b
    Example:
      kerasbn verify model.onnx
      kerasbn verify model.onnx --against model.keras --inputs photos.npz
    """
    from kerasbn.inference.verify import open_session, verify, write_beside
    from kerasbn.keras_internals import quiet_tensorflow

    open_session(model)  # a file that is none is told before TensorFlow takes its seconds to load
    quiet_tensorflow(verbose)
    found = verify(model, against, inputs=inputs, strict=strict)
    write_beside(found)
    click.echo(json.dumps(found.as_dict()) if as_json else found.summary())
    found.check()
