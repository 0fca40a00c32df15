"""The command on a page, read by the command line itself, gives the settings it was made from."""

import json
import shlex
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasbn.cli.options import model_settings, training_settings
from kerasbn.reports.document import Command, Table
from kerasbn.reports.repeat import (
    compare_line,
    repeat_of,
    settings_of,
    settings_of_pairs,
    train_line,
)
from kerasbn.reports.sources import Data, Pairs, Trained, read_subject
from kerasbn.training.settings import (
    ACTIVATIONS,
    SETTINGS,
    ModelSettings,
    TrainingSettings,
)

DATA = Data("mnist-sample", "0" * 64, 4000, 1000, "")
positive = st.floats(1e-12, 1e6, allow_nan=False)
networks = st.builds(
    ModelSettings,
    bn=st.booleans(),
    hidden=st.lists(st.integers(1, 999), min_size=1, max_size=4).map(tuple),
    activation=st.sampled_from(ACTIVATIONS),
    bn_position=st.sampled_from(SETTINGS["bn_position"].choices),
    bn_momentum=st.floats(0, 1, exclude_max=True),
    bn_epsilon=positive,
    init=st.sampled_from(["glorot_uniform", "he_normal", "torch", "normal:0.05"]),
    bias_before_bn=st.booleans(),
)
trainings = st.builds(
    TrainingSettings,
    optimizer=st.sampled_from(SETTINGS["optimizer"].choices),
    lr=positive,
    batch_size=st.integers(1, 9999),
    epochs=st.integers(1, 999),
    steps=st.none() | st.integers(1, 99999),
    seed=st.integers(0, 2**31 - 9),
)


def trained(network: ModelSettings, training: TrainingSettings) -> Trained:
    return Trained("x", network, training, DATA, "CPU", "finished", {"epoch": []})


def pairs(network: ModelSettings, training: TrainingSettings, count: int) -> Pairs:

    with_bn, without_bn = (
        tuple(
            trained(replace(network, bn=bn), replace(training, seed=training.seed + i))
            for i in range(count)
        )
        for bn in (True, False)
    )
    return Pairs("x", with_bn, without_bn)


def parsed(line: str) -> dict[str, Any]:
    """What the command line makes of it."""
    program, name, *arguments = shlex.split(line)
    assert program == "kerasbn"
    command = import_module(f"kerasbn.cli.{name}").command
    assert isinstance(command, click.Command)
    return command.make_context(name, arguments).params


def without_what_steps_override(training: TrainingSettings) -> TrainingSettings:

    return training if training.steps is None else replace(training, epochs=10)


@settings(deadline=None)  # the first one imports the command
@given(networks, trainings)
def test_the_command_of_a_run_gives_its_settings(
    network: ModelSettings, training: TrainingSettings
) -> None:
    values = parsed(train_line(trained(network, training)))
    assert model_settings(values) == network
    assert training_settings(values) == without_what_steps_override(training)
    assert values["dataset"] == "mnist-sample"
    assert values["run"] is None
    assert not values["probe"]


@settings(deadline=None)  # the first one imports the command
@given(networks, trainings, st.integers(1, 9))
def test_the_command_of_a_comparison_gives_its_settings(
    network: ModelSettings, training: TrainingSettings, count: int
) -> None:
    values = parsed(compare_line(pairs(network, training, count)))

    assert replace(model_settings(values), bn=network.bn) == network
    assert training_settings(values) == without_what_steps_override(training)
    assert values["seeds"] == (None if count == 1 else count)


def test_defaults_are_not_said() -> None:
    line = train_line(trained(ModelSettings(), TrainingSettings()))
    assert line == "kerasbn train --bn --dataset mnist-sample"


def test_runs_put_together_are_repeated_pair_by_pair(tmp_path: Path) -> None:
    """Their seeds need not follow each other, and nothing says that they were trained at once."""
    together = pairs(ModelSettings(), TrainingSettings(seed=3), 2)
    command, _ = repeat_of(together).blocks
    assert isinstance(command, Command)
    assert [training_settings(parsed(line)).seed for line in command.lines] == [3, 4]
    assert [parsed(line)["seeds"] for line in command.lines] == [None, None]
    command, _ = repeat_of(replace(together, path=tmp_path)).blocks
    assert isinstance(command, Command)
    (line,) = command.lines
    assert (parsed(line)["seeds"], parsed(line)["seed"]) == (2, 3)


@pytest.mark.parametrize("steps", [None, 5000])
def test_an_interrupted_run_is_repeated_as_far_as_it_came(steps: int | None) -> None:
    stopped = replace(
        trained(ModelSettings(), TrainingSettings(epochs=500, steps=steps)),
        status="interrupted",
        history={"epoch": [1.0, 2.0, 3.0]},
    )
    assert training_settings(parsed(train_line(stopped))) == TrainingSettings(epochs=3)
    nothing = replace(stopped, history={"epoch": []})
    assert training_settings(parsed(train_line(nothing))).steps == steps


def test_all_settings_are_shown() -> None:
    network = ModelSettings(True, (7, 9), "tanh", "after", 0.77, 0.0033, "normal:0.055", True)
    training = TrainingSettings(
        optimizer="sgd", lr=0.0123, batch_size=47, epochs=10, steps=591, seed=83
    )
    tables = [
        *settings_of([trained(network, training)]).blocks,
        *settings_of_pairs(pairs(network, training, 1)).blocks,
    ]
    for table in tables:
        assert isinstance(table, Table)
        text = json.dumps([[cell.text for cell in row] for row in table.rows])
        for value in ("7, 9", "tanh", "after", "0.77", "0.0033", "normal:0.055", "sgd", "0.0123",
                      "47", "591", "83", "4,000", "1,000", "mnist-sample", "CPU"):  # fmt: skip
            assert value in text, value


def test_what_differs_stands_apart() -> None:
    chosen = [trained(ModelSettings(bn), TrainingSettings(lr=lr)) for bn, lr in
              ((True, 0.1), (True, 0.2), (False, 0.2))]  # fmt: skip
    same, differing = settings_of(chosen).blocks
    assert isinstance(same, Table)
    assert isinstance(differing, Table)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in differing.rows}
    assert rows["Learning rate"] == ["0.1", "0.2", "0.2"]
    assert rows["Batch normalization"] == ["yes", "yes", "no"]
    assert rows["Epsilon"] == ["1e-05", "1e-05", "\u2013"]
    assert {"Seed", "Optimizer"} <= {row[0].text for row in same.rows}


def test_a_probed_run_is_repeated_with_probes(probed: Path) -> None:

    found = read_subject(probed)
    assert isinstance(found, Pairs)
    assert parsed(compare_line(found))["probe"]
    assert parsed(train_line(found.first))["probe"]
