"""What became of the normalizations: told from the files that export and verify write."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.errors import InputError
from kerasbn.experiments.comparison import Comparison
from kerasbn.folding.fold import fold_plan
from kerasbn.inference.verify import Verdict as Measured
from kerasbn.inference.verify import Verification
from kerasbn.reports.deployment import deployment_of
from kerasbn.reports.document import Command, Section, Table, Verdict, Words
from kerasbn.reports.sources import Trained, read_trained
from kerasbn.training.models import mlp

Compared = tuple[Path, Comparison]


@pytest.fixture
def run(comparison: Compared, tmp_path: Path) -> Trained:
    """A copy of a run, as it is before an export."""
    shutil.copytree(comparison[0] / "bn", tmp_path / "bn")
    return read_trained(runs.read_run(tmp_path / "bn"))


def put(run: Trained, name: str, content: Any) -> None:
    assert run.run is not None
    (run.run.path / name).write_text(json.dumps(content))


def told(run: Trained) -> Section:
    section = deployment_of([run])
    assert section is not None
    return section


def words(section: Section) -> str:
    return " ".join(each.text for each in section.blocks if isinstance(each, Words))


def commands(section: Section) -> list[str]:
    return [line for each in section.blocks if isinstance(each, Command) for line in each.lines]


def verification(**verdicts: str) -> dict[str, Any]:
    found = [Measured(name, verdict, f"why {name}") for name, verdict in verdicts.items()]
    return {"path": "m.onnx", "passed": True, **{each.name: asdict(each) for each in found}}


def test_before_an_export_the_commands_are_there(run: Trained) -> None:
    assert "Not exported yet" in words(told(run))
    assert commands(told(run)) == [
        "kerasbn export model.onnx --model bn",
        "kerasbn verify model.onnx --against bn",
    ]


def test_a_plan_is_told_decision_by_decision(run: Trained) -> None:
    put(run, "plan.json", fold_plan(mlp(hidden=(4, 4))).to_json())
    section = told(run)
    assert "folded were 2 of 2 BN layers and 1 of 1 scaling:" in words(section)
    assert "has no BN layer left" in words(section)
    (table,) = [each for each in section.blocks if isinstance(each, Table)]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["rescaling", "scaling", "folded into dense_1, across flatten"],
        ["bn_1", "BN layer", "folded into dense_1"],
        ["bn_2", "BN layer", "folded into dense_2"],
    ]
    assert commands(section) == ["kerasbn verify model.onnx --against bn"]


def test_what_was_kept_is_told_with_its_reason(run: Trained) -> None:
    put(run, "plan.json", [{"decision": "keep", "layer": "bn_1", "kind": "BN layer",
                            "reason": "its input is read elsewhere"}])  # fmt: skip
    section = told(run)
    assert "folded were 0 of 1 BN layer:" in words(section)
    assert "1 BN layer left" in words(section)
    (table,) = [each for each in section.blocks if isinstance(each, Table)]
    assert table.rows[0][2].text == "kept: its input is read elsewhere"


def test_verdicts_are_told_each(run: Trained) -> None:
    put(run, "plan.json", [])
    put(
        run,
        "verify.json",
        verification(folded="passed", faithful="failed", deterministic="not checked"),
    )
    found = [each for each in told(run).blocks if isinstance(each, Verdict)]
    assert [(each.verdict, each.reason) for each in found] == [
        ("passed", "why folded"), ("failed", "why faithful"), ("not checked", "why deterministic"),
    ]  # fmt: skip
    assert found[1].question == "Does it answer as the network does?"


def test_the_fields_are_those_that_verify_writes(run: Trained) -> None:
    """A verification of the deploying half is understood whole."""
    verdicts = {
        name: Measured(name, "passed", "fine")
        for name, kind in Verification.__annotations__.items()
        if kind in (Measured, "Verdict")
    }
    put(run, "verify.json", Verification(path=Path("m.onnx"), run=None, **verdicts).as_dict())
    found = [each for each in told(run).blocks if isinstance(each, Verdict)]
    assert len(found) == len(verdicts) >= 3
    assert all(each.question.endswith("?") for each in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [("plan.json", text) for text in
     ("", "{", "{}", "3", "[3]", '[{"decision": "fold"}]',
      '[{"decision": "fold", "layer": "a", "kind": "b", "into": 3}]',
      '[{"decision": "?", "layer": "a", "kind": "b", "into": []}]')]
    + [("verify.json", text) for text in
       ("", "[]", "{}", '{"folded": {}}', '{"folded": {"verdict": "x", "reason": "y"}}',
        '{"folded": {"verdict": [], "reason": {}}}')],
)  # fmt: skip
def test_a_damaged_file_is_one_line(run: Trained, name: str, text: str) -> None:
    assert run.run is not None
    (run.run.path / name).write_text(text)
    with pytest.raises(InputError) as error:
        deployment_of([run])
    assert str(error.value).startswith(f"{run.run.path / name}: received ")
    assert "\n" not in str(error.value)


def test_a_member_of_a_comparison_is_found_by_the_command(seeds: Path) -> None:
    found = read_trained(runs.read_run(seeds / "bn-seed-4"))
    assert commands(told(found))[0].endswith("--model saved_models/compare/bn-seed-4")


def test_a_run_without_a_network_has_nothing_to_export(run: Trained) -> None:
    assert run.run is not None
    run.run.model_path.unlink()
    assert deployment_of([run]) is None
