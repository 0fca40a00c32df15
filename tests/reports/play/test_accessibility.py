"""The page under axe-core, which checks the rules of WCAG that a program can check.

It is the file axe.min.js of the npm package axe-core, which `.ci/run` installs where there is npm.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chromium import Tab
from sample_play import Playable

from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.document import Article, render
from kerasbn.reports.play.play import Play
from kerasbn.reports.play.training import training
from kerasbn.reports.report import report
from kerasbn.runs import read_run

AXE = Path(os.environ.get("KERASBN_TEST_AXE", ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: set KERASBN_TEST_AXE"),
]


def violations(page: Tab) -> Any:
    """The rules that the page violates, with the elements."""
    page.run(f"{AXE.read_text()}; 0")
    return page.run("""axe.run().then(result => result.violations.map(
        rule => [rule.id, rule.nodes.map(node => node.html.slice(0, 200))]))""")


@pytest.fixture(scope="module")
def parts(trained: Play, probed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of all interactive parts."""
    pair = [read_run(probed.parent / name) for name in ("bn", "plain")]
    data = msgspec.structs.replace(trained, training=training(pair))
    article = Article("What is there to play with?", "Five parts.", *data.sections())
    assert len(article.sections) == 5
    path = tmp_path_factory.mktemp("parts") / "parts.html"
    path.write_text(render([article], [], msgspec.to_builtins(data)))
    return path


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1280, True)])
def test_the_parts_violate_no_rule(
    tab: Callable[..., Tab], parts: Path, width: int, dark: bool
) -> None:
    assert violations(tab(parts, width, dark=dark)) == []


@pytest.mark.parametrize("wide", ["after"], indirect=True)
def test_parts_with_recorded_answers_violate_no_rule(
    tab: Callable[..., Tab], wide: Playable
) -> None:
    assert violations(tab(wide.page, 360, dark=True)) == []


def test_the_rest_of_the_page_violates_no_rule(
    tab: Callable[..., Tab], comparison: tuple[Path, Comparison], tmp_path: Path
) -> None:
    page = tab(report(comparison[1], output=tmp_path / "page.html"), 1280)
    assert violations(page) == []
    page.run("document.querySelector('.plot').append(document.createElement('img'))")
    assert [rule for rule, _ in violations(page)] == ["image-alt"]
