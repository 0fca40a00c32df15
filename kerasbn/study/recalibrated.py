"""A run whose moving statistics were replaced, kept as a run of its own."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.training.recalibrate import Recalibration

Words = dict[str, Any]


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration did, and on what.

    Attributes:
        found: the new network and how far its statistics moved.
        data: what the statistics are of, in words.
        unbiased: whether variances have the factor m/(m-1).
        before: accuracy before, 0 to 1; None without labels.
        after: accuracy after.
        measured_on: what the accuracy was measured on, in words.
    """

    found: Recalibration
    data: str
    unbiased: bool
    before: float | None
    after: float | None
    measured_on: str

    def record(self) -> Words:
        """The same as JSON holds it."""
        return {
            "data": self.data,
            "variance": "m/(m-1)" if self.unbiased else "plain",
            "accuracy": {"before": self.before, "after": self.after, "on": self.measured_on},
            "shifts": [vars(shift) for shift in self.found.shifts],
        }

    def lines(self) -> list[str]:
        """The same for people: a line for each normalization, then the accuracy."""
        factor = "times m/(m-1), as in the paper" if self.unbiased else "plain"
        lines = [str(shift) for shift in self.found.shifts]
        lines.append(f"statistics of {self.data}, variance {factor}")
        if self.before is None or self.after is None:
            return [*lines, "accuracy not measured: no labels, or no classes"]
        on = f"accuracy on {self.measured_on}"
        return [*lines, f"{on}: {self.before:.2%} before, {self.after:.2%} after"]


def keep_run(
    source: runs.Run,
    result: Recalibrated,
    *,
    name: str | None = None,
    force: bool = False,
    root: Path = runs.ROOT,
) -> runs.Run:
    """Keep the network as a new run, `SOURCE-recalibrated` or the name given.

    Its record is that of the source with what was done, its history the source's; its final figures
    are those measured anew, so there is the accuracy on the test set or none.

    Raises:
        InputError: if the name is taken or the run cannot be written.
    """
    final = {} if result.after is None else {"val_accuracy": result.after}
    record = source.record | {
        "finished": datetime.now(UTC).isoformat(),
        "final": final,
        "recalibrated": {"from": source.name, **result.record()},
    }
    default = f"{source.name}-recalibrated"
    with runs.new_run(name, default, force=force, root=root) as folder:
        shutil.copyfile(source.path / runs.HISTORY, folder.path / runs.HISTORY)
        result.found.model.save(folder.path / runs.MODEL)
        runs.write_record(folder.path, record)
    assert folder.placed is not None
    return replace(source, path=folder.placed, record=record)
