"""Runs the pieces of a measurement, each guarded and limited in time, and sums their figures up."""

import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from .checks import Check
from .commands import Context, cores_for
from .specs import Spec

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Piece:
    """A piece of the measurement: what it does, and its most seconds.

    The timings of a `lane` run one after another. If a piece that `is_first` fails, nothing else
    runs.
    """

    name: str
    work: Check
    seconds: float = 150.0
    lane: str = ""
    is_first: bool = False


def timing(spec: Spec) -> Piece:
    """Return the piece that times a spec; the median leaves out the epoch that compiles."""

    def work(context: Context) -> dict[str, Any]:
        if spec.rival in ("jax", "torch") and find_spec(spec.rival) is None:
            return {"skipped": f"{spec.rival} is not installed"}
        found = context.timed(spec)
        epochs = found.pop("epochs", None) or found.pop("epoch_seconds")
        steady = median(epochs[1:])
        return {"epoch": steady, "per model": steady / spec.models, "epochs": epochs, **found}

    lane = spec.device if cores_for(spec.device) else "all"
    return Piece(spec.name, work, seconds=90.0, lane=lane)


@dataclass
class Measurement:
    """Pieces to run until `deadline`, and the file that holds what they found so far."""

    pieces: Sequence[Piece]
    base: Context
    out: Path
    about: Mapping[str, Any]
    specs: Sequence[Spec] = ()

    def __post_init__(self) -> None:
        self.results: Results = {}
        self._has_failed = False  # what is first
        self._lock = threading.Lock()

    def run(self, side_by_side: int) -> Results:
        """Run what is first, the checks side by side, and the timings of each lane one by one."""
        self._write()
        lanes: dict[str, list[Piece]] = {}
        for piece in self.pieces:
            if piece.is_first:
                self._run(piece)
                self._has_failed |= bool(self.results[piece.name]["problems"])
            else:
                lanes.setdefault(piece.lane, []).append(piece)
        with ThreadPoolExecutor(side_by_side) as pool:
            list(pool.map(self._run, lanes.pop("", [])))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda lane: list(map(self._run, lane)), lanes.values()))
        return self.results

    def _run(self, piece: Piece) -> None:
        began = time.monotonic()
        result: dict[str, Any]
        if self._has_failed:
            result = {"problems": ["not run: what comes first has failed"]}
        elif began > self.base.deadline:
            result = {"problems": ["not run: no time was left"]}
        else:
            folder = self.base.folder / piece.name.replace(" ", "-")
            folder.mkdir()
            limit = math.inf if self.base.logical else piece.seconds
            deadline = min(began + limit, self.base.deadline)
            context = replace(self.base, folder=folder, deadline=deadline, problems=[])
            result = guarded(piece, context)
            result["seconds"] = round(time.monotonic() - began, 1)
        with self._lock:
            self.results[piece.name] = result
            self._write()
            state = "; ".join(result["problems"]) or result.get("skipped") or "ok"
            print(f"{piece.name}: {state} ({result.get('seconds', 0)} s)", flush=True)  # noqa: T201 - a command

    def _write(self) -> None:
        order = [each.name for each in self.pieces if each.name in self.results]
        ratios = sums(self.specs, self.results)
        content = {**self.about, "pieces": {name: self.results[name] for name in order}, **ratios}
        part = self.out.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        os.replace(part, self.out)  # noqa: PTH105 - it is there at any time, even if this is killed


def guarded(piece: Piece, context: Context) -> dict[str, Any]:
    """Run a piece; whatever it raises is one of its problems."""
    figures: dict[str, Any] = {}
    try:
        figures = piece.work(context)
    except subprocess.TimeoutExpired:
        context.problems.append("took too long, or no time was left")
    except Exception as error:  # noqa: BLE001 - the next piece has to run
        line = " ".join(str(error).split())[:300]
        context.problems.append(f"{type(error).__name__}: {line}")
    return {"problems": context.problems, **figures}


def sums(specs: Iterable[Spec], results: Results) -> dict[str, dict[str, float]]:
    """Return ratios of epochs: CPU to GPU, rivals to kerasbn, and what options of kerasbn cost.

    Where the CPU takes longer, the GPU pays.
    """
    epochs = {
        spec: float(results[spec.name]["epoch"])
        for spec in specs
        if "epoch" in results.get(spec.name, {})
    }
    found: dict[str, dict[str, float]] = {"cpu / gpu": {}, "rival / kerasbn": {}, "option": {}}
    for spec, seconds in epochs.items():
        alike = {each.name: each for each in epochs}  # epochs differ between rivals
        if spec.device == "cpu" and (twin := alike.get(replace(spec, device="gpu").name)):
            found["cpu / gpu"][twin.name] = round(seconds / epochs[twin], 3)
        if spec.rival != "kerasbn" and (ours := alike.get(replace(spec, rival="kerasbn").name)):
            found["rival / kerasbn"][spec.name] = round(seconds / epochs[ours], 3)
        plain = replace(spec, deterministic=False, per_call=None, graphs=False)
        if plain != spec and (base := alike.get(plain.name)):
            found["option"][spec.name] = round(seconds / epochs[base], 3)
    return found
