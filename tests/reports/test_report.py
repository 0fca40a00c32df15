"""Reports of runs, comparisons and studies, and what cannot be reported."""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.common.errors import InputError
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports import report as report_module
from kerasbn.reports.play.play import Play
from kerasbn.reports.report import report

Compared = tuple[Path, Comparison]
FORMATS = [".png", ".svg", ".pdf", ".html"]


def altered(source: Path, target: Path, **changes: object) -> str:
    """Return a copy of a run with a changed record."""
    shutil.copytree(source, target)
    record = json.loads((target / runs.RECORD).read_text())
    (target / runs.RECORD).write_text(json.dumps(record | changes))
    return str(target)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_runs_are_reported_together(comparison: Compared, tmp_path: Path, suffix: str) -> None:
    root, _ = comparison
    path = report(root / "bn", root / "plain", output=tmp_path / f"report{suffix}")
    assert path.stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_subjects_give_equal_bytes(comparison: Compared, tmp_path: Path, suffix: str) -> None:
    root, _ = comparison
    one, two = (
        report(root / "compare", root / "bn", output=tmp_path / f"{name}{suffix}").read_bytes()
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_runs_on_different_data_are_not_reported_together(
    comparison: Compared, tmp_path: Path, suffix: str
) -> None:
    root, result = comparison
    data = asdict(result.first.data) | {"name": "mnist", "digest": "0"}
    other = altered(root / "plain", tmp_path / "other", data=data)
    digest = result.first.data.digest[:8]
    for first in ("bn", "compare"):
        with pytest.raises(InputError) as error:
            report(root / first, other, output=tmp_path / f"a{suffix}")
        assert str(error.value).startswith(
            f"{first} and other: received mnist-sample ({digest}) and mnist (0), "
            "expected the same dataset"
        )
    assert not (tmp_path / f"a{suffix}").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (((), {}), "subjects=(): received ()"),
        (((3,), {}), "subjects=3: received 3, expected names or folders of runs"),
        (((["bn"],), {}), "subjects=['bn']: received ['bn'], expected names or folders"),
        ((("bn",), {"output": None}), "output=None: received None, expected the path of a file"),
    ],
    ids=str,
)
def test_wrong_types_name_the_argument(arguments: Any, line: str) -> None:
    positional, keywords = arguments
    with pytest.raises(InputError) as error:
        report(*positional, **keywords)
    assert str(error.value).startswith(line)


@pytest.mark.slow
def test_results_are_reported_as_their_folders_are(comparison: Compared, tmp_path: Path) -> None:
    root, result = comparison
    assert result.with_bn[0].run is not None
    for name, subject in (("compare", result), ("bn", result.with_bn[0].run)):
        one = report(subject, output=tmp_path / "one.html").read_text()
        assert one == report(root / name, output=tmp_path / "two.html").read_text()


def test_a_subject_given_twice_is_reported_once(comparison: Compared, tmp_path: Path) -> None:
    runs = [comparison[0] / name for name in ("bn", "bn", "plain", "plain")]
    text = report(*runs, output=tmp_path / "a.html").read_text()
    assert "Made by kerasbn report from bn, plain." in text


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
                report(folder, output=tmp_path / f"a{suffix}")
            assert str(error.value).startswith(f"{folder / damage}: received ")
            assert "\n" not in str(error.value)
        (folder / damage).unlink()
        with pytest.raises(InputError, match="expected"):
            report(folder, output=tmp_path / f"a{suffix}")
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
    with pytest.raises(InputError, match=r"odd/run.json: received .*; train again"):
        report(folder, output=tmp_path / "a.html")


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
        report(folder, output=tmp_path / "a.html")
    assert str(error.value).startswith(f"{folder / 'compare.json'}: received ")
    assert "compare again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_every_part_of_a_comparison_may_be_damaged(comparison: Compared, tmp_path: Path) -> None:
    """Whatever value is replaced, there is a page or one line, never another error."""
    root, _ = comparison
    whole = json.loads((root / "compare" / "compare.json").read_text())
    folder = tmp_path / "compare"
    folder.mkdir()
    reported = 0
    for key in whole:
        values: list[Any] = [None, 3, "x", [], {}, {"with_bn": [], "without_bn": {}}]
        for value in values:
            (folder / "compare.json").write_text(json.dumps(whole | {key: value}))
            with suppress(InputError):
                report(folder, output=tmp_path / "a.html")
                reported += 1
    assert 0 < reported < len(whole) * 3


def test_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    for name in ("nobody", "x" * 5000, str(tmp_path), ""):
        with pytest.raises(InputError) as error:
            report(name, output=tmp_path / "a.html")
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_one_line(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    with pytest.raises(InputError, match=r"received '.docx' as a format, expected one of .html"):
        report(root / "bn", output=tmp_path / "a.docx")
    with pytest.raises(InputError, match="cannot be written"):
        report(root / "bn", output=tmp_path / "none" / "a.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="received a folder"):
        report(root / "bn", output=tmp_path / "folder.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_full_disk_is_one_line(comparison: Compared, full_disk: Path) -> None:
    root, _ = comparison
    with pytest.raises(InputError, match="cannot be written"):
        report(root / "bn", output=full_disk / "a.html")


@pytest.mark.slow
def test_what_is_played_with_gets_the_room_that_the_rest_of_a_page_leaves(
    comparison: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = []

    def played(_: Comparison, room: int) -> Play:
        rooms.append(room)
        return Play()

    monkeypatch.setattr(report_module, "play", played)
    folder = comparison[0] / "compare"
    static = report(folder, output=tmp_path / "static.html", interactive=False).stat().st_size
    assert rooms == []
    for most in (1_350_000, static):
        monkeypatch.setattr(report_module, "MOST_BYTES", most)
        report(folder, output=tmp_path / "page.html")
    assert static + rooms[0] * 4 / 3 == pytest.approx(1_350_000, abs=4)
    assert rooms[1] == report_module.LEAST_ROOM
