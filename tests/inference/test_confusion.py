from pathlib import Path

import numpy as np
import pytest

from kerasbn.common.plotting import save_figure
from kerasbn.inference.confusion import Confusion, confusion


@pytest.fixture
def matrix() -> Confusion:
    return confusion(["cat", "dog", "owl"], [0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 0, 0, 2])


def test_rows_are_true_classes(matrix: Confusion) -> None:
    assert matrix.counts.tolist() == [[2, 1, 0], [0, 2, 0], [2, 0, 1]]
    assert matrix.accuracy == 5 / 8
    assert matrix.confused() == [("owl", "cat", 2), ("cat", "dog", 1)]
    assert matrix.as_dict() == {"classes": ["cat", "dog", "owl"], "counts": matrix.counts.tolist()}


def test_lines(matrix: Confusion) -> None:
    assert matrix.lines(80) == [
        "rows: true class, columns: predicted class",
        "     cat  dog  owl",
        "cat    2    1    .",
        "dog    .    2    .",
        "owl    2    .    1",
        "",
        "accuracy 62.50% (8 images of 3 classes)",
        "most confused: owl as cat (2) and cat as dog (1)",
    ]
    assert matrix.lines(20)[0].startswith("accuracy")  # the table does not fit
    right = confusion("ab", [0, 1], [0, 1])
    assert right.lines(20) == ["accuracy 100.00% (2 images of 2 classes)"]


@pytest.mark.slow
def test_figure_shows_shares_of_the_true_class(matrix: Confusion, tmp_path: Path) -> None:
    axes = matrix.figure().axes[0]
    shares = np.asarray(axes.images[0].get_array())
    assert np.allclose(shares, [[2 / 3, 1 / 3, 0.0], [0.0, 1.0, 0.0], [2 / 3, 0.0, 1 / 3]])
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "2", "2", "2"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cat", "dog", "owl"]
    empty_class = confusion("abc", [0, 1], [0, 1])  # no image of "c"
    for at, each in enumerate(
        (matrix, empty_class, confusion([str(n) for n in range(300)], [7], [8]))
    ):
        assert save_figure(each.figure(), tmp_path / f"{at}.png").stat().st_size > 5_000
