"""Options that several commands share, each written once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Any

import click

from kerasbn.training.settings import (
    ACTIVATIONS,
    OPTIMIZERS,
    POSITIONS,
    ModelSettings,
    TrainingSettings,
    parse_hidden,
)

if TYPE_CHECKING:
    from kerasbn.data.datasets import Dataset

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


def network_options(function: Function) -> Function:
    """Add what the networks of the experiment can be: the fields of `ModelSettings` but `bn`."""
    return _add(
        function,
        click.option(
            "--hidden",
            default="32,32",
            show_default=True,
            metavar="SIZES",
            help="Units of each hidden layer, separated by commas.",
        ),
        click.option(
            "--activation",
            type=click.Choice(ACTIVATIONS),
            default="relu",
            show_default=True,
            help="Activation of the hidden layers.",
        ),
        click.option(
            "--bn-position",
            type=click.Choice(POSITIONS),
            default="before",
            show_default=True,
            help="Normalize before or after the activation.",
        ),
        click.option(
            "--bn-momentum",
            type=float,
            default=0.9,
            show_default=True,
            help="Weight of the old moving statistics at each step. PyTorch's 0.1 is Keras's 0.9.",
        ),
        click.option(
            "--bn-epsilon",
            type=float,
            default=1e-5,
            show_default=True,
            help="Added to the variance.",
        ),
        click.option(
            "--init",
            default="glorot_uniform",
            show_default=True,
            metavar="NAME",
            help="Initial kernels: glorot_uniform, he_normal, torch (uniform, +-1/sqrt(fan_in), "
            "biases too) or normal:STD.",
        ),
        click.option(
            "--bias-before-bn",
            is_flag=True,
            help="Keep the bias of a Dense whose output is normalized, though beta does its work.",
        ),
    )


def training_options(function: Function) -> Function:
    """Add how networks are trained: the fields of `TrainingSettings`, and the device."""
    return _add(
        function,
        click.option(
            "--epochs",
            type=int,
            default=10,
            show_default=True,
            help="Passes over the training set.",
        ),
        click.option("--steps", type=int, help="Batches in all; overrides --epochs."),
        click.option(
            "--batch-size", type=int, default=32, show_default=True, help="Dataset in a batch."
        ),
        click.option(
            "--optimizer",
            type=click.Choice(OPTIMIZERS),
            default="adam",
            show_default=True,
            help="How the weights follow the gradient.",
        ),
        click.option("--lr", type=float, default=0.01, show_default=True, help="Learning rate."),
        click.option(
            "--seed",
            type=int,
            default=0,
            show_default=True,
            help="What the initial kernels and the order of the batches depend on.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            metavar="DEVICE",
            help="auto (a GPU where there is one), cpu, gpu, gpu:N, or all: they share each batch.",
        ),
    )


def digits_to_train_on(
    dataset: str,
    data_dir: str | None,
    networks: Sequence[ModelSettings],
    training: TrainingSettings,
    *,
    quiet: bool,
    verbose: bool,
) -> "Dataset":
    """The digits, once it is known that these networks can be trained on them; then TensorFlow.

    What can be refused is refused before TensorFlow takes its seconds to load.

    Raises:
        InputError: if there are no such digits, or the settings do not suit them.
    """
    from kerasbn.data.datasets import load_dataset
    from kerasbn.keras_internals import quiet_tensorflow

    digits = load_dataset(dataset, data_dir, quiet=quiet)
    training.check(networks, len(digits.train))
    if digits.note:
        click.echo(digits.note, err=True)
    quiet_tensorflow(verbose)
    return digits


def network_settings(values: Mapping[str, Any]) -> ModelSettings:
    """The settings that `network_options`, and `--bn` where there is one, were given."""
    fields = {each.name for each in dataclass_fields(ModelSettings)} & values.keys()
    given = {name: values[name] for name in fields}
    return ModelSettings(**(given | {"hidden": parse_hidden(values["hidden"])}))


def training_settings(values: Mapping[str, Any]) -> TrainingSettings:
    """The settings that `training_options` were given."""
    return TrainingSettings(
        **{each.name: values[each.name] for each in dataclass_fields(TrainingSettings)}
    )


def run_options(function: Function) -> Function:
    """Add what is kept of a training, and what is shown of it."""
    return _add(
        function,
        click.option("--run", metavar="NAME", help="Name of the folder in saved_models."),
        click.option("--force", is_flag=True, help="Replace what has the name given by --run."),
        click.option(
            "--tensorboard", is_flag=True, help="Also log into the run for TensorBoard to read."
        ),
        click.option(
            "--probe",
            is_flag=True,
            help="Record and draw what happens inside: gradients, activations, statistics, the "
            "loss around.",
        ),
        click.option("--quiet", is_flag=True, help="Show no progress."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )


def _add(function: Function, *options: Callable[[Function], Function]) -> Function:
    """Apply the options so that help lists them in this order."""
    for option in reversed(options):
        function = option(function)
    return function
