"""Folding, export and verification on a page, from the files that export and verify write."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.common.errors import InputError
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.trained_model import TrainedModel, trained_model
from kerasbn.folding.fold import fold_plan
from kerasbn.inference.verify import Check, CheckStatus, Verification
from kerasbn.reports.deployment import deployment
from kerasbn.reports.document import CheckResult, Code, Paragraph, Section, Table
from kerasbn.training.models import mlp

Compared = tuple[Path, Comparison]


@pytest.fixture
def member(comparison: Compared, tmp_path: Path) -> TrainedModel:
    """A copy of a run that was not exported."""
    shutil.copytree(comparison[0] / "bn", tmp_path / "bn")
    return trained_model(runs.read_run(tmp_path / "bn"))


def put(member: TrainedModel, name: str, content: Any) -> None:
    assert member.run is not None
    (member.run.path / name).write_text(json.dumps(content))


def section_of(member: TrainedModel) -> Section:
    section = deployment([member])
    assert section is not None
    return section


def words(section: Section) -> str:
    return " ".join(each.text for each in section.blocks if isinstance(each, Paragraph))


def commands(section: Section) -> list[str]:
    return [line for each in section.blocks if isinstance(each, Code) for line in each.lines]


def verification(**verdicts: CheckStatus) -> dict[str, Any]:
    found = [Check(name, verdict, f"why {name}") for name, verdict in verdicts.items()]
    return {"path": "m.onnx", "passed": True, **{each.name: asdict(each) for each in found}}


def test_before_an_export_the_page_has_the_commands(member: TrainedModel) -> None:
    assert "Not exported yet" in words(section_of(member))
    assert commands(section_of(member)) == [
        "kerasbn export model.onnx --model bn",
        "kerasbn verify model.onnx --against bn",
    ]


@pytest.mark.slow
def test_a_plan_is_a_table_of_decisions(member: TrainedModel) -> None:
    put(member, "plan.json", fold_plan(mlp(hidden=(4, 4))).to_json())
    section = section_of(member)
    assert "Folded: 2 of 2 BN layers and 1 of 1 scaling layer." in words(section)
    assert "has no BN layer left" in words(section)
    (table,) = [each for each in section.blocks if isinstance(each, Table)]
    assert table.rows == [
        ("rescaling", "scaling", "folded into dense_1, through flatten"),
        ("bn_1", "BN layer", "folded into dense_1"),
        ("bn_2", "BN layer", "folded into dense_2"),
    ]
    assert commands(section) == ["kerasbn verify model.onnx --against bn"]


def test_a_kept_layer_has_its_reason(member: TrainedModel) -> None:
    put(member, "plan.json", [{"decision": "keep", "layer": "bn_1", "kind": "BN layer",
                            "reason": "its input is read elsewhere"}])  # fmt: skip
    section = section_of(member)
    assert "Folded: 0 of 1 BN layer." in words(section)
    assert "1 BN layer left" in words(section)
    (table,) = [each for each in section.blocks if isinstance(each, Table)]
    assert table.rows[0][2] == "kept: its input is read elsewhere"


def test_every_check_has_its_verdict(member: TrainedModel) -> None:
    put(member, "plan.json", [])
    put(
        member,
        "verify.json",
        verification(folded="passed", parity="failed", determinism="not checked"),
    )
    found = [each for each in section_of(member).blocks if isinstance(each, CheckResult)]
    assert [(each.verdict, each.reason) for each in found] == [
        ("passed", "why folded"), ("failed", "why parity"), ("not checked", "why determinism"),
    ]  # fmt: skip
    assert found[1].question == "Does it match the Keras model?"


def test_the_page_understands_what_verify_writes(member: TrainedModel) -> None:
    verdicts = {
        name: Check(name, "passed", "fine")
        for name, kind in Verification.__annotations__.items()
        if kind in (Check, "Check")
    }
    put(member, "verify.json", Verification(path=Path("m.onnx"), run=None, **verdicts).as_dict())
    found = [each for each in section_of(member).blocks if isinstance(each, CheckResult)]
    assert len(found) == len(verdicts) >= 3
    assert all(each.question.endswith("?") for each in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [("plan.json", text) for text in
     ("", "{", "{}", "3", "[3]", '[{"decision": "fold"}]',
      '[{"decision": "fold", "layer": "a", "kind": "b", "into": 3}]',
      '[{"decision": "?", "layer": "a", "kind": "b", "into": []}]')]
    + [("verify.json", text) for text in
       ("", "[]", "{}", '{"folded": {}}', '{"folded": {"status": "x", "reason": "y"}}',
        '{"folded": {"status": [], "reason": {}}}')],
)  # fmt: skip
def test_a_damaged_file_is_one_line(member: TrainedModel, name: str, text: str) -> None:
    assert member.run is not None
    (member.run.path / name).write_text(text)
    with pytest.raises(InputError) as error:
        deployment([member])
    assert str(error.value).startswith(f"{member.run.path / name}: received ")
    assert "\n" not in str(error.value)


def test_the_commands_find_a_member_of_a_comparison(seeds: Path) -> None:
    found = trained_model(runs.read_run(seeds / "bn-seed-4"))
    assert commands(section_of(found))[0].endswith("--model saved_models/compare/bn-seed-4")


def test_a_run_without_a_model_has_nothing_to_export(member: TrainedModel) -> None:
    assert member.run is not None
    member.run.model_path.unlink()
    assert deployment([member]) is None
