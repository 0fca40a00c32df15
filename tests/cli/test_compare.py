"""`kerasbn compare`: what it prints of several pairs. test_processes.py has that of one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_runs import trained_member

from kerasbn.data.datasets import Dataset
from kerasbn.experiments.comparison import Comparison, comparison_of

Kerasbn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def given(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """The arguments of the next comparison, which is one of three pairs that were made up."""
    members = [trained_member(bn, seed) for seed in (4, 5, 6) for bn in (True, False)]
    arguments: dict[str, object] = {}

    def compare(**settings: object) -> Comparison | None:
        arguments.update(settings)
        return comparison_of(members, "compare", tmp_path)

    monkeypatch.setattr("kerasbn.data.datasets.load_dataset", lambda *_, **__: few_digits)
    monkeypatch.setattr("kerasbn.experiments.compare.compare", compare)
    return arguments


def test_many_seeds_give_an_interval(
    kerasbn: Kerasbn, given: dict[str, object], tmp_path: Path
) -> None:
    code, out, err = kerasbn("compare", "--seeds", "3", "--seed", "4", "--quiet")
    assert (code, err) == (0, "")
    first, method, last = out.splitlines()
    number = r"-?\d+\.\d+"
    assert re.fullmatch(
        rf"Test accuracy: {number} ± {number}% with BN, {number} ± {number}% without: "
        rf"[+-]{number} points \(95% interval {number} to {number}, 3 pairs\)\.",
        first,
    )
    assert "paired t-test" in method
    assert last == f"curves: {tmp_path / 'compare.png'}"
    assert (given["seeds"], given["seed"], given["quiet"]) == (3, 4, True)
    assert "bn" not in given


@pytest.mark.usefixtures("given")
def test_json_is_the_record(kerasbn: Kerasbn, tmp_path: Path) -> None:
    code, out, err = kerasbn("compare", "--seeds", "3", "--json")
    record = json.loads(out)
    assert (code, err, record["folder"]) == (0, "", str(tmp_path))
    assert record["summary"].startswith("Test accuracy: ")
    assert [len(record[kind]) for kind in ("seeds", "with_bn", "without_bn")] == [3, 3, 3]
