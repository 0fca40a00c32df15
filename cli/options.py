"""Options that several commands share; those of the settings are generated from their fields."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from kerasbn.training import settings

from .output import echo

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def setting_option(setting: settings.Setting, *, default: bool = True) -> Decorator:
    """Return the option of a setting, without its default where the command has its own."""
    if setting.kind is bool:
        return click.option(setting.option, is_flag=True, help=setting.help)
    value = setting.default if default else None
    kind: Any = click.Choice(setting.choices) if setting.choices else setting.kind
    return click.option(
        setting.option,
        type=str if setting.kind is tuple else kind,
        default=settings.option_text(value) if isinstance(value, tuple) else value,
        show_default=value is not None,
        metavar=setting.metavar or None,
        help=setting.help,
    )


def device_option(help_text: str) -> Decorator:
    """Return `--device`."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="DEVICE", help=help_text
    )


def all_of(*options: Decorator) -> Decorator:
    """Return a decorator that adds options so that help lists them in this order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


force_option = click.option("--force", is_flag=True, help="Replace what has this name already.")
no_clip_option = click.option(
    "--no-clip", is_flag=True, help="Do not rewrite a ReLU as a clip to fold more BN layers."
)
scale_option = click.option(
    "--scale", default=1.0, show_default=True, help="Factor for pixel values from 0 to 255."
)
offset_option = click.option(
    "--offset", default=0.0, show_default=True, help="Added to the scaled pixel values."
)
data_dir_option = click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Folder with the four MNIST files; no other place is searched.",
)
# For every command that reads a Keras model; see `kerasbn.common.saved_models.allow_code`.
code_options = all_of(
    click.option(
        "--custom",
        metavar="FILE.py",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Python file to run, with the custom layers and functions of the model; repeatable.",
    ),
    click.option(
        "--trust",
        is_flag=True,
        help="Run Python code stored in the model file (Lambda layers). Only for files you trust.",
    ),
)
labels_option = click.option(
    "--labels",
    metavar="FILE|NAMES",
    help="Class names: a text file with one per line, or separated by commas.",
)
inputs_option = click.option(
    "--inputs",
    metavar="FILE.npz|FOLDER",
    help="Samples to compare on: arrays named after the inputs, or images.  [default: random]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

dataset_options = all_of(
    click.option(
        "--dataset",
        type=click.Choice(["auto", "mnist", "mnist-sample"]),
        default="auto",
        show_default=True,
        help="mnist: the full MNIST; mnist-sample: 5,000 of its images, from the extra "
        "'digits'; auto: the first of the two that is available.",
    ),
    data_dir_option,
)

# An option for each setting except `bn`, and what else `train` and `compare` take.
training_options = all_of(
    *(setting_option(setting) for name, setting in settings.SETTINGS.items() if name != "bn"),
    device_option("Device to train on: auto, cpu, gpu, gpu:N, or all (data-parallel)."),
    dataset_options,
    click.option("--run", metavar="NAME", help="Name of the run, a folder in saved_models."),
    click.option(
        "--resume",
        metavar="NAME",
        help="Continue a stopped training from its last checkpoint, with the same result.",
    ),
    force_option,
    click.option("--tensorboard", is_flag=True, help="Also write TensorBoard logs."),
    click.option(
        "--probe",
        is_flag=True,
        help="Record and plot gradients, activations, BN statistics and the loss landscape.",
    ),
    click.option("--quiet", is_flag=True, help="Show no progress."),
    json_option,
)


def settings_of(
    options: Mapping[str, Any],
) -> tuple[settings.ModelSettings, settings.TrainingSettings]:
    """Return the settings that the options of `kerasbn train` or `kerasbn compare` stand for."""
    if options.get("with_bn") and options.get("without_bn"):
        raise click.UsageError("received --bn and --no-bn, expected one of the two")
    given = {name: value for name, value in options.items() if name in settings.SETTINGS}
    return settings.settings_from({**given, "bn": not options.get("without_bn")})


def training_arguments(options: Mapping[str, Any], *, verbose: bool) -> dict[str, Any]:
    """Return the options of `kerasbn train` or `kerasbn compare` as arguments of its function.

    Whatever can be refused is refused before TensorFlow takes its seconds to load.

    Raises:
        InputError: If there is no such dataset, or the settings do not suit it.
    """
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.data.datasets import load_dataset

    model, training = settings_of(options)
    values = {**asdict(model), **asdict(training)}
    resumes = options["resume"] is not None
    name, folder = options["dataset"], options["data_dir"]
    data = None
    if not resumes or folder or name != "auto":  # the session to resume names its dataset
        data = load_dataset(name, folder, quiet=options["quiet"])
    if resumes:  # only what was typed has to be as it was
        typed = {"bn" if each in ("with_bn", "without_bn") else each for each in typed_options()}
        values = {key: value for key, value in values.items() if key in typed}
    elif data:
        training.check([model], len(data.train))
    if data and data.note:
        echo(data.note, err=True)
    quiet_tensorflow(verbose)
    others = ("run", "resume", "force", "probe", "tensorboard", "device", "quiet")
    return {"data": data, **{each: options[each] for each in others}, **values}


def typed_options() -> set[str]:
    """Return the names of the options that were typed, as opposed to their defaults."""
    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is typed}
