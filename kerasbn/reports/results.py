"""The results of comparisons and runs: the question, the answer, and every number behind it."""

from collections.abc import Mapping, Sequence

from kerasbn.common import wording
from kerasbn.experiments.comparison import KINDS, Comparison
from kerasbn.experiments.curves import PANELS, data_title, label
from kerasbn.experiments.statistics import METHOD, MIN_PAIRS, Difference, Row, Spread
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.document import (
    Block,
    BulletList,
    Cell,
    Code,
    Paragraph,
    Section,
    Table,
    Tile,
    Tiles,
    metric_cell,
)
from kerasbn.reports.reproduce import compare_command, differences, labels_of
from kerasbn.training.settings import option_text

METRIC_TITLES = {name: PANELS[name] for name in ("val_accuracy", "val_loss", "accuracy", "loss")}
ENOUGH_SEEDS = 8
STATISTICS_COLUMNS = ("With BN", "Without BN", "Difference")


def comparison_question(comparison: Comparison) -> str:
    """Return the question that a comparison asks."""
    return f"Does batch normalization help a {_model(comparison.first)}?"


def comparison_results(comparison: Comparison) -> Section:
    """Return the headline figures, what they show and what not, and a table of all metrics."""
    rows = {metric: rows[-1] for metric, rows in comparison.statistics().items() if rows}
    accuracy = comparison.last
    is_certain = accuracy is not None and accuracy.difference.low is not None
    blocks: list[Block] = [
        Tiles(_tiles(comparison, accuracy)),
        Paragraph(certainty(accuracy), "" if is_certain else "warning"),
    ]
    if not is_certain:
        blocks.append(Code([compare_command(comparison, seeds=ENOUGH_SEEDS)]))
    if found := findings(comparison):
        blocks.append(BulletList(found))
    if rows:
        blocks.append(_metrics_table(rows))
    if len(comparison.seeds) > 1:
        blocks.append(Paragraph(wording.sentence(METHOD), "note"))
    return Section("results", "Results", blocks)


def certainty(row: Row | None) -> str:
    """Return what the interval of the difference in test accuracy allows to conclude."""
    if row is None or row.difference.mean is None:
        return "In no pair did both trainings finish, so there is no difference to report."
    difference = row.difference
    if difference.low is None or difference.high is None:
        few = (
            "One pair does not show how much the result varies with the seed."
            if difference.pairs == 1
            else f"{wording.plural(difference.pairs, 'pair')} are too few for an interval."
        )
        return (
            f"{few} An interval needs at least {MIN_PAIRS} pairs; {ENOUGH_SEEDS} are a good number:"
        )
    interval = f"The {wording.interval(difference.low, difference.high)} points"
    if difference.low > 0:
        return f"{interval} is above zero: BN improves test accuracy in this setup."
    if difference.high < 0:
        return f"{interval} is below zero: BN lowers test accuracy in this setup."
    pairs = wording.plural(difference.pairs, "pair")
    return f"{interval} includes zero: {pairs} do not show whether BN helps in this setup."


def findings(comparison: Comparison) -> list[str]:
    """Return what else the metrics show, one sentence each."""
    statistics = comparison.statistics()
    found = [_divergence(comparison)]
    if statistics["val_accuracy"]:
        found += [
            _speed(statistics["val_accuracy"]),
            _generalization(statistics),
            _variation(statistics["val_accuracy"][-1]),
        ]
    return [*filter(None, found)]


def runs_question(chosen: Sequence[TrainedModel]) -> str:
    """Return the question that single runs answer."""
    if len(chosen) == 1:
        return f"How well does a {_model(chosen[0])} learn?"
    return f"Which of {len(chosen)} models learns {data_title(chosen[0].data.name)} best?"


def runs_answer(chosen: Sequence[TrainedModel]) -> str:
    """Return their answer in one sentence: the best test accuracy."""
    measured = {name: final_metric(each, "val_accuracy") for name, each in _labeled(chosen)}
    accuracies = {name: value for name, value in measured.items() if value is not None}
    if not accuracies:
        return "No metrics: training ended before the end of the first epoch."
    best = max(accuracies, key=lambda name: accuracies[name])
    if len(chosen) == 1:
        epochs = wording.plural(len(chosen[0].history["epoch"]), "epoch")
        return f"Test accuracy: {wording.percent(accuracies[best])} after {epochs}."
    return f"Best test accuracy: {wording.percent(accuracies[best])}, by {best}."


def runs_results(chosen: Sequence[TrainedModel]) -> Section:
    """Return a table of the final metrics of single runs."""
    columns = ("Run", *METRIC_TITLES.values(), "Epochs", "Status")
    blocks: list[Block] = [Table(columns, [_run_row(*each) for each in _labeled(chosen)])]
    if len(chosen) > 1:
        different = wording.listed(differences(chosen))
        differ = f"The runs differ in {different}. " if different else ""
        blocks.append(
            Paragraph(
                f"{differ}Each is a single training; another seed changes its metrics.", "note"
            )
        )
    return Section("results", "Results", blocks)


def final_metric(member: TrainedModel, metric: str) -> float | None:
    """Return a metric at the end of training, or after recalibration if there was one."""
    if member.run is not None and member.run.record.recalibrated is not None:
        return member.run.record.final.get(metric)
    column = member.history[metric]
    return column[-1] if column else None


