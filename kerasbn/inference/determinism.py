"""Determinism: does a model give the same output for one input every time?

No runtime promises it, so it is measured: one set of examples, each classified alone, in batches of
many sizes, in another order, among other examples, with more threads, and by another process.
"""

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from timeit import timeit
from typing import Literal

import numpy as np

from kerasbn.common.errors import InputError, expected
from kerasbn.data.arrays import Arrays
from kerasbn.inference.session import Session, run_unoptimized

LARGEST_BATCH = 256
# Rounding by different kernels for different shapes may change an output by this share of the
# largest one, or by so many rounding units of a coarser type.
ALLOWED, _ROUNDINGS = 1e-5, 16
# All batch sizes are measured if that takes no longer than this. Otherwise those that are most
# likely to differ come first: small ones, and powers of two, where kernels change, with neighbors.
SECONDS = 20.0
_FIRST = (
    *(1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 128, 256),
    *(6, 15, 63, 65, 127, 129, 255, 48, 96, 100, 192),
)

SIZES, REPEATED, COMPOSITION = "batch sizes", "repeated run", "batch composition"

Cause = Literal["", "rounding", "batch statistics", "randomness"]


@dataclass(frozen=True)
class Deviation:
    """Difference between the outputs under one condition and the reference outputs."""

    condition: str
    bit_equal: bool
    relative: float  # the largest difference as a share of the largest output
    changed: int  # the number of predictions that changed


@dataclass(frozen=True)
class Determinism:
    """Deviations under all conditions, and why there are any."""

    deviations: tuple[Deviation, ...]
    cause: Cause  # empty if all outputs are equal to the last bit
    batch_sizes: tuple[int, ...]
    allowed: float  # the largest relative difference that counts as rounding
    fixed: bool  # whether the model takes only this one batch size

    @property
    def passed(self) -> bool:
        """Whether outputs differ only by the allowed rounding, and no prediction changes."""
        harmless = all(d.relative <= self.allowed and not d.changed for d in self.deviations)
        return self.cause in ("", "rounding") and harmless

    def conditions(self) -> str:
        """Return the conditions that were measured, for a sentence."""
        sizes, largest = self.batch_sizes, self.batch_sizes[-1]
        text = f"batch size{'s' * (len(sizes) > 1)} {in_ranges(sizes)}"
        if self.fixed:
            text += " (fixed)"
        elif len(sizes) < LARGEST_BATCH:
            text += f" ({LARGEST_BATCH - len(sizes)} of 1-{LARGEST_BATCH} skipped)"
        names = [deviation.condition for deviation in self.deviations[1:]]
        text += f"; at {largest}: {', '.join(name for name in names if name != COMPOSITION)}"
        if COMPOSITION in names:
            text += f"; at {largest if self.fixed else _half(largest)}: {COMPOSITION}"
        return text


def measure_determinism(path: Path, inputs: Arrays) -> Determinism:
    """Compare the outputs for up to 256 samples under every condition that should not matter."""
    session = Session(path, threads=1)
    fixed, *_ = session.inputs[0].shape or (None,)
    if fixed is not None:
        inputs = [np.resize(array, (fixed, *array.shape[1:])) for array in inputs]
    few = [array[: fixed or 2] for array in inputs]
    for rows in session.run(few):
        if rows.shape[:1] != (len(few[0]),):
            raise expected(
                session.path, f"an output of shape {rows.shape} for {len(few[0])} samples",
                "one row per sample", "give a model with a batch axis",
            )  # fmt: skip
    if fixed is None:
        count = _affordable(session, inputs)
        inputs = [array[:count] for array in inputs]
        start = time.monotonic()
        alone = _one_by_one(session, inputs)
        sizes = _sizes(count, (time.monotonic() - start) / count)
    else:
        alone, sizes = session.run(inputs), (fixed,)
    found = [_deviation(SIZES, session.run([a[:size] for a in inputs]), alone) for size in sizes]
    batch = [array[: sizes[-1]] for array in inputs]
    reference = session.run(batch)
    backward = [rows[::-1] for rows in session.run([array[::-1] for array in batch])]
    deviations = [
        Deviation(
            SIZES,
            all(each.bit_equal for each in found),
            max(each.relative for each in found),
            max(each.changed for each in found),
        ),
        _deviation("reversed order", backward, alone),
        _deviation(REPEATED, session.run(batch), reference),
        _deviation("new session", Session(path, threads=1).run(batch), reference),
        _deviation("2 threads", Session(path, threads=2).run(batch), reference),
        _deviation("new process", _in_new_process(path, batch), reference),
    ]
    if sizes[-1] > 1:
        halves = _two_batches(batch, fixed)
        first, second = ([rows[:1] for rows in session.run(half)] for half in halves)
        deviations.append(_deviation(COMPOSITION, second, first))
    kinds = [rows.dtype for rows in alone if np.issubdtype(rows.dtype, np.floating)]
    allowed = max([ALLOWED, *(_ROUNDINGS * float(np.finfo(kind).eps) for kind in kinds)])
    return Determinism(tuple(deviations), _cause(deviations), sizes, allowed, bool(fixed))


