"""The examples in the docstrings of the public names run and print what they say."""

import doctest
from pathlib import Path

import pytest

import kerasbn

SLOW = kerasbn._NEED_TENSORFLOW | {
    "Check", "Classifier", "fold", "fold_plan", "report", "sweep",
}  # fmt: skip
EXAMPLES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in kerasbn.__all__
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)  # some examples write files
    if name in SLOW:
        request.getfixturevalue("quick")
    public = getattr(kerasbn, name)
    if "Examples:" not in (getattr(public, "__doc__", None) or ""):
        pytest.skip("no section Examples")
    (example,) = doctest.DocTestFinder(recurse=False).find(public, name)
    output: list[str] = []
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    result = runner.run(example, out=output.append)
    assert result.failed == 0, "".join(output)
