"""A command line's words, as a grid and the study that is made of it."""

import json
import shlex
from pathlib import Path

import pytest

from kerasbn.data.datasets import Dataset
from kerasbn.errors import InputError
from kerasbn.sweeps.asked import asked_for, change_of, study_asked_for
from kerasbn.sweeps.study import open_study

NONE: dict[str, int | None] = {"seeds": None, "epochs": None, "steps": None}


def test_a_recipe_with_changes_is_a_grid_and_the_command_that_asks_for_it() -> None:
    changes = ["lr=0.1 1", "activation=tanh"]
    asked = asked_for("depth", {**NONE, "seeds": 2, "steps": 7}, changes, "mine")
    assert asked.name == "mine"
    assert asked.grid.axes["lr"] == (0.1, 1.0)
    assert asked.grid.options["activation"] == "tanh"
    assert (asked.grid.seeds, asked.grid.options["steps"]) == (2, 7)
    words = shlex.split(asked.command)
    assert words == [
        "kerasbn", "sweep", "depth", "--seeds", "2", "--steps", "7",
        "--set", "lr=0.1 1", "--set", "activation=tanh", "--run", "mine",
    ]  # fmt: skip


def test_a_files_path_is_this_machines_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[axes]\nlr = [0.1, 0.2]\n")
    asked = asked_for(str(file), NONE, [])
    assert (asked.name, asked.command) == ("mine", "kerasbn sweep mine.toml")


def test_a_study_that_is_begun_goes_on_as_it_is(few_digits: Dataset, tmp_path: Path) -> None:
    grid = asked_for("depth", {**NONE, "seeds": 2}, []).grid
    open_study(tmp_path / "begun", grid, few_digits, command="")
    for given in ("begun", str(tmp_path / "begun")):
        asked = asked_for(given, NONE, [], root=tmp_path)
        assert (asked.name, asked.root, asked.is_whole) == ("begun", tmp_path, False)
        # As JSON: the record's tuples are lists there.
        assert json.dumps(asked.grid.record()) == json.dumps(grid.record())
    with pytest.raises(InputError, match="changes to a study that is begun, expected none"):
        asked_for("begun", NONE, ["lr=1"], root=tmp_path)
    with pytest.raises(InputError, match="changes to a study that is begun"):
        asked_for("begun", NONE, [], "other", root=tmp_path)
    assert study_asked_for("begun.toml", root=tmp_path).path == tmp_path / "begun"
    assert study_asked_for("other.toml", "begun", root=tmp_path).path == tmp_path / "begun"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lr", "--set lr: received no '='"),
        ("lr=", "received no value"),
        ("speed=3", "received 'speed'"),
    ],
)
def test_a_change_has_a_key_and_values(text: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        change_of(text)
    assert change_of("bn=true false") == ("bn", [True, False])