def first_node_that_differs(path: Path, samples: Arrays) -> str:
    """Return the name of the first node whose result for one example depends on its batch.

    The model runs twice with every tensor as an output: the example among some others, then among
    different ones.
    """
    import onnx

    fixed = Session(path).inputs[0].shape[0]
    batches = _two_batches([array[: fixed or 16] for array in samples], fixed)
    model = onnx.load(path, load_external_data=False)
    made = [(node, name) for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for _, name in made)
    content, folder = model.SerializeToString(), path.resolve().parent
    first, second = (run_unoptimized(content, each, folder) for each in batches)
    for (node, _), a, b in zip(made, map(np.asarray, first), map(np.asarray, second), strict=True):
        # The row of the example, or all of a tensor without a batch axis.
        place = 0 if a.shape[:1] == b.shape[:1] == batches[0][0].shape[:1] else ...
        if not np.allclose(a[place], b[place], rtol=1e-5, atol=1e-7):
            return str(node.name or node.output[0])
    return "unknown"


def in_ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text, such as ``1-9, 16, 17, 32``."""
    runs = groupby(enumerate(numbers), lambda each: each[1] - each[0])  # constant within a run
    found = [[number for _, number in run] for _, run in runs]
    return ", ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in found
    )


def _cause(deviations: Sequence[Deviation]) -> Cause:
    """Return why outputs differ.

    Equal shapes run the same kernels. If outputs then depend on the other examples in the batch, or
    differ in a repeated run, that is not rounding.
    """
    by_condition = {deviation.condition: deviation for deviation in deviations}
    repeated, composition = by_condition[REPEATED], by_condition.get(COMPOSITION)
    if not repeated.bit_equal and repeated.relative > ALLOWED:
        return "randomness"
    if composition is not None and composition.relative > ALLOWED:
        return "batch statistics"
    return "" if all(deviation.bit_equal for deviation in deviations) else "rounding"


def _affordable(session: Session, inputs: Arrays) -> int:
    """Return how many samples can run alone in a quarter of the time; at least 16."""
    alone = [array[:1] for array in inputs]
    session.run(alone)  # the first run is slower
    seconds = timeit(lambda: session.run(alone), number=1)
    return min(len(inputs[0]), max(16, int(SECONDS / 4 / max(seconds, 1e-9))))


def _sizes(count: int, seconds_each: float) -> tuple[int, ...]:
    """Return batch sizes up to `count` that fit into the time, the likeliest to differ first."""
    chosen = {1}
    for size in (*_FIRST, *range(1, count + 1)):
        if size <= count and (sum(chosen | {size})) * seconds_each <= SECONDS:
            chosen.add(size)
    return tuple(sorted(chosen))


def _one_by_one(session: Session, inputs: Arrays) -> Arrays:
    rows = [session.run([array[at : at + 1] for array in inputs]) for at in range(len(inputs[0]))]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _half(count: int) -> int:
    """Return the size of a batch of the first example and half of the others."""
    return count // 2 + 1


def _two_batches(inputs: Arrays, size: int | None) -> tuple[Arrays, Arrays]:
    """Return two batches that share their first example only. They have half of the samples each.

    With a fixed `size` the second batch repeats examples where there are too few.
    """
    half = size or _half(len(inputs[0]))
    others = [np.concatenate([array[:1], array[half:]]) for array in inputs]
    second = [np.resize(array, (half, *array.shape[1:])) for array in others]
    return [array[:half] for array in inputs], second


def _in_new_process(path: Path, inputs: Arrays) -> Arrays:
    done = subprocess.run(  # noqa: S603 - this module
        [sys.executable, "-m", __name__, str(path)],
        input=pickle.dumps(inputs), capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{path}: a new process failed to run the model ({last})")
    outputs: Arrays = pickle.loads(done.stdout)  # noqa: S301 - of this module
    return outputs


def _deviation(condition: str, outputs: Arrays, reference: Arrays) -> Deviation:
    """Compare outputs with the first rows of the reference."""
    pairs = [(a, b[: len(a)]) for a, b in zip(outputs, reference, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):  # an output without a batch axis
        return Deviation(condition, False, float("inf"), 0)
    if all(a.tobytes() == b.tobytes() for a, b in pairs):
        return Deviation(condition, True, 0.0, 0)
    relative, changed = 0.0, 0
    for (a, b), whole in zip(pairs, reference, strict=True):
        is_float = np.issubdtype(a.dtype, np.floating)
        if is_float:
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            gap = np.where(np.isnan(a) & np.isnan(b), 0, np.nan_to_num(gap, nan=np.inf))
            scale = float(np.abs(whole.astype(np.float64)).max(initial=1e-300))
            relative = max(relative, float(gap.max(initial=0)) / scale)
        if a.ndim > 1 and a.shape[-1] > 1:
            changed += int((a.argmax(-1) != b.argmax(-1)).sum())
        elif not is_float:
            changed += int((a != b).sum())
    return Deviation(condition, False, relative, changed)


if __name__ == "__main__":
    arrays = pickle.load(sys.stdin.buffer)  # noqa: S301 - of `_in_new_process`
    sys.stdout.buffer.write(pickle.dumps(Session(sys.argv[1], threads=1).run(arrays)))
