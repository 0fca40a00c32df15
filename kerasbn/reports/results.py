"""The results of comparisons and runs: the question, the answer, and every number behind it."""

from collections.abc import Iterator, Sequence

from kerasbn.common import wording
from kerasbn.experiments.comparison import KINDS, Comparison
from kerasbn.experiments.curves import PANELS, data_title, label
from kerasbn.experiments.statistics import METHOD, MIN_PAIRS, Difference, Row, Spread
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports import document
from kerasbn.reports.document import Cells, Number, Paragraph, Section, Table, Tile
from kerasbn.reports.reproduce import compare_command, differences, labeled
from kerasbn.training.settings import SETTINGS, option_text

METRIC_TITLES = {name: PANELS[name] for name in ("val_accuracy", "val_loss", "accuracy", "loss")}
ENOUGH_SEEDS = 8
STATISTICS_COLUMNS = ("With BN", "Without BN", "Difference")


def comparison_results(comparison: Comparison) -> Section:
    """Return the headline figures, what they show and what not, and a table of all metrics."""
    last, found = comparison.last, list(finding_blocks(comparison))
    is_certain = last is not None and last.difference.low is not None
    command = compare_command(comparison, seeds=ENOUGH_SEEDS)
    several = len(comparison.seeds) > 1
    return Section(
        "results",
        "Results",
        document.Tiles(_tiles(comparison)),
        Paragraph(certainty(last), "" if is_certain else "warning"),
        None if is_certain else document.Code([command]),
        document.BulletList(found) if found else None,
        _last_metrics(comparison, last.epoch) if last else None,
        Paragraph(wording.sentence(METHOD), "note") if several else None,
    )


def certainty(row: Row | None) -> str:
    """Return what the interval of the difference in test accuracy allows to conclude."""
    if row is None or row.difference.mean is None:
        return "In no pair did both trainings finish, so there is no difference to report."
    difference, pairs = row.difference, wording.plural(row.difference.pairs, "pair")
    if difference.low is None or difference.high is None:
        few = f"{pairs} are too few for an interval."
        if difference.pairs == 1:
            few = "One pair does not show how much the result varies with the seed."
        return (
            f"{few} An interval needs at least {MIN_PAIRS} pairs; {ENOUGH_SEEDS} are a good number:"
        )
    interval = f"The {_interval(difference)} points"
    if difference.low > 0:
        return f"{interval} is above zero: BN improves test accuracy in this setup."
    if difference.high < 0:
        return f"{interval} is below zero: BN lowers test accuracy in this setup."
    return f"{interval} includes zero: {pairs} do not show whether BN helps in this setup."


def finding_blocks(comparison: Comparison) -> Iterator[str]:
    """Yield what else the metrics show, one sentence each."""
    seeds, statistics, last = len(comparison.seeds), comparison.statistics(), comparison.last
    diverged = [
        f"{len(those)} of {seeds} {kind.replace('_bn', ' BN')} ({wording.seeds(those)})"
        for kind, those in comparison.diverged().items()
        if those
    ]
    if diverged:
        lr = option_text(comparison.first.training.lr)
        yield f"Diverged at learning rate {lr}, left out of all means: {wording.listed(diverged)}."
    if last is None or last.with_bn.mean is None or last.without_bn.mean is None:
        return
    target = min(last.with_bn.mean, last.without_bn.mean)
    epochs, others = (
        next(row.epoch for row in statistics["val_accuracy"] if getattr(row, kind).mean >= target)
        for kind in KINDS
    )
    if epochs != others:
        yield (
            f"Training speed: {wording.percent(target)} test accuracy takes "
            f"{wording.plural(epochs, 'epoch')} with BN, {others:,} without."
        )
    train = statistics["accuracy"][-1]
    gap, other = (
        wording.points(getattr(train, kind).mean - getattr(last, kind).mean) for kind in KINDS
    )
    yield f"Generalization gap (train minus test accuracy): {gap} with BN, {other} without."
    if last.with_bn.sd is not None and last.without_bn.sd is not None:
        yield (
            "Variation over seeds (standard deviation of test accuracy): "
            f"{wording.percent(last.with_bn.sd)} with BN, "
            f"{wording.percent(last.without_bn.sd)} without."
        )


def runs_question(members: Sequence[TrainedModel]) -> str:
    """Return the question that single runs answer."""
    if len(members) == 1:
        return f"How well does a {model_title(members[0])} learn?"
    return f"Which of {len(members)} models learns {data_title(members[0].data.name)} best?"


