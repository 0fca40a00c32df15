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
from kerasbn.reports.document import Block, CheckResult, Code, Paragraph, Section, Table
from kerasbn.reports.reproduce import labeled
from kerasbn.runs import Run

PLAN, VERIFICATION = "plan.json", "verify.json"  # written by export and verify
QUESTIONS = {
    "intact": "Is the file intact?",
    "folded": "Is it fully folded?",
    "parity": "Does it match the Keras model?",
    "determinism": "Are its predictions deterministic?",
}
_NOUNS = {"BN layer": "BN layer", "scaling": "scaling layer"}  # kind and noun


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

    def __str__(self) -> str:
        if self.decision == "keep":
            return f"kept: {self.reason}"
        text = f"folded into {', '.join(self.into)}"
        if self.through:
            text += f", through {', '.join(self.through)}"
        return f"{text}; {', '.join(self.clips)} replaced by a clip" if self.clips else text


@dataclass(frozen=True)
class CheckRecord:
    """A check in verify.json."""

    status: Literal["passed", "failed", "not checked"]
    reason: str


def deployment(members: Sequence[TrainedModel]) -> Section | None:
    """Return the fold plans and checks of models, or None if no model was kept.

    Raises:
        InputError: If a plan or a verification is damaged.
    """
    blocks: list[Block] = []
    kept = [(label, member.run) for label, member in labeled(members) if member.run is not None]
    for label, run in kept:
        if (run.path / PLAN).is_file() or (run.path / VERIFICATION).is_file():
            blocks += [Paragraph(f"{label}:")] * (len(kept) > 1)
            blocks += [*_plan_blocks(run), *_verification_blocks(run)]
    exportable = [run for _, run in kept if run.model_path.is_file()]
    if not blocks and exportable:
        words = "Not exported yet. To fold the model, export it as ONNX and check the file:"
        blocks = [Paragraph(words), Code(_commands(exportable[0]))]
    return Section("deployment", "Folding and export", *blocks) if blocks else None


def _plan_blocks(run: Run) -> list[Block]:
    path = run.path / PLAN
    if not path.is_file():
        words = "No fold plan: the model was not exported, or with --no-fold."
        return [Paragraph(words), Code(_commands(run)[:1])]
    plan = read_json(path, list[DecisionRecord], "what kerasbn export wrote", "export again")
    if not plan:
        return [Paragraph("The model has no BN layer and no scaling layer to fold.")]
    counts = []
    for kind, noun in _NOUNS.items():
        folded = [each.decision == "fold" for each in plan if each.kind == kind]
        if folded:
            counts.append(f"{sum(folded)} of {plural(len(folded), noun)}")
    kept = sum(each.decision == "keep" and each.kind == "BN layer" for each in plan)
    left = plural(kept, "BN layer") if kept else "no BN layer"
    words = (
        f"Folded: {listed(counts)}. The exported model computes the same function and has {left} "
        "left."
    )
    rows = [(each.layer, each.kind, str(each)) for each in plan]
    return [Paragraph(words), Table(("Layer", "Type", "Decision"), rows)]


def _verification_blocks(run: Run) -> list[Block]:
    path = run.path / VERIFICATION
    if not path.is_file():
        return [Paragraph("Not verified yet. To check the file:"), Code(_commands(run)[1:])]
    what, schema = "what kerasbn verify wrote", dict[str, CheckRecord | str | bool | None]
    results = [
        CheckResult(QUESTIONS.get(name, name), each.status, each.reason)
        for name, each in read_json(path, schema, what, "verify again").items()
        if isinstance(each, CheckRecord)
    ]
    if not results:
        raise expected(path, "a damaged record (no checks)", what, "verify again")
    return [Paragraph("Checks of the exported file (kerasbn verify):"), *results]


def _commands(run: Run) -> list[str]:
    """Return how to export and verify the model of a run, from the folder of saved_models."""
    name, parent = run.name, run.path.parent
    if (parent / COMPARISON).is_file():
        name = f"{runs.ROOT.as_posix()}/{parent.name}/{name}"
    return [
        f"kerasbn export model.onnx --model {shlex.quote(name)}",
        f"kerasbn verify model.onnx --against {shlex.quote(name)}",
    ]
