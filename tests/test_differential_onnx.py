"""Random ONNX graphs fold exactly, and the comparison finds laws that are wrong."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from differential_onnx import LINEAR, verdict

from kerasbn.folding import search
from kerasbn.folding.clips import Clip, pass_clip
from kerasbn.folding.linear import LinearMap
from kerasbn.folding.onnx.pass_through_nodes import PASS_THROUGH_NODES
from kerasbn.folding.windows import Window

RUNNER = Path(__file__).parent / "differential_onnx.py"


@pytest.mark.slow
def test_random_graphs_fold_exactly() -> None:
    done = subprocess.run(
        [sys.executable, RUNNER, "--models", "300", "--seed", "500000"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"300 graphs, (\d+) folds .* (\d+) with clips.* 0 wrong", done.stdout)
    assert counts, done.stdout
    folds, clips = map(int, counts.groups())
    assert folds >= 500
    assert clips >= 25
    for op in LINEAR[:5]:
        for to in ("backward", "forward"):
            assert f" {to} into {op}\n" in done.stdout
    assert len(re.findall(r"(?:back|for)ward through ", done.stdout)) >= 40


def without_t(patch: pytest.MonkeyPatch) -> None:
    """A map before a kernel scales it, but its offset is lost."""
    before = LinearMap.before

    def scales_only(self: LinearMap, k: Any, b: Any, a: Any) -> Any:
        return before(self, k, b, a)[0], b

    patch.setattr(LinearMap, "before", scales_only)


def padded(patch: pytest.MonkeyPatch) -> None:
    """An offset is folded into a convolution that pads with zeros."""
    patch.setattr(Window, "at_taps", lambda _, a, __: a)


def through_relu(patch: pytest.MonkeyPatch) -> None:
    """Any map passes a Relu."""
    patch.setitem(PASS_THROUGH_NODES, "Relu", PASS_THROUGH_NODES["Identity"])


def negative_maximum(patch: pytest.MonkeyPatch) -> None:
    """A negative scale passes a maximum."""
    patch.setitem(PASS_THROUGH_NODES, "ReduceMax", PASS_THROUGH_NODES["ReduceMean"])
    patch.setitem(PASS_THROUGH_NODES, "MaxPool", PASS_THROUGH_NODES["AveragePool"])
    patch.setitem(PASS_THROUGH_NODES, "GlobalMaxPool", PASS_THROUGH_NODES["GlobalAveragePool"])


def unordered_clip(patch: pytest.MonkeyPatch) -> None:
    """The bounds of a clip stay in their order where s is negative."""

    def wrong(clip: Clip, a: Any, dtype: str) -> Any:
        made, rest = pass_clip(clip, a, dtype)
        swap = np.broadcast_to(a.s < 0, made.lower.shape)
        lower, upper = (
            np.where(swap, made.upper, made.lower),
            np.where(swap, made.lower, made.upper),
        )
        return Clip(lower, upper), rest

    patch.setattr(search, "pass_clip", wrong)


def other_readers(patch: pytest.MonkeyPatch) -> None:
    """The other readers of a tensor are forgotten."""

    def forget(self: Any, value: Any, a: Any) -> Iterator[Any]:
        self.requested[value] = a
        yield from ()

    patch.setattr(search._Backward, "_check_readers", forget)


@pytest.mark.slow
@pytest.mark.parametrize(
    "law", [without_t, padded, through_relu, negative_maximum, unordered_clip, other_readers]
)
def test_a_wrong_law_is_found(
    law: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    law(monkeypatch)
    for seed in range(150):
        _, wrong = verdict(seed, Counter())
        if wrong and "error" in wrong:
            return
    raise AssertionError


def test_a_random_graph_folds_exactly() -> None:
    counts: Counter[str] = Counter()
    plan, wrong = verdict(3, counts)
    assert wrong is None
    assert counts["kept"] == len(plan.kept())
