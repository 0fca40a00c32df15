"""Hyper-parameters: each is one field here, and everything else is generated from `SETTINGS`.

To add one, add a field and use it where models are built or trained. Nothing heavy is loaded here.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, get_type_hints

from kerasbn.common.errors import ArgumentError, InputError, did_you_mean

SettingValue = bool | int | float | str | tuple[int, ...] | None

ACTIVATIONS = ("relu", "sigmoid", "tanh", "elu", "gelu", "silu", "leaky_relu", "linear")
MAX_SEEDS = 1000  # of one comparison
MAX_UNITS = 1_000_000  # of one layer


@dataclass(frozen=True)
class Setting:
    """What is known about one hyper-parameter besides its value."""

    name: str
    kind: type  # of its values: bool, int, float, str or tuple (of ints)
    default: SettingValue
    help: str
    label: str  # in charts and tables
    expects: str  # a valid value, in words
    is_valid: Callable[[Any], bool]  # for a value of the right type
    choices: tuple[str, ...] = ()
    metavar: str = ""  # in place of a value in the help; generated if empty

    @property
    def option(self) -> str:
        """The option of the command line, such as ``--batch-size``."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, so that an axis can be a range."""
        return self.kind in (int, float)

    def check(self, value: object) -> SettingValue:
        """Return `value` as the type of the setting, or raise `ArgumentError`."""
        if value is None and self.default is None:
            return None
        converted: SettingValue = _convert(self.kind, value)
        if converted is None or not self.is_valid(converted):
            raise ArgumentError(self.name, value, self.expects)
        return converted

    def parse(self, text: str) -> SettingValue:
        """Return the value of `text` from the command line, or raise `ArgumentError`."""
        text = text.strip()
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return self.check(self.kind(text) if self.is_number else text)
        except (ValueError, KeyError):
            raise ArgumentError(self.name, text, self.expects) from None


def _setting(default: Any, text: str, label: str, **about: Any) -> Any:  # noqa: ANN401 - of any type
    """Return a dataclass field with its default, its help and the rest of its `Setting`."""
    return field(default=default, metadata={"help": text, "label": label, **about})


def _choice(default: str, text: str, label: str, choices: tuple[str, ...]) -> Any:  # noqa: ANN401
    expects = f"one of {', '.join(choices)}"
    is_valid = choices.__contains__
    return _setting(default, text, label, expects=expects, is_valid=is_valid, choices=choices)


def _is_initializer(text: str) -> bool:
    name, _, std = text.partition(":")
    try:
        is_normal = name == "normal" and 0 < float(std) < math.inf
    except ValueError:
        return False
    return is_normal or text in ("glorot_uniform", "he_normal", "torch")


_FLAG = {"expects": "True or False", "is_valid": lambda _: True}
_COUNT = {
    "expects": "a whole number above 0 and below 2^31",
    "is_valid": lambda count: 1 <= count < 2**31,
}
_POSITIVE = {"expects": "a finite number above 0", "is_valid": lambda value: 0 < value < math.inf}


class _Checked:
    """Checks every field of a settings class when an instance is made."""

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type] # the subclasses are dataclasses
            value = SETTINGS[each.name].check(getattr(self, each.name))
            object.__setattr__(self, each.name, value)


