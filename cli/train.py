"""`kerasbn train`."""

import json
from typing import Any

import click

from .options import training_arguments, training_options, typed_options
from .output import echo


@click.command()
@click.option("--bn", "with_bn", is_flag=True, help="Train with BN (the default).")
@click.option("--no-bn", "without_bn", is_flag=True, help="Train without BN.")
@click.option(
    "--repeat", metavar="RUN", help="Train a run again; exit code 1 if the result differs."
)
@training_options
@click.pass_obj
def command(verbose: bool, /, **options: Any) -> None:  # noqa: ANN401 - as click parsed them
    """Train a model with or without BN, and save the run.

    A run is the folder saved_models/NAME. It holds the model (model.keras), the history (a table
    and a plot of the curves) and a record of the settings, dataset and library versions (run.json).
    Ctrl-C keeps the epochs so far; --resume NAME continues.

    \b
    Example:
      kerasbn train --bn
      kerasbn train --no-bn --lr 0.001 --epochs 3 --run slow
    """
    from kerasbn.runs import check_name

    if options["run"] is not None:
        check_name(options["run"], force=options["force"])
    if options["repeat"] is not None:
        taken = {"repeat", "dataset", "data_dir", "device", "quiet", "as_json"}
        if others := typed_options() - taken:
            names = ", ".join(f"--{each.replace('_', '-')}" for each in sorted(others))
            line = f"received {names} with --repeat, expected none; the run has its own settings"
            raise click.UsageError(line)
        _repeat(options, verbose)
        return
    arguments = training_arguments(options, verbose=verbose)
    from kerasbn.common.records import to_plain
    from kerasbn.experiments.train import train
    from kerasbn.probes.results import print_findings

    trained = train(**arguments)
    kept, findings = trained.run, trained.findings()
    assert kept is not None
    if options["as_json"]:
        record = {"run": str(kept.path), **to_plain(kept.record)}
        probes = {"findings": to_plain(findings)} if options["probe"] else {}
        echo(json.dumps(record | probes))
    else:
        if trained.status == "finished":
            echo(f"{kept.path}: {trained.summary()} in {kept.record.seconds:.1f} s")
        print_findings(findings)
    trained.check_ending()


def _repeat(options: dict[str, Any], verbose: bool) -> None:
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.data.datasets import load_dataset
    from kerasbn.runs import find_run

    run = find_run(options["repeat"])
    name = run.record.data.name if options["dataset"] == "auto" else options["dataset"]
    data = load_dataset(name, options["data_dir"], quiet=options["quiet"])
    quiet_tensorflow(verbose)
    from kerasbn.experiments.repeat import repeat

    found = repeat(options["repeat"], data, device=options["device"], quiet=options["quiet"])
    if options["as_json"]:
        result = {"run": str(run.path), "same": found.is_same, "differences": found.differences}
        echo(json.dumps(result))
    elif found.is_same:
        echo(f"{run.path}: trained again with the same weights and history, to the bit")
    found.check()
