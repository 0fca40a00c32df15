"""Runs and studies are told together only where that is fair, and listed as they are."""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.errors import InputError
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.report import report, table

Compared = tuple[Path, Comparison]
FORMATS = [".png", ".svg", ".pdf", ".html"]


def altered(source: Path, target: Path, **changes: object) -> str:
    """The path of a copy of a run whose record says something else."""
    shutil.copytree(source, target)
    record = json.loads((target / runs.RECORD).read_text())
    (target / runs.RECORD).write_text(json.dumps(record | changes))
    return str(target)


@pytest.mark.parametrize("suffix", FORMATS)
def test_any_runs_are_told_together(comparison: Compared, tmp_path: Path, suffix: str) -> None:
    root, _ = comparison
    path = report([str(root / "bn"), str(root / "plain")], tmp_path / f"report{suffix}")
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_runs_make_the_same_bytes(
    comparison: Compared, tmp_path: Path, suffix: str
) -> None:
    root, _ = comparison
    one, two = (
        report([str(root / "compare"), str(root / "bn")], tmp_path / f"{name}{suffix}").read_bytes()
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("suffix", FORMATS)
def test_runs_on_different_digits_are_not_told_together(
    comparison: Compared, tmp_path: Path, suffix: str
) -> None:
    root, result = comparison
    data = asdict(result.probed_runs[1].record.data) | {"name": "mnist", "digest": "0"}
    other = altered(root / "plain", tmp_path / "other", data=data)
    digest = result.probed_runs[0].record.data.digest[:8]
    for first in ("bn", "compare"):
        with pytest.raises(InputError) as error:
            report([str(root / first), other], tmp_path / f"a{suffix}")
        assert str(error.value).startswith(
            f"{first} and other: received one on mnist-sample ({digest}) and one on mnist (0), "
            "expected the same digits"
        )
    assert not (tmp_path / f"a{suffix}").exists()


def test_the_table_lists_what_there_is(comparison: Compared) -> None:
    root, result = comparison
    heading, plain, bn = table(runs.list_runs(root)).splitlines()
    assert heading.split()[:3] == ["run", "BN", "hidden"]
    assert plain.startswith("plain  no   32,32   mnist-sample  3")
    accuracy = f"{result.probed_runs[0].record.final['val_accuracy']:.2%}"
    assert bn.split()[:7] == ["bn", "yes", "32,32", "mnist-sample", "3", accuracy, "finished"]


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_damaged_run_is_named_in_one_line(
    comparison: Compared, tmp_path: Path, suffix: str
) -> None:
    root, _ = comparison
    heading = "epoch,accuracy,loss,step,val_accuracy,val_loss\n"
    for damage, content in {
        "run.json": ["", "{", "[]", '{"status": "finished"}', "\x00"],
        "history.csv": ["", "epoch\n1\n", f"{heading}1,x,1,1,1\n", f"{heading}1,1\n"],
    }.items():
        for i, text in enumerate(content):
            folder = tmp_path / f"{damage}-{i}"
            shutil.copytree(root / "bn", folder)
            (folder / damage).write_text(text)
            with pytest.raises(InputError) as error:
                report([str(folder)], tmp_path / f"a{suffix}")
            assert str(error.value).startswith(f"{folder / damage}: received ")
            assert "\n" not in str(error.value)
        (folder / damage).unlink()
        with pytest.raises(InputError, match="expected"):
            report([str(folder)], tmp_path / f"a{suffix}")
    assert not (tmp_path / f"a{suffix}").exists()


@pytest.mark.parametrize(
    "changes",
    [{"model": 3}, {"training": {"lr": "x"}}, {"data": {"name": "cifar"}}, {"data": None},
     {"model": {"bn": "yes", "hidden": [3], "activation": "relu"}},
     {"model": {"bn": True, "hidden": ["x"], "activation": "relu"}},
     {"model": {"bn": True, "hidden": [3], "activation": "relu", "bias_before_bn": []}},
     {"training": {"lr": 0.1, "seed": True}}, {"training": {"lr": 0.1, "seed": 1.5}},
     {"data": {"name": "mnist", "digest": "0", "train": float("inf"), "test": 3}}],
    ids=str,
)  # fmt: skip
def test_records_of_the_wrong_shape_are_damaged_too(
    comparison: Compared, tmp_path: Path, changes: dict[str, object]
) -> None:
    root, _ = comparison
    folder = altered(root / "bn", tmp_path / "odd", **changes)
    with pytest.raises(InputError, match=r"odd/run.json: received a damaged record .*train again"):
        report([folder], tmp_path / "a.html")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"seeds": []}', '{"seeds": 3}', "\x00"],
)
def test_a_damaged_comparison_is_named_in_one_line(
    comparison: Compared, tmp_path: Path, text: str
) -> None:
    root, _ = comparison
    folder = tmp_path / "compare"
    shutil.copytree(root / "compare", folder)
    (folder / "compare.json").write_text(text)
    with pytest.raises(InputError) as error:
        report([str(folder)], tmp_path / "a.html")
    assert str(error.value).startswith(f"{folder / 'compare.json'}: received ")
    assert "compare again" in str(error.value)
    assert "\n" not in str(error.value)


def test_every_part_of_a_comparison_may_be_damaged(comparison: Compared, tmp_path: Path) -> None:
    """Each key dropped, each value replaced: one line, or a page, never another error."""
    root, _ = comparison
    whole = json.loads((root / "compare" / "compare.json").read_text())
    folder = tmp_path / "compare"
    folder.mkdir()
    told = 0
    for key in whole:
        values: list[Any] = [None, 3, "x", [], {}, {"with_bn": [], "without_bn": {}}]
        for value in values:
            (folder / "compare.json").write_text(json.dumps(whole | {key: value}))
            with suppress(InputError):
                report([str(folder)], tmp_path / "a.html")
                told += 1
    assert 0 < told < len(whole) * 3


def test_nothing_of_this_name_is_one_line(tmp_path: Path) -> None:
    for name in ("nobody", "x" * 5000, str(tmp_path), ""):
        with pytest.raises(InputError) as error:
            report([name], tmp_path / "a.html")
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_where_it_cannot_go_is_one_line(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    with pytest.raises(InputError, match=r"received '.docx' as a format, expected one of .html"):
        report([str(root / "bn")], tmp_path / "a.docx")
    with pytest.raises(InputError, match="cannot be written"):
        report([str(root / "bn")], tmp_path / "none" / "a.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="received a folder"):
        report([str(root / "bn")], tmp_path / "folder.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_full_disk_is_one_line(comparison: Compared, full_disk: Path) -> None:
    root, _ = comparison
    with pytest.raises(InputError, match="cannot be written"):
        report([str(root / "bn")], full_disk / "a.html")
