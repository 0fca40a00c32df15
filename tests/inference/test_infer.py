from pathlib import Path

import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.inference.infer import ASCII, draw, parse_labels, side_by_side


def test_a_sign_shows_its_two_halves() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[0:2, 0:2] = 255  # the upper half of the first sign
    image[2:4, 2:4] = 255  # the lower half of the second
    image[0:4, 4:6] = 255  # both of the third
    lines = draw(image)
    assert lines[0] == "▀▄█".ljust(14)
    assert lines[1:] == [" " * 14] * 6
    assert draw(image, ASCII)[0] == "'.#".ljust(14)


def test_rows_fit_the_terminal() -> None:
    images = np.full((5, 28, 28), 255, np.uint8)
    lines = side_by_side(images, ["a", "b", "c", "d", "e"], 40, "utf-8")
    assert max(map(len, lines)) <= 40
    captions = [line.split() for line in lines if "█" not in line and line]
    assert captions == [["a", "b"], ["c", "d"], ["e"]]
    assert "█" not in "".join(side_by_side(images, [*"abcde"], 40, "ascii"))
    assert side_by_side(images[:2], [*"ab"], 1, "utf-8").count("a") == 1


def test_labels_are_names_or_a_file_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_labels("cat, black dog") == ["cat", "black dog"]
    Path("pets.txt").write_text("cat\nblack dog\n")
    Path("a,b.txt").write_text("cat, small\ndog\n")
    assert parse_labels("pets.txt") == ["cat", "black dog"]
    assert parse_labels("a,b.txt") == ["cat, small", "dog"]
    with pytest.raises(InputError, match="cat: received no such file, expected a text file"):
        parse_labels("cat")
