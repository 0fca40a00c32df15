"""What a grid comes to, and who trains with whom."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasbn.errors import InputError
from kerasbn.runs import check_name
from kerasbn.sweeps.grid import Grid, load, parse, recipes
from kerasbn.sweeps.trials import GROUP, check, configurations, groups, points, text_of
from kerasbn.training.settings import ModelSettings, TrainingSettings


def grid_of(text: str) -> Grid:
    return parse(tomllib.loads(text), "mine", "mine.toml")


def test_one_by_one() -> None:
    grid = grid_of("seeds = 2\n[options]\nseed = 5\nhidden = '8,8'\n[axes]\nlr = [0.1, 1]")
    listed = configurations(grid)
    assert [each.name for each in listed] == [
        "lr-0.1_bn_seed-5", "lr-0.1_plain_seed-5", "lr-0.1_bn_seed-6", "lr-0.1_plain_seed-6",
        "lr-1.0_bn_seed-5", "lr-1.0_plain_seed-5", "lr-1.0_bn_seed-6", "lr-1.0_plain_seed-6",
    ]  # fmt: skip
    assert listed[5].network == ModelSettings(bn=False, hidden=(8, 8))
    assert listed[5].training == TrainingSettings(lr=1.0, seed=5)
    assert listed[5].point == {"lr": 1.0}


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_as_large_as_they_say(name: str) -> None:
    grid = load(name)
    listed = configurations(grid)
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


@settings(max_examples=60, deadline=None)  # a busy machine is no finding
@given(axes, st.integers(1, 20), st.sampled_from([[True], [False], [True, False]]))
def test_groups_are_a_partition_of_equals(
    given_axes: dict[str, Any], seeds: int, kinds: list[bool]
) -> None:
    raw = {"seeds": seeds, "axes": given_axes | {"bn": kinds}}
    listed = configurations(parse(raw, "any", "any"))
    found = groups(listed)
    names = [each.name for group in found for each in group.members]
    assert sorted(names) == sorted(each.name for each in listed)
    assert len(set(names)) == len(names)
    assert all(len(name) <= 100 for name in names)
    assert [group.number for group in found] == list(range(len(found)))
    sizes: dict[object, list[int]] = {}
    for group in found:
        assert len(group.members) <= GROUP * len(kinds)
        # All a group's members can be one ensemble with, and one without normalization.
        shapes = {
            (replace(each.network, bn=True), replace(each.training, lr=1, seed=0))
            for each in group.members
        }
        assert len(shapes) == 1
        # Both of a pair are in one group, so that they see the same batches.
        pairs: dict[object, set[bool]] = {}
        for each in group.members:
            pairs.setdefault(each.training, set()).add(each.bn)
        assert all(pair == set(kinds) for pair in pairs.values())
        sizes.setdefault(shapes.pop(), []).append(len(group.members))
    for same in sizes.values():
        assert max(same) - min(same) <= len(kinds)  # nearly equal sizes
        assert len(same) == -(-sum(same) // (GROUP * len(kinds)))  # and no more than needed


def test_values_that_differ_are_told_apart() -> None:
    momenta = [0.9999999, 0.99999999, 1 / 3, 0.333333]
    assert len(set(map(text_of, momenta))) == len(momenta)
    assert [text_of(value) for value in (0.001, 1.0, (8, 8), True)] == ["0.001", "1", "8,8", "true"]


def test_learning_rates_and_seeds_train_together() -> None:
    listed = configurations(grid_of("seeds = 2\n[axes]\nlr = [0.1, 1]\nbatch_size = [8, 16]"))
    assert [len(group.members) for group in groups(listed)] == [8, 8]


def test_a_sample_is_always_the_same_and_within_its_ranges() -> None:
    text = """
        sample = 200
        sample_seed = {seed}
        [axes]
        lr = {{ log = [1e-4, 1] }}
        batch_size = {{ linear = [2, 64] }}
        activation = ["relu", "tanh", "elu"]
    """
    drawn = list(points(grid_of(text.format(seed=1))))
    assert drawn == list(points(grid_of(text.format(seed=1))))
    assert drawn != list(points(grid_of(text.format(seed=2))))
    assert len(drawn) == 200
    rates = sorted(float(point["lr"]) for point in drawn)  # type: ignore[arg-type] # numbers
    assert 1e-4 <= rates[0] <= rates[-1] <= 1
    assert 0.005 < rates[100] < 0.02  # the middle of a logarithmic scale is 0.01
    sizes = [point["batch_size"] for point in drawn]
    assert all(type(size) is int for size in sizes)
    assert {point["activation"] for point in drawn} == {"relu", "tanh", "elu"}
    # These very numbers: a study begun today must be the same one tomorrow.
    assert drawn[0] == {"lr": 0.000345, "batch_size": 55, "activation": "elu"}


def test_a_combination_drawn_twice_is_trained_once() -> None:
    grid = grid_of("sample = 50\n[axes]\nactivation = ['relu', 'tanh']")
    assert len(configurations(grid)) == 4


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="lr=-1"):
        configurations(grid_of("[axes]\nlr = [-1]"))
    with pytest.raises(InputError, match="--activation mish"):
        configurations(grid_of("[axes]\nactivation = ['mish']"))
    listed = configurations(grid_of("[axes]\nbatch_size = [8, 1]"))
    with pytest.raises(InputError, match=r"batch_size-1_bn_seed-0: --batch-size 1: .*at least 2"):
        check(listed, 100)
    with pytest.raises(InputError, match="at most the 7 digits"):
        check(listed, 7)
    check(configurations(grid_of("[options]\nbn = false\n[axes]\nbatch_size = [1]")), 100)
