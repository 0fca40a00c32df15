"""An experiment: networks trained side by side on the same batches, a run kept of each."""

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

import kerasbn
from kerasbn import runs
from kerasbn.digits.files import Digits
from kerasbn.digits.pipeline import Schedule
from kerasbn.errors import CheckFailedError, StoppedError, expected
from kerasbn.study.plots import Curve, draw_curves, save_figure
from kerasbn.training.callbacks import Measure, StopOnInterrupt, View
from kerasbn.training.device import choose_device
from kerasbn.training.loop import compile_network, fit
from kerasbn.training.networks import mlp
from kerasbn.training.progress import ShowProgress
from kerasbn.training.settings import NetworkSettings, TrainingSettings

DATA_NAMES = {"mnist": "MNIST", "mnist-sample": "a sample of MNIST"}


@dataclass(frozen=True)
class Member:
    """One network of an experiment.

    Attributes:
        key: ``bn`` or ``plain``: its name in the logs, and of its run where `name` is None.
        settings: what network it is.
        name: the name asked for its run, or None.
    """

    key: str
    settings: NetworkSettings
    name: str | None = None


def member(settings: NetworkSettings, name: str | None = None) -> Member:
    """The member with these settings, named after its normalization."""
    return Member(default_name(settings), settings, name)


def default_name(settings: NetworkSettings) -> str:
    """What a run of such a network is called where no name was asked for."""
    return "bn" if settings.bn else "plain"


def label(settings: NetworkSettings) -> str:
    """What legends and lines call such a network."""
    return "With BN" if settings.bn else "Without BN"


def train(
    members: Sequence[Member],
    digits: Digits,
    training: TrainingSettings,
    *,
    device: str = "auto",
    force: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
    root: Path = runs.ROOT,
) -> list[runs.Run]:
    """Train the members side by side and keep a run of each.

    All see the same batches in the same order and start from the same Dense kernels. After every
    epoch each is evaluated on the whole training set and the whole test set. A member that
    diverges ends there and the others go on; Ctrl-C ends all of them. What was recorded until then
    is kept, and the run's `status` tells.

    Args:
        members: what to train.
        digits: what to train and test on.
        training: how.
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.
        force: whether runs that have the names asked for give way.
        tensorboard: whether each run gets a folder that TensorBoard reads.
        quiet: whether to show nothing on the way.
        root: the folder the runs go into.

    Returns:
        The runs, in the order of the members.

    Raises:
        InputError: if something given cannot be used, before anything is trained.
    """
    training.check([each.settings for each in members], len(digits.train))
    for each in members:
        if each.name is not None:
            runs.check_name(each.name, force=force, root=root)
    where = choose_device(device)
    networks = {
        each.key: compile_network(mlp(**asdict(each.settings), seed=training.seed), training)
        for each in members
    }
    schedule = Schedule.of(len(digits.train), training.batch_size, training.epochs, training.steps)
    labels = {each.key: label(each.settings) for each in members}
    measure = Measure(schedule)
    started = datetime.now(UTC)
    with ExitStack() as stack:
        folders = [
            stack.enter_context(runs.new_run(each.name, each.key, force=force, root=root))
            for each in members
        ]
        views = [
            View(each.key, networks[each.key], _writers(folder.path, tensorboard))
            for each, folder in zip(members, folders, strict=True)
        ]
        with (
            ShowProgress(schedule, labels, quiet=quiet) as progress,
            StopOnInterrupt(
                lambda: progress.say("stopping; Ctrl-C again to drop this run")
            ) as stop,
        ):
            fit(networks, digits, training, [measure, *views, progress, stop], where.name)
        # The first member's run is the one that finished last, so that it is the newest.
        for each, folder in reversed(list(zip(members, folders, strict=True))):
            stopped = stop.interrupted and measure.epochs < schedule.epochs
            record = {
                "status": _status(each.key, measure, stopped),
                **_times(started),
                "network": asdict(each.settings),
                "training": asdict(training),
                "data": _data(digits),
                "device": where.description,
                "versions": _versions(),
                "parameters": networks[each.key].count_params(),
                "diverged_at_step": measure.diverged.get(each.key),
            }
            _finish(folder.path, networks[each.key], measure.weights.get(each.key), record)
    return [runs.read_run(folder.placed) for folder in folders if folder.placed]