@dataclass(frozen=True)
class ModelSettings(_Checked):
    """What distinguishes one model from another.

    The fields are the options of ``kerasbn train``, with their help; see `SETTINGS`.

    Raises:
        ArgumentError: If a value has the wrong type or is out of range.
    """

    bn: bool = _setting(
        True, "Add a BN layer to every hidden layer.", "batch normalization", **_FLAG
    )
    hidden: tuple[int, ...] = _setting(
        (32, 32), "Units of each hidden layer, separated by commas.", "hidden layers",
        expects=f"layer sizes from 1 to {MAX_UNITS:,}, separated by commas, such as 32,32",
        is_valid=lambda sizes: bool(sizes) and all(1 <= size <= MAX_UNITS for size in sizes),
        metavar="SIZES",
    )  # fmt: skip
    activation: str = _choice("relu", "Activation of the hidden layers.", "activation", ACTIVATIONS)
    bn_position: str = _choice(
        "before", "BN before or after the activation.", "BN position", ("before", "after")
    )
    bn_momentum: float = _setting(
        0.9, "Momentum of the moving statistics (PyTorch's 0.1 is 0.9 here).", "BN momentum",
        expects="a number from 0 up to, but not including, 1",
        is_valid=lambda momentum: 0 <= momentum < 1,
    )  # fmt: skip
    bn_epsilon: float = _setting(
        1e-5, "Added to the variance before the square root.", "BN epsilon", **_POSITIVE
    )
    init: str = _setting(
        "glorot_uniform",
        "Kernel initializer: glorot_uniform, he_normal, torch (PyTorch's default for Linear), or "
        "normal:STD.",
        "initializer",
        expects="glorot_uniform, he_normal, torch or normal:STD, such as normal:0.05",
        is_valid=_is_initializer,
        metavar="NAME",
    )
    bias_before_bn: bool = _setting(
        False, "Keep the bias of layers followed by BN (redundant with beta).", "bias before BN",
        **_FLAG,
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingSettings(_Checked):
    """How models are trained.

    The fields are the options of ``kerasbn train``, with their help; see `SETTINGS`. An incomplete
    last batch of an epoch is dropped.

    Raises:
        ArgumentError: If a value has the wrong type or is out of range.
    """

    epochs: int = _setting(10, "Number of epochs.", "epochs", **_COUNT)
    steps: int | None = _setting(
        None, "Total number of training steps; overrides --epochs.", "steps", **_COUNT
    )
    batch_size: int = _setting(32, "Batch size.", "batch size", **_COUNT)
    optimizer: str = _choice("adam", "Optimizer.", "optimizer", ("adam", "sgd"))
    lr: float = _setting(0.01, "Learning rate.", "learning rate", **_POSITIVE)
    seed: int = _setting(
        0, "Random seed for initialization and batch order.", "seed",
        expects="a whole number from 0 to 2^31-1", is_valid=lambda seed: 0 <= seed < 2**31,
    )  # fmt: skip
    deterministic: bool = _setting(
        False, "Use deterministic GPU operations: slower, but repeated runs are bit-equal.",
        "deterministic GPU operations", **_FLAG,
    )  # fmt: skip

    def epochs_on(self, examples: int) -> int:
        """Return the number of epochs on so many examples; the last one may be shorter."""
        if self.steps is None:
            return self.epochs
        return math.ceil(self.steps / max(1, examples // self.batch_size))

    def check(self, models: Iterable[ModelSettings], examples: int) -> None:
        """Raise `ArgumentError` if these models cannot be trained so on so many examples."""
        if self.batch_size > examples:
            raise ArgumentError(
                "batch_size", self.batch_size, f"at most the {examples:,} training examples"
            )
        if self.batch_size == 1 and any(model.bn for model in models):
            raise ArgumentError(
                "batch_size", 1, "at least 2 for a model with BN (one example has no variance)",
                "use a larger batch or a model without BN",
            )  # fmt: skip


def _settings_of(cls: type) -> dict[str, Setting]:
    kinds: dict[Any, type] = {int | None: int, tuple[int, ...]: tuple}
    hints, settings = get_type_hints(cls), {}
    for each in fields(cls):
        kind, default = kinds.get(hints[each.name], hints[each.name]), each.default
        settings[each.name] = Setting(each.name, kind, default, **each.metadata)  # type: ignore[arg-type] # every field has a default
    return settings


MODEL_SETTINGS = _settings_of(ModelSettings)
TRAINING_SETTINGS = _settings_of(TrainingSettings)
SETTINGS = MODEL_SETTINGS | TRAINING_SETTINGS


def find_setting(name: str) -> Setting:
    """Return the setting called `name`, also written as its option, such as ``--batch-size``."""
    key = name.removeprefix("--").replace("-", "_")
    if key in SETTINGS:
        return SETTINGS[key]
    by_label = {each.label.lower().replace(" ", "_"): each.name for each in SETTINGS.values()}
    hint = f"did you mean '{by_label[key]}'?" if key in by_label else did_you_mean(key, SETTINGS)
    line = f"received '{name}' as a setting, expected one of {', '.join(SETTINGS)}"
    raise InputError(f"{line}; {hint}" if hint else line)


def settings_from(keywords: Mapping[str, Any]) -> tuple[ModelSettings, TrainingSettings]:
    """Return the settings of a model and its training from keyword arguments."""
    values = {find_setting(name).name: value for name, value in keywords.items()}
    model = {name: value for name, value in values.items() if name in MODEL_SETTINGS}
    training = {name: value for name, value in values.items() if name in TRAINING_SETTINGS}
    return ModelSettings(**model), TrainingSettings(**training)


def seed_settings(training: TrainingSettings, seeds: int) -> list[TrainingSettings]:
    """Return the settings for each of `seeds` seeds, starting from that of `training`."""
    if _convert(int, seeds) is None or not 1 <= seeds <= MAX_SEEDS:
        raise ArgumentError("seeds", seeds, f"a whole number from 1 to {MAX_SEEDS:,}")
    return [replace(training, seed=training.seed + i) for i in range(seeds)]


def command_options(*settings: ModelSettings | TrainingSettings) -> list[str]:
    """Return the options of ``kerasbn train`` that differ from their defaults, as arguments."""
    arguments = []
    values = {name: value for each in settings for name, value in vars(each).items()}
    for name, value in values.items():
        setting = SETTINGS[name]
        if value == setting.default or (name == "epochs" and values["steps"] is not None):
            continue
        if setting.kind is bool:
            arguments.append(setting.option if value else f"--no-{setting.option[2:]}")
        else:
            arguments += [setting.option, option_text(value)]
    return arguments


def option_text(value: SettingValue) -> str:
    """Return a value exactly as the command line takes it: ``0.01``, ``32,32``, ``true``."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def short_text(value: SettingValue) -> str:
    """Return a value as charts and sentences have it: ``8x32`` for eight layers of 32 units."""
    if isinstance(value, tuple) and len(set(value)) == 1 and len(value) > 1:
        return f"{len(value)}x{value[0]}"
    return option_text(value)


def _convert(kind: type, value: object) -> Any:  # noqa: ANN401 - a value of that kind
    """Return `value` as an instance of `kind`, or None if it has another type."""
    if kind is tuple:
        return _sizes(value)
    accepted = {float: Real, int: Integral}.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return None
    try:
        return kind(value)
    except OverflowError:  # an integer that no float can hold
        return None


_SIZES = r"\s*[0-9]{1,9}\s*(,\s*[0-9]{1,9}\s*)*"


def _sizes(value: object) -> tuple[int, ...] | None:
    """Return layer sizes from numbers, or from text such as ``32,32``."""
    if isinstance(value, str) and re.fullmatch(_SIZES, value):
        value = list(map(int, value.split(",")))
    if not isinstance(value, list | tuple):
        return None
    sizes = [_convert(int, size) for size in value]
    return None if None in sizes else tuple(sizes)
