"""Which parts a page has, and for which models."""

import shutil
from pathlib import Path

import msgspec
import pytest

from kerasbn.experiments.comparison import read_comparison
from kerasbn.reports.document import Paragraph
from kerasbn.reports.play import weights
from kerasbn.reports.play.play import PARTS, Play, play
from kerasbn.reports.play.weights import Dense

COMPARED = Path(__file__).parents[3] / "saved_models" / "mnist-compare"
ROOM = 700_000  # bytes: more than the models of that comparison need


def parts_of(found: Play) -> list[str]:
    return [section.anchor for section in found.sections()]


def test_a_comparison_of_small_models_has_all_parts() -> None:
    found = play(read_comparison(COMPARED), ROOM)
    assert found.examples is not None
    assert len(found.examples.labels) == 64
    assert parts_of(found) == list(PARTS)
    assert found.note == ""


@pytest.mark.usefixtures("alone")
def test_without_test_images_there_is_no_batch_to_choose(tmp_path: Path) -> None:
    (tmp_path / "compare").mkdir()
    text = (COMPARED / "compare.json").read_text()
    place = (COMPARED.parent / "mnist-").resolve()
    text = text.replace('"run": "../mnist-', f'"run": "{place}')
    (tmp_path / "compare" / "compare.json").write_text(text)
    found = play(read_comparison(tmp_path / "compare"), ROOM)
    assert found.models is not None
    assert found.examples is None
    assert parts_of(found) == [part for part in PARTS if part != "batch"]


def notes(found: Play) -> dict[str, str]:
    """The notes under each heading."""
    return {
        section.heading: " ".join(
            block.text for block in section.blocks if isinstance(block, Paragraph)
        )
        for section in found.sections()
    }


@pytest.mark.parametrize(
    ("room", "first", "count"),
    [
        (70_000, 1, 64),
        (64_000, 4, 64),
        (34_000, 4, 32),
        (20_000, 4, 16),
    ],
)
def test_large_models_start_at_a_later_layer(room: int, first: int, count: int) -> None:
    """As early as possible, with as many test images as possible."""
    small = play(read_comparison(COMPARED), ROOM)
    found = play(read_comparison(COMPARED), room)
    assert small.models is not None
    assert found.models is not None
    assert found.examples is not None
    assert small.examples is not None
    whole, (start, *rest) = small.models.bn.layers[first:], found.models.bn.layers
    assert rest == whole[1:]
    assert len(found.models.plain.layers) == 1
    assert found.examples.images == small.examples.images[: 784 * count]
    assert len(found.examples.labels) == count
    assert isinstance(start, Dense)
    said = notes(found)
    assert [*said] == ["Pick a digit", *[part.heading for part in PARTS.values()][1:]]
    for each in said.values():
        assert f"the outputs of {start.name} " in each
        assert f"for {count} test images" in each
        assert ("BN layers ahead" in each) == (first == 4)


def test_of_layers_that_are_too_wide_a_page_has_some_units() -> None:
    found = play(read_comparison(COMPARED), 15_000)
    assert found.examples is not None
    assert len(found.examples.labels) == 64
    said = notes(found)
    assert [*said] == ["Pick a digit", *[part.heading for part in PARTS.values()][1:]]
    for each in said.values():
        assert "the first 32 units of dense_2, and what the models answer for 64" in each
        assert "BN layers ahead of dense_2" in each


def test_a_page_says_that_models_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MOST_BYTES", 700)
    found = play(read_comparison(COMPARED), ROOM)
    assert (found.models, found.examples) == (None, None)
    assert notes(found) == {
        "Draw a digit": "At least one of these models cannot run on a page: it is too large.",
        "Watch it train": "",
    }


def test_of_runs_that_no_longer_exist_a_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "compare").mkdir()
    shutil.copy(COMPARED / "compare.json", tmp_path / "compare")
    found = play(read_comparison(tmp_path / "compare"), ROOM)
    said = "At least one of these models cannot run on a page: it no longer exists."
    assert notes(found) == {"Draw a digit": said}


def test_of_models_without_a_file_a_page_says_so(seeds: Path) -> None:
    said = "At least one of these models cannot run on a page: it has no file that can be read."
    found = play(read_comparison(seeds), ROOM)
    assert notes(found) == {"Draw a digit": f"These models are the pair with seed 4. {said}"}
    with_models = msgspec.structs.replace(play(read_comparison(COMPARED), ROOM), note=found.note)
    assert [*notes(with_models).values()] == [found.note] * 5
