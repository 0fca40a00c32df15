"""What was asked and what was found, in figures and in sentences computed from them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from kerasbn.experiments.curves import DATA_NAMES
from kerasbn.experiments.statistics import METHOD, MIN_PAIRS, Difference, Row, Spread
from kerasbn.reports.document import (
    NOTHING,
    Block,
    Cell,
    Command,
    Points,
    Section,
    Table,
    Tile,
    Tiles,
    Words,
    number,
    percent,
    plain,
    plural,
    signed,
)
from kerasbn.reports.repeat import compare_line, name_of
from kerasbn.reports.sources import KINDS, Pairs, Trained
from kerasbn.sweeps.summaries import NAMES

FIGURES = {
    "val_accuracy": "Test accuracy",
    "val_loss": "Test loss",
    "accuracy": "Training accuracy",
    "loss": "Training loss",
}
OPTIONS = NAMES | {"bn": "batch normalization"}
WORDS = {"with_bn": "with BN", "without_bn": "without BN"}


def question_of(trained: Trained) -> str:
    """What a comparison asks."""
    return f"Does batch normalization help a {_network(trained)}?"


def run_question(chosen: Sequence[Trained]) -> str:
    """What is asked of runs that are no comparison."""
    if len(chosen) == 1:
        return f"How well did a {_network(chosen[0])} learn?"
    return f"How well did {len(chosen)} networks learn {DATA_NAMES[chosen[0].data.name]}?"


def found_of(pairs: Pairs) -> Section:
    """The answer of a comparison: three figures, what they say and don't, and a table."""
    rows = {figure: rows[-1] for figure, rows in pairs.statistics().items() if rows}
    blocks: list[Block] = [Tiles(_tiles(pairs, rows.get("val_accuracy")))]
    certain = certainty(rows.get("val_accuracy"))
    blocks.append(Words(certain, "" if _has_interval(rows) else "warning"))
    if not _has_interval(rows):
        blocks.append(Command([compare_line(pairs, seeds=8)]))
    if rows:
        blocks += [Points(findings(pairs)), _table(rows)]
    if len(pairs.seeds) > 1:
        blocks.append(Words(METHOD[0].upper() + METHOD[1:] + ".", "note"))
    return Section("found", "What was found", blocks)


def answer_of(pairs: Pairs) -> str:
    """The answer in a sentence."""
    last = pairs.statistics()["val_accuracy"][-1:]
    if not last:
        sick = pairs.diverged()
        named = [f"{len(sick[kind])} of {len(pairs.seeds)} {WORDS[kind]}" for kind in KINDS]
        return f"No figures to compare: {' and '.join(named)} diverged."
    mean = last[0].difference.mean
    if mean is None:
        return (
            f"{_both(last[0])} of the {pairs.first.data.test:,} test digits are right; no pair is "
            "left to compare."
        )
    words = "more" if mean > 0 else "fewer"
    return (
        f"{_both(last[0])} of the {pairs.first.data.test:,} test digits are right: "
        f"{abs(100 * mean):.2f} points {words} with batch normalization"
        f"{_over(pairs, last[0].difference)}."
    )


def _over(pairs: Pairs, difference: Difference) -> str:
    """Over how many pairs a mean is one, and within which interval."""
    if len(pairs.seeds) == 1:
        return ""
    over = f", on average over {plural(difference.pairs, 'pair')}"
    if difference.low is None or difference.high is None:
        return over
    low, high = (plain(100 * end, 2) for end in (difference.low, difference.high))
    return f"{over} (95 % interval {low} to {high})"


def certainty(row: Row | None) -> str:
    """How sure one may be of the difference."""
    if row is None or row.difference.mean is None:
        return "Without a pair that both came to an end there is no difference to be sure of."
    difference = row.difference
    if difference.pairs == 1:
        return (
            "One pair is an anecdote: with another seed both figures move, and one pair cannot say "
            f"by how much. At least {MIN_PAIRS} pairs give an interval; eight are a good number:"
        )
    if difference.low is None or difference.high is None:
        return (
            f"{plural(difference.pairs, 'pair')} are too few for an interval, which takes "
            f"{MIN_PAIRS}; eight are a good number:"
        )
    ends = f"{plain(100 * difference.low, 2)} to {plain(100 * difference.high, 2)} points"
    if difference.low > 0:
        return (
            f"The 95 % interval of the difference, {ends}, lies above zero: the luck of the seeds "
            f"does not explain it. For this network, trained this way, normalization helps."
        )
    if difference.high < 0:
        return (
            f"The 95 % interval of the difference, {ends}, lies below zero: the luck of the seeds "
            f"does not explain it. For this network, trained this way, normalization harms."
        )
    return (
        f"The 95 % interval of the difference, {ends}, holds zero: "
        f"{plural(difference.pairs, 'pair')} cannot tell whether normalization helps here."
    )


