"""Train a run again, and tell whether the result is the same to the bit."""

from dataclasses import dataclass
from pathlib import Path

from kerasbn import runs
from kerasbn.common.errors import CheckFailedError, expected
from kerasbn.common.files import scratch_folder
from kerasbn.common.wording import listed
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.experiments.train import TrainingJob, train_jobs


@dataclass(frozen=True)
class Repetition:
    """What came of training a run again: the same or not, and what was different this time."""

    run: runs.Run
    is_same: bool
    differences: tuple[str, ...]

    def check(self) -> None:
        """Raise `CheckFailedError` if the result is another one; the message says what differs."""
        if not self.is_same:
            causes = listed(self.differences) or "nothing that is recorded differs"
            raise CheckFailedError(
                f"{self.run.path}: trained again, received other weights or another history, "
                f"expected the same to the bit ({causes})"
            )


def repeat(
    name: str,
    data: Dataset | None = None,
    *,
    device: str = "auto",
    quiet: bool = True,
    root: Path = runs.ROOT,
) -> Repetition:
    """Train a run again with its settings, and compare weights and history.

    Args:
        name: The name or folder of the run.
        data: What to train on; None for the dataset that the run names.
        device: See `kerasbn.train`.
        quiet: Whether to show no progress.
        root: The folder of the runs.

    Raises:
        InputError: If there is no such run, or it is not the result of a complete training.
    """
    run = runs.find_run(name, root)
    record = run.record
    if record.status == "interrupted" or record.recalibrated is not None:
        found = "a recalibrated run" if record.recalibrated is not None else "an interrupted run"
        raise expected(run.path, found, "a run as its training left it")
    if data is None:
        data = load_dataset(record.data.name, quiet=quiet)
    job = TrainingJob(run.name, record.model, record.training)
    with scratch_folder() as folder:
        (again,) = train_jobs([job], data, root=folder, device=device, quiet=quiet, figures=False)
        is_same = runs.digest_of(again) == runs.digest_of(run)
        return Repetition(run, is_same, tuple(_differences(record, again.record)))


def _differences(then: runs.RunRecord, now: runs.RunRecord) -> list[str]:
    """Return what the results depend on and is not as it was, as clauses."""
    pairs = {
        "data": (then.data.digest[:8], now.data.digest[:8]),
        "device": (then.device, now.device),
        "models trained as one": (str(then.ensemble), str(now.ensemble)),
    }
    for old, new in ((then.versions, now.versions), (then.environment, now.environment)):
        pairs |= {key: (old.get(key, "none"), new.get(key, "none")) for key in {**old, **new}}
    return [f"{name}: {old}, now {new}" for name, (old, new) in pairs.items() if old != new]
