"""A grid is what its file says, and what it cannot be is told in one line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasbn.errors import InputError
from kerasbn.sweeps.grid import check_size, load, parse, recipes, values_of_text
from kerasbn.sweeps.trials import configurations, groups, points

AXES = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.lists(st.floats(1e-4, 1), min_size=1, max_size=4, unique=True),
        "batch_size": st.lists(st.integers(2, 512), min_size=1, max_size=3, unique=True),
        "activation": st.lists(st.sampled_from(["relu", "tanh"]), min_size=1, unique=True),
        "hidden": st.lists(st.sampled_from(["8", "8,8", "4,9"]), min_size=1, unique=True),
    },
)


def grid(raw: dict[str, Any], **changes: Any) -> Any:
    return parse(raw, "test", "grid.toml", changes)


@given(axes=AXES, seeds=st.integers(1, 9))
def test_every_combination_is_trained_with_and_without_for_every_seed(
    axes: dict[str, Any], seeds: int
) -> None:
    chosen = grid({"axes": axes, "seeds": seeds})
    listed = configurations(chosen)
    assert len(listed) == chosen.size
    assert len({each.name for each in listed}) == len(listed)
    wanted = {
        (str(point), seed, bn)
        for point in points(chosen)
        for seed in range(seeds)
        for bn in (True, False)
    }
    assert {(str(each.point), each.training.seed, each.bn) for each in listed} == wanted


@given(axes=AXES, seeds=st.integers(1, 9))
def test_groups_share_all_but_seed_rate_and_normalization(axes: dict[str, Any], seeds: int) -> None:
    listed = configurations(grid({"axes": axes, "seeds": seeds}))
    parts = groups(listed)
    assert sorted(m.name for part in parts for m in part.members) == sorted(c.name for c in listed)
    for part in parts:
        assert len(part.members) <= 16
        for fixed in ("hidden", "activation"):
            assert len({getattr(m.network, fixed) for m in part.members}) == 1
        assert len({m.training.batch_size for m in part.members}) == 1


@given(axes=AXES)
def test_its_record_is_the_same_grid(axes: dict[str, Any]) -> None:
    chosen = grid({"axes": axes, "options": {"epochs": 2, "bn": True}, "seeds": 2})
    assert parse(chosen.record(), "test", "study.json") == chosen


def test_a_sample_depends_on_its_seed_alone() -> None:
    raw = {"sample": 20, "axes": {"lr": {"log": [1e-4, 1]}, "batch_size": {"linear": [8, 64]}}}
    first, second = (list(points(grid(raw, sample_seed=seed))) for seed in (1, 2))
    assert first == list(points(grid(raw, sample_seed=1)))
    assert first != second
    rates, sizes = ([float(str(point[key])) for point in first] for key in ("lr", "batch_size"))
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert all(8 <= size <= 64 for size in sizes)
    below = sum(rate < 1e-2 for rate in rates)
    assert 5 <= below <= 15  # half of a log scale lies below its geometric mean


def test_changes_win_over_the_file() -> None:
    raw = {"options": {"steps": 50000, "lr": 0.1}, "axes": {"activation": ["relu", "tanh"]}}
    chosen = grid(raw, epochs=2, activation="relu", lr=[0.1, 0.2], seeds=4)
    assert chosen.options == {"epochs": 2, "activation": "relu"}
    assert chosen.axes == {"lr": (0.1, 0.2)}
    assert chosen.seeds == 4


def test_of_epochs_and_steps_the_grid_tells_the_one_that_counts() -> None:
    raw = {"options": {"epochs": 5}, "axes": {"activation": ["relu", "tanh"]}}
    assert grid(raw, steps=100).options == {"steps": 100}
    assert grid(raw, epochs=2, steps=100).options == {"steps": 100}
    assert grid(raw, steps=[10, 20]).options == {}


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_grid_with_its_question_and_source(name: str) -> None:
    chosen = load(name)
    assert chosen.question.endswith("?")
    assert chosen.source
    assert chosen.kinds == (True, False)
    assert configurations(chosen)


def test_the_recipes_are_those_that_were_promised() -> None:
    assert list(recipes()) == ["batch-size", "depth", "figure1", "learning-rate", "teaching-table"]
    table = load("teaching-table")
    assert table.axes["lr"] == (0.01, 1.0, 2.0)
    assert table.axes["init"] == ("normal:0.05", "normal:5")
    assert table.options["hidden"] == (100, 100, 100)
    assert load("figure1").options["steps"] == 50_000
    assert 2 in load("batch-size").axes["batch_size"]  # type: ignore[operator] # a list of values


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({}, "grid.toml: received an empty grid"),
        ({"axes": {}}, "received an empty grid"),
        ({"axis": {"lr": [0.1]}}, "received 'axis', expected one of question, source"),
        ({"axes": {"learning_rate": [0.1]}}, "received 'learning_rate' in [axes]"),
        ({"options": {"epoch": 3}}, "did you mean 'epochs'?"),
        ({"axes": {"lr": []}}, "lr: received an empty list"),
        ({"axes": {"lr": [0.1, 0.1]}}, "lr: received 0.1 twice"),
        ({"axes": {"batch_size": [8], "batch-size": [16]}}, "'batch_size' in [axes] twice"),
        ({"axes": {"lr": 0.1}}, "expected a list of values in [axes]"),
        ({"axes": {"lr": ["high"]}}, "lr: received 'high', expected a number"),
        ({"axes": {"epochs": [1.5]}}, "epochs: received 1.5, expected a whole number"),
        ({"axes": {"seed": [1, 2]}}, "seeds = N"),
        ({"axes": {"lr": {"log": [1e-4, 1]}}}, "received a range without a sample"),
        ({"axes": {"lr": {"log": [0, 1]}}, "sample": 2}, "bounds above 0 for a log range"),
        ({"axes": {"lr": {"log": [1, 0.1]}}, "sample": 2}, "lr = { log = [LOW, HIGH] }"),
        ({"axes": {"activation": {"log": [1, 2]}}, "sample": 2}, "its values are no numbers"),
        ({"sample": 2, "options": {"lr": 0.1}}, "received a sample of no axes"),
        ({"options": {"lr": 0.1}, "axes": {"lr": [0.1]}}, "received it in [options] and in [axes]"),
        ({"options": 3}, "expected a table: [options]"),
        ({"seeds": 0, "options": {"lr": 0.1}}, "seeds: received 0"),
        ({"options": {"bn": "yes"}}, "bn: received ['yes'], expected true or false"),
    ],
)
def test_what_is_no_grid_is_told_in_one_line(raw: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        grid(raw)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_value_no_training_takes_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(InputError, match=r"lr=-0\.1"):
        configurations(grid({"axes": {"lr": [0.1, -0.1]}}))


def test_a_large_grid_is_asked_about_and_one_of_millions_refused() -> None:
    large = grid({"axes": {"batch_size": list(range(2, 602))}})
    check_size(large, "grid.toml", yes=True)
    with pytest.raises(InputError, match=r"1,200 networks.*--yes"):
        check_size(large, "grid.toml", yes=False)
    with pytest.raises(InputError, match="at most 1,000,000"):
        check_size(grid(large.record(), seeds=1000), "grid.toml", yes=True)


def test_a_file_that_is_no_toml_and_a_name_that_is_nearly_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text("[axes\nlr = 3")
    with pytest.raises(InputError, match="text that is not TOML"):
        load(str(file))
    with pytest.raises(InputError, match="did you mean 'learning-rate'"):
        load("learning-rat")


def test_set_takes_one_value_or_several() -> None:
    assert values_of_text("lr", "0.1") == 0.1
    assert values_of_text("batch-size", "8 16") == [8, 16]
    assert values_of_text("hidden", "32,32 64") == ["32,32", "64"]
    with pytest.raises(InputError, match="no value"):
        values_of_text("lr", " ")
    with pytest.raises(InputError, match="did you mean 'activation'"):
        values_of_text("activatoin", "relu")
