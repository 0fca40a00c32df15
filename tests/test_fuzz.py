"""A few trials of `python -m tests.fuzz` for each reader, and what the trials notice."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pytest
from fuzz.damage import Damage, damage_lines
from fuzz.models import damage_h5
from fuzz.readers import READERS
from fuzz.trials import READ, REFUSED, UNCHANGED, Reader, Tally, bench

from kerasbn.common.errors import InputError

FAST = (
    "idx",
    "idx.gz",
    "images",
    "inputs",
    "checkpoint",
    "labels",
    "infer",
    "fold-onnx",
    "run",
    "plan",
    "study",
    "session",
    "grid",
)


def one_byte(read: Callable[[Path], Any]) -> Reader:
    """A reader of a file of one byte; only the trials fail, not the first reading."""

    def careful(path: Path) -> None:
        if path.read_bytes() != b"x":
            read(path)

    return Reader("file", lambda: [b"x"], lambda *_: b"y", careful, seconds=1.0, memory=2**26)


@pytest.mark.parametrize("name", FAST)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    tally = Tally()
    with bench(READERS[name]) as place:
        for seed in range(60):
            tally.add(seed, place.trial(seed))
    assert not tally.failures
    assert tally.counts[REFUSED] > 1  # the damage was noticed
    assert tally.counts[UNCHANGED] < 10


def raise_error(_: Path) -> None:
    raise KeyError("x")


def raise_long_line(_: Path) -> None:
    error = InputError("x")
    error.args = ("a\nb",)
    raise error


def loop(_: Path) -> None:
    while True:
        pass


def warn(_: Path) -> None:
    warnings.warn("odd", stacklevel=1)


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (raise_error, "KeyError in test_fuzz.py:raise_error: 'x'"),
        (raise_long_line, "a message with U+000A"),
        (loop, "more than 1 s"),
        (warn, "warned UserWarning: odd"),
        (lambda path: (path.parent / "left").touch(), "left ['left']"),
        (lambda path: os.write(2, b"library: odd\n"), "printed library: odd"),
        (lambda path: np.ones(2**27, np.uint8), "grew by 0.1 GiB"),
        (lambda path: np.empty(2**40, np.uint8), "MemoryError"),
    ],
)  # fmt: skip
def test_failures_are_noticed(read: Callable[[Path], Any], problem: str) -> None:
    with bench(one_byte(read)) as place:
        assert problem in place.trial(0)
        place.reader = one_byte(len)  # type: ignore[arg-type]
        assert "TypeError" in place.trial(0)  # and not the same again
        place.reader = one_byte(Path.read_bytes)
        assert place.trial(0) == READ


def hdf5() -> bytes:
    """An HDF5 file with groups within groups."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in ("a/b/c", "a/d", "e/f"):
            file[name] = np.zeros(3)
    return buffer.getvalue()


@pytest.mark.parametrize(("damage", "content"), [(damage_h5, hdf5()), (damage_lines, b"a,b\n1,2")])
def test_damage_does_not_fail_on_what_it_damaged_before(damage: Damage, content: bytes) -> None:
    made = {damage(Random(seed), content) for seed in range(1500)}  # noqa: S311 - no secret
    assert len(made) > 300


def test_the_same_seed_makes_the_same_file() -> None:
    with bench(READERS["inputs"]) as place:
        contents = [place.content(seed) for seed in range(30)]
        assert contents == [place.content(seed) for seed in range(30)]
        assert len(set(contents)) > 20
