"""The trials of a grid, and which of them train together."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasbn.common.errors import InputError
from kerasbn.runs import check_name
from kerasbn.sweeps.grid import Grid, load_grid, parse_grid, recipes
from kerasbn.sweeps.trials import (
    MAX_PAIRS,
    check_trials,
    configurations,
    list_batches,
    list_trials,
)
from kerasbn.training.settings import ModelSettings, TrainingSettings


def grid_of(text: str) -> Grid:
    return parse_grid(tomllib.loads(text), "mine", "mine.toml")


def test_every_trial_has_a_name_and_its_settings() -> None:
    grid = grid_of("seeds = 2\n[options]\nseed = 5\nhidden = '8,8'\n[axes]\nlr = [0.1, 1]")
    listed = list_trials(grid)
    assert [each.name for each in listed] == [
        "lr-0.1_bn_seed-5", "lr-0.1_plain_seed-5", "lr-0.1_bn_seed-6", "lr-0.1_plain_seed-6",
        "lr-1_bn_seed-5", "lr-1_plain_seed-5", "lr-1_bn_seed-6", "lr-1_plain_seed-6",
    ]  # fmt: skip
    assert listed[5].model == ModelSettings(bn=False, hidden=(8, 8))
    assert listed[5].training == TrainingSettings(lr=1.0, seed=5)
    assert listed[5].configuration == {"lr": 1.0}


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_as_large_as_they_say(name: str) -> None:
    grid = load_grid(name)
    listed = list_trials(grid)
    assert len(listed) == grid.size == len({each.name for each in listed})
    for each in listed:
        check_name(each.name)


axes = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.lists(st.floats(1e-5, 10), min_size=1, max_size=5, unique=True),
        "batch_size": st.lists(st.integers(2, 64), min_size=1, max_size=3, unique=True),
        "activation": st.just(["relu", "tanh"]),
        "hidden": st.just(["8", "8,8", ",".join(["32"] * 40)]),
        "init": st.just(["normal:0.5", "normal:5"]),
    },
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)  # a busy machine is no finding
@given(axes, st.integers(1, 20), st.sampled_from([[True], [False], [True, False]]))
def test_batches_partition_the_trials(
    given_axes: dict[str, Any], seeds: int, kinds: list[bool]
) -> None:
    raw = {"seeds": seeds, "axes": given_axes | {"bn": kinds}}
    listed = list_trials(parse_grid(raw, "any", "any"))
    found = list_batches(listed)
    names = [trial.name for batch in found for trial in batch.trials]
    assert sorted(names) == sorted(each.name for each in listed)
    assert len(set(names)) == len(names)
    assert all(len(name) <= 100 for name in names)
    assert [batch.number for batch in found] == list(range(len(found)))
    sizes: dict[object, list[int]] = {}
    for batch in found:
        assert len(batch.trials) <= MAX_PAIRS * len(kinds)
        # A batch trains as one ensemble with BN and one without.
        shapes = {
            (replace(trial.model, bn=True), replace(trial.training, lr=1, seed=0))
            for trial in batch.trials
        }
        assert len(shapes) == 1
        # Both trials of a pair are in one batch, so that they see the same examples.
        pairs: dict[object, set[bool]] = {}
        for trial in batch.trials:
            pairs.setdefault(trial.training, set()).add(trial.bn)
        assert all(pair == set(kinds) for pair in pairs.values())
        sizes.setdefault(shapes.pop(), []).append(len(batch.trials))
    for same in sizes.values():
        assert max(same) - min(same) <= len(kinds)  # nearly equal sizes
        assert len(same) == -(-sum(same) // (MAX_PAIRS * len(kinds)))  # and no more than needed


def test_learning_rates_and_seeds_train_together() -> None:
    listed = list_trials(grid_of("seeds = 2\n[axes]\nlr = [0.1, 1]\nbatch_size = [8, 16]"))
    assert [len(batch.trials) for batch in list_batches(listed)] == [8, 8]


def test_a_sample_is_reproducible_and_within_its_ranges() -> None:
    text = """
        sample = 200
        sample_seed = {seed}
        [axes]
        lr = {{ log = [1e-4, 1] }}
        batch_size = {{ linear = [2, 64] }}
        activation = ["relu", "tanh", "elu"]
    """
    drawn = list(configurations(grid_of(text.format(seed=1))))
    assert drawn == list(configurations(grid_of(text.format(seed=1))))
    assert drawn != list(configurations(grid_of(text.format(seed=2))))
    assert len(drawn) == 200
    rates = sorted(float(point["lr"]) for point in drawn)  # type: ignore[arg-type] # numbers
    assert 1e-4 <= rates[0] <= rates[-1] <= 1
    assert 0.005 < rates[100] < 0.02  # the middle of a logarithmic scale is 0.01
    sizes = [point["batch_size"] for point in drawn]
    assert all(type(size) is int for size in sizes)
    assert {point["activation"] for point in drawn} == {"relu", "tanh", "elu"}
    # Exactly these numbers: a study can be continued with a later version.
    assert drawn[0] == {"lr": 0.000345, "batch_size": 55, "activation": "elu"}


def test_a_combination_drawn_twice_is_trained_once() -> None:
    grid = grid_of("sample = 50\n[axes]\nactivation = ['relu', 'tanh']")
    assert len(list_trials(grid)) == 4


def test_trials_that_do_not_suit_the_dataset_are_refused_by_name() -> None:
    listed = list_trials(grid_of("[axes]\nbatch_size = [8, 1]"))
    with pytest.raises(InputError, match=r"batch_size-1_bn_seed-0: batch_size=1: .*at least 2"):
        check_trials(listed, 100)
    with pytest.raises(InputError, match="at most the 7 training examples"):
        check_trials(listed, 7)
    check_trials(list_trials(grid_of("[options]\nbn = false\n[axes]\nbatch_size = [1]")), 100)
