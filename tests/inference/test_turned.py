"""Finding digits that lie on their side among upright ones."""

from typing import Any, cast

import numpy as np
import pytest

from kerasbn.data.datasets import load_dataset
from kerasbn.inference.classifier import Classifier, Prediction
from kerasbn.inference.infer import ImagePredictions, Source
from kerasbn.inference.turned import turned


class Linear:
    """A linear classifier, fitted to the training images of the sample."""

    def __init__(self) -> None:
        train = load_dataset("mnist-sample").train
        x = self.features(train.images[..., None])
        targets = np.eye(10)[train.labels]
        self.weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ targets)

    @staticmethod
    def features(images: np.ndarray) -> np.ndarray:
        x = images.reshape(len(images), -1) / 255
        return np.hstack([x, np.ones((len(x), 1))])

    def classify(self, images: np.ndarray) -> list[Prediction]:
        powers = np.exp(8 * self.features(images) @ self.weights)
        rows = powers / powers.sum(axis=1, keepdims=True)
        return [
            Prediction(str(row.argmax()), int(row.argmax()), float(row.max()), row) for row in rows
        ]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return cast(Classifier, Linear())


def found(classifier: Classifier, quarters: int) -> list[Any]:
    images = load_dataset("mnist-sample").test.images[:300, ..., None]
    images = np.rot90(images, quarters, axes=(1, 2))
    return turned(classifier, images, classifier.classify(images))


def test_upright_digits_are_hardly_doubted(classifier: Classifier) -> None:
    assert sum(each is not None for each in found(classifier, 0)) <= 0.03 * 300


@pytest.mark.parametrize(("quarters", "back"), [(1, "right"), (-1, "left")])
def test_turned_digits_are_doubted_and_the_way_back_is_named(
    classifier: Classifier, quarters: int, back: str
) -> None:
    doubts = [each for each in found(classifier, quarters) if each is not None]
    assert len(doubts) >= 0.3 * 300
    assert sum(each.direction == back for each in doubts) >= 0.7 * len(doubts)


def test_the_doubt_is_said_in_the_line_and_in_json(classifier: Classifier) -> None:
    (doubt,) = [each for each in found(classifier, 1) if each is not None][:1]
    upright = Prediction("7", 7, 0.5, np.eye(10)[7])
    said = ImagePredictions({Source("a.png"): upright}, {Source("a.png"): doubt})
    (line,) = said.lines()
    assert line.startswith("a.png  7 50.00%, or ")
    assert line.endswith(f"% if turned {doubt.direction}: it may lie on its side")
    (row,) = said.as_dict()["images"]
    assert row["turned"]["direction"] == doubt.direction
    assert row["turned"]["prediction"] == doubt.prediction.label
