"""Phrases that findings are made of: which run, how much, and when."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kerasbn.common import wording
from kerasbn.probes.readings import ProbedRun


def run_label(run: ProbedRun, runs: Sequence[ProbedRun]) -> str:
    """Return what tells a run from the others: "with BN", "without BN", or "in NAME"."""
    if len({each.bn for each in runs}) == len(runs):
        return "with BN" if run.bn else "without BN"
    return f"in {run.name}"


def with_bn(runs: Sequence[ProbedRun]) -> Iterator[tuple[ProbedRun, str]]:
    """Return the runs with BN, and how a sentence on each begins if there are several."""
    having = [run for run in runs if run.bn]
    return ((run, f"in {run.name}, " if len(having) > 1 else "") for run in having)


def by_run(runs: Sequence[ProbedRun], texts: Sequence[str], noun: str = "") -> str:
    """Return a text for each run, without empty ones: "20% with BN and 30% without BN".

    A noun follows the first text: "20% of the units with BN and 30% without BN".
    """
    pairs = [(text, run_label(run, runs)) for run, text in zip(runs, texts, strict=True) if text]
    nouns = [f" {noun}" if noun else "", ""]
    return wording.listed([f"{text}{nouns[i > 0]} {name}" for i, (text, name) in enumerate(pairs)])


def at_the_end(runs: Sequence[ProbedRun]) -> str:
    """Return when the last finite readings were taken."""
    return "at the last finite probe" if any(run.diverged for run in runs) else "at the end"


def amount(value: float, of: str = "") -> str:
    """Return a ratio as ``7.7%`` or, from 10 on, ``12 times``; nothing if it is not finite."""
    if not np.isfinite(value):
        return ""
    return f"{wording.number(100 * value, 2)}%" if value < 10 else f"{wording.times(value)}{of}"


def value_range(values: Iterable[float]) -> str:
    """Return the range of the finite values: "0.5 to 2", or "1" if both ends round to that."""
    finite = [value for value in values if np.isfinite(value)]
    ends = [wording.number(end(finite), 2) for end in (min, max)] if finite else []
    return " to ".join(dict.fromkeys(ends))


def pair_of(runs: Sequence[ProbedRun], values: Sequence[float]) -> tuple[float, float] | None:
    """Return the values with and without BN, if these are two runs that differ in it."""
    if len(runs) != 2 or runs[0].bn == runs[1].bn or not np.isfinite(values).all():
        return None
    return (values[0], values[1]) if runs[0].bn else (values[1], values[0])


def verdict(runs: Sequence[ProbedRun], values: Sequence[float]) -> str:
    """Return whether the run with BN has the smaller value; empty if these are no pair."""
    if not (pair := pair_of(runs, values)):
        return ""
    return f": BN {'reduces' if pair[0] < pair[1] else 'does not reduce'} it"
