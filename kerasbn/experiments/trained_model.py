"""One trained model: its settings, its history, and its run. No Keras is loaded."""

from dataclasses import dataclass
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from kerasbn.common.errors import CheckFailedError, StoppedError
from kerasbn.common.plotting import COLOR
from kerasbn.common.records import own_version
from kerasbn.common.wording import loss, percent, plural, seed_range
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.curves import Curve, data_title, draw_curves, label
from kerasbn.probes.results import findings_of
from kerasbn.probes.topics.topic import Finding
from kerasbn.runs import DataRecord, History, Run, Status
from kerasbn.training.settings import ModelSettings, TrainingSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTIMIZER_NAMES = {"adam": "Adam", "sgd": "SGD"}


@dataclass(frozen=True, repr=False)
class TrainedModel:
    """One trained model.

    Attributes:
        name: The name of its run.
        model: What model it is.
        training: How it was trained.
        data: The dataset.
        device: Where it was trained, in words.
        status: How the training ended; see `kerasbn.runs.RunRecord`.
        history: The metrics by epoch; see `kerasbn.runs.Run`.
        diverged_at_step: The step at which the loss became NaN or infinite, if it did.
        run: Its run; None if it no longer exists or another run has taken its name.
    """

    name: str
    model: ModelSettings
    training: TrainingSettings
    data: DataRecord
    device: str
    status: Status
    history: History
    diverged_at_step: int | None = None
    run: Run | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss became NaN or infinite."""
        return self.status == "diverged"

    def curve(self, name: str | None = None) -> Curve:
        """Return its learning curve, labeled `name` or else by whether the model has BN."""
        ending = "" if self.status == "finished" else str(self.status)
        if self.diverged and self.diverged_at_step:
            ending = f"diverged at step {self.diverged_at_step}"
        color = COLOR["with_bn" if self.model.bn else "without_bn"]
        return Curve(name or label(self.model.bn), self.history, ending, color=color)

    def title(self, seeds: str | None = None) -> str:
        """Return the title of its figure: model, dataset and training, perhaps of other seeds."""
        training, data = self.training, self.data
        sizes = "-".join(map(str, [784, *self.model.hidden, 10]))
        return (
            f"{sizes} {self.model.activation} model on {data_title(data.name)} "
            f"({data.train:,} examples)\n{OPTIMIZER_NAMES[training.optimizer]}, "
            f"learning rate {training.lr:g}, batch size {training.batch_size}, "
            f"{seeds or seed_range(training.seed, training.seed)}"
        )

    def figure(self) -> "Figure":
        """Draw its learning curves."""
        return draw_curves([self.curve()], self.title(), self.data.note)

    def findings(self) -> list[Finding]:
        """Return what its probes found; nothing if it was not probed."""
        return findings_of([self.run]) if self.run else []

    def summary(self) -> str:
        """Return its test metrics after the last epoch, in one line."""
        epochs = plural(len(self.history["epoch"]), "epoch")
        if not self.history["epoch"]:
            return f"{self.status} after {epochs}"
        accuracy, value = (self.history[name][-1] for name in ("val_accuracy", "val_loss"))
        line = f"test accuracy {percent(accuracy)}, test loss {loss(value)} after {epochs}"
        return line if self.status == "finished" else f"{line} ({self.status})"

    def check_ending(self) -> None:
        """Raise if the training did not end as planned.

        Raises:
            CheckFailedError: If it diverged; the message names the step and the learning rate.
            StoppedError: If Ctrl-C ended it.
        """
        place = self.run.path if self.run else self.name
        epochs = plural(len(self.history["epoch"]), "epoch")
        if self.diverged:
            raise CheckFailedError(
                f"{place}: the loss became NaN or infinite at step {self.diverged_at_step} with "
                f"learning rate {self.training.lr:g}, expected a finite loss; try a lower --lr "
                f"({epochs} before that kept)"
            )
        if self.status == "interrupted":
            advice = f"resume with kerasbn train --resume {self.name}"
            raise StoppedError(f"stopped; {epochs} kept in {place}; {advice}")

    def __repr__(self) -> str:
        return f"<TrainedModel {self.name}: {self.summary()}>"


def trained_model(run: Run) -> TrainedModel:
    """Return the trained model of a run.

    Raises:
        InputError: If its history is damaged.
    """
    record = run.record
    return TrainedModel(
        run.name, record.model, record.training, record.data, record.device, record.status,
        run.history, record.diverged_at_step, run,
    )  # fmt: skip


def data_record(data: Dataset) -> DataRecord:
    """Return what a record says about a dataset; the place it was read from is private."""
    return DataRecord(data.name, data.digest, len(data.train), len(data.test), data.note)


def versions() -> dict[str, str]:
    """Return the versions of everything that the results of a training depend on."""
    libraries = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {"python": python_version(), "kerasbn": own_version(), **libraries}
