"""Settings are checked in one place, and everything about them is generated from their fields."""

import math
from dataclasses import fields
from importlib import import_module
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasbn.common.errors import ArgumentError, InputError
from kerasbn.training.settings import (
    SETTINGS,
    ModelSettings,
    TrainingSettings,
    command_options,
    find_setting,
    option_text,
    seed_settings,
    settings_from,
    short_text,
)

sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=6).map(tuple)
positive = st.floats(1e-9, 1e9)
model_settings = st.builds(
    ModelSettings,
    bn=st.booleans(),
    hidden=sizes,
    activation=st.sampled_from(SETTINGS["activation"].choices),
    bn_position=st.sampled_from(SETTINGS["bn_position"].choices),
    bn_momentum=st.floats(0, 1, exclude_max=True),
    bn_epsilon=positive,
    init=st.sampled_from(["glorot_uniform", "he_normal", "torch", "normal:0.05"]),
    bias_before_bn=st.booleans(),
)
counts = st.integers(1, 2**31 - 1)
training_settings = st.builds(
    TrainingSettings,
    epochs=st.just(10),  # steps override it, so that not both stand in a command
    steps=st.none() | counts,
    batch_size=counts,
    optimizer=st.sampled_from(SETTINGS["optimizer"].choices),
    lr=positive,
    seed=st.integers(0, 2**31 - 1),
    deterministic=st.booleans(),
)


@given(sizes)
def test_layer_sizes_are_read_back(hidden: tuple[int, ...]) -> None:
    assert SETTINGS["hidden"].parse(option_text(hidden)) == hidden


@pytest.mark.parametrize(
    "text",
    ["32,,x", "32,,32", "", "0", "-3,4", "3.5", "\u0663", "\u00b2", "1e3", "1000001", "9" * 5000],
)
def test_a_bad_layer_size_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError) as error:
        SETTINGS["hidden"].parse(text)
    line = error.value.for_command_line()
    wanted = f"--hidden {text}: received '{text}', expected layer sizes from 1 to"
    assert line.startswith(wanted[:500])  # a very long one is cut


@pytest.mark.parametrize(
    "text",
    ["", "normal", "normal:", "normal:0", "normal:nan", "normal:-1", "torch:2", "torch:", "lecun"],
)
def test_a_bad_initializer_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"init=.*expected glorot_uniform, he_normal, torch"):
        ModelSettings(init=text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 0.0),
        ("lr", -0.1),
        ("lr", "fast"),
        ("lr", True),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("epochs", -1),
        ("epochs", None),
        ("steps", 0),
        ("steps", 2**31),
        ("seed", -1),
        ("optimizer", "adamw"),
        ("optimizer", 3),
        ("hidden", (32, 0)),
        ("hidden", ()),
        ("hidden", 32),
        ("hidden", (10**6 + 1,)),
        ("hidden", (1.5,)),
        ("activation", "mish"),
        ("bn", 1),
        ("bn_position", "between"),
        ("bn_momentum", 1.0),
        ("bn_momentum", math.nan),
        ("bn_epsilon", 0.0),
        ("bn_epsilon", math.inf),
        ("init", "zeros"),
    ],
)
def test_a_bad_value_names_the_argument_or_the_option(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        settings_from({name: value})
    assert str(error.value).startswith(f"{name}={value!r}: received {value!r}, expected ")
    assert error.value.for_command_line().startswith(f"--{name.replace('_', '-')}")


def test_an_integer_that_no_float_can_hold_is_refused() -> None:
    with pytest.raises(ArgumentError, match="expected a finite number above 0"):
        settings_from({"lr": 10**400})


def test_numbers_of_other_libraries_are_taken() -> None:
    training = TrainingSettings(lr=np.float32(0.5), batch_size=np.int64(8))  # type: ignore[arg-type]
    assert training == TrainingSettings(lr=0.5, batch_size=8)
    assert type(training.batch_size) is int
    assert ModelSettings(hidden=[8, 8]).hidden == (8, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("learning_rate", "did you mean 'lr'?"),
        ("epoch", "did you mean 'epochs'?"),
        ("batchsize", "did you mean 'batch_size'?"),
        ("initializer", "did you mean 'init'?"),
        ("batch_norm_is_nice", ""),
    ],
)
def test_an_unknown_setting_gets_the_nearest_name(name: str, advice: str) -> None:
    with pytest.raises(InputError, match=f"received '{name}' as a setting") as error:
        settings_from({name: 1})
    assert str(error.value).endswith(advice)


def test_a_setting_is_found_by_its_option() -> None:
    assert find_setting("--batch-size") is find_setting("batch_size")


@given(model_settings, training_settings)
def test_a_command_with_the_options_gives_the_settings_back(
    model: ModelSettings, training: TrainingSettings
) -> None:
    command: click.Command = import_module("kerasbn.cli.train").command
    options = import_module("kerasbn.cli.options")
    values = command.make_context("train", command_options(model, training)).params
    assert options.settings_of(values) == (model, training)


def test_every_setting_has_all_that_is_generated_from_it() -> None:
    assert list(SETTINGS) == [f.name for f in (*fields(ModelSettings), *fields(TrainingSettings))]
    for setting in SETTINGS.values():
        assert setting.help.endswith(".")
        assert setting.label
        assert setting.expects
        assert setting.check(setting.default) == setting.default


def test_values_in_words() -> None:
    assert option_text(0.01) == "0.01"
    assert option_text(True) == "true"
    assert short_text((32,) * 8) == "8x32"
    assert short_text((32, 16)) == "32,16"
    assert short_text((32,)) == "32"


def test_a_batch_cannot_be_larger_than_the_data() -> None:
    TrainingSettings(batch_size=640).check([ModelSettings()], 640)
    with pytest.raises(InputError, match=r"batch_size=641: .* at most the 640 training examples"):
        TrainingSettings(batch_size=641).check([ModelSettings()], 640)


def test_one_example_has_no_variance() -> None:
    alone = TrainingSettings(batch_size=1)
    alone.check([ModelSettings(bn=False)], 640)
    with pytest.raises(InputError, match="one example has no variance"):
        alone.check([ModelSettings(bn=False), ModelSettings(bn=True)], 640)


def test_seeds_count_from_the_first() -> None:
    assert [each.seed for each in seed_settings(TrainingSettings(seed=3), 4)] == [3, 4, 5, 6]
    for seeds in (0, 1001, 2.5):
        with pytest.raises(ArgumentError, match="expected a whole number from 1 to 1,000"):
            seed_settings(TrainingSettings(), seeds)  # type: ignore[arg-type]
