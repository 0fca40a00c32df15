"""The progress display, on terminals of several widths and elsewhere."""

import re

import pytest

from kerasbn.data.batching import Schedule
from kerasbn.training.progress import ProgressDisplay

LABELS = {"bn": "With BN", "plain": "Without BN"}


def logs(**losses: float) -> dict[str, float]:
    """Return the logs at the end of an epoch, given the loss of each model."""
    names = ("loss", "val_loss", "batch_loss")
    metrics = {f"{key}:{name}": loss for key, loss in losses.items() for name in names}
    accuracies = ("accuracy", "val_accuracy", "batch_accuracy")
    return metrics | {f"{key}:{name}": 0.9512 for key in losses for name in accuracies}


def shown(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Return the words of the last line that a terminal of this width shows for two models."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then treats it as a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    with ProgressDisplay(Schedule.of(640, 32, 12), LABELS, quiet=False) as progress:
        progress.on_epoch_begin(0)
        progress.on_train_batch_end(0, logs(bn=0.157, plain=0.188))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    (*_, last) = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    assert len(last) <= columns
    return last.split()


def test_a_terminal_of_80_columns_shows_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch, number, bar, left, *metrics = shown(80, monkeypatch, capsys)
    assert (epoch, number) == ("epoch", "1/12")
    assert set(bar) <= set("━╸╺")
    assert re.fullmatch(r"[-\d]+:[-\d]+:[-\d]+", left)
    assert " ".join(metrics) == "With BN 0.157 95.1% Without BN 0.188 95.1%"


def test_a_narrow_terminal_keeps_epoch_and_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch, number, left, *metrics = shown(40, monkeypatch, capsys)
    assert (epoch, number) == ("epoch", "1/12")
    assert re.fullmatch(r"[-\d]+:[-\d]+:[-\d]+", left)
    assert " ".join(metrics).startswith("With BN 0.157")


def test_a_diverged_model_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(Schedule.of(640, 32, 3), LABELS, quiet=False) as progress:
        for epoch in range(3):
            progress.on_epoch_begin(epoch)
            progress.on_epoch_end(epoch, logs(plain=1.5) if epoch else logs(bn=2.0, plain=1.5))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "epoch 1/3 With BN", "epoch 1/3 Without BN", "With BN: diverged",
        "epoch 2/3 Without BN", "epoch 3/3 Without BN",
    ]  # fmt: skip


def test_an_interrupted_epoch_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(Schedule.of(640, 32, 3), LABELS, quiet=False) as progress:
        progress.on_epoch_begin(0)
        progress.on_epoch_end(0, {})
    assert capsys.readouterr().err == ""


def test_a_large_loss_is_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(Schedule.of(640, 32, 9), LABELS, quiet=False) as progress:
        progress.on_epoch_begin(0)
        progress.on_epoch_end(0, logs(bn=0.1234, plain=941469.1))
    losses = [re.findall(r"loss (\S+) acc", line) for line in capsys.readouterr().err.splitlines()]
    assert losses == [["0.123", "0.123"], ["941,000", "941,000"]]
