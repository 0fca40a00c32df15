"""How a model was folded, exported and verified: its plan.json and verify.json."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from kerasbn import runs
from kerasbn.common.errors import expected
from kerasbn.common.records import read_json
from kerasbn.common.wording import listed, plural
from kerasbn.experiments.comparison import RECORD as COMPARISON
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.document import Block, Cell, CheckResult, Code, Paragraph, Section, Table
from kerasbn.reports.reproduce import labels_of, printable
from kerasbn.runs import Run

PLAN, VERIFICATION = "plan.json", "verify.json"  # written by export and verify
QUESTIONS = {
    "intact": "Is the file intact?",
    "folded": "Is it fully folded?",
    "parity": "Does it match the Keras model?",
    "determinism": "Are its predictions deterministic?",
}
KINDS = {"BN layer": "BN layer", "scaling": "scaling layer"}  # kind and noun


@dataclass(frozen=True)
class DecisionRecord:
    """A decision in plan.json: the layer is folded into others, or kept because of `reason`."""

    decision: Literal["fold", "keep"]
    layer: str
    kind: str
    reason: str = ""
    into: list[str] = field(default_factory=list)
    through: list[str] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckRecord:
    """A check in verify.json."""

    status: Literal["passed", "failed", "not checked"]
    reason: str


VerificationRecord = dict[str, CheckRecord | str | bool | None]


def deployment(members: Sequence[TrainedModel]) -> Section | None:
    """Return the fold plans and checks of models, or None if no model was kept.

    Raises:
        InputError: If a plan or a verification is damaged.
    """
    found = [
        (label, each.run)
        for label, each in zip(labels_of(members), members, strict=True)
        if each.run is not None
    ]
    exported = [(label, run) for label, run in found if _has(run, PLAN) or _has(run, VERIFICATION)]
    blocks: list[Block] = []
    for label, run in exported:
        if len(found) > 1:
            blocks.append(Paragraph(f"{label}:"))
        blocks += _plan_blocks(run) + _verification_blocks(run)
    if not exported:
        exportable = [run for _, run in found if run.model_path.is_file()]
        if not exportable:
            return None
        words = "Not exported yet. To fold the model, export it as ONNX and check the file:"
        blocks = [Paragraph(words), Code(_commands(exportable[0]))]
    return Section("deployment", "Folding and export", blocks)


def _plan_blocks(run: Run) -> list[Block]:
    if not _has(run, PLAN):
        words = "No fold plan: the model was not exported, or with --no-fold."
        return [Paragraph(words), Code(_commands(run)[:1])]
    what, advice = "what kerasbn export wrote", "export again"
    plan = read_json(run.path / PLAN, list[DecisionRecord], what, advice)
    if not plan:
        return [Paragraph("The model has no BN layer and no scaling layer to fold.")]
    counts = []
    for kind, noun in KINDS.items():
        of_kind = [each for each in plan if each.kind == kind]
        folded = sum(each.decision == "fold" for each in of_kind)
        if of_kind:
            counts.append(f"{folded} of {plural(len(of_kind), noun)}")
    kept = sum(each.decision == "keep" and each.kind == "BN layer" for each in plan)
    left = f"{plural(kept, 'BN layer')} left" if kept else "no BN layer left"
    words = (
        f"Folded: {listed(counts)}. The exported model computes the same function and has {left}."
    )
    rows = [
        (
            Cell(printable(each.layer)),
            Cell(printable(each.kind)),
            Cell(_decision_text(each)),
        )
        for each in plan
    ]
    return [Paragraph(words), Table(("Layer", "Type", "Decision"), rows)]


def _verification_blocks(run: Run) -> list[Block]:
    if not _has(run, VERIFICATION):
        return [Paragraph("Not verified yet. To check the file:"), Code(_commands(run)[1:])]
    path, what = run.path / VERIFICATION, "what kerasbn verify wrote"
    record = read_json(path, VerificationRecord, what, "verify again")
    results = [
        CheckResult(QUESTIONS.get(name, printable(name)), each.status, printable(each.reason))
        for name, each in record.items()
        if isinstance(each, CheckRecord)
    ]
    if not results:
        raise expected(path, "a damaged record (no checks)", what, "verify again")
    return [Paragraph("Checks of the exported file (kerasbn verify):"), *results]


def _decision_text(decision: DecisionRecord) -> str:
    if decision.decision == "keep":
        return printable(f"kept: {decision.reason}")
    text = f"folded into {', '.join(decision.into)}"
    if decision.through:
        text += f", through {', '.join(decision.through)}"
    if decision.clips:
        text += f"; {', '.join(decision.clips)} replaced by a clip"
    return printable(text)


def _commands(run: Run) -> list[str]:
    """Return how to export and verify the model of a run, from the folder of saved_models."""
    name, parent = printable(run.name), run.path.parent
    in_comparison = (parent / COMPARISON).is_file()
    place = f"{runs.ROOT.as_posix()}/{printable(parent.name)}/{name}" if in_comparison else name
    return [
        f"kerasbn export model.onnx --model {shlex.quote(place)}",
        f"kerasbn verify model.onnx --against {shlex.quote(place)}",
    ]


def _has(run: Run, name: str) -> bool:
    return (run.path / name).is_file()
