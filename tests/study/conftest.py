"""One short comparison that several tests look at."""

from pathlib import Path

import pytest

from kerasbn.digits.files import Digits
from kerasbn.study.compare import Comparison, compare
from kerasbn.training.settings import NetworkSettings, TrainingSettings


@pytest.fixture(scope="session")
def comparison(
    sample_digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Comparison]:
    """A comparison of three epochs on the sample, and the folder its runs are in."""
    root = tmp_path_factory.mktemp("comparison") / "saved_models"
    training = TrainingSettings(epochs=3, seed=1)
    return root, compare(NetworkSettings(), sample_digits, training, quiet=True, root=root)
