"""Pages of interactive parts alone."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from chromium import Tab
from sample_play import Playable, playable

from kerasbn.data.datasets import Dataset
from kerasbn.experiments.comparison import read_comparison
from kerasbn.reports import report
from kerasbn.reports.document import Article, render
from kerasbn.reports.play.play import Examples, Play, play

SAVED_MODELS = Path(__file__).parents[3] / "saved_models"


@pytest.fixture(scope="session")
def trained() -> Play:
    """The models trained on MNIST that the repository has, with made-up images."""
    images = np.random.default_rng(4).integers(0, 256, (64, 28, 28), np.uint8)
    examples = Examples(images.tobytes(), [i % 10 for i in range(64)])
    found = play(read_comparison(SAVED_MODELS / "mnist-compare"), room=700_000)
    assert found.models is not None
    return msgspec.structs.replace(found, examples=examples)


@pytest.fixture
def open_part(tab: Callable[..., Tab], tmp_path: Path) -> Callable[..., Tab]:
    """Return a function that opens a page with the part of this name alone."""

    def opened(name: str, data: Play, width: int = 1280) -> Tab:
        sections = [each for each in data.sections() if each.anchor == name]
        path = tmp_path / f"{name}.html"
        path.write_text(render([Article("?", "!", *sections)], [], msgspec.to_builtins(data)))
        return tab(path, width)

    return opened


@pytest.fixture(scope="session")
def pair(sample_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Playable:
    """A page of models with random weights, and these models."""
    return playable(tmp_path_factory.mktemp("pair"), sample_digits, activation="elu")


@pytest.fixture(scope="session")
def after(sample_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Playable:
    """Likewise with BN after the activation."""
    folder = tmp_path_factory.mktemp("after")
    return playable(folder, sample_digits, bn_position="after", activation="tanh")


@pytest.fixture(scope="session")
def large(sample_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Playable:
    """Likewise of models whose second kernel is too large for a page, as their first is."""
    folder = tmp_path_factory.mktemp("large")
    return playable(folder, sample_digits, hidden=(512, 512), activation="gelu")


@pytest.fixture(scope="session", params=["before", "after"])
def wide(
    request: pytest.FixtureRequest, sample_digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Playable:
    """Likewise of models with one layer, too wide for a page; BN before or after the activation."""
    settings = {"hidden": (40,), "activation": "silu", "bn_position": request.param}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "MOST_BYTES", 0)
        patch.setattr(report, "LEAST_ROOM", 0)
        return playable(tmp_path_factory.mktemp("wide"), sample_digits, **settings)
