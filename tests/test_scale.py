"""`python -m tests.scale` measures in processes of its own, and says what is out of proportion."""

import tracemalloc
from pathlib import Path

import pytest
import scale


@pytest.mark.slow
def test_the_memory_that_images_take_is_bounded(tmp_path: Path) -> None:
    """Only names and class probabilities are kept of an image."""
    peaks = []
    for size in (300, 900):
        folder = tmp_path / str(size)
        folder.mkdir()
        run = scale.CASES["infer"].prepare(size, folder)
        tracemalloc.start()
        run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 600 * scale.CASES["infer"].unit_bytes


@pytest.mark.slow
def test_a_case_is_measured_in_a_process_of_its_own() -> None:
    seconds, used = scale.measure_alone("fold-onnx", 40)
    assert seconds > 0
    assert used >= 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([(1.0, 10_000), (6.0, 20_000)], []),
        ([(1.0, 10_000), (6.1, 20_000)], ["time grows 6.1 times"]),
        ([(1.0, 0), (4.0, 900_001)], ["3,000 bytes for each of the images"]),
        ([(1.0, 0), (4.0, 910_000)], ["3,033 bytes for each of the images"]),
    ],
)
def test_growth_is_judged(found: list[tuple[float, int]], said: list[str]) -> None:
    assert scale.problems(scale.CASES["infer"], (100, 400), found) == said
