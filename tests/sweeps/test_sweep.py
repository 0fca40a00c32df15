"""A sweep while it runs, with somebody else in the place of those who train."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kerasbn.data.datasets import Dataset
from kerasbn.errors import StoppedError
from kerasbn.sweeps import sweep as module
from kerasbn.sweeps.events import Advanced, Began, Event
from kerasbn.sweeps.grid import parse
from kerasbn.sweeps.progress import read_progress
from kerasbn.sweeps.trials import Group


def test_whoever_looks_sees_all_that_are_at_work_from_the_beginning(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def trainer(missing: Sequence[Group], *_: Any, **__: Any) -> Generator[Event, None, None]:
        yield from (Began(group.number) for group in missing)
        seen.append(read_progress(tmp_path / "mine"))
        yield Advanced(missing[0].number, 0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "in_processes", trainer)
    grid = parse({"axes": {"batch_size": [8, 16, 32]}}, "mine", "mine")
    with pytest.raises(StoppedError, match=r"0 of 6 networks are kept in .*same command goes on"):
        module.sweep(grid, few_digits, root=tmp_path, quiet=True)
    (progress,) = seen
    assert [each["share"] for each in progress["running"]] == [0.0] * 3
    assert read_progress(tmp_path / "mine") is None
    # With --force it would begin anew once more.
    with pytest.raises(StoppedError, match="the same command without --force goes on"):
        module.sweep(grid, few_digits, root=tmp_path, quiet=True, force=True)
