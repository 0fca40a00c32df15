"""What a user sees of a training, on a terminal and elsewhere."""

import re

import pytest

from kerasbn.data.batching import Schedule
from kerasbn.training.progress import ProgressDisplay

LABELS = {"bn": "With BN", "plain": "Without BN"}


def logs(**losses: float) -> dict[str, float]:
    """The figures of networks at the end of an epoch, by their loss."""
    names = ("loss", "val_loss", "batch_loss")
    figures = {f"{key}:{name}": loss for key, loss in losses.items() for name in names}
    accuracies = ("accuracy", "val_accuracy", "batch_accuracy")
    return figures | {f"{key}:{name}": 0.9512 for key in losses for name in accuracies}


def shown(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The last state of the bar of two networks on a terminal so wide, by its parts."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich this is a terminal
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
    epoch, number, bar, left, *figures = shown(80, monkeypatch, capsys)
    assert (epoch, number) == ("epoch", "1/12")
    assert set(bar) <= set("━╸╺")
    assert re.fullmatch(r"[-\d]+:[-\d]+:[-\d]+", left)
    assert " ".join(figures) == "With BN 0.157 95.1% Without BN 0.188 95.1%"


def test_a_narrow_terminal_keeps_epoch_and_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch, number, left, *figures = shown(40, monkeypatch, capsys)
    assert (epoch, number) == ("epoch", "1/12")
    assert re.fullmatch(r"[-\d]+:[-\d]+:[-\d]+", left)
    assert " ".join(figures).startswith("With BN 0.157")


def test_a_network_that_diverged_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(Schedule.of(640, 32, 3), LABELS, quiet=False) as progress:
        for epoch in range(3):
            progress.on_epoch_begin(epoch)
            progress.on_epoch_end(epoch, logs(plain=1.5) if epoch else logs(bn=2.0, plain=1.5))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "epoch 1/3 With BN", "epoch 1/3 Without BN", "With BN: diverged",
        "epoch 2/3 Without BN", "epoch 3/3 Without BN",
    ]  # fmt: skip


def test_an_epoch_that_is_cut_short_names_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(Schedule.of(640, 32, 3), LABELS, quiet=False) as progress:
        progress.on_epoch_begin(0)
        progress.on_epoch_end(0, {})
    assert capsys.readouterr().err == ""


def test_a_large_loss_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(Schedule.of(640, 32, 9), LABELS, quiet=False) as progress:
        progress.on_epoch_begin(0)
        progress.on_epoch_end(0, logs(bn=0.1234, plain=941469.1))
    losses = [re.findall(r"loss (\S+) acc", line) for line in capsys.readouterr().err.splitlines()]
    assert losses == [["0.123", "0.123"], ["941,000", "941,000"]]
