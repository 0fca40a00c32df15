import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parent / "differential.py"


@pytest.mark.slow
def test_random_models_fold_exactly() -> None:
    done = subprocess.run(
        [sys.executable, RUNNER, "--models", "40", "--seed", "100000"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"(\d+) models, (\d+) folds .* (\d+) with clips.* 0 wrong", done.stdout)
    assert counts, done.stdout
    models, folds, clips = map(int, counts.groups())
    assert models >= 35
    assert folds >= 30
    assert clips >= 5
