"""The curves of runs and comparisons, with their labels and titles. No Keras is loaded."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from kerasbn.errors import CheckFailedError, StoppedError
from kerasbn.experiments.comparison import KINDS, Comparison, Member
from kerasbn.experiments.statistics import Row
from kerasbn.plotting import PANELS, Curve, draw_curves
from kerasbn.runs import DataRecord, History, Run
from kerasbn.training.settings import ModelSettings, TrainingSettings
from kerasbn.wording import loss, loss_sd, percent, percent_sd, plural, seed_range

DATA_NAMES = {"mnist": "MNIST", "mnist-sample": "a sample of MNIST"}
OPTIMIZER_NAMES = {"adam": "Adam", "sgd": "SGD"}
MEANS = "Line: mean over seeds. Band: one standard deviation to each side. Thin lines: each seed."


def label(bn: bool) -> str:
    """Return what legends call a model with or without BN."""
    return "With BN" if bn else "Without BN"


def check_ending(run: Run) -> None:
    """Raise if the training did not end as planned.

    Raises:
        CheckFailedError: If it diverged; the message names the step and the learning rate.
        StoppedError: If Ctrl-C ended it.
    """
    epochs = plural(run.record.epochs, "epoch")
    if run.status == "diverged":
        raise CheckFailedError(
            f"{run.path}: the loss became NaN or infinite at step {run.record.diverged_at_step} "
            f"with learning rate {run.record.training.lr:g}, expected a finite loss; try a lower "
            f"--lr ({epochs} before that kept)"
        )
    if run.status == "interrupted":
        raise StoppedError(f"stopped; {epochs} kept in {run.path}")


def summary(run: Run) -> str:
    """Return where the run is, and its test metrics after the last epoch, in one line."""
    final = run.record.final
    return (
        f"{run.path}: test accuracy {percent(final['val_accuracy'])}, test loss "
        f"{loss(final['val_loss'])} after {plural(run.record.epochs, 'epoch')} in "
        f"{run.record.seconds:.1f} s"
    )


def curve_of(member: Member | Run, name: str | None = None) -> Curve:
    """Return the curve of a model, labeled `name` or else by whether it has BN.

    Raises:
        InputError: If its history is damaged.
    """
    about = member.record if isinstance(member, Run) else member
    return Curve(
        name or label(about.model.bn), member.history, _ending(about.status, about.diverged_at_step)
    )


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw a comparison: both curves of one pair, or means, bands and every model of several."""
    seeds = comparison.seeds
    note = comparison.first.data.note
    if len(seeds) == 1:
        curves = [curve_of(member) for member in comparison.members]
    else:
        curves = [mean_curve(comparison, kind) for kind in KINDS]
        note = f"{MEANS} {note}".strip()
    return draw_curves(curves, title_of(comparison.first, seed_range(seeds[0], seeds[-1])), note)


def mean_curve(comparison: Comparison, kind: str) -> Curve:
    """Return the mean of one side of a comparison over its seeds, with a band and every model."""
    statistics: Mapping[str, Sequence[Row]] = comparison.statistics()
    members = list(comparison.histories(kind).values())
    diverged: list[History] = [each.history for each in comparison.of(kind) if each.diverged]
    history: dict[str, list[float]] = {"epoch": []}
    band = {}
    for metric in PANELS:
        rows = [(row.epoch, getattr(row, kind)) for row in statistics[metric]]
        rows = [(epoch, spread) for epoch, spread in rows if spread.mean is not None]
        history["epoch"] = [float(epoch) for epoch, _ in rows]
        history[metric] = [spread.mean for _, spread in rows]
        if rows and rows[0][1].sd is not None:
            low, high = ([s.mean + sign * s.sd for _, s in rows] for sign in (-1, 1))
            band[metric] = (low, high)
    name = f"{label(kind == 'with_bn')}, mean of {len(members)}"
    ending = f"{len(diverged)} of {len(diverged) + len(members)} diverged" if diverged else ""
    return Curve(name, history, ending, band, members, diverged)


def comparison_html(comparison: Comparison) -> str:
    """Return a comparison as a notebook shows it: its figure and its final metrics."""
    buffer = io.BytesIO()
    comparison.figure().savefig(buffer, format="png", dpi=90)
    image = base64.b64encode(buffer.getvalue()).decode()
    rows = []
    for metric, title in PANELS.items():
        last = comparison.statistics()[metric][-1:]
        text = percent_sd if metric.endswith("accuracy") else loss_sd
        cells = [
            text(getattr(row, kind).mean, getattr(row, kind).sd) for row in last for kind in KINDS
        ]
        rows.append(f"<tr><th>{title}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        f"<p>{html.escape(comparison.summary())}</p>"
        "<table><tr><th></th><th>With BN</th><th>Without BN</th></tr>"
        f"{''.join(rows)}</table><img alt='Loss and accuracy' src='data:image/png;base64,{image}'>"
    )


def title_of(member: Member | Run, seeds: str | None = None) -> str:
    """Return the title of a figure: model, dataset and training, perhaps with several seeds."""
    about = member.record if isinstance(member, Run) else member
    return heading(about.model, about.training, about.data, seeds)


def heading(
    model: ModelSettings, training: TrainingSettings, data: DataRecord, seeds: str | None = None
) -> str:
    """Return the title of a figure from the settings and the dataset."""
    sizes = "-".join(map(str, [784, *model.hidden, 10]))
    return (
        f"{sizes} {model.activation} model on {DATA_NAMES.get(data.name, data.name)} "
        f"({data.train:,} examples)\n{OPTIMIZER_NAMES[training.optimizer]}, "
        f"learning rate {training.lr:g}, batch size {training.batch_size}, "
        f"{seeds or seed_range(training.seed, training.seed)}"
    )


def _ending(status: str, diverged_at_step: int | None) -> str:
    """Return how a training ended, for a legend; "" if as planned."""
    if status == "diverged":
        return f"diverged at step {diverged_at_step}" if diverged_at_step else "diverged"
    return "interrupted" if status == "interrupted" else ""