def check_ending(run: runs.Run) -> None:
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
            f"lower --lr (the {epochs} before that are kept)"
        )
    if run.status == "interrupted":
        raise StoppedError(f"stopped; {epochs} kept in {run.path}")


def summary(run: runs.Run) -> str:
    """One line: where the run is, and its figures on the test set after the last epoch."""
    final = run.record["final"]
    return (
        f"{run.path}: test accuracy {final['val_accuracy']:.2%}, loss {final['val_loss']:.4f} "
        f"after {_plural(run.record['epochs'], 'epoch')} in {run.record['seconds']:.1f} s"
    )


def curve_of(run: runs.Run, name: str | None = None) -> Curve:
    """The curve of a run, called `name` or else by whether it has normalization.

    Raises:
        InputError: if its history is damaged.
    """
    settings = run.record["network"]
    default = "With BN" if settings.get("bn") else "Without BN"
    return Curve(name or default, run.history, _ending(run.record))


def title_of(record: dict[str, Any]) -> str:
    """The heading of a run's picture: network, data and training.

    Raises:
        InputError: if the record is damaged.
    """
    try:
        network, training, data = record["network"], record["training"], record["data"]
        sizes = "-".join(map(str, [784, *network["hidden"], 10]))
        return (
            f"{sizes} {network['activation']} network on {DATA_NAMES[data['name']]} "
            f"({data['train']:,} digits)\n"
            f"{training['optimizer'].upper() if training['optimizer'] == 'sgd' else 'Adam'} "
            f"{training['lr']:g}, batch {training['batch_size']}, seed {training['seed']}"
        )
    except (KeyError, TypeError) as error:
        raise expected(
            "run.json", f"a record without {error}", "a run's whole record", "train again"
        ) from error


def _writers(folder: Path, tensorboard: bool) -> list[keras.callbacks.Callback]:
    """The callbacks of Keras's own that write one network's run while it trains."""
    writers: list[keras.callbacks.Callback] = [keras.callbacks.CSVLogger(folder / runs.HISTORY)]
    if tensorboard:
        writers.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
    return writers


def _finish(
    folder: Path, network: keras.Model, weights: list[Any] | None, record: dict[str, Any]
) -> None:
    """Write what a run holds beside the history: network, curves and, last, the record."""
    history_file = folder / runs.HISTORY
    if weights is None:  # not one epoch has figures: the logger has not even written its heading
        history_file.write_text(",".join(["epoch", *runs.FIGURES, "step"]) + "\n")
    else:
        network.set_weights(weights)
        network.save(folder / runs.MODEL)
    history = runs.read_history(history_file)
    record["epochs"] = len(history["epoch"])
    record["final"] = {name: column[-1] for name, column in history.items() if column}
    runs.write_record(folder, record)
    curve = curve_of(runs.Run(folder, record))
    figure = draw_curves([curve], title_of(record), record["data"]["note"])
    save_figure(figure, folder / runs.CURVES)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _status(key: str, measure: Measure, stopped: bool) -> str:
    if key in measure.diverged:
        return "diverged"
    return "interrupted" if stopped else "finished"


def _ending(record: dict[str, Any]) -> str:
    """How a training ended, in the words of a legend; empty if as planned."""
    if record["status"] == "diverged":
        return f"diverged at step {record.get('diverged_at_step')}"
    return "interrupted" if record["status"] == "interrupted" else ""


def _times(started: datetime) -> dict[str, Any]:
    finished = datetime.now(UTC)
    return {
        "started": started.isoformat(),
        "finished": finished.isoformat(),
        "seconds": round((finished - started).total_seconds(), 3),
    }


def _data(digits: Digits) -> dict[str, Any]:
    """What a record says of the digits: not where they were, which is nobody else's business."""
    return {
        "name": digits.name,
        "digest": digits.digest,
        "train": len(digits.train),
        "test": len(digits.test),
        "note": digits.note,
    }


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {"kerasbn": kerasbn.__version__, "python": platform.python_version(), **libraries}
