"""A training that was stopped goes on with `resume` and ends as if it had never stopped."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sample_runs import run_record, write_run

import kerasbn
from kerasbn.common.errors import ArgumentError, StoppedError
from kerasbn.common.plotting import save_figure
from kerasbn.data.datasets import Dataset
from kerasbn.experiments import sessions
from kerasbn.runs import CURVES, RECORD, Run, read_run
from kerasbn.training import callbacks

pytestmark = pytest.mark.usefixtures("quick")

SETTINGS: dict[str, Any] = {"epochs": 4, "hidden": (8,)}


@pytest.fixture(autouse=True)
def _checkpoint_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "EVERY", 0.0)
    monkeypatch.setattr(callbacks, "SHARE", 1e9)


@contextmanager
def stopped_in_epoch(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The block is stopped at once in an epoch, as by a second Ctrl-C."""

    def stop(self: object, epoch: int, logs: object = None) -> None:  # noqa: ARG001 - Keras's signature
        if epoch + 1 == number:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SaveCheckpoints, "on_epoch_begin", stop)
        with pytest.raises(StoppedError, match="resume with --resume"):
            yield


@contextmanager
def stopped_at_the_curves_with_bn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The block is stopped at once when all of a run but its last file has been written."""

    def stop(figure: Any, path: Path) -> None:
        if path.name == CURVES and json.loads(path.with_name(RECORD).read_text())["model"]["bn"]:
            raise KeyboardInterrupt
        save_figure(figure, path)

    with monkeypatch.context() as patch:
        patch.setattr("kerasbn.experiments.train.save_figure", stop)
        with pytest.raises(StoppedError, match="resume with --resume"):
            yield


def assert_same(actual: Run | None, expected: Run | None) -> None:
    """Weights, history and probes are equal, to the bit."""
    assert actual
    assert expected
    assert (actual.path / "history.csv").read_bytes() == (
        expected.path / "history.csv"
    ).read_bytes()
    weights = [keras.models.load_model(run.model_path).get_weights() for run in (actual, expected)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    if (expected.path / "probes.csv").exists():
        for name in ("probes.csv", "probes.json"):
            assert (actual.path / name).read_bytes() == (expected.path / name).read_bytes()
    assert {path.name for path in actual.path.iterdir()} == {
        path.name for path in expected.path.iterdir()
    }


@pytest.mark.slow
def test_a_probed_comparison_is_resumed(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kerasbn.compare(few_digits, probe=True, root=tmp_path / "whole", **SETTINGS)
    root = tmp_path / "stopped"
    with stopped_in_epoch(3, monkeypatch):
        kerasbn.compare(few_digits, probe=True, root=root, **SETTINGS)
    (found,), problems = sessions.unfinished(root)
    assert (found.name, found.epochs, found.all_epochs, found.running) == ("compare", 2, 4, False)
    assert found.command == "kerasbn compare --resume compare"
    assert not problems
    # Another run takes the name that the first one had only reserved.
    kerasbn.train(few_digits, run="plain", bn=False, root=root, epochs=1)
    with stopped_at_the_curves_with_bn(monkeypatch):
        kerasbn.compare(few_digits, resume="compare", root=root)
    resumed = kerasbn.compare(few_digits, resume="compare", root=str(root))
    assert [member.name for member in resumed.members] == ["bn", "plain-2"]
    for actual, expected in zip(resumed.members, whole.members, strict=True):
        assert_same(actual.run, expected.run)
    assert sessions.unfinished(root) == ([], [])
    assert len(read_run(root / "plain").history["epoch"]) == 1
    # It has finished already.
    assert kerasbn.compare(few_digits, resume="compare", root=root).seeds == [0]
    with pytest.raises(ArgumentError, match=r"^resume='nothing': received no training of this"):
        kerasbn.compare(few_digits, resume="nothing", root=root)


@pytest.mark.slow
def test_an_ensemble_is_resumed_in_its_second_group(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasbn.experiments.compare.PAIRS_AT_ONCE", 2)
    whole = kerasbn.compare(few_digits, seeds=3, root=tmp_path / "whole", **SETTINGS)
    root = tmp_path / "stopped"
    begun = []

    def stop(self: object, epoch: int, logs: object = None) -> None:  # noqa: ARG001 - Keras's signature
        begun.append(epoch)
        if len(begun) == 4 + 3:  # a group of two pairs, then the third epoch of one pair
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SaveCheckpoints, "on_epoch_begin", stop)
        with pytest.raises(StoppedError, match=r"--resume compare$"):
            kerasbn.compare(few_digits, seeds=3, root=root, **SETTINGS)
    assert len(list((root / ".compare.part").glob("bn-seed-*"))) == 2
    resumed = kerasbn.compare(few_digits, resume="compare", root=root)
    for actual, expected in zip(resumed.members, whole.members, strict=True):
        assert_same(actual.run, expected.run)
    assert resumed.summary() == whole.summary()


@pytest.mark.slow
def test_only_the_same_training_is_resumed(
    few_digits: Dataset, sample_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_in_epoch(2, monkeypatch):
        kerasbn.train(few_digits, run="x", root=tmp_path, lr=0.02, **SETTINGS)
    for arguments, message in (
        ({"lr": 0.03}, r"^lr=0.03: received 0.03, expected 0.02, with which it was started"),
        ({"bn": False}, r"^bn=False: received False, expected True, with"),
        ({"hidden": [9]}, r"^hidden=\(9,\): received \(9,\), expected \(8,\), with which"),
        ({"steps": 9}, r"^steps=9: received 9, expected none, as it was started; leave it out"),
        ({"probe": True}, r"^probe=True: received True, expected none, as it was started"),
        ({"deterministic": True}, r"^deterministic=True: received True, expected none, as it was"),
        ({"device": "all"}, r"^device='all': received 'all', expected 'auto', with"),
        ({"run": "y"}, r"^run='y': received 'y', expected none together with resume"),
        ({"force": True}, r"^force=True: received True, expected none together with resume"),
    ):
        with pytest.raises(ArgumentError, match=message):
            kerasbn.train(few_digits, resume="x", root=tmp_path, **arguments)
    with pytest.raises(
        ArgumentError, match=r"received mnist-sample \(4,000 ex.*expected few-digits \(640"
    ):
        kerasbn.train(sample_digits, resume="x", root=tmp_path)
    with pytest.raises(ArgumentError, match=r"use kerasbn train --resume$"):
        kerasbn.compare(few_digits, resume="x", root=tmp_path)
    with pytest.raises(ArgumentError, match=r"resume with --resume x, or add --force"):
        kerasbn.train(few_digits, run="x", root=tmp_path)
    same = kerasbn.train(few_digits, resume="x", root=str(tmp_path), lr=0.02, hidden=[8])
    assert same.status == "finished"
    assert len(same.history["epoch"]) == 4


def test_an_interrupted_run_of_a_pair_is_resumed_with_its_comparison(
    few_digits: Dataset, tmp_path: Path
) -> None:
    write_run(tmp_path, "bn", run_record(status="interrupted"))
    with pytest.raises(ArgumentError, match=r"an interrupted run without one.*the comparison that"):
        kerasbn.train(few_digits, resume="bn", root=tmp_path)
