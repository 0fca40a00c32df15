"""A few trials of `python -m tests.crash`, which kills commands and goes on with them."""

import random
from collections.abc import Iterator
from pathlib import Path

import crash
import pytest
from command_processes import ForkedCommand, FreshCommand


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with crash.prepared(ForkedCommand) as folder:
        yield folder


# A probed comparison, whose figures take long, is resumed in experiments/test_sessions.py.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in crash.CASES if name != "probed"])
def test_killed_commands_end_as_if_they_had_not_been(name: str, base: Path) -> None:
    said: list[str] = []
    chance = random.Random(0)  # noqa: S311 - no secret
    assert not crash.trials_of(name, base, 3, chance, ForkedCommand, said.append), said


@pytest.mark.slow
def test_a_forked_command_ends_as_a_fresh_one(base: Path) -> None:
    command = "infer --model missing.onnx"
    ends = [start(command, base).wait() for start in (ForkedCommand, FreshCommand)]
    assert ends[0] == ends[1]
    assert ends[0][0] == 2
    assert "missing.onnx: received" in ends[0][1]


def test_moments_cover_the_whole_command_and_its_end() -> None:
    moments = crash.moments(10.0, 40, 30, random.Random(0))  # noqa: S311 - as above
    times = [moment.seconds for moment in moments[::3]]
    assert times == sorted(times)
    assert min(times) < 1
    assert max(times) > 9
    assert {round(moment.paths, -1) for moment in moments[1::3]} == {0, 10, 20, 30, 40}
    assert min(moment.paths for moment in moments[2::3]) >= 20
