"""Runs are drawn together only where that is fair, and listed as they are."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kerasbn import runs
from kerasbn.errors import InputError
from kerasbn.study.compare import Comparison
from kerasbn.study.report import draw_report, table

Compared = tuple[Path, Comparison]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_any_runs_are_drawn_together(comparison: Compared, tmp_path: Path, suffix: str) -> None:
    _, result = comparison
    path = draw_report([result.with_bn, result.without_bn], tmp_path / f"report{suffix}")
    assert path.stat().st_size > 10_000


def test_runs_on_different_digits_are_not_compared(comparison: Compared, tmp_path: Path) -> None:
    _, result = comparison
    other = result.without_bn.record | {
        "data": result.without_bn.record["data"] | {"name": "mnist", "digest": "0"}
    }
    with pytest.raises(InputError, match="bn and plain: received a run on mnist-sample and one on"):
        draw_report([result.with_bn, replace(result.without_bn, record=other)], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_the_table_lists_what_there_is(comparison: Compared) -> None:
    root, result = comparison
    heading, plain, bn = table(runs.list_runs(root)).splitlines()
    assert heading.split()[:3] == ["run", "BN", "hidden"]
    assert plain.startswith("plain  no   32,32   mnist-sample  3")
    accuracy = f"{result.with_bn.record['final']['val_accuracy']:.2%}"
    assert bn.split()[:7] == ["bn", "yes", "32,32", "mnist-sample", "3", accuracy, "finished"]


def test_a_damaged_run_is_named_in_one_line(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    for damage, content in {
        "run.json": ["", "{", "[]", '{"status": "finished"}', "\x00"],
        "history.csv": ["", "epoch\n1\n", "epoch,loss,accuracy,val_loss,val_accuracy\n1,x,1,1,1\n",
                        "epoch,loss,accuracy,val_loss,val_accuracy\n1,1\n"],
    }.items():  # fmt: skip
        for i, text in enumerate(content):
            folder = tmp_path / f"{damage}-{i}"
            shutil.copytree(root / "bn", folder)
            (folder / damage).write_text(text)
            with pytest.raises(InputError) as error:
                draw_report([runs.find_run(str(folder))], tmp_path / "a.png")
            assert str(error.value).startswith(f"{folder / damage}: received ")
            assert "\n" not in str(error.value)
        (folder / damage).unlink()
        with pytest.raises(InputError, match="expected"):
            draw_report([runs.find_run(str(folder))], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_records_of_the_wrong_shape_are_damaged_too(comparison: Compared, tmp_path: Path) -> None:
    _, result = comparison
    for key, value in {"network": 3, "training": {}, "data": {"name": "cifar"}}.items():
        run = replace(result.with_bn, record=result.with_bn.record | {key: value})
        with pytest.raises(InputError, match="record"):
            draw_report([run], tmp_path / "a.png")
