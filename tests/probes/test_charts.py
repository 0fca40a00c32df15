"""Pictures of probes hold the figures that were recorded, of one run or two, whole or not."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasbn.errors import InputError
from kerasbn.experiments.comparison import Comparison
from kerasbn.probes.charts import pictures, save_pictures
from kerasbn.probes.findings import findings
from kerasbn.probes.readings import TABLE, read_probes
from kerasbn.runs import Run

EVERY = [
    "gradients", "drift", "landscape", "preactivations", "percentiles", "activations",
    "statistics", "gamma-beta", "batch-mates",
]  # fmt: skip


def both(looked_into: tuple[Path, Comparison]) -> list[Run]:
    return [looked_into[1].probed_runs[0], looked_into[1].probed_runs[1]]


def test_a_pair_has_every_picture_with_its_finding(looked_into: tuple[Path, Comparison]) -> None:
    drawn = pictures(both(looked_into))
    told = findings([read_probes(run) for run in both(looked_into)])
    assert list(drawn) == EVERY
    for name, picture in drawn.items():
        assert picture.figure.get_suptitle()
        assert told[name] in picture.caption
        assert all(axes.get_title() for axes in picture.figure.axes)
        assert any(
            np.size(line.get_xdata()) > 1 for axes in picture.figure.axes for line in axes.lines
        )


def test_the_comparison_has_them_as_files(looked_into: tuple[Path, Comparison]) -> None:
    _, comparison = looked_into
    assert comparison.path is not None
    files = sorted(path.name for path in comparison.path.glob("probes-*.png"))
    assert files == sorted(f"probes-{name}.png" for name in EVERY)
    for name in files:
        assert Image.open(comparison.path / name).width >= 1100
    assert not list(comparison.probed_runs[0].path.glob("*probes-*.png"))


def test_lines_are_what_was_recorded(looked_into: tuple[Path, Comparison]) -> None:
    drawn = pictures(both(looked_into))
    for panel, run in enumerate(both(looked_into)):
        found = read_probes(run)
        lines = drawn["gradients"].figure.axes[panel].lines
        for line, layer in zip(lines, found.layers, strict=True):
            series = found.series(layer, "kernel_gradient")
            np.testing.assert_array_equal(line.get_xdata(), series.steps)
            np.testing.assert_array_equal(line.get_ydata(), series.values)
            assert line.get_label() == layer
        lines = drawn["percentiles"].figure.axes[panel].lines
        for line, p in zip(lines, (15, 50, 85), strict=True):
            series = found.series(found.layers[-2], "percentile", p)
            np.testing.assert_array_equal(line.get_ydata(), series.values)
    labels = [line.get_label() for line in drawn["batch-mates"].figure.axes[0].lines]
    assert labels == [
        "with BN, moving statistics", "with BN, batch statistics, shuffled",
        "with BN, batch statistics, sorted by class", "without BN",
    ]  # fmt: skip


def test_what_a_network_does_not_have_is_not_drawn(looked_into: tuple[Path, Comparison]) -> None:
    plain = set(pictures(both(looked_into)[1:]))
    assert set(EVERY) - plain == {"statistics", "gamma-beta"}
    assert list(pictures(both(looked_into)[:1])) == EVERY


def test_a_network_that_diverged_is_drawn_as_far_as_it_came(
    looked_into: tuple[Path, Comparison], tmp_path: Path
) -> None:
    """From some step on every value is NaN or infinite, and there were no answers in batches."""
    healthy, run = both(looked_into)
    folder = tmp_path / "plain"
    shutil.copytree(run.path, folder)
    with (folder / TABLE).open(newline="") as lines:
        rows = list(csv.reader(lines))
    for row in rows[1:]:
        if int(row[0]) >= 5:
            row[4] = "nan" if int(row[0]) % 2 else "inf"
    with (folder / TABLE).open("w", newline="") as lines:
        csv.writer(lines).writerows(rows)
    about = (folder / "probes.json").read_text()
    (folder / "probes.json").write_text(about.replace('"batch_mates"', '"none"'))
    for chosen in ([Run(folder, run.record)], [healthy, Run(folder, run.record)]):
        save_pictures(chosen, tmp_path)
    assert len(list(tmp_path.glob("probes-*.png"))) == len(EVERY)


def test_nothing_but_nan_is_drawn_too(looked_into: tuple[Path, Comparison], tmp_path: Path) -> None:
    _, run = both(looked_into)
    folder = tmp_path / "plain"
    shutil.copytree(run.path, folder)
    with (folder / TABLE).open(newline="") as lines:
        rows = [[*row[:4], "nan"] for row in csv.reader(lines)]
    rows[0][4] = "value"
    with (folder / TABLE).open("w", newline="") as lines:
        csv.writer(lines).writerows(rows)
    save_pictures([Run(folder, run.record)], tmp_path)
    assert (tmp_path / "probes-gradients.png").is_file()


def test_a_run_without_probes_is_refused(comparison: tuple[Path, Comparison]) -> None:
    with pytest.raises(InputError, match="expected one that was probed"):
        pictures([comparison[1].probed_runs[0]])