def findings(pairs: Pairs) -> list[str]:
    """What else the figures say, a sentence each."""
    statistics = pairs.statistics()
    found = [_divergence(pairs), _pace(statistics["val_accuracy"]), _generalization(statistics)]
    return [*filter(None, [*found, _steadiness(statistics["val_accuracy"][-1])])]


def run_sections(chosen: Sequence[Trained]) -> Section:
    """The figures of runs that are no comparison."""
    columns = ("Network", *FIGURES.values(), "Epochs", "Ended")
    blocks: list[Block] = [Table(columns, [_run_row(each) for each in chosen])]
    if len(chosen) > 1:
        differing = differences(chosen)
        said = f"They differ in {', '.join(differing)}. " if differing else ""
        blocks.append(
            Words(f"{said}Each is a single training: with another seed its figures move.", "note")
        )
    return Section("found", "What was found", blocks)


def run_answer(chosen: Sequence[Trained]) -> str:
    """The answer for runs that are no comparison, in a sentence."""
    measured = [each for each in chosen if last_of(each, "val_accuracy") is not None]
    if not measured:
        return "None has figures: it ended before its first epoch did."
    best = max(measured, key=lambda each: last_of(each, "val_accuracy") or 0.0)
    right = (
        f"{percent(last_of(best, 'val_accuracy')).text} of the {best.data.test:,} test digits are "
        f"right"
    )
    if len(chosen) == 1:
        return f"{right} after {plural(len(best.history['epoch']), 'epoch')}."
    return f"Best of {len(chosen)} is {name_of(best)}: {right}."


def last_of(trained: Trained, figure: str) -> float | None:
    """A figure at the end: as measured anew where statistics were recalibrated, else by history."""
    if trained.run is not None and trained.run.record.recalibrated is not None:
        final = trained.run.record.final
        value = final.get(figure) if isinstance(final, Mapping) else None
        return float(value) if isinstance(value, int | float) else None
    column = trained.history[figure]
    return column[-1] if column else None


def differences(chosen: Sequence[Trained]) -> list[str]:
    """The names of the settings in which runs differ."""
    names = []
    for part in ("model", "training"):
        for each in fields(getattr(chosen[0], part)):
            if len({getattr(getattr(one, part), each.name) for one in chosen}) > 1:
                names.append(OPTIONS.get(each.name, each.name))
    return names


def spread_text(found: Spread, figure: str) -> str:
    """Mean and standard deviation as they read in a table."""
    if found.mean is None:
        return NOTHING
    if figure.endswith("accuracy"):
        deviation = "" if found.sd is None else f" ± {100 * found.sd:.2f}"
        return f"{100 * found.mean:.2f}{deviation}\u00a0%"
    return f"{found.mean:.4f}" + ("" if found.sd is None else f" ± {found.sd:.4f}")


def difference_text(difference: Difference, figure: str) -> str:
    """The difference and its interval as they read in a table."""
    is_accuracy = figure.endswith("accuracy")
    if difference.mean is None:
        return NOTHING
    scale, places, unit = (100, 2, " points") if is_accuracy else (1, 4, "")
    text = f"{signed(scale * difference.mean, places)}{unit}"
    if difference.low is None or difference.high is None:
        return text
    low, high = (plain(scale * end, places) for end in (difference.low, difference.high))
    return f"{text} ({low} to {high})"


def _network(trained: Trained) -> str:
    # No line ends within the sizes.
    sizes = "\u2011".join(map(str, [784, *trained.model.hidden, 10]))
    return f"{sizes} network with {trained.model.activation} on {DATA_NAMES[trained.data.name]}"


def _both(row: Row) -> str:
    a, b = (_bare(getattr(row, kind)) for kind in KINDS)
    return f"With batch normalization {a}, without it {b}"


def _bare(found: Spread) -> str:
    return "none" if found.mean is None else percent(found.mean).text


def _has_interval(rows: Mapping[str, Row]) -> bool:
    return "val_accuracy" in rows and rows["val_accuracy"].difference.low is not None


