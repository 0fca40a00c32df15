"""Studies with made-up figures, so that what they show can be checked by hand."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerasbn.common.records import write_json
from kerasbn.data.datasets import Dataset
from kerasbn.sweeps.grid import parse_grid
from kerasbn.sweeps.study import RECORD, Study, open_study, read_study
from kerasbn.sweeps.study_data import Outcome
from kerasbn.sweeps.trials import Trial

# The accuracy of a trial after an epoch (from 1) of three, None if it has diverged by then, or the
# error it failed with.
Figures = Callable[[Trial, int], float | str | None]
MadeUp = Callable[[Mapping[str, Any], Figures], Study]
STEPS = 100  # per epoch


@pytest.fixture
def made_up(few_digits: Dataset, tmp_path: Path) -> MadeUp:
    """Returns a function that makes a study on disk from a grid and the figures of its trials."""

    def make(raw: Mapping[str, Any], figures: Figures) -> Study:
        grid = parse_grid(raw, "made-up", "made-up")
        study = open_study(tmp_path / "made-up", grid, few_digits)
        data = replace(study.record.data, test=10_000)  # so that accuracies have many values
        write_json(study.path / RECORD, replace(study.record, data=data))
        outcomes, rows = {}, ["trial,epoch,step,loss,accuracy,val_loss,val_accuracy"]
        for trial in study.trials:
            by_epoch = [figures(trial, epoch) for epoch in (1, 2, 3)]
            for epoch, accuracy in enumerate(by_epoch, start=1):
                if isinstance(accuracy, float):
                    rows.append(f"{trial.name},{epoch},{epoch * STEPS},0.1,0.9,0.1,{accuracy}")
            last = by_epoch[-1]
            if isinstance(last, str):
                outcomes[trial.name] = Outcome("failed", error=last)
            elif last is None:
                outcomes[trial.name] = Outcome("diverged", diverged_at_step=250, digest="d")
            else:
                metrics = (0.1, 0.1, 0.1, last)
                outcomes[trial.name] = Outcome("finished", 3, 300, None, *metrics, digest="f")
        replace(study, outcomes=outcomes).write_results()
        (study.path / "history.csv").write_text("\n".join(rows) + "\n")
        return read_study(study.path)

    return make