def spread_text(spread: Spread, metric: str) -> str:
    """Return mean and standard deviation of a metric."""
    text = wording.percent_sd if metric.endswith("accuracy") else wording.loss_sd
    return text(spread.mean, spread.sd)


def difference_text(difference: Difference, metric: str) -> str:
    """Return the difference in a metric, with its interval."""
    if not metric.endswith("accuracy"):
        return wording.loss_difference(difference.mean)
    text = wording.points(difference.mean)
    if difference.low is None or difference.high is None:
        return text
    return f"{text} ({wording.interval(difference.low, difference.high)})"


def statistics_cells(row: Row, metric: str) -> list[Cell]:
    """Return the cells of `STATISTICS_COLUMNS`."""
    return [
        *(Cell(spread_text(each, metric), each.mean) for each in (row.with_bn, row.without_bn)),
        Cell(difference_text(row.difference, metric), row.difference.mean),
    ]


def _model(member: TrainedModel) -> str:
    # Non-breaking hyphens keep the sizes on one line.
    sizes = "\u2011".join(map(str, [784, *member.model.hidden, 10]))
    return f"{sizes} {member.model.activation} model on {data_title(member.data.name)}"


def _labeled(chosen: Sequence[TrainedModel]) -> list[tuple[str, TrainedModel]]:
    return list(zip(labels_of(chosen), chosen, strict=True))


def _tiles(comparison: Comparison, row: Row | None) -> list[Tile]:
    diverged, seeds = comparison.diverged(), len(comparison.seeds)
    tiles = []
    for kind in KINDS:
        spread = getattr(row, kind) if row else Spread(None, None, 0)
        notes = ["test accuracy"] if spread.mean is not None else []
        if spread.sd is not None:
            notes = [f"test accuracy, mean ± standard deviation of {spread.count} seeds"]
        if diverged[kind]:
            notes.append(f"{len(diverged[kind])} of {seeds} diverged")
        title = label(kind == "with_bn")
        tiles.append(Tile(title, spread_text(spread, "val_accuracy"), "; ".join(notes), kind))
    if row is not None and row.difference.mean is not None:
        difference = row.difference
        note = f"{wording.plural(difference.pairs, 'pair')}"
        if difference.low is not None and difference.high is not None:
            note = f"{wording.interval(difference.low, difference.high)}, {note}"
        tiles.append(Tile("Difference", wording.points(difference.mean), note))
    return tiles


def _metrics_table(rows: Mapping[str, Row]) -> Table:
    """Return all metrics after the last epoch that every training reached."""
    cells = [
        (Cell(title), *statistics_cells(rows[metric], metric))
        for metric, title in METRIC_TITLES.items()
    ]
    epochs = wording.plural(rows["val_accuracy"].epoch, "epoch")
    return Table(("Metric", *STATISTICS_COLUMNS), cells, f"After {epochs}")


def _divergence(comparison: Comparison) -> str:
    seeds = len(comparison.seeds)
    parts = [
        f"{len(diverged)} of {seeds} {kind.replace('_bn', ' BN')} ({wording.seeds(diverged)})"
        for kind, diverged in comparison.diverged().items()
        if diverged
    ]
    if not parts:
        return ""
    lr = option_text(comparison.first.training.lr)
    return f"Diverged at learning rate {lr}, left out of all means: {wording.listed(parts)}."


def _speed(rows: Sequence[Row]) -> str:
    """Return how many epochs each kind needs to reach the lower of the two final accuracies."""
    last = rows[-1]
    if last.with_bn.mean is None or last.without_bn.mean is None or len(rows) < 2:
        return ""
    target = min(last.with_bn.mean, last.without_bn.mean)
    epochs = {
        kind: next(row.epoch for row in rows if (getattr(row, kind).mean or 0) >= target)
        for kind in KINDS
    }
    if epochs["with_bn"] == epochs["without_bn"]:
        return ""
    return (
        f"Training speed: {wording.percent(target)} test accuracy takes "
        f"{wording.plural(epochs['with_bn'], 'epoch')} with BN, {epochs['without_bn']:,} without."
    )


def _generalization(statistics: Mapping[str, Sequence[Row]]) -> str:
    train, test = statistics["accuracy"][-1], statistics["val_accuracy"][-1]
    gaps = []
    for kind in KINDS:
        seen, unseen = getattr(train, kind).mean, getattr(test, kind).mean
        if seen is None or unseen is None:
            return ""
        gaps.append(wording.points(seen - unseen))
    return f"Generalization gap (train minus test accuracy): {gaps[0]} with BN, {gaps[1]} without."


def _variation(row: Row) -> str:
    if row.with_bn.sd is None or row.without_bn.sd is None:
        return ""
    deviations = (wording.percent(row.with_bn.sd), wording.percent(row.without_bn.sd))
    return (
        f"Variation over seeds (standard deviation of test accuracy): {deviations[0]} with BN, "
        f"{deviations[1]} without."
    )


def _run_row(name: str, member: TrainedModel) -> tuple[Cell, ...]:
    cells = [metric_cell(final_metric(member, metric), metric) for metric in METRIC_TITLES]
    epochs = len(member.history["epoch"])
    return (Cell(name), *cells, Cell(str(epochs), epochs), Cell(member.status))
