"""Readers of records: runs, comparisons, studies, unfinished trainings and grids."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from zlib import crc32

import numpy as np
from fuzz.damage import Damage, damage_json, damage_lines
from fuzz.trials import Reader
from sample_runs import run_record, write_comparison, write_run

from kerasbn.common.records import write_json
from kerasbn.data.datasets import Dataset, Split
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.sessions import TrainingSession
from kerasbn.probes.readings import BatchResult, LayerNames, ProbeRecord, Reading, write_probes
from kerasbn.reports.deployment import deployment
from kerasbn.reports.report import report
from kerasbn.reports.sources import find_subject, inventory_tables, take_inventory
from kerasbn.sweeps.grid import load_grid, parse_grid
from kerasbn.sweeps.study import Study, open_study
from kerasbn.sweeps.study_data import Outcome
from kerasbn.sweeps.trials import list_trials
from kerasbn.training.settings import ModelSettings, TrainingSettings

PAGE, PAGES = "page.html", 1000  # a page takes as long as a thousand readings
GRID = """question = "Which learning rates work?"
seeds = 2
[options]
epochs = 5
hidden = "32,32"
[axes]
lr = [0.001, 0.01, 0.1]
bn-momentum = [0.9, 0.99]
bn-position = ["before", "after"]
"""
DRAWN = """source = "here"
sample = 5
sample_seed = 3
[axes]
lr = { log = [0.001, 0.1] }
batch_size = { linear = [16, 64] }
hidden = [[8], [8, 8]]
"""
PLAN = [
    {"decision": "fold", "layer": "bn_1", "kind": "BN layer", "into": ["dense_1"]},
    {"decision": "keep", "layer": "bn_2", "kind": "BN layer", "reason": "its input is used twice"},
]
CHECKS = {
    "path": "model.onnx", "passed": True,
    "intact": {"status": "passed", "reason": "the checksum matches", "figures": {}},
    "parity": {"status": "failed", "reason": "3 of 10 predictions differ", "figures": {"n": 1.5}},
}  # fmt: skip

PROBES = ProbeRecord(
    100, 3, 32, (0.1, 0.4), (LayerNames("dense_1", "bn_1"), LayerNames("logits")),
    (BatchResult("moving", 1, "shuffled", 1, 0, 0), BatchResult("batch", 8, "sorted", 0, 1, 2)),
)  # fmt: skip
QUANTITIES = {
    "model": ("loss", "smoothness", "gradient", "change"),
    "dense_1": ("preactivation_sd", "preactivation_gradient", "kernel_gradient", "inactive"),
    "logits": ("preactivation_gradient", "kernel_gradient"),
    "bn_1": ("moving_mean_distance", "moving_variance_distance", "gamma", "beta"),
}


def _readings() -> Iterator[Reading]:
    """Yield made-up readings; the last one is not finite."""
    for step in (0, 10, 20):
        for layer, quantities in QUANTITIES.items():
            for quantity in quantities:
                for which in ("", "15", "50", "85", "0.1", "0.4"):
                    yield Reading(step, layer, quantity, which, 0.1 + step / 7)
        for which in ("15", "50", "85"):
            yield Reading(step, "dense_1", "percentile", which, 1.5 - step / 9)
    yield Reading(0, "dense_1", "typical_unit", "", 3.0)
    yield Reading(30, "model", "loss", "", float("nan"))


@cache
def _project() -> Mapping[str, bytes]:
    """Return the files of a run with everything that a run can have, a comparison and a study."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = write_run(root, "run", run_record(epochs=2), ((1, 0.9, 0.2, 125, 0.8, 0.3),) * 2)
        write_probes(run.path, _readings(), PROBES)
        write_json(run.path / "plan.json", PLAN)
        write_json(run.path / "verify.json", CHECKS)
        write_comparison(root / "pair", ModelSettings(), TrainingSettings(epochs=2), seeds=3)
        checkpoint = root / ".new.part" / "checkpoint"
        checkpoint.mkdir(parents=True)
        session = TrainingSession("compare", ModelSettings(), TrainingSettings(), seeds=3)
        write_json(checkpoint / "session.json", session)
        images, labels = np.zeros((20, 28, 28), np.uint8), np.zeros(20, np.uint8)
        data = Dataset("mnist", Split(images, labels), Split(images, labels), "here")
        raw = {"seeds": 2, "options": {"epochs": 3}, "axes": {"lr": [0.1, 0.01]}}
        study = open_study(root / "study", parse_grid(raw, "study", "study"), data)
        finished = Outcome("finished", 3, 300, None, 0.1, 0.9, 0.2, 0.8, "d")
        outcomes = {each.name: finished for each in study.trials}
        outcomes[study.trials[0].name] = Outcome("diverged", diverged_at_step=7, digest="d")
        outcomes[study.trials[1].name] = Outcome("failed", error="MemoryError: too large")
        replace(study, outcomes=outcomes).write_results()
        rows = [f"{each.name},{i},{i},.1,.9,.1,.8" for each in study.trials for i in (1, 2)]
        header = "trial,epoch,step,loss,accuracy,val_loss,val_accuracy"
        (study.path / "history.csv").write_text("\n".join([header, *rows, ""]))
        names = [path for path in root.rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in names} | {PAGE: b""}


