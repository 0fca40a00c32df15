"""A grid is what its file says, and invalid ones are refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasbn.common.errors import InputError
from kerasbn.sweeps.grid import Grid, load_grid, parse_change, parse_grid, recipes
from kerasbn.sweeps.trials import configurations, list_batches, list_trials

AXES = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.lists(st.floats(1e-4, 1), min_size=1, max_size=4, unique=True),
        "batch_size": st.lists(st.integers(2, 512), min_size=1, max_size=3, unique=True),
        "activation": st.lists(st.sampled_from(["relu", "tanh"]), min_size=1, unique=True),
        "hidden": st.lists(st.sampled_from(["8", "8,8", "4,9"]), min_size=1, unique=True),
    },
)


def grid(raw: dict[str, Any], **changes: Any) -> Grid:
    return parse_grid(raw, "test", "grid.toml", changes)


@settings(max_examples=30, deadline=None)  # a busy machine is no failure
@given(axes=AXES, seeds=st.integers(1, 9))
def test_every_combination_is_trained_with_and_without_for_every_seed(
    axes: dict[str, Any], seeds: int
) -> None:
    chosen = grid({"axes": axes, "seeds": seeds})
    listed = list_trials(chosen)
    assert len(listed) == chosen.size
    assert len({each.name for each in listed}) == len(listed)
    wanted = {
        (str(configuration), seed, bn)
        for configuration in configurations(chosen)
        for seed in range(seeds)
        for bn in (True, False)
    }
    assert {(str(trial.configuration), trial.seed, trial.bn) for trial in listed} == wanted


@settings(max_examples=30, deadline=None)
@given(axes=AXES, seeds=st.integers(1, 9))
def test_batches_share_all_but_seed_learning_rate_and_bn(axes: dict[str, Any], seeds: int) -> None:
    listed = list_trials(grid({"axes": axes, "seeds": seeds}))
    batches = list_batches(listed)
    assert sorted(t.name for batch in batches for t in batch.trials) == sorted(
        trial.name for trial in listed
    )
    for batch in batches:
        assert len(batch.trials) <= 16
        for fixed in ("hidden", "activation"):
            assert len({getattr(trial.model, fixed) for trial in batch.trials}) == 1
        assert len({trial.training.batch_size for trial in batch.trials}) == 1


@settings(max_examples=30, deadline=None)
@given(axes=AXES)
def test_the_record_describes_the_same_grid(axes: dict[str, Any]) -> None:
    chosen = grid({"axes": axes, "options": {"epochs": 2, "bn": True}, "seeds": 2})
    assert parse_grid(chosen.record(), "test", "study.json") == chosen


def test_a_sample_depends_on_its_seed_alone() -> None:
    raw = {"sample": 20, "axes": {"lr": {"log": [1e-4, 1]}, "batch_size": {"linear": [8, 64]}}}
    first, second = (list(configurations(grid(raw, sample_seed=seed))) for seed in (1, 2))
    assert first == list(configurations(grid(raw, sample_seed=1)))
    assert first != second
    rates, sizes = ([float(str(each[key])) for each in first] for key in ("lr", "batch_size"))
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert all(8 <= size <= 64 for size in sizes)
    below = sum(rate < 1e-2 for rate in rates)
    assert 5 <= below <= 15  # half of a log scale lies below its geometric mean


def test_changes_override_the_file() -> None:
    raw = {"options": {"steps": 50000, "lr": 0.1}, "axes": {"activation": ["relu", "tanh"]}}
    chosen = grid(raw, epochs=2, activation="relu", lr=[0.1, 0.2], seeds=4)
    assert chosen.options == {"epochs": 2, "activation": "relu"}
    assert chosen.axes == {"lr": (0.1, 0.2)}
    assert chosen.seeds == 4


def test_a_change_of_epochs_drops_steps_and_vice_versa() -> None:
    raw = {"options": {"epochs": 5}, "axes": {"activation": ["relu", "tanh"]}}
    assert grid(raw, steps=100).options == {"steps": 100}
    assert grid(raw, epochs=2, steps=100).options == {"steps": 100}
    assert grid(raw, steps=[10, 20]).options == {}


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_grid_with_its_question_and_source(name: str) -> None:
    chosen = load_grid(name)
    assert chosen.question.endswith("?")
    assert chosen.source
    assert chosen.kinds == (True, False)
    assert list_trials(chosen)


def test_the_recipes_have_their_sources_settings() -> None:
    assert list(recipes()) == ["batch-size", "depth", "figure1", "learning-rate", "teaching-table"]
    table = load_grid("teaching-table")
    assert table.axes["lr"] == (0.01, 1.0, 2.0)
    assert table.axes["init"] == ("normal:0.05", "normal:5")
    assert table.options["hidden"] == (100, 100, 100)
    assert load_grid("figure1").options["steps"] == 50_000
    assert 2 in load_grid("batch-size").axes["batch_size"]  # type: ignore[operator] # a list of values


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({}, "grid.toml: received an empty grid"),
        ({"axes": {}}, "received an empty grid"),
        ({"axis": {"lr": [0.1]}}, "received 'axis', expected one of question, source"),
        ({"axes": {"learning_rate": [0.1]}}, "grid.toml: [axes]: received 'learning_rate'"),
        ({"axes": {"learning_rate": [0.1]}}, "did you mean 'lr'?"),
        ({"options": {"epoch": 3}}, "did you mean 'epochs'?"),
        ({"axes": {"lr": []}}, "lr: received an empty list"),
        ({"axes": {"lr": [0.1, 0.1]}}, "lr: received 0.1 twice"),
        ({"axes": {"batch_size": [8], "batch-size": [16]}}, "[axes]: received 'batch_size' twice"),
        ({"axes": {"lr": 0.1}}, "expected a list of values in [axes]"),
        (
            {"axes": {"lr": ["high"]}},
            "lr='high': received 'high', expected a finite number above 0",
        ),
        ({"axes": {"epochs": [1.5]}}, "epochs=1.5: received 1.5, expected a whole number"),
        ({"axes": {"seed": [1, 2]}}, "seeds = N"),
        ({"axes": {"lr": {"log": [1e-4, 1]}}}, "received a range without a sample"),
        ({"axes": {"lr": {"log": [0, 1]}}, "sample": 2}, "bounds above 0 for a log range"),
        ({"axes": {"lr": {"log": [1, 0.1]}}, "sample": 2}, "lr = { log = [LOW, HIGH] }"),
        ({"axes": {"activation": {"log": [1, 2]}}, "sample": 2}, "its values are not numbers"),
        ({"sample": 2, "options": {"lr": 0.1}}, "received a sample of no axes"),
        ({"options": {"lr": 0.1}, "axes": {"lr": [0.1]}}, "received it in [options] and in [axes]"),
        ({"options": 3}, "expected a table: [options]"),
        ({"seeds": 0, "options": {"lr": 0.1}}, "seeds: received 0"),
        ({"options": {"bn": "yes"}}, "bn='yes': received 'yes', expected True or False"),
    ],
)
def test_an_invalid_grid_is_refused_in_one_line(raw: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        grid(raw)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_invalid_value_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(InputError, match=r"lr=-0\.1"):
        grid({"axes": {"lr": [0.1, -0.1]}})


def test_a_large_grid_needs_yes_and_one_of_millions_is_refused() -> None:
    large = grid({"axes": {"batch_size": list(range(2, 602))}})
    large.check_size(yes=True)
    with pytest.raises(InputError, match=r"1,200 trials.*--yes"):
        large.check_size(yes=False)
    with pytest.raises(InputError, match="at most 1,000,000"):
        grid(large.record(), seeds=1000).check_size(yes=True)


def test_invalid_toml_and_misspelled_recipes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text("[axes\nlr = 3")
    with pytest.raises(InputError, match="text that is not TOML"):
        load_grid(str(file))
    with pytest.raises(InputError, match="did you mean 'learning-rate'"):
        load_grid("learning-rat")


def test_set_takes_one_value_or_several() -> None:
    assert parse_change("lr=0.1") == ("lr", 0.1)
    assert parse_change("batch-size=8 16") == ("batch_size", [8, 16])
    assert parse_change("hidden=32,32 64") == ("hidden", [(32, 32), (64,)])
    assert parse_change("bn=true false") == ("bn", [True, False])
    with pytest.raises(InputError, match="did you mean 'activation'"):
        parse_change("activatoin=relu")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lr", "--set lr: received no '='"),
        ("lr=", "received no value"),
        ("lr=0.1 high", "--set lr=0.1 high: received 'high', expected a finite number above 0"),
        ("speed=3", "received 'speed'"),
        ("learning_rate=3", "did you mean 'lr'"),
    ],
)
def test_an_invalid_change_is_refused(text: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        parse_change(text)


def test_lists_make_axes_but_layer_sizes_are_one_value() -> None:
    chosen = grid({}, lr=[0.1, 1], hidden=[32, 32])
    assert (chosen.axes, chosen.options) == ({"lr": (0.1, 1.0)}, {"hidden": (32, 32)})
    chosen = grid({}, hidden=[[32], [32, 32]])
    assert chosen.axes == {"hidden": ((32,), (32, 32))}
