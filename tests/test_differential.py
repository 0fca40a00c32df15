import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import keras
import pytest
from differential.broken_laws import BROKEN
from differential.coverage import expected, missing
from differential.judge import judge
from differential.layers import ENTRIES, MERGES, L
from differential.models import seeds_about
from differential.proofs import find
from differential.reasons import REASONS

from kerasbn.common.keras_internals import operation_class
from kerasbn.folding.keras.affine_layers import AFFINE_LAYERS
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS
from kerasbn.folding.keras.pass_through_layers import PASS_THROUGH_LAYERS

ROOT = Path(__file__).parent.parent
MODELS = 500
# Made by the entry of BN layers.
SCALINGS = {L.Normalization, L.Rescaling, operation_class(lambda x: -x)}


def test_models_have_every_layer_that_folding_knows() -> None:
    known = {*LINEAR_LAYERS, *PASS_THROUGH_LAYERS, *AFFINE_LAYERS}
    assert known <= {*ENTRIES, *MERGES, *SCALINGS}


def test_what_never_occurred_is_missing() -> None:
    everything = list(expected())
    assert missing(Counter(everything)) == []
    for key in everything:
        assert missing(Counter(other for other in everything if other != key)) == [key]


def test_a_new_reason_is_not_known() -> None:
    assert find("`dense` before it has several outputs") is not None
    assert find("`dense` before it is in a bad mood") is None
    assert len({reason.pattern for reason in REASONS}) == len(REASONS)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("part", range(5))
def test_random_models_fold_exactly(part: int) -> None:
    totals: Counter[tuple[str, ...]] = Counter()
    for seed in range(MODELS // 5 * part, MODELS // 5 * (part + 1)):
        if seed % 50 == 0:
            keras.backend.clear_session()
        result = judge(100_000 + seed)
        assert not result.wrong, f"seed {100_000 + seed}"
        totals += result.counts
    models = MODELS // 5
    assert totals["models", "compared"] >= 0.9 * models
    assert totals["decision", "backward"] + totals["decision", "forward"] >= 0.8 * models
    assert totals["decision", "clips"] >= 0.1 * models
    everything = set(expected())
    assert len(set(totals) & everything) >= 0.25 * len(everything)


@pytest.mark.slow
def test_the_command_adds_to_the_counts_of_a_file(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps([[["models", "compared"], 40]]))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.differential", "--models", "2", "--counts", counts],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("42 models, ")
    assert " 0 wrong; " in ended.stdout
    assert [["models", "compared"], 42] in json.loads(counts.read_text())


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("law", BROKEN)
def test_a_broken_law_makes_models_wrong(law: str) -> None:
    seeds = list(islice(seeds_about(BROKEN[law].about), 32))
    with BROKEN[law].breaking():
        wrong = next((seed for seed in seeds if judge(seed).wrong), None)
    assert wrong is not None, "the law could be wrong and nothing would tell"
    assert judge(wrong).wrong == []
