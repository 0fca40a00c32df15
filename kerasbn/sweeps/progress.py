"""How far a sweep is: told by the process that runs it, read by any other from its folder."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasbn.errors import InputError, expected
from kerasbn.records import write_json
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import best, summaries, where
from kerasbn.sweeps.trials import Group

try:
    import fcntl
except ImportError:  # Windows has none: there, nobody can tell whether a sweep runs
    fcntl = None  # type: ignore[assignment] # absence is a value here

PROGRESS, LOCK = "progress.json", ".lock"
SELDOM = 1.0  # seconds between two writings


@dataclass
class Progress:
    """What a running sweep knows of itself.

    Attributes:
        groups: all groups that were to be trained when it began.
        done: the numbers of those that are trained or failed.
        shares: how far those are that are being trained, by number.
        began: when it began, in seconds as `time.time` counts them.
    """

    groups: Sequence[Group]
    done: set[int] = field(default_factory=set)
    shares: dict[int, float] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    def left(self) -> float | None:
        """Seconds that are left, if the rest goes as the work so far; None before the first."""
        costs = {group.number: group.cost for group in self.groups}
        done = sum(costs[number] for number in self.done)
        done += sum(costs[number] * share for number, share in self.shares.items())
        if not done:
            return None
        return (time.time() - self.began) * (sum(costs.values()) - done) / done

    def record(self) -> dict[str, Any]:
        """What progress.json holds."""
        names = {group.number: str(group) for group in self.groups}
        return {
            "began": self.began,
            "running": [
                {"group": names[number], "share": share} for number, share in self.shares.items()
            ],
            "seconds_left": self.left(),
        }


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Hold the study in the folder `path` for this process, for as long as the block lasts.

    The lock ends with the process, however that ends.

    Raises:
        InputError: if another process holds it.
    """
    file = path / LOCK
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        if fcntl:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise expected(
                    path, "a study that another process is at", "one that is at rest",
                    "look at it with --status, or choose another --run",
                ) from error  # fmt: skip
        try:
            yield
        finally:
            for name in (PROGRESS, LOCK):
                with suppress(OSError):
                    (path / name).unlink()
    finally:
        os.close(descriptor)


def is_running(path: Path) -> bool:
    """Whether a process is at the study in the folder `path`."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_progress(path: Path, progress: Progress) -> None:
    """Tell others how far it is."""
    write_json(path / PROGRESS, progress.record())


def read_progress(path: Path) -> dict[str, Any] | None:
    """What a running sweep last told; None if none runs or it has told nothing yet."""
    if not is_running(path):
        return None
    try:
        record: dict[str, Any] = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def status_of(study: Study, progress: dict[str, Any] | None, *, alive: bool) -> dict[str, Any]:
    """Where a study stands, as JSON holds it.

    Args:
        study: as it is on disk.
        progress: what `Progress.record` gives, if it runs.
        alive: whether a process is at it.
    """
    counts = {
        status: len(study.with_status(status))
        for status in ("finished", "diverged", "failed", "missing")
    }
    listed = summaries(study)
    record: dict[str, Any] = {
        "study": study.name,
        "state": "running" if alive else "finished" if study.whole else "stopped",
        "networks": len(study.configurations),
        "done": counts["finished"] + counts["diverged"],
        **counts,
        "running": (progress or {}).get("running", []),
        "seconds_left": (progress or {}).get("seconds_left"),
        "best": {},
        "errors": sorted({study.results[each.name].error for each in study.with_status("failed")}),
    }
    for bn, name in ((True, "with_bn"), (False, "without_bn")):
        found = best(listed, bn)
        side = found.side(bn) if found else None
        if found and side:
            record["best"][name] = {
                "accuracy": side.spread.mean,
                "sd": side.spread.sd,
                "where": where(found.point, study.axes),
            }
    return record
