"""Commands on a page, parsed by the command line, give the settings they were made from."""

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

from kerasbn.cli.options import settings_of
from kerasbn.experiments.comparison import Comparison, comparison_of
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.document import Paragraph, Table
from kerasbn.reports.reproduce import (
    compare_command,
    compare_commands,
    comparison_settings,
    labeled,
    reproduce,
    runs_settings,
    train_command,
)
from kerasbn.reports.sources import find_subject
from kerasbn.runs import DataRecord
from kerasbn.training.settings import SETTINGS, ModelSettings, TrainingSettings

SAMPLE = DataRecord("mnist-sample", "0" * 64, 4000, 1000)
MNIST = DataRecord("mnist", "1" * 64, 60000, 10000)
positive = st.floats(1e-12, 1e6, allow_nan=False)
models = st.builds(
    ModelSettings,
    bn=st.booleans(),
    hidden=st.lists(st.integers(1, 999), min_size=1, max_size=4).map(tuple),
    activation=st.sampled_from(SETTINGS["activation"].choices),
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
datasets = st.sampled_from([SAMPLE, MNIST])


def member(
    model: ModelSettings, training: TrainingSettings, data: DataRecord = SAMPLE, name: str = "x"
) -> TrainedModel:
    return TrainedModel(name, model, training, data, "CPU", "finished", {"epoch": []})


def compared(
    model: ModelSettings, training: TrainingSettings, seeds: int, data: DataRecord = SAMPLE
) -> Comparison:
    with_bn, without_bn = (
        tuple(
            member(replace(model, bn=bn), replace(training, seed=training.seed + i), data)
            for i in range(seeds)
        )
        for bn in (True, False)
    )
    return Comparison("x", with_bn, without_bn)


def parsed(line: str) -> dict[str, Any]:
    program, name, *arguments = shlex.split(line)
    assert program == "kerasbn"
    command = import_module(f"kerasbn.cli.{name}").command
    assert isinstance(command, click.Command)
    return command.make_context(name, arguments).params


def without_overridden_epochs(training: TrainingSettings) -> TrainingSettings:
    return training if training.steps is None else replace(training, epochs=10)


@settings(deadline=None)  # the first example imports the command
@given(models, trainings, datasets)
def test_the_command_of_a_run_gives_its_settings(
    model: ModelSettings, training: TrainingSettings, data: DataRecord
) -> None:
    values = parsed(train_command(member(model, training, data)))
    assert settings_of(values) == (model, without_overridden_epochs(training))
    assert values["dataset"] == data.name
    assert values["data_dir"] == ("mnist" if data is MNIST else None)
    assert values["run"] is None
    assert not values["probe"]


@settings(deadline=None)  # the first example imports the command
@given(models, trainings, st.integers(1, 9), datasets)
def test_the_command_of_a_comparison_gives_its_settings(
    model: ModelSettings, training: TrainingSettings, seeds: int, data: DataRecord
) -> None:
    values = parsed(compare_command(compared(model, training, seeds, data)))
    assert settings_of(values) == (replace(model, bn=True), without_overridden_epochs(training))
    assert values["data_dir"] == ("mnist" if data is MNIST else None)
    assert values["seeds"] in ({None, 1} if seeds == 1 else {seeds})


def test_defaults_are_left_out() -> None:
    line = train_command(member(ModelSettings(), TrainingSettings()))
    assert line == "kerasbn train --bn --dataset mnist-sample"


def test_a_page_says_what_to_know_about_the_data_of_a_command() -> None:
    folder, python = "--data-dir is the folder with the four MNIST files", "were given from Python"
    own = DataRecord("mine", "2" * 64, 640, 100)
    for data, expected in ((MNIST, [True, False]), (SAMPLE, [False] * 2), (own, [False, True])):
        model = member(ModelSettings(), TrainingSettings(), data)
        section = reproduce([], [model])
        words = " ".join(each.text for each in section.blocks if isinstance(each, Paragraph))
        assert [folder in words, python in words] == expected
    assert train_command(model) == "kerasbn train --bn"


def test_separate_runs_are_reproduced_pair_by_pair(tmp_path: Path) -> None:
    """Their seeds need not be consecutive."""
    found = compared(ModelSettings(), TrainingSettings(seed=3), 2)
    lines = compare_commands(found)
    assert [settings_of(parsed(line))[1].seed for line in lines] == [3, 4]
    (line,) = compare_commands(replace(found, path=tmp_path))
    assert (parsed(line)["seeds"], parsed(line)["seed"]) == (2, 3)


@pytest.mark.parametrize("steps", [None, 5000])
def test_an_interrupted_run_is_reproduced_up_to_its_last_epoch(steps: int | None) -> None:
    stopped = replace(
        member(ModelSettings(), TrainingSettings(epochs=500, steps=steps)),
        status="interrupted",
        history={"epoch": [1.0, 2.0, 3.0]},
    )
    assert settings_of(parsed(train_command(stopped)))[1] == TrainingSettings(epochs=3)
    nothing = replace(stopped, history={"epoch": []})
    assert settings_of(parsed(train_command(nothing)))[1].steps == steps


@pytest.mark.parametrize("steps", [None, 591])
def test_all_settings_are_shown(steps: int | None) -> None:
    model = ModelSettings(True, (7, 9), "tanh", "after", 0.77, 0.0033, "normal:0.055", True)
    training = TrainingSettings(
        optimizer="sgd", lr=0.0123, batch_size=47, epochs=61, steps=steps, seed=83
    )
    tables = [
        *runs_settings([member(model, training)]).blocks,
        *comparison_settings(compared(model, training, 1)).blocks,
    ]
    for table in tables:
        assert isinstance(table, Table)
        text = json.dumps(table.rows)
        for value in ("7, 9", "tanh", "after", "0.77", "0.0033", "normal:0.055", "sgd", "0.0123",
                      "47", "591" if steps else "61", "83", "4,000", "1,000", "a sample of MNIST",
                      "CPU"):  # fmt: skip
            assert value in text, value


def test_different_settings_have_their_own_table() -> None:
    chosen = [member(ModelSettings(bn=bn), TrainingSettings(lr=lr)) for bn, lr in
              ((True, 0.1), (True, 0.2), (False, 0.2))]  # fmt: skip
    shared, different = runs_settings(chosen).blocks
    assert isinstance(shared, Table)
    assert isinstance(different, Table)
    rows = {row[0]: row[1:] for row in different.rows}
    assert rows["Learning rate"] == ("0.1", "0.2", "0.2")
    assert rows["Batch normalization"] == ("yes", "yes", "no")
    assert rows["BN epsilon"] == ("1e-05", "1e-05", "-")
    assert {"Seed", "Optimizer"} <= {row[0] for row in shared.rows}


def test_labels_name_what_differs() -> None:
    def labels(*chosen: tuple[ModelSettings, TrainingSettings]) -> list[str]:
        members = [member(*each, name=name) for each, name in zip(chosen, "ab", strict=False)]
        return [label for label, _ in labeled(members)]

    default, plain = ModelSettings(), ModelSettings(bn=False)
    assert labels((default, TrainingSettings())) == ["a (with BN)"]
    assert labels((default, TrainingSettings()), (default, TrainingSettings())) == ["a", "b"]
    fast = TrainingSettings(lr=0.1, seed=2)
    assert labels((default, TrainingSettings()), (plain, fast)) == [
        "a (with BN, learning rate 0.01, seed 0)",
        "b (without BN, learning rate 0.1, seed 2)",
    ]
    deep = ModelSettings(hidden=(8,) * 3, bn_momentum=0.5)
    assert labels((deep, TrainingSettings()), (default, TrainingSettings(steps=50))) == [
        "a (hidden layers 3x8, BN momentum 0.5, epochs 10)",
        "b (hidden layers 2x32, BN momentum 0.9, steps 50)",
    ]


def test_a_probed_run_is_reproduced_with_probes(probed: Path) -> None:
    found = find_subject(probed)
    assert isinstance(found, Comparison)
    assert parsed(compare_command(found))["probe"]
    assert parsed(train_command(found.first))["probe"]
    assert comparison_of(found.members) is not None
