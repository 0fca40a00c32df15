"""Listing runs, comparisons and studies, and finding them by name."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from kerasbn.common.errors import InputError
from kerasbn.common.records import write_json
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.sessions import TrainingSession
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.sources import find_subject, inventory_tables, take_inventory
from kerasbn.runs import DataRecord
from kerasbn.sweeps.study import Study
from kerasbn.training.settings import ModelSettings, TrainingSettings


@pytest.fixture
def root(comparison: tuple[Path, Comparison], swept: Path, tmp_path: Path) -> Path:
    """A folder with two runs, a comparison and a study."""
    folder = tmp_path / "saved_models"
    shutil.copytree(comparison[0], folder)
    shutil.copytree(swept, folder / "studies" / swept.name)
    return folder


def printed(root: Path, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    for table in inventory_tables(take_inventory(root)[0], width):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_runs_comparisons_and_studies_have_a_table_each(root: Path) -> None:
    lines = [line.split() for line in printed(root, 200).splitlines()]
    assert lines[0] == ["Runs"]
    assert lines[1][:4] == ["run", "BN", "test", "accuracy"]
    runs = {line[0]: line for line in lines[2:4]}
    assert runs["bn"][1] == "yes"
    assert runs["plain"][1] == "no"
    assert runs["bn"][3:7] == ["finished", "3", "2x32", "mnist-sample"]
    assert lines[4] == ["Comparisons"]
    assert lines[6][0] == "compare"
    assert lines[7] == ["Studies"]
    assert lines[9][0] == "rates"
    assert "learning rate, activation" in printed(root, 200)


@pytest.mark.parametrize("width", [40, 80])
def test_words_stay_whole_in_a_narrow_terminal(root: Path, width: int) -> None:
    wide = set(printed(root, 200).split())
    narrow = printed(root, width)
    assert all(len(line) <= width for line in narrow.splitlines())
    assert set(narrow.split()) <= wide
    assert {"bn", "plain", "compare", "rates", "finished"} <= set(narrow.split())


def test_damaged_folders_are_named_and_hide_nothing(root: Path) -> None:
    files = [root / "broken" / "run.json", root / "bad" / "compare.json"]
    files.append(root / "studies" / "worse" / "study.json")
    for file in files:
        file.parent.mkdir()
        file.write_text("{")
    found, problems = take_inventory(root)
    assert sorted(str(each).split(":")[0] for each in problems) == sorted(map(str, files))
    assert sorted(each.name for each in found) == ["bn", "compare", "plain", "rates"]


def test_a_subject_is_found_by_name_folder_or_result(root: Path) -> None:
    kinds = {"bn": TrainedModel, "compare": Comparison, "rates": Study}
    for name, kind in kinds.items():
        assert isinstance(find_subject(name, root), kind)
    assert isinstance(find_subject(root / "plain", Path("elsewhere")), TrainedModel)
    study = find_subject("rates", root)
    assert find_subject(study) is study


def test_an_unknown_name_lists_the_known_ones(root: Path) -> None:
    with pytest.raises(InputError, match="nobody: received an unknown name") as error:
        find_subject("nobody", root)
    for name in ("bn", "plain", "compare", "rates"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("place", "value", "is_damage"),
    [
        (("data", "train"), 0, True),
        (("data", "test"), -1, True),
        (("seeds",), [], True),
        (("with_bn", 0, "history", "val_accuracy"), ["x"], True),
        (("with_bn", 0, "run"), "x" * 5000, False),  # as if the run were gone
        (("with_bn", 0, "run"), "\0", False),
        (("with_bn", 0, "history", "val_loss", 0), 1e308, False),
    ],
)
def test_odd_values_of_a_comparison_hide_nothing(
    root: Path, place: tuple[str | int, ...], value: object, is_damage: bool
) -> None:
    file = root / "compare" / "compare.json"
    record = json.loads(file.read_text())
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    file.write_text(json.dumps(record))
    found, problems = take_inventory(root)
    assert [str(each).split(":")[0] for each in problems] == [str(file)] * is_damage
    assert {"bn", "plain", "rates"} <= {each.name for each in found}
    assert ("compare" in printed(root, 200)) == (not is_damage)


def test_an_unfinished_training_of_large_batches_is_listed(root: Path) -> None:
    folder = root / ".half.part" / "checkpoint"
    folder.mkdir(parents=True)
    training = TrainingSettings(steps=10, batch_size=512)
    data = DataRecord("mnist", "0" * 64, 100, 100)
    write_json(
        folder / "session.json", TrainingSession("train", ModelSettings(), training, data=data)
    )
    assert "half" in printed(root, 200)
