"""`kerasbn verify`."""

import json
from pathlib import Path

import click

from .options import code_options, inputs_option, json_option
from .output import echo


@click.command()
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="RUN|FILE",
    help="Keras model to compare with: a run, a .keras or .h5 file, or a SavedModel folder.  "
    "[default: the run that the file names]",
)
@inputs_option
@code_options
@click.option("--strict", is_flag=True, help="Fail if outputs are not bit-equal.")
@json_option
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
    custom: tuple[Path, ...],
    trust: bool,
) -> None:
    """Check that an ONNX file is intact, fully folded, matches the Keras model, is deterministic.

    \b
    intact       The file is byte for byte as exported.
    folded       No BN nodes remain.
    parity       Outputs match the Keras model.
    determinism  Outputs do not depend on batch
                 size, order, batch composition,
                 threads, session or process.

    All batch sizes from 1 to 256 are measured, or as many as fit into 20 seconds.

    The exit code is 1 if a check fails.

    \b
    Example:
      kerasbn verify model.onnx
      kerasbn verify model.onnx --against model.keras --inputs photos.npz
    """
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.common.saved_models import allow_code
    from kerasbn.inference.session import Session
    from kerasbn.inference.verify import verify

    Session(model)  # report an unusable file before TensorFlow takes seconds to load
    quiet_tensorflow(verbose)
    allow_code(custom, trust=trust)
    found = verify(model, against, inputs=inputs, strict=strict)
    found.write_beside_run()
    echo(*([json.dumps(found.as_dict())] if as_json else found.lines()))
    found.raise_if_failed()
