"""What cannot be trained is refused in one line that says what would have been right."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasbn.errors import InputError
from kerasbn.training.settings import ModelSettings, TrainingSettings, parse_hidden, parse_init


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_hidden_sizes_are_read_back(sizes: list[int]) -> None:
    assert parse_hidden(",".join(map(str, sizes))) == tuple(sizes)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("32,,x", "'x'"),
        ("32,,32", "''"),
        ("", "''"),
        ("0", "'0'"),
        ("-3,4", "'-3'"),
        ("3.5", "'3.5'"),
        ("٣", "'٣'"),
        ("²", "'²'"),
        ("1e3", "'1e3'"),
        ("1000001", "'1000001'"),
        ("9" * 5000, f"'{'9' * 5000}'"),  # more digits than Python reads
    ],
)
def test_a_bad_layer_size_is_named(text: str, part: str) -> None:
    with pytest.raises(InputError) as error:
        parse_hidden(text)
    line = str(error.value)
    assert line.startswith(f"--hidden {text}: received {part} as a layer size, expected whole")
    assert line.endswith("such as --hidden 32,32")


def test_initializers_are_read() -> None:
    assert parse_init("torch") == ("torch", 0.0)
    assert parse_init("normal:0.05") == ("normal", 0.05)


@pytest.mark.parametrize(
    "text",
    ["", "normal", "normal:", "normal:0", "normal:nan", "normal:-1", "torch:2", "torch:", "lecun"],
)
def test_a_bad_initializer_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"--init .*expected glorot_uniform, he_normal, torch"):
        parse_init(text)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"lr": math.nan}, "--lr nan: received nan as the learning rate"),
        ({"lr": math.inf}, "--lr inf"),
        ({"lr": 0.0}, "--lr 0.0"),
        ({"lr": -0.1}, "--lr -0.1"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"epochs": -1}, "--epochs -1"),
        ({"steps": 0}, "--steps 0"),
        ({"steps": 2**31}, "--steps 2147483648: received 2147483648, expected a number below 2^31"),
        ({"seed": -1}, "--seed -1"),
        ({"optimizer": "adamw"}, "--optimizer adamw: received 'adamw', expected one of adam, sgd"),
    ],
)
def test_bad_training_settings_are_named(fields: dict[str, Any], start: str) -> None:
    with pytest.raises(InputError) as error:
        TrainingSettings(**fields)
    assert str(error.value).startswith(start)
    assert ", expected " in str(error.value)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"hidden": (32, 0)}, "--hidden 32,0: received '0' as a layer size"),
        ({"hidden": (10**6 + 1,)}, "--hidden 1000001: received '1000001' as a layer size"),
        ({"activation": "mish"}, "--activation mish: received 'mish', expected one of relu"),
        ({"bn_position": "between"}, "--bn-position between"),
        ({"bn_momentum": 1.0}, "--bn-momentum 1.0"),
        ({"bn_momentum": math.nan}, "--bn-momentum nan"),
        ({"bn_epsilon": 0.0}, "--bn-epsilon 0.0"),
        ({"bn_epsilon": math.inf}, "--bn-epsilon inf"),
        ({"init": "zeros"}, "--init zeros"),
    ],
)
def test_bad_network_settings_are_named(fields: dict[str, Any], start: str) -> None:
    with pytest.raises(InputError) as error:
        ModelSettings(**fields)
    assert str(error.value).startswith(start)


def test_a_batch_cannot_be_larger_than_the_data() -> None:
    TrainingSettings(batch_size=640).check([ModelSettings()], 640)
    with pytest.raises(InputError, match=r"a batch of 641, expected at most the 640 digits"):
        TrainingSettings(batch_size=641).check([ModelSettings()], 640)


def test_one_digit_has_no_variance_to_normalize_by() -> None:
    alone = TrainingSettings(batch_size=1)
    alone.check([ModelSettings(bn=False)], 640)
    with pytest.raises(InputError, match="variance of one digit is 0"):
        alone.check([ModelSettings(bn=False), ModelSettings(bn=True)], 640)
