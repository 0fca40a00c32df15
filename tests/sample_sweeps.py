"""A backend for sweeps that trains nothing."""

from collections.abc import Generator, Sequence
from typing import Any

import msgspec
from sample_runs import run_record

from kerasbn.common.records import to_plain
from kerasbn.runs import HISTORY_COLUMNS
from kerasbn.sweeps.trials import Event, Trial, TrialBatch


def made_up_backend(
    missing: Sequence[TrialBatch], *_: Any, **__: Any
) -> Generator[Event, None, None]:
    """Yield what a training yields, with made-up accuracies; a layer of 1,000,000 units fails."""
    for batch in missing:
        yield Event(batch.number)
        if max(batch.trials[0].model.hidden) == 1_000_000:
            yield Event(batch.number, error="MemoryError: too large")
        else:
            files = {trial.name: made_up_run(trial) for trial in batch.trials}
            yield Event(batch.number, 1.0, files)


def made_up_run(trial: Trial) -> dict[str, bytes]:
    accuracy = 0.8 + 0.1 * trial.bn - 0.01 * (trial.seed % 5) - 0.001 * len(trial.model.hidden)
    row = {"epoch": 1, "step": 20, "loss": 0.3, "accuracy": 0.9, "val_loss": 0.4}
    row |= {"val_accuracy": accuracy}
    record = run_record(model=trial.model, training=trial.training, final=row, digest="d")
    cells = ",".join(str(row[name]) for name in HISTORY_COLUMNS)
    return {
        "run.json": msgspec.json.encode(to_plain(record)),
        "history.csv": f"{','.join(HISTORY_COLUMNS)}\n{cells}\n".encode(),
    }
