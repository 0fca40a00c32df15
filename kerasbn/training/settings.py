"""What a user can choose about a training, checked before anything heavy is loaded.

The fields are the options of the command line, by name, with the same defaults.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kerasbn.errors import InputError, expected

ACTIVATIONS = ("relu", "sigmoid", "tanh", "elu", "gelu", "silu", "leaky_relu", "linear")
POSITIONS = ("before", "after")
OPTIMIZERS = ("adam", "sgd")
MOST_SEEDS = 1000  # of one comparison
MOST_UNITS = 1_000_000  # of one layer
INITS = ("glorot_uniform", "he_normal", "torch", "normal")


@dataclass(frozen=True)
class ModelSettings:
    """What distinguishes one network from another.

    Attributes:
        bn: whether every hidden layer is normalized.
        hidden: units of each hidden layer.
        activation: one of `ACTIVATIONS`.
        bn_position: whether the normalization comes ``before`` or ``after`` the activation.
        bn_momentum: weight of the old value when a moving statistic is updated.
        bn_epsilon: what is added to the variance.
        init: ``glorot_uniform``, ``he_normal``, ``torch`` or ``normal:STD``.
        bias_before_bn: whether a Dense whose output is normalized keeps a bias of its own.

    Raises:
        InputError: if a value is out of its range.
    """

    bn: bool = True
    hidden: tuple[int, ...] = (32, 32)
    activation: str = "relu"
    bn_position: str = "before"
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    init: str = "glorot_uniform"
    bias_before_bn: bool = False

    def __post_init__(self) -> None:
        for size in self.hidden:
            if not 1 <= size <= MOST_UNITS:
                raise _layer_size(",".join(map(str, self.hidden)), str(size))
        _check_choice("--activation", self.activation, ACTIVATIONS)
        _check_choice("--bn-position", self.bn_position, POSITIONS)
        if not 0 <= self.bn_momentum < 1:
            raise expected(
                f"--bn-momentum {self.bn_momentum}",
                f"{self.bn_momentum} as the weight of the old statistics",
                "a number from 0 up to, but not, 1",
                "PyTorch's momentum 0.1 is Keras's 0.9",
            )
        if not 0 < self.bn_epsilon < math.inf:
            raise expected(
                f"--bn-epsilon {self.bn_epsilon}",
                f"{self.bn_epsilon} to add to the variance",
                "a finite number above 0",
            )
        parse_init(self.init)


@dataclass(frozen=True)
class TrainingSettings:
    """How networks are trained.

    Attributes:
        optimizer: ``adam`` or ``sgd``.
        lr: learning rate.
        batch_size: digits per step; an incomplete last batch of an epoch is dropped.
        epochs: passes over the training set.
        steps: batches in all, which overrides `epochs`; None to go by epochs.
        seed: what the initial kernels and the order of the batches depend on.

    Raises:
        InputError: if a value is out of its range.
    """

    optimizer: str = "adam"
    lr: float = 0.01
    batch_size: int = 32
    epochs: int = 10
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("--optimizer", self.optimizer, OPTIMIZERS)
        if not 0 < self.lr < math.inf:
            raise expected(
                f"--lr {self.lr}", f"{self.lr} as the learning rate", "a finite number above 0"
            )
        counts = {"--batch-size": self.batch_size, "--epochs": self.epochs, "--steps": self.steps}
        for option, value in counts.items():
            if value is not None and not 1 <= value < 2**31:
                wanted = "a whole number above 0" if value < 1 else "a number below 2^31"
                raise expected(f"{option} {value}", str(value), wanted)
        if not 0 <= self.seed < 2**31:
            raise expected(f"--seed {self.seed}", str(self.seed), "a whole number from 0 to 2^31-1")

    def check(self, networks: Iterable[ModelSettings], size: int) -> None:
        """Raise `InputError` if these networks cannot be trained so on `size` digits."""
        if self.batch_size > size:
            raise expected(
                f"--batch-size {self.batch_size}",
                f"a batch of {self.batch_size:,}",
                f"at most the {size:,} digits of the training set",
            )
        if self.batch_size == 1 and any(network.bn for network in networks):
            raise InputError(
                "--batch-size 1: received one digit per batch for a network with batch "
                "normalization, expected at least 2 (the variance of one digit is 0, and every "
                "normalized value with it); use a larger batch or train --no-bn"
            )


def check_seeds(count: int, training: TrainingSettings) -> list[TrainingSettings]:
    """The settings for each of `count` seeds, from that of `training` on.

    Raises:
        InputError: if there are too few or too many, or a seed is out of range.
    """
    if not 1 <= count <= MOST_SEEDS:
        raise expected(f"--seeds {count}", str(count), f"a whole number from 1 to {MOST_SEEDS:,}")
    return [replace(training, seed=training.seed + i) for i in range(count)]


def parse_hidden(text: str) -> tuple[int, ...]:
    """The sizes of the hidden layers from ``32,32``.

    Raises:
        InputError: if a part is not a whole number from 1 to `MOST_UNITS`.
    """
    parts = [part.strip() for part in text.split(",")]
    # Of several bad parts the most telling one is named: one that says something, not an empty one.
    for part in sorted(parts, key=lambda part: not part):
        is_number = part.isascii() and part.isdecimal() and len(part) < 10
        if not is_number or not 1 <= int(part) <= MOST_UNITS:
            raise _layer_size(text, part)
    return tuple(int(part) for part in parts)


def parse_init(text: str) -> tuple[str, float]:
    """The initializer's name and, for ``normal:STD``, its standard deviation (otherwise 0).

    Raises:
        InputError: if it is none of `INITS`, or the standard deviation no finite number above 0.
    """
    name, _, number = text.partition(":")
    if text in INITS and text != "normal":
        return text, 0.0
    try:
        std = float(number)
    except ValueError:
        std = math.nan
    if name != "normal" or not 0 < std < math.inf:
        raise expected(
            f"--init {text}",
            f"'{text}'",
            "glorot_uniform, he_normal, torch or normal:STD, such as --init normal:0.05",
        )
    return name, std


def _layer_size(text: str, part: str) -> InputError:
    return expected(
        f"--hidden {text}",
        f"'{part}' as a layer size",
        f"whole numbers from 1 to {MOST_UNITS:,} separated by commas, such as --hidden 32,32",
    )


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise expected(f"{option} {value}", f"'{value}'", f"one of {', '.join(choices)}")