def _report(path: Path) -> None:
    """Say what the file belongs to; sometimes build its page, which takes far longer."""
    folder = path.parent
    subject = find_subject(folder)
    assert repr(subject)
    if isinstance(subject, Study):
        subject.findings()
        assert subject.histories is not None  # reads history.csv
    elif isinstance(subject, Comparison):
        subject.summary()
    else:
        assert subject.summary()
        assert subject.title()
        subject.findings()
        deployment([subject])
    if crc32(path.read_bytes()) % PAGES == 0:
        report(folder, output=Path.cwd() / PAGE)


def _list(_: Path) -> None:
    """List what is there; the damaged is named, and hides nothing else."""
    root = Path.cwd()
    found, problems = take_inventory(root)
    assert len(inventory_tables(found, 80)) >= 1
    assert len(found) + len(problems) == 2
    for problem in problems:
        raise problem


def _grid(path: Path) -> None:
    grid = load_grid(str(path))
    if grid.size <= 1000:
        assert len(list_trials(grid)) >= 1


def _record(target: str, damage: Damage) -> Reader:
    return Reader(target, lambda: [_project()[target]], damage, _report, partial(_beside, target))


def _list_with(target: str) -> Reader:
    return Reader(target, lambda: [_project()[target]], damage_json, _list, _project)


def _beside(target: str) -> Mapping[str, bytes]:
    """Return the files that are read with a file; the probes only where they can contradict it."""
    folder, name = target.split("/", 1)
    alone = name in ("history.csv", "plan.json", "verify.json")
    return {
        path: content
        for path, content in _project().items()
        if path.startswith(f"{folder}/") and not (alone and "probes" in path)
    } | {PAGE: b""}


RECORDS: dict[str, Reader] = {
    "run": _record("run/run.json", damage_json),
    "run-history": _record("run/history.csv", damage_lines),
    "probes": _record("run/probes.csv", damage_lines),
    "probes-record": _record("run/probes.json", damage_json),
    "plan": _record("run/plan.json", damage_json),
    "checks": _record("run/verify.json", damage_json),
    "comparison": _record("pair/compare/compare.json", damage_json),
    "study": _record("study/study.json", damage_json),
    "study-results": _record("study/results.csv", damage_lines),
    "study-history": _record("study/history.csv", damage_lines),
    "session": _list_with(".new.part/checkpoint/session.json"),
    "listing": _list_with("run/run.json"),
    "grid": Reader("grid.toml", lambda: [GRID.encode(), DRAWN.encode()], damage_lines, _grid),
}
