"""Studies whose figures are made up, so that what is said of them can be checked by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.sweeps.grid import parse
from kerasbn.sweeps.study import Result, Study, open_study, read_study, write_table
from kerasbn.sweeps.trials import Configuration

# The accuracy of a configuration after an epoch (from 1) of three, None if it has diverged by then,
# or the error it failed with.
Figures = Callable[[Configuration, int], float | str | None]
MadeUp = Callable[[Mapping[str, Any], Figures], Study]
STEPS = 100  # of an epoch


@pytest.fixture
def made_up(few_digits: Dataset, tmp_path: Path) -> MadeUp:
    """Gives a study on disk for a grid and the figures of its networks."""

    def make(raw: Mapping[str, Any], figures: Figures) -> Study:
        study = open_study(tmp_path / "made-up", parse(raw, "made-up", "made-up"), few_digits)
        results, rows = {}, ["run,epoch,step,loss,accuracy,val_loss,val_accuracy"]
        for each in study.configurations:
            told = [figures(each, epoch) for epoch in (1, 2, 3)]
            for epoch, accuracy in enumerate(told, start=1):
                if isinstance(accuracy, float):
                    rows.append(f"{each.name},{epoch},{epoch * STEPS},0.1,0.9,0.1,{accuracy}")
            last = told[-1]
            if isinstance(last, str):
                results[each.name] = Result("failed", {}, {}, error=last)
            elif last is None:
                results[each.name] = Result("diverged", {}, {"diverged_at_step": 250}, "d")
            else:
                final = dict.fromkeys(runs.METRICS, 0.1) | {"val_accuracy": last}
                results[each.name] = Result("finished", final, {"epochs": 3, "step": 300}, "f")
        write_table(study.path, study.configurations, results, study.grid.axes)
        (study.path / "history.csv").write_text("\n".join(rows) + "\n")
        return read_study(study.path)

    return make
