"""Short comparisons and a study that several tests look at."""

from pathlib import Path

import numpy as np
import pytest

from kerasbn.digits.files import Digits
from kerasbn.study.compare import Comparison, compare
from kerasbn.study.ensemble import compare_seeds
from kerasbn.study.grid import parse
from kerasbn.study.studies import Result, open_study, write_table
from kerasbn.training.settings import NetworkSettings, TrainingSettings


@pytest.fixture(scope="session")
def comparison(
    sample_digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Comparison]:
    """A comparison of three epochs on the sample, and the folder its runs are in."""
    root = tmp_path_factory.mktemp("comparison") / "saved_models"
    training = TrainingSettings(epochs=3, seed=1)
    return root, compare(NetworkSettings(), sample_digits, training, quiet=True, root=root)


@pytest.fixture(scope="session")
def probed(few_digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of one pair, deep and with probes, and of its runs beside it."""
    root = tmp_path_factory.mktemp("probed") / "saved_models"
    network = NetworkSettings(hidden=(8, 8, 8), activation="sigmoid")
    training = TrainingSettings(epochs=2, seed=1)
    return compare(network, few_digits, training, quiet=True, root=root, probe=True).path


@pytest.fixture(scope="session")
def seeds(few_digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison over three seeds."""
    root = tmp_path_factory.mktemp("seeds") / "saved_models"
    training = TrainingSettings(epochs=3, seed=4, lr=0.02)
    network = NetworkSettings(hidden=(12,))
    return compare_seeds(network, few_digits, training, 3, quiet=True, root=root).path


@pytest.fixture(scope="session")
def swept(few_digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of learning rate by activation, with figures made up for its networks.

    Without normalization every network at the highest learning rate diverged.
    """
    raw = {
        "question": "Which learning rates does a network learn at?",
        "seeds": 3,
        "options": {"epochs": 1},
        "axes": {"lr": [0.001, 0.1, 10.0], "activation": ["relu", "tanh"]},
    }
    path = tmp_path_factory.mktemp("swept") / "saved_models" / "studies" / "rates"
    study = open_study(path, parse(raw, "rates", "a test"), few_digits, command="kerasbn sweep x")
    random = np.random.default_rng(3)
    results = {}
    for each in study.configurations:
        diverged = not each.bn and each.training.lr > 1
        figures = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0} | {
            "val_accuracy": 0.6 + 0.3 * each.bn + float(random.normal(0, 0.02))
        }
        status = "diverged" if diverged else "finished"
        counts = {"epochs": 0, "diverged_at_step": 3} if diverged else {"epochs": 1, "step": 20}
        results[each.name] = Result(status, {} if diverged else figures, counts, "0")
    write_table(path, study.configurations, results, study.grid.axes)
    return path


@pytest.fixture(scope="session")
def looked_into(
    few_digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Comparison]:
    """A comparison with probes that has seen enough to answer, and the folder its runs are in."""
    root = tmp_path_factory.mktemp("looked") / "saved_models"
    network, training = NetworkSettings(hidden=(12, 9)), TrainingSettings(epochs=3, seed=1)
    return root, compare(network, few_digits, training, quiet=True, probe=True, root=root)