def runs_answer(members: Sequence[TrainedModel]) -> str:
    """Return their answer in one sentence: the best test accuracy."""
    measured = [(final_metric(each, "val_accuracy"), name) for name, each in labeled(members)]
    accuracies = [(value, name) for value, name in measured if value is not None]
    if not accuracies:
        return "No metrics: training ended before the end of the first epoch."
    best, name = max(accuracies, key=lambda pair: pair[0])
    if len(members) == 1:
        epochs = wording.plural(len(members[0].history["epoch"]), "epoch")
        return f"Test accuracy: {wording.percent(best)} after {epochs}."
    return f"Best test accuracy: {wording.percent(best)}, by {name}."


def runs_results(members: Sequence[TrainedModel]) -> Section:
    """Return a table of the final metrics of single runs."""
    rows: list[Cells] = []
    for name, member in labeled(members):
        cells = [metric_cell(final_metric(member, metric), metric) for metric in METRIC_TITLES]
        epochs = len(member.history["epoch"])
        rows.append((name, *cells, Number(str(epochs), epochs), member.status))
    note = "Each is a single training; another seed changes its metrics."
    if different := [SETTINGS[name].label for name in differences(members)]:
        note = f"The runs differ in {wording.listed(different)}. {note}"
    return Section(
        "results",
        "Results",
        Table(("Run", *METRIC_TITLES.values(), "Epochs", "Status"), rows),
        Paragraph(note, "note") if len(members) > 1 else None,
    )


def final_metric(member: TrainedModel, metric: str) -> float | None:
    """Return a metric at the end of training, or after recalibration if there was one."""
    if member.run is not None and member.run.record.recalibrated is not None:
        return member.run.record.final.get(metric)
    column = member.history[metric]
    return column[-1] if column else None


def metric_cell(mean: float | None, metric: str, sd: float | None = None) -> Number:
    """Return an accuracy or a loss as a cell, perhaps with its standard deviation."""
    text = wording.percent_sd if metric.endswith("accuracy") else wording.loss_sd
    return Number(text(mean, sd), mean)


def statistics_cells(
    metric: str, with_bn: Spread, without_bn: Spread, difference: Difference
) -> list[Number]:
    """Return the cells of `STATISTICS_COLUMNS`; the difference of accuracies has an interval."""
    text = wording.loss_difference(difference.mean)
    if metric.endswith("accuracy"):
        text, interval = wording.points(difference.mean), _interval(difference)
        text = f"{text} ({interval})" if interval else text
    spreads = [metric_cell(each.mean, metric, each.sd) for each in (with_bn, without_bn)]
    return [*spreads, Number(text, difference.mean)]


def _interval(difference: Difference) -> str:
    """Return the interval of a difference in words, or "" where there are too few pairs."""
    if difference.low is None or difference.high is None:
        return ""
    return wording.interval(difference.low, difference.high)


def model_title(member: TrainedModel) -> str:
    """Return what a question calls a model: its sizes, its activation and the dataset."""
    # Non-breaking hyphens keep the sizes on one line.
    sizes = "\u2011".join(map(str, [784, *member.model.hidden, 10]))
    return f"{sizes} {member.model.activation} model on {data_title(member.data.name)}"


def _tiles(comparison: Comparison) -> list[Tile]:
    row, tiles = comparison.last, []
    for kind, diverged in comparison.diverged().items():
        spread = getattr(row, kind, Spread(None, None, 0))
        notes = ["test accuracy"] if spread.mean is not None else []
        if spread.sd is not None:
            notes = [f"test accuracy, mean ± standard deviation of {spread.count} seeds"]
        if diverged:
            notes.append(f"{len(diverged)} of {len(comparison.seeds)} diverged")
        figure = wording.percent_sd(spread.mean, spread.sd)
        tiles.append(Tile(label(kind == "with_bn"), figure, "; ".join(notes), kind))
    if row is not None and row.difference.mean is not None:
        notes = [_interval(row.difference), wording.plural(row.difference.pairs, "pair")]
        note = ", ".join(filter(None, notes))
        tiles.append(Tile("Difference", wording.points(row.difference.mean), note))
    return tiles


def _last_metrics(comparison: Comparison, epoch: int) -> Table:
    """Return all metrics after the last epoch that every training reached."""
    rows: list[Cells] = []
    for metric, name in METRIC_TITLES.items():
        row = comparison.statistics()[metric][-1]
        cells = statistics_cells(metric, row.with_bn, row.without_bn, row.difference)
        rows.append((name, *cells))
    title = f"After {wording.plural(epoch, 'epoch')}"
    return Table(("Metric", *STATISTICS_COLUMNS), rows, title)
