"""What a run's record says, in the words of pictures and lines. Reads runs, loads no Keras."""

from collections.abc import Mapping, Sequence
from typing import Any

from kerasbn.errors import CheckFailedError, StoppedError, expected
from kerasbn.experiments.statistics import Row
from kerasbn.plotting import PANELS, Curve
from kerasbn.runs import RECORD, Run

DATA_NAMES = {"mnist": "MNIST", "mnist-sample": "a sample of MNIST"}
OPTIMIZER_NAMES = {"adam": "Adam", "sgd": "SGD"}
# What is to be read with the curves of means.
MEANS = "Line: mean over seeds. Band: one standard deviation to each side. Thin: each seed."


def label(bn: bool) -> str:
    """What legends and lines call a network with or without batch normalization."""
    return "With BN" if bn else "Without BN"


def check_ending(run: Run) -> None:
    """Raise if the training did not end as planned.

    Raises:
        CheckFailedError: if it diverged; the line names the step and the learning rate.
        StoppedError: if Ctrl-C ended it.
    """
    epochs = _plural(run.record["epochs"], "epoch")
    if run.status == "diverged":
        raise CheckFailedError(
            f"{run.path}: the loss became NaN or infinite at step {run.record['diverged_at_step']} "
            f"with learning rate {run.record['training']['lr']:g}, expected a finite one; try a "
            f"lower --lr ({epochs} before that kept)"
        )
    if run.status == "interrupted":
        raise StoppedError(f"stopped; {epochs} kept in {run.path}")


def summary(run: Run) -> str:
    """One line: where the run is, and its figures on the test set after the last epoch."""
    final = run.record["final"]
    return (
        f"{run.path}: test accuracy {final['val_accuracy']:.2%}, loss {final['val_loss']:.4f} "
        f"after {_plural(run.record['epochs'], 'epoch')} in {run.record['seconds']:.1f} s"
    )


def curve_of(run: Run, name: str | None = None) -> Curve:
    """The curve of a run, called `name` or else by whether it has normalization.

    Raises:
        InputError: if its history is damaged.
    """
    name = name or label(bool(run.record["network"].get("bn")))
    return Curve(name, run.history, _ending(run))


def mean_curve(
    kind: str,
    statistics: Mapping[str, Sequence[Row]],
    members: Sequence[Mapping[str, Sequence[float]]],
    sick: Sequence[Mapping[str, Sequence[float]]],
) -> Curve:
    """The mean over seeds with its band, and the members behind it.

    Args:
        kind: `with_bn` or `without_bn`.
        statistics: the rows of every figure.
        members: the histories of those that did not diverge.
        sick: of those that did.
    """
    history: dict[str, list[float]] = {"epoch": []}
    band = {}
    for figure in PANELS:
        found = [(row.epoch, getattr(row, kind)) for row in statistics[figure]]
        found = [(epoch, each) for epoch, each in found if each.mean is not None]
        history["epoch"] = [float(epoch) for epoch, _ in found]
        history[figure] = [each.mean for _, each in found]
        if found and found[0][1].sd is not None:
            low, high = ([each.mean + sign * each.sd for _, each in found] for sign in (-1, 1))
            band[figure] = (low, high)
    name = f"{label(kind == 'with_bn')}, mean of {len(members)}"
    ending = f"{len(sick)} of {len(sick) + len(members)} diverged" if sick else ""
    return Curve(name, history, ending, band, members, sick)


def seed_range(first: int, last: int) -> str:
    """Consecutive seeds in words."""
    return f"seed {first}" if first == last else f"seeds {first} to {last}"


def title_of(run: Run, seeds: str | None = None) -> str:
    """The heading of a run's picture: network, data and training, and other `seeds` than its own.

    Raises:
        InputError: if the record is damaged.
    """
    try:
        record = run.record
        return heading(record["network"], record["training"], record["data"], seeds)
    except (KeyError, TypeError, ValueError) as error:
        raise expected(
            run.path / RECORD, f"a record without {error}", "a run's whole record", "train again"
        ) from error


def heading(
    network: Mapping[str, Any],
    training: Mapping[str, Any],
    data: Mapping[str, Any],
    seeds: str | None = None,
) -> str:
    """The heading of a picture from what a record says under these names.

    Raises:
        KeyError, TypeError, ValueError: if something is missing or of another kind.
    """
    sizes = "-".join(map(str, [784, *network["hidden"], 10]))
    return (
        f"{sizes} {network['activation']} network on {DATA_NAMES[data['name']]} "
        f"({data['train']:,} digits)\n{OPTIMIZER_NAMES[training['optimizer']]}, "
        f"learning rate {training['lr']:g}, batch {training['batch_size']}, "
        f"{seeds or 'seed ' + str(training['seed'])}"
    )


def _ending(run: Run) -> str:
    """How a training ended, in the words of a legend; empty if as planned."""
    if run.status == "diverged":
        return f"diverged at step {run.record.get('diverged_at_step')}"
    return "interrupted" if run.status == "interrupted" else ""


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
