"""`kerasbn train`: what it prints, and its exit code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_runs import run_record, write_run

from kerasbn.common.records import write_json
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.sessions import TrainingSession
from kerasbn.experiments.trained_model import TrainedModel, trained_model
from kerasbn.training.settings import ModelSettings, TrainingSettings

Kerasbn = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_json_is_the_record_and_the_sample_is_said_to_be_one(
    kerasbn: Kerasbn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty cache and mirrors out of reach, `auto` takes the sample and says so."""
    monkeypatch.chdir(tmp_path)
    code, out, err = kerasbn(
        "train", "--no-bn", "--steps", "9", "--hidden", "8", "--json", "--quiet"
    )
    record = json.loads(out)
    assert code == 0
    assert err.splitlines() == [record["data"]["note"]]
    assert err.startswith("This is a sample of 5,000 MNIST images")
    assert record["data"]["name"] == "mnist-sample"
    assert record["run"] == str(Path("saved_models/plain"))
    assert record["model"]["bn"] is False
    assert record["final"]["step"] == 9
    kept = json.loads((tmp_path / "saved_models" / "plain" / "run.json").read_text())
    assert {"run": record["run"], **kept} == record


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--no-bn", "--no-bn: received '--no-bn', expected --bn, with which it was started"),
        ("--hidden 8,9", "--hidden 8,9: received '8,9', expected 8, with which it was started"),
        ("--probe", "--probe: received '--probe', expected none, as it was started"),
        ("--force", "--force: received '--force', expected none together with resume"),
    ],
)
def test_options_that_differ_are_shown_as_they_were_typed(
    kerasbn: Kerasbn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    session = TrainingSession("train", ModelSettings(hidden=(8,)), TrainingSettings())
    checkpoint = tmp_path / "saved_models/.x.part/checkpoint"
    checkpoint.mkdir(parents=True)
    write_json(checkpoint / "session.json", session)
    code, out, err = kerasbn("train", "--resume", "x", *typed.split())
    assert (code, out, err) == (2, "", f"kerasbn: {line}; leave it out\n")


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        ("finished", 0, ""),
        ("diverged", 1, "kerasbn: {run}: the loss became NaN or infinite at step 3 with learning "
         "rate 1e+38, expected a finite loss; try a lower --lr (1 epoch before that kept)\n"),
        ("interrupted", 130, "kerasbn: stopped; 1 epoch kept in {run}; resume with kerasbn "
         "train --resume plain\n"),
    ],
)  # fmt: skip
def test_the_exit_code_tells_how_the_training_ended(
    kerasbn: Kerasbn,
    few_digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    code: int,
    line: str,
) -> None:
    record = run_record(
        status=status,
        diverged_at_step=3 if status == "diverged" else None,
        training=TrainingSettings(lr=1e38),
    )
    run = write_run(tmp_path, "plain", record)
    given = {}

    def train(**settings: object) -> TrainedModel:
        given.update(settings)
        return trained_model(run)

    monkeypatch.setattr("kerasbn.data.datasets.load_dataset", lambda *_, **__: few_digits)
    monkeypatch.setattr("kerasbn.experiments.train.train", train)
    found, out, err = kerasbn("train", "--no-bn", "--lr", "1e38", "--run", "new")
    assert (found, err) == (code, line.format(run=run.path))
    said = f"{run.path}: test accuracy 80.00%, test loss 0.300 after 1 epoch in 5.0 s\n"
    assert out == (said if status == "finished" else "")
    assert (given["bn"], given["lr"], given["run"], given["probe"]) == (False, 1e38, "new", False)
