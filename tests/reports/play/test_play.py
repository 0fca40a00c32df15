"""Which parts a page has, and for which models."""

from pathlib import Path
from typing import Any

import pytest

from kerasbn.experiments.comparison import read_comparison
from kerasbn.reports.play import play as play_module
from kerasbn.reports.play import weights as weights_module
from kerasbn.reports.play.play import PARTS, Play, play

COMPARED = Path(__file__).parents[3] / "saved_models" / "mnist-compare"


def parts_of(found: Play) -> list[str]:
    return [section.anchor for section in found.sections()]


def test_a_comparison_of_small_models_has_all_parts() -> None:
    found = play(read_comparison(COMPARED))
    assert found.examples is not None
    assert len(found.examples.labels) == 64
    assert parts_of(found) == list(PARTS)
    assert found.seed is None


@pytest.mark.usefixtures("alone")
def test_without_test_images_there_is_no_batch_to_choose(tmp_path: Path) -> None:
    (tmp_path / "compare").mkdir()
    text = (COMPARED / "compare.json").read_text()
    place = (COMPARED.parent / "mnist-").resolve()
    text = text.replace('"run": "../mnist-', f'"run": "{place}')
    (tmp_path / "compare" / "compare.json").write_text(text)
    found = play(read_comparison(tmp_path / "compare"))
    assert found.models is not None
    assert found.examples is None
    assert parts_of(found) == [part for part in PARTS if part != "batch"]


def test_of_large_models_a_page_has_what_they_make_of_the_test_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = play(read_comparison(COMPARED)).models
    monkeypatch.setattr(play_module, "MOST_WEIGHTS", 52_000)
    found = play(read_comparison(COMPARED))
    assert small is not None
    assert found.models is not None
    assert not found.drawable
    assert found.models.bn.layers[1:] == small.bn.layers[2:]  # from the first BN layer on
    headings = [section.heading for section in found.sections()]
    assert headings == ["Pick a digit", *[*PARTS.values()][1:]]


@pytest.mark.parametrize(
    ("module", "limit"), [(play_module, "MOST_WEIGHTS"), (weights_module, "MOST_BYTES")]
)
def test_a_page_says_that_models_are_too_large(
    monkeypatch: pytest.MonkeyPatch, module: Any, limit: str
) -> None:
    monkeypatch.setattr(module, limit, 1_000)
    found = play(read_comparison(COMPARED))
    assert (found.models, found.examples) == (None, None)
    first, *others = found.sections()
    assert "at most" in str(first.blocks[0])
    assert [each.anchor for each in others] in ([], ["training"])


def test_models_without_a_file_have_no_parts(seeds: Path) -> None:
    found = play(read_comparison(seeds))
    assert parts_of(found) == []
    assert found.seed == 4
    with_models = play(read_comparison(COMPARED)).models
    first = Play(with_models, seed=4).sections()[0]
    assert "seed 4" in str(first.blocks[1])
