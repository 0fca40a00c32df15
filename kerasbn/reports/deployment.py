"""What became of a network's normalizations on the way out: its plan.json and verify.json."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.errors import expected
from kerasbn.reports.document import Block, Cell, Command, Section, Table, Verdict, Words, plural
from kerasbn.reports.repeat import name_of, shown
from kerasbn.reports.sources import Trained

PLAN, VERIFICATION = "plan.json", "verify.json"  # what export and verify write beside a network
QUESTIONS = {
    "whole": "Is the file as it was written?",
    "folded": "Is it folded?",
    "faithful": "Does it answer as the network does?",
    "deterministic": "Is its answer the same every time?",
}

ANSWERS = ("passed", "failed", "not checked")

Json = dict[str, Any]


def deployment_of(chosen: Sequence[Trained]) -> Section | None:
    """The fold plans and verdicts of networks; None if none of them has kept a network.

    Raises:
        InputError: if a plan or a verification is damaged.
    """
    kept = [each for each in chosen if each.run is not None]
    told = [each for each in kept if _has(each, PLAN) or _has(each, VERIFICATION)]
    blocks: list[Block] = []
    for each in told:
        if len(kept) > 1:
            blocks.append(Words(f"{name_of(each)}:"))
        blocks += _exported(each) + _verified(each)
    if not told:
        there = [each for each in kept if each.run is not None and each.run.model_path.is_file()]
        if not there:
            return None
        blocks = [
            Words("Not exported yet. This folds it, writes it as ONNX and checks the file:"),
            Command(_commands(there[0])),
        ]
    return Section("deployment", "Folded and exported", blocks)


def _exported(trained: Trained) -> list[Block]:
    if not _has(trained, PLAN):
        return [
            Words("Its fold plan is not kept: not exported yet, or with --no-fold."),
            Command(_commands(trained)[:1]),
        ]
    file, plan = _read(trained, PLAN)
    if not isinstance(plan, list) or not all(_is_decision(each) for each in plan):
        raise _damaged(file, "export again")
    folded = [each for each in plan if each["decision"] == "fold"]
    counts = []
    for kind in ("BN layer", "scaling"):
        of_kind = [each for each in plan if each["kind"] == kind]
        if of_kind:
            done = sum(each in folded for each in of_kind)
            counts.append(f"{done} of {plural(len(of_kind), kind)}")
    left = [each for each in plan if each["decision"] == "keep" and each["kind"] == "BN layer"]
    if not plan:
        said = "It has no BN layer and no scaling, so there was nothing to fold."
    else:
        said = (
            f"For its export as ONNX, folded were {' and '.join(counts)}: their s and t went into "
            "the weights of the layer beside, so the exported network computes the same and has "
        ) + ("no BN layer left." if not left else f"{plural(len(left), 'BN layer')} left.")
    rows = [
        (Cell(shown(str(each["layer"]))), Cell(_kind(each)), Cell(_fate(each))) for each in plan
    ]
    return [Words(said), *([Table(("Layer", "Is a", "What became of it"), rows)] if rows else [])]


def _verified(trained: Trained) -> list[Block]:
    if not _has(trained, VERIFICATION):
        return [Words("Not verified yet:"), Command(_commands(trained)[1:])]
    file, found = _read(trained, VERIFICATION)
    if not isinstance(found, dict):
        raise _damaged(file, "verify again")
    verdicts = [
        Verdict(QUESTIONS.get(name, shown(name)), each["verdict"], shown(str(each["reason"])))
        for name, each in found.items()
        if isinstance(each, dict) and {"verdict", "reason"} <= each.keys()
    ]
    if not verdicts or any(each.verdict not in ANSWERS for each in verdicts):
        raise _damaged(file, "verify again")
    return [Words("What kerasbn verify measured on the exported file:"), *verdicts]


def _commands(trained: Trained) -> list[str]:
    """How to export and verify this network, from the folder its run is in."""
    name = shown(trained.name)
    path = trained.run.path if trained.run else Path(name)
    # A member of a comparison lies in its folder.
    inner = path.parent.name if (path.parent / "compare.json").is_file() else ""
    place = f"{runs.ROOT.as_posix()}/{shown(inner)}/{name}" if inner else name
    return [
        f"kerasbn export model.onnx --model {shlex.quote(place)}",
        f"kerasbn verify model.onnx --against {shlex.quote(place)}",
    ]


def _has(trained: Trained, name: str) -> bool:
    return trained.run is not None and (trained.run.path / name).is_file()


def _read(trained: Trained, name: str) -> tuple[Path, Any]:
    assert trained.run is not None
    file = trained.run.path / name
    try:
        return file, json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise expected(file, f"a file that cannot be read ({error.strerror})", "JSON") from error
    except ValueError as error:
        raise _damaged(file, "export or verify again") from error


def _is_decision(each: object) -> bool:
    if not isinstance(each, Mapping) or {"decision", "layer", "kind"} - each.keys():
        return False
    if each["decision"] == "keep":
        return isinstance(each.get("reason"), str)
    listed = [each.get("into"), each.get("through", []), each.get("clips", [])]
    return each["decision"] == "fold" and all(isinstance(names, list) for names in listed)


def _damaged(file: Path, advice: str) -> Exception:
    return expected(file, "a damaged file", f"what kerasbn wrote as {file.name}", advice)


def _kind(decision: Json) -> str:
    return shown(str(decision["kind"]))


def _fate(decision: Json) -> str:
    """A decision in words."""
    if decision["decision"] == "keep":
        return f"kept: {shown(decision['reason'])}"
    into = ", ".join(map(str, decision["into"]))
    way = ", ".join(map(str, decision.get("through", [])))
    across = f", across {way}" if way else ""
    clips = ", ".join(map(str, decision.get("clips") or []))
    turned = f"; {clips} became a clip" if clips else ""
    return shown(f"folded into {into}{across}{turned}")
