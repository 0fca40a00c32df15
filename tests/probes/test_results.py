"""Findings and pictures of real probes: of one run or two, complete or diverged."""

import csv
import io
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_runs import write_run

from kerasbn.common.errors import InputError
from kerasbn.common.terminal import Terminal
from kerasbn.experiments.comparison import Comparison
from kerasbn.probes.readings import TABLE, read_probes
from kerasbn.probes.results import ProbeFigure, findings_of, pictures, print_findings, save_pictures
from kerasbn.probes.topics import TOPICS
from kerasbn.runs import Run

NAMES = [topic.name for topic in TOPICS]
Probed = tuple[Path, Comparison]


def both(probed_pair: Probed) -> list[Run]:
    return list(probed_pair[1].probed_runs)


@pytest.fixture(scope="module")
def drawn(probed_pair: Probed) -> dict[str, ProbeFigure]:
    return pictures(both(probed_pair))


@pytest.mark.slow
def test_the_findings_of_a_real_pair(probed_pair: Probed) -> None:
    _, comparison = probed_pair
    found = findings_of(comparison.probed_runs)
    assert comparison.findings() == found
    assert [finding.topic for finding in found] == NAMES
    for finding in found:
        assert "nan" not in finding.claim.lower()
        assert "infinite" not in finding.claim
        assert len(finding.claim) < 240
    with_bn = read_probes(comparison.probed_runs[0])
    outside = with_bn.pooled(with_bn.bn_layers, "outside").median()
    claims = {finding.topic: finding.claim for finding in found}
    assert f"{100 * outside:.0f}% of the normalized values lie outside" in claims["statistics"]
    results = with_bn.record.batch_composition
    single = next(r for r in results if (r.statistics, r.batch_size) == ("batch", 1))
    assert f"{100 * single.accuracy:.2f}% for single images," in claims["batch-composition"]
    assert single.accuracy < 0.3
    moving = next(result for result in results if result.statistics == "moving")
    final = comparison.probed_runs[0].record.final["val_accuracy"]
    assert moving.accuracy == pytest.approx(final, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 40])
def test_findings_fit_a_terminal_and_break_between_words(probed_pair: Probed, width: int) -> None:
    found = probed_pair[1].findings()
    out = io.StringIO()
    console = Terminal(file=out, width=width, force_terminal=True, color_system=None)
    print_findings(found, console)
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert width < 80 or len(lines) <= 21  # with the summary, a screen of 24 lines
    words = [word for each in found for word in f"{each.title}: {each.claim}".split()]
    assert " ".join(lines).split() == words


@pytest.mark.slow
def test_a_pair_has_all_pictures_with_their_findings(
    probed_pair: Probed, drawn: dict[str, ProbeFigure]
) -> None:
    assert list(drawn) == NAMES
    for finding in probed_pair[1].findings():
        picture = drawn[finding.topic]
        assert picture.figure.get_suptitle()
        assert finding.claim in picture.caption
        assert all(axes.get_title() for axes in picture.figure.axes)
        assert any(
            np.size(line.get_xdata()) > 1 for axes in picture.figure.axes for line in axes.lines
        )


@pytest.mark.slow
def test_the_comparison_keeps_them_as_files(probed_pair: Probed) -> None:
    _, comparison = probed_pair
    assert comparison.path is not None
    files = sorted(path.name for path in comparison.path.glob("probes-*.png"))
    assert files == sorted(f"probes-{name}.png" for name in NAMES)
    for name in files:
        assert Image.open(comparison.path / name).width >= 1100
    assert not list(comparison.probed_runs[0].path.glob("*probes-*.png"))


@pytest.mark.slow
def test_lines_are_what_was_recorded(probed_pair: Probed, drawn: dict[str, ProbeFigure]) -> None:
    for panel, run in enumerate(both(probed_pair)):
        found = read_probes(run)
        lines = drawn["gradients"].figure.axes[panel].lines
        for line, layer in zip(lines, found.layers, strict=True):
            series = found.series(layer, "kernel_gradient")
            np.testing.assert_array_equal(line.get_xdata(), series.steps)
            np.testing.assert_array_equal(line.get_ydata(), series.values)
            assert line.get_label() == layer
        lines = drawn["typical-unit"].figure.axes[panel].lines
        for line, percentile in zip(lines, (15, 50, 85), strict=True):
            series = found.series(found.layers[-2], "percentile", percentile)
            np.testing.assert_array_equal(line.get_ydata(), series.values)
    lines = drawn["batch-composition"].figure.axes[0].lines
    assert [line.get_label() for line in lines] == [
        "with BN, moving statistics",
        "with BN, batch statistics, shuffled",
        "with BN, batch statistics, sorted by class",
        "without BN",
    ]
    assert len({line.get_color() for line in lines}) == 4


@pytest.mark.slow
def test_topics_without_data_are_not_drawn(probed_pair: Probed) -> None:
    plain = set(pictures(both(probed_pair)[1:]))
    assert set(NAMES) - plain == {"statistics", "gamma-beta"}
    assert list(pictures(both(probed_pair)[:1])) == NAMES


def changed(run: Run, folder: Path, from_step: int, values: tuple[str, str]) -> Run:
    """Copy a run with other values from some step on."""
    shutil.copytree(run.path, folder)
    with (folder / TABLE).open(newline="") as lines:
        heading, *rows = csv.reader(lines)
    for row in rows:
        if int(row[0]) >= from_step and row[2] != "typical_unit":
            row[4] = values[int(row[0]) % 2]
    with (folder / TABLE).open("w", newline="") as lines:
        csv.writer(lines).writerows([heading, *rows])
    return Run(folder, run.record)


@pytest.mark.slow
def test_a_diverged_run_is_drawn_and_described(probed_pair: Probed, tmp_path: Path) -> None:
    healthy, run = both(probed_pair)
    diverged = changed(run, tmp_path / "plain", 5, ("inf", "nan"))
    record = diverged.path / "probes.json"
    record.write_text(record.read_text().replace('"batch_composition"', '"none"'))
    save_pictures([healthy, diverged], tmp_path)
    for chosen in ([diverged], [healthy, diverged]):
        claims = [each.claim for each in findings_of(chosen)]
        assert any("overflows float32" in claim for claim in claims)
        assert not any("nan" in claim.lower() for claim in claims)
    assert len(list(tmp_path.glob("probes-*.png"))) == len(NAMES)


@pytest.mark.slow
@pytest.mark.filterwarnings("error:Attempt to set")  # an axis without any value
def test_nothing_but_nan_is_drawn_too(probed_pair: Probed, tmp_path: Path) -> None:
    broken = [changed(run, tmp_path / run.name, 0, ("nan", "nan")) for run in both(probed_pair)]
    save_pictures(broken, tmp_path)
    for chosen in (broken[:1], broken[1:], broken):
        assert all("nan" not in each.claim.lower() for each in findings_of(chosen))
    assert (tmp_path / "probes-gradients.png").is_file()


@pytest.mark.slow
def test_readings_near_the_largest_number_give_no_warning(
    probed_pair: Probed, tmp_path: Path
) -> None:
    huge = [changed(run, tmp_path / run.name, 0, ("1e308", "-1e308")) for run in both(probed_pair)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chosen in (huge[:1], huge[1:], huge):
            assert findings_of(chosen)


def test_a_run_without_probes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a run with probes"):
        pictures([write_run(tmp_path, "plain")])
