"""A few trials of `python -m tests.crash`, which kills commands and goes on with them."""

import crash
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "ensemble", "export"])
def test_killed_commands_end_as_if_they_had_not_been(command: str) -> None:
    said: list[str] = []
    assert crash.main(["--trials", "1", "--only", command], said.append) == 0, said
