"""Is a network's answer for one input always the same? Measured, since no runtime promises it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasbn.errors import InputError, expected
from kerasbn.inference.session import Session

Array = NDArray[Any]
Arrays = list[Array]

LARGEST_BATCH = 256
# Rounding by other kernels for other shapes may move an answer by this part of the largest one, or
# by this many roundings of a coarser type.
ALLOWED, _ROUNDINGS = 1e-5, 16
# All batch sizes are tried if they take no longer than this. Otherwise those first that are likely
# to differ: few, the powers of two, where kernels change, and their neighbours.
SECONDS = 20.0
_FIRST = (
    *(1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 128, 256),
    *(6, 15, 63, 65, 127, 129, 255, 48, 96, 100, 192),
)

MATES = "other batch-mates"

Cause = Literal["", "rounding", "batch statistics", "randomness"]


@dataclass(frozen=True)
class Deviation:
    """How far answers were from those to the same inputs, each alone, under one circumstance.

    Attributes:
        circumstance: what was other than at first.
        bit_equal: whether not a bit differed.
        relative: the largest difference, as a part of the largest answer.
        changed: how many decisions changed.
    """

    circumstance: str
    bit_equal: bool
    relative: float
    changed: int


@dataclass(frozen=True)
class Determinism:
    """What was measured, and the cause of what differed.

    Attributes:
        deviations: one for each circumstance.
        cause: why answers differ; empty if they don't.
        batch_sizes: the batch sizes that were tried.
        allowed: how large a relative difference may be that is rounding.
        fixed: whether the file takes this one batch size only.
    """

    deviations: tuple[Deviation, ...]
    cause: Cause
    batch_sizes: tuple[int, ...]
    allowed: float
    fixed: bool

    @property
    def tried(self) -> str:
        """The batch sizes that were tried, and what was done at the largest, in words."""
        sizes, largest = self.batch_sizes, self.batch_sizes[-1]
        if self.fixed:
            said = f"batch size {largest}, the only one it takes"
        else:
            left = LARGEST_BATCH - len(sizes)
            said = f"batch size{'s' * (len(sizes) > 1)} {in_ranges(sizes)}"
            said += f" ({left} of 1-{LARGEST_BATCH} were not tried)" if left else ""
        others = [d.circumstance for d in self.deviations[1:] if d.circumstance != MATES]
        said += f"; at {largest}: {', '.join(others)}"
        if len(others) < len(self.deviations) - 1:
            said += f"; at {largest if self.fixed else half_of(largest)}: {MATES}"
        return said

    @property
    def bit_equal(self) -> bool:
        """Whether not one bit differed under any circumstance."""
        return all(deviation.bit_equal for deviation in self.deviations)

    @property
    def passed(self) -> bool:
        """Whether nothing but rounding differed, within what is allowed, and no decision."""
        harmless = all(d.relative <= self.allowed and not d.changed for d in self.deviations)
        return self.cause in ("", "rounding") and harmless


def measure(path: Path, inputs: Arrays, seconds: float = SECONDS) -> Determinism:
    """Ask for the same answers under every circumstance that should not matter.

    Args:
        path: the ONNX file.
        inputs: up to 256 samples for each of the network's inputs; one half of them serve as other
            batch-mates for the first of the other half.
        seconds: how long the batch sizes may take; fewer of them are tried where they take longer.
    """
    session = Session(path, threads=1)
    fixed = session.inputs[0].shape[0] if session.inputs[0].shape else None
    if fixed is not None:
        inputs = [np.resize(array, (fixed, *array.shape[1:])) for array in inputs]
    _check_rows(session, [array[: fixed or 2] for array in inputs])
    if fixed is None:
        count = _affordable(session, inputs, seconds)
        inputs = [array[:count] for array in inputs]
        start = time.monotonic()
        first = _one_by_one(session, inputs)
        sizes = _sizes(count, (time.monotonic() - start) / count, seconds)
    else:
        first, sizes = session.run(inputs), (fixed,)
    compare = _Comparison(first)
    found = [
        compare(f"batch size {size}", slice(0, size), session.run([a[:size] for a in inputs]))
        for size in sizes
    ]
    deviations = [_worst("batch sizes", found)]
    batch = [array[: sizes[-1]] for array in inputs]
    same_shape = _Comparison(session.run(batch))
    everything = slice(0, sizes[-1])
    backward = [rows[::-1] for rows in session.run([array[::-1] for array in batch])]
    deviations += [
        compare("another order", everything, backward),
        same_shape("a repeated run", everything, session.run(batch)),
        same_shape("a fresh session", everything, Session(path, threads=1).run(batch)),
        same_shape("2 threads", everything, Session(path, threads=2).run(batch)),
        same_shape("another process", everything, _elsewhere(path, batch)),
    ]
    if sizes[-1] > 1:
        deviations.append(_with_other_mates(session, batch, fixed))
    return Determinism(tuple(deviations), _cause(deviations), sizes, _allowed(first), bool(fixed))


def _cause(deviations: Sequence[Deviation]) -> Cause:
    """Why answers differ.

    The same shapes run the same kernels: if then the content of batch-mates makes a difference, or
    a mere repetition does, it is not a matter of rounding.
    """
    by_name = {deviation.circumstance: deviation for deviation in deviations}
    if not by_name["a repeated run"].bit_equal and by_name["a repeated run"].relative > ALLOWED:
        return "randomness"
    mates = by_name.get(MATES)
    if mates is not None and mates.relative > ALLOWED:
        return "batch statistics"
    return "" if all(deviation.bit_equal for deviation in deviations) else "rounding"


def _affordable(session: Session, inputs: Arrays, seconds: float) -> int:
    """How many samples can be asked for alone in a quarter of the time; 16 at least."""
    alone = [array[:1] for array in inputs]
    session.run(alone)  # the first run is slower
    start = time.monotonic()
    session.run(alone)
    took = time.monotonic() - start
    return min(len(inputs[0]), max(16, int(seconds / 4 / max(took, 1e-9))))


def _sizes(count: int, seconds_each: float, seconds: float) -> tuple[int, ...]:
    """Batch sizes up to `count`, the likeliest to differ first, as many as fit into the seconds."""
    chosen = {1}
    for size in dict.fromkeys((*_FIRST, *range(1, count + 1))):
        if size <= count and (sum(chosen) + size) * seconds_each <= seconds:
            chosen.add(size)
    return tuple(sorted(chosen))


def in_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as text that names each: ``1-9, 16, 17, 32``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def _one_by_one(session: Session, inputs: Arrays) -> Arrays:
    rows = [session.run([array[at : at + 1] for array in inputs]) for at in range(len(inputs[0]))]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _check_rows(session: Session, inputs: Arrays) -> None:
    """Raise `InputError` unless there is a row for each sample, without which none is compared."""
    count = len(inputs[0])
    for answer in session.run(inputs):
        if not answer.ndim or len(answer) != count:
            raise expected(
                session.path, f"an answer of shape {answer.shape} to {count} samples",
                "one with a row for each sample", "give a network with an axis for the batch",
            )  # fmt: skip


def _with_other_mates(session: Session, inputs: Arrays, fixed: int | None) -> Deviation:
    """The answer for the first sample, in two batches of one size with nothing else in common."""
    first, second = (session.run(arrays) for arrays in halves(inputs, fixed))
    alone = _Comparison([rows[:1] for rows in first])
    return alone(MATES, slice(0, 1), [rows[:1] for rows in second])


def half_of(count: int) -> int:
    """How many samples a batch has that are one half of all, and the first of them."""
    return count // 2 + 1


def halves(inputs: Arrays, size: int | None = None) -> tuple[Arrays, Arrays]:
    """Two batches with the same first sample, the others from one half of them and the other.

    Args:
        inputs: samples for each of the inputs.
        size: how many a batch must have; None for half of them. Where that is all of them, the
            second batch is as good as it can be made: the first sample over and over.
    """
    half = half_of(len(inputs[0])) if size is None else size
    second = [np.concatenate([array[:1], array[half:]])[:half] for array in inputs]
    fill = [half - len(array) for array in second]
    second = [
        np.concatenate([b, b[:1].repeat(n, axis=0)]) for b, n in zip(second, fill, strict=True)
    ]
    return [array[:half] for array in inputs], second


def _elsewhere(path: Path, inputs: Arrays) -> Arrays:
    """The answers of a new process."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(before, *inputs)
        done = subprocess.run(  # noqa: S603 - this very module
            [sys.executable, "-m", __name__, str(path), str(before), str(after)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise InputError(f"{path}: another process could not answer ({last})")
        return _read(after)


def _read(path: Path) -> Arrays:
    with np.load(path) as file:
        return [file[f"arr_{at}"] for at in range(len(file.files))]


class _Comparison:
    """Compares answers with the first ones."""

    def __init__(self, first: Arrays) -> None:
        self.first = first
        self.scale = [
            max(float(np.abs(a.astype(np.float64)).max(initial=0)), 1e-300) for a in first
        ]

    def __call__(self, circumstance: str, rows: slice, answers: Arrays) -> Deviation:
        pairs = [(a, b[rows]) for a, b in zip(answers, self.first, strict=True)]
        relative, changed = 0.0, 0
        for (a, b), scale in zip(pairs, self.scale, strict=True):
            if a.shape != b.shape:  # an answer without an axis for the batch
                return Deviation(circumstance, False, float("inf"), 0)
            if np.issubdtype(a.dtype, np.floating):
                gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
                gap = np.where(np.isnan(a) & np.isnan(b), 0, gap)
                relative = max(
                    relative, float(np.nan_to_num(gap, nan=np.inf).max(initial=0)) / scale
                )
            if a.ndim > 1 and a.shape[-1] > 1:
                changed += int((a.argmax(-1) != b.argmax(-1)).sum())
            elif not np.issubdtype(a.dtype, np.floating):
                changed += int((a != b).sum())
        equal = all(a.tobytes() == b.tobytes() for a, b in pairs)
        return Deviation(circumstance, equal, relative, changed)


def _worst(circumstance: str, found: list[Deviation]) -> Deviation:
    return Deviation(
        circumstance,
        all(deviation.bit_equal for deviation in found),
        max(deviation.relative for deviation in found),
        max(deviation.changed for deviation in found),
    )


def _allowed(answers: Arrays) -> float:
    kinds = [a.dtype for a in answers if np.issubdtype(a.dtype, np.floating)]
    return max([ALLOWED, *(_ROUNDINGS * float(np.finfo(kind).eps) for kind in kinds)])


if __name__ == "__main__":
    np.savez(sys.argv[3], *Session(sys.argv[1], threads=1).run(_read(Path(sys.argv[2]))))
