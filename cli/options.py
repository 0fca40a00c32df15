"""Options that several commands share; those of the settings are generated from their fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kerasbn.training.settings import (
    MODEL_SETTINGS,
    TRAINING_SETTINGS,
    ModelSettings,
    Setting,
    TrainingSettings,
    option_text,
)

if TYPE_CHECKING:
    from kerasbn.data.datasets import Dataset

Function = Callable[..., Any]

DEVICE_HELP = "Device to train on: auto, cpu, gpu, gpu:N, or all (data-parallel)."


def dataset_options(function: Function) -> Function:
    """Add `--dataset` and `--data-dir`."""
    return _add(
        function,
        click.option(
            "--dataset",
            type=click.Choice(["auto", "mnist", "mnist-sample"]),
            default="auto",
            show_default=True,
            help="mnist: the full MNIST; mnist-sample: 5,000 of its images, from the extra "
            "'digits'; auto: the first of the two that is available.",
        ),
        click.option(
            "--data-dir",
            metavar="FOLDER",
            help="Folder with the four MNIST files; no other place is searched.",
        ),
    )


def bn_options(function: Function) -> Function:
    """Add `--bn` and `--no-bn`, which exclude each other."""
    return _add(
        function,
        click.option("--bn", "with_bn", is_flag=True, help="Train with BN (the default)."),
        click.option("--no-bn", "without_bn", is_flag=True, help="Train without BN."),
    )


def settings_options(function: Function) -> Function:
    """Add an option for each setting of models and training, except `bn`."""
    settings = [*MODEL_SETTINGS.values(), *TRAINING_SETTINGS.values()]
    return _add(
        function,
        *(setting_option(setting) for setting in settings if setting.name != "bn"),
        device_option(DEVICE_HELP),
    )


def setting_option(setting: Setting, *, default: bool = True) -> Callable[[Function], Function]:
    """Return the option of a setting, without its default where the command has its own."""
    if setting.kind is bool:
        return click.option(setting.option, is_flag=True, help=setting.help)
    value = setting.default if default else None
    kind: Any = click.Choice(setting.choices) if setting.choices else setting.kind
    return click.option(
        setting.option,
        type=str if setting.kind is tuple else kind,
        default=option_text(value) if isinstance(value, tuple) else value,
        show_default=value is not None,
        metavar=setting.metavar or None,
        help=setting.help,
    )


def device_option(help_text: str) -> Callable[[Function], Function]:
    """Return `--device`."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="DEVICE", help=help_text
    )


def run_options(function: Function) -> Function:
    """Add what is kept of a training, and what is shown."""
    return _add(
        function,
        click.option("--run", metavar="NAME", help="Name of the run, a folder in saved_models."),
        click.option("--force", is_flag=True, help="Replace an existing run of that name."),
        click.option("--tensorboard", is_flag=True, help="Also write TensorBoard logs."),
        click.option(
            "--probe",
            is_flag=True,
            help="Record and plot gradients, activations, BN statistics and the loss landscape.",
        ),
        click.option("--quiet", is_flag=True, help="Show no progress."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )


def model_settings(values: Mapping[str, Any]) -> ModelSettings:
    """Return the settings that `settings_options`, and perhaps `bn_options`, were given."""
    if values.get("with_bn") and values.get("without_bn"):
        raise click.UsageError("received --bn and --no-bn, expected one of the two")
    given = {name: values[name] for name in MODEL_SETTINGS if name in values}
    return ModelSettings(**{**given, "bn": not values.get("without_bn")})


def training_settings(values: Mapping[str, Any]) -> TrainingSettings:
    """Return the settings that `settings_options` were given."""
    return TrainingSettings(**{name: values[name] for name in TRAINING_SETTINGS})


def load_training_data(
    dataset: str,
    data_dir: str | None,
    models: Sequence[ModelSettings],
    training: TrainingSettings,
    *,
    quiet: bool,
    verbose: bool,
) -> "Dataset":
    """Load the dataset, check the settings against it, and only then load TensorFlow.

    Whatever can be refused is refused before TensorFlow takes its seconds to load.

    Raises:
        InputError: If there is no such dataset, or the settings do not suit it.
    """
    from kerasbn.common.keras_internals import quiet_tensorflow
    from kerasbn.data.datasets import load_dataset

    data = load_dataset(dataset, data_dir, quiet=quiet)
    training.check(models, len(data.train))
    if data.note:
        click.echo(data.note, err=True)
    quiet_tensorflow(verbose)
    return data


def _add(function: Function, *options: Callable[[Function], Function]) -> Function:
    """Apply options so that help lists them in this order."""
    for option in reversed(options):
        function = option(function)
    return function
