"""Probes are read as they were written; damaged ones give one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_runs import run_record

from kerasbn.common.errors import InputError
from kerasbn.probes.readings import (
    MODEL,
    BatchResult,
    LayerNames,
    ProbeRecord,
    Reading,
    read_probes,
    write_probes,
)
from kerasbn.probes.results import findings_of
from kerasbn.probes.topics.panels import draw_bn_layers
from kerasbn.runs import Run

LAYERS = (LayerNames("dense_1", "bn_1"), LayerNames("logits"))
RECORD = ProbeRecord(100, 3, 32, (0.1, 0.4), LAYERS)


def test_probes_are_read_as_written(tmp_path: Path) -> None:
    readings = [
        Reading(0, MODEL, "loss", "", 2.5),
        Reading(0, "dense_1", "percentile", "15", -1.25),
        Reading(10, MODEL, "loss", "", float("nan")),
    ]
    result = BatchResult("moving", 1, "shuffled", 0.5, 0.0, 0.0)
    record = replace(RECORD, batch_composition=(result,))
    write_probes(tmp_path, readings, record)
    found = read_probes(Run(tmp_path, run_record()))
    assert found.record == record
    assert found.series(MODEL, "loss").steps.tolist() == [0, 10]
    assert found.series("dense_1", "percentile", 15).values.tolist() == [-1.25]
    assert found.series(MODEL, "loss").finite[-1] == 2.5
    assert np.isnan(found.series("dense_1", "percentile", 50).median())
    assert found.layers == ["dense_1", "logits"]
    assert found.bn_layers == ["bn_1"]
    assert found.diverged


def test_a_band_is_drawn_where_both_its_edges_were_read(tmp_path: Path) -> None:
    steps = {"15": (0, 10, 20), "50": (0, 10, 20), "85": (10, 20)}
    readings = [
        Reading(step, "bn_1", "gamma", which, float(which))
        for which, given in steps.items()
        for step in given
    ]
    write_probes(tmp_path, readings, RECORD)
    found = read_probes(Run(tmp_path, run_record()))
    _, (panel,) = draw_bn_layers("BN", [found], {"gamma": "gamma"}, (15, 50, 85))
    (band,) = panel.collections
    assert set(np.asarray(band.get_paths()[0].vertices)[:, 0]) == {10, 20}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("probes.csv", "step,layer\n1,dense_1\n"),
        ("probes.csv", "step,layer,quantity,which,value\n1,model,loss,,soon\n"),
        ("probes.json", "{"),
        ("probes.json", "{}"),
        ("probes.json", "[]"),
        ("probes.json", '{"layers": [{}], "step_sizes": [1]}'),
        (
            "probes.json",
            '{"examples": 1, "batches": 1, "batch_size": 1, "step_sizes": [1.0], "layers": []}',
        ),
        ("probes.json", None),
    ],
)
def test_damaged_probes_are_one_line(file: str, text: str | None, tmp_path: Path) -> None:
    write_probes(tmp_path, [Reading(0, MODEL, "loss", "", 2.5)], RECORD)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match="expected the probes of a run; train again") as error:
        read_probes(Run(tmp_path, run_record()))
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_without_probes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without probes\.csv, expected a run with probes"):
        read_probes(Run(tmp_path, run_record()))
    assert findings_of([Run(tmp_path, run_record())]) == []