def _tiles(pairs: Pairs, row: Row | None) -> list[Tile]:
    sick, count = pairs.diverged(), len(pairs.seeds)
    tiles = []
    for kind in KINDS:
        found = getattr(row, kind) if row else Spread(None, None, 0)
        note = "of the test digits right"
        if found.sd is not None:
            note += f", mean and standard deviation of {found.count}"
        if sick[kind]:
            note = f"{len(sick[kind])} of {count} diverged" + (f"; {note}" if found.mean else "")
        figure = spread_text(found, "val_accuracy")
        tiles.append(Tile(WORDS[kind].capitalize().replace("bn", "BN"), figure, note, kind))
    if row is not None and row.difference.mean is not None:
        difference = row.difference
        note = f"one pair, seed {pairs.seeds[0]}" if difference.pairs == 1 else "too few pairs"
        if difference.low is not None and difference.high is not None:
            low, high = (plain(100 * end, 2) for end in (difference.low, difference.high))
            note = f"95\u00a0% interval {low} to {high}, {difference.pairs} pairs"
        tiles.append(Tile("Difference", f"{signed(100 * row.difference.mean, 2)} points", note))
    return tiles


def _table(rows: Mapping[str, Row]) -> Table:
    """All figures after the last epoch that every network reached."""
    epoch = rows["val_accuracy"].epoch
    interval = " (95 % interval)" if _has_interval(rows) else ""
    columns = ("Figure", "With BN", "Without BN", f"Difference{interval}")
    cells = []
    for figure, title in FIGURES.items():
        row = rows[figure]
        spreads = [Cell(spread_text(s, figure), s.mean) for s in (row.with_bn, row.without_bn)]
        last = Cell(difference_text(row.difference, figure), row.difference.mean)
        cells.append((Cell(title), *spreads, last))
    return Table(columns, cells, f"After {plural(epoch, 'epoch')}")


def _divergence(pairs: Pairs) -> str:
    sick, count = pairs.diverged(), len(pairs.seeds)
    named = [
        f"{len(sick[kind])} of {count} {WORDS[kind]} (seed{'s' * (len(sick[kind]) > 1)} "
        f"{', '.join(map(str, sick[kind]))})"
        for kind in KINDS
        if sick[kind]
    ]
    if not named:
        return ""
    lr = f"{pairs.first.training.lr:g}"
    return (
        f"With a learning rate of {lr} the loss became infinite or no number in "
        f"{' and '.join(named)}; those are in no mean."
    )


def _pace(rows: Sequence[Row]) -> str:
    """After which epoch each kind was where the weaker one ended."""
    last = rows[-1]
    if last.with_bn.mean is None or last.without_bn.mean is None or len(rows) < 2:
        return ""
    if last.with_bn.mean == last.without_bn.mean:
        return "Both end at the same test accuracy."
    behind = "without_bn" if last.with_bn.mean > last.without_bn.mean else "with_bn"
    target = getattr(last, behind).mean
    first = {
        kind: next(row.epoch for row in rows if (getattr(row, kind).mean or 0) >= target)
        for kind in KINDS
    }
    if first["with_bn"] == first["without_bn"]:
        return ""
    return (
        f"Pace: {percent(target).text} of the test digits, where the networks {WORDS[behind]} end, "
        f"were right after {plural(first['with_bn'], 'epoch')} with BN and after "
        f"{plural(first['without_bn'], 'epoch')} without."
    )


def _generalization(statistics: Mapping[str, Sequence[Row]]) -> str:
    """How much is lost from digits that were trained on to new ones."""
    train, test = statistics["accuracy"][-1], statistics["val_accuracy"][-1]
    said, lost = [], []
    for kind in KINDS:
        seen, new = getattr(train, kind).mean, getattr(test, kind).mean
        if seen is None or new is None:
            return ""
        said.append(f"{percent(seen).text} {WORDS[kind]}")
        points = f"{abs(100 * (seen - new)):.2f} points"
        lost.append(f"{points} {'fewer' if new < seen else 'more'}")
    return (
        f"Memory: of the digits it was trained on, a network gets {said[0]} right and {said[1]}; "
        f"of new ones {lost[0]} and {lost[1]}."
    )


def _steadiness(row: Row) -> str:
    """Whose seeds differ less."""
    a, b = row.with_bn.sd, row.without_bn.sd
    if a is None or b is None or not a or not b:
        return ""
    calm, wild = (a, b) if a < b else (b, a)
    steadier, other = KINDS if a < b else KINDS[::-1]
    return (
        f"Luck: from seed to seed the test accuracy moves {wild / calm:.1f} times as much "
        f"{WORDS[other]} as {WORDS[steadier]} (standard deviations of {100 * wild:.2f} and "
        f"{100 * calm:.2f} points)."
    )


def _run_row(trained: Trained) -> tuple[Cell, ...]:
    cells = []
    for figure in FIGURES:
        value = last_of(trained, figure)
        cells.append(percent(value) if figure.endswith("accuracy") else number(value))
    epochs = len(trained.history["epoch"])
    return (Cell(name_of(trained)), *cells, Cell(str(epochs), epochs), Cell(trained.status))
