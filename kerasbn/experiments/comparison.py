"""A comparison: models with and without BN, equal in everything else, one pair per seed.

    saved_models/compare/compare.json   settings, every history, statistics
                         compare.csv    the statistics of every epoch
                         compare.png    the curves

One pair or many seeds, there is one type, one record and one reader. A comparison is read from its
``compare.json`` alone; the runs it names are looked at where they still exist and still agree with
it. No Keras is loaded.
"""

import base64
import html
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn.common.errors import CheckFailedError, InputError, StoppedError, expected
from kerasbn.common.records import as_table, read_json, write_csv, write_json
from kerasbn.common.wording import (
    interval,
    listed,
    loss_sd,
    percent_sd,
    plural,
    points,
    seed_range,
    seeds,
)
from kerasbn.experiments.curves import MEANS, PANELS, Curve, draw_curves, mean_curve
from kerasbn.experiments.statistics import METHOD, MIN_PAIRS, Difference, Row, by_epoch, columns
from kerasbn.experiments.trained_model import TrainedModel, trained_model
from kerasbn.probes.results import findings_of
from kerasbn.probes.topics.topic import Finding
from kerasbn.runs import HISTORY_COLUMNS, METRICS, DataRecord, History, Run, Status, read_run
from kerasbn.training.settings import ModelSettings, TrainingSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kerasbn.probes.topics.topic import Finding

RECORD, TABLE, PICTURE = "compare.json", "compare.csv", "compare.png"
KINDS = ("with_bn", "without_bn")


@dataclass(frozen=True)
class ModelRecord:
    """What ``compare.json`` holds of one model.

    Attributes:
        run: The folder of its run, relative to that of the comparison.
        status: How the training ended.
        history: The metrics by epoch; null where they are not finite.
        diverged_at_step: The step at which the loss became NaN or infinite, if it did.
    """

    run: str
    status: Status
    history: dict[str, list[float | None]]
    diverged_at_step: int | None = None


@dataclass(frozen=True)
class ComparisonRecord:
    """What ``compare.json`` holds.

    Attributes:
        seeds: The seed of each pair.
        model: The settings of all models, which differ in `bn` alone.
        training: The settings of all trainings, which differ in `seed` alone.
        data: The dataset.
        device: Where the models were trained.
        with_bn: The models with BN, by seed.
        without_bn: The models without BN, by seed.
        statistics: For each metric and side its mean, standard deviation and count by epoch.
        summary: The result in a sentence.
    """

    seeds: list[int]
    model: ModelSettings
    training: TrainingSettings
    data: DataRecord
    device: str
    with_bn: list[ModelRecord]
    without_bn: list[ModelRecord]
    statistics: dict[str, Any]
    summary: str


@dataclass(frozen=True, repr=False)
class Comparison:
    """Models with and without BN, equal in everything else, one pair per seed.

    Attributes:
        name: What it is called.
        with_bn: The models with BN, ordered by seed.
        without_bn: The models without BN, in the same order.
        path: Its folder; None if it was put together from runs.
    """

    name: str
    with_bn: tuple[TrainedModel, ...]
    without_bn: tuple[TrainedModel, ...]
    path: Path | None = None

    @property
    def members(self) -> tuple[TrainedModel, ...]:
        """All models, those with BN first."""
        return self.with_bn + self.without_bn

    @property
    def seeds(self) -> list[int]:
        """The seed of each pair."""
        return [member.training.seed for member in self.with_bn]

    @property
    def first(self) -> TrainedModel:
        """The model with BN of the first seed, whose settings all others share."""
        return self.with_bn[0]

    @property
    def probed_runs(self) -> list[Run]:
        """The two runs of the first pair, where probes are kept; none if they no longer exist."""
        pair = [self.with_bn[0].run, self.without_bn[0].run]
        return [run for run in pair if run is not None] if None not in pair else []

    def of(self, kind: str) -> tuple[TrainedModel, ...]:
        """Return the models of one of `KINDS`."""
        return self.with_bn if kind == "with_bn" else self.without_bn

    def diverged(self) -> dict[str, list[int]]:
        """Return the seeds of the models that diverged, for each of `KINDS`."""
        return {
            kind: [member.training.seed for member in self.of(kind) if member.diverged]
            for kind in KINDS
        }

    def histories(self, kind: str) -> dict[int, History]:
        """Return the histories by seed of the models that did not diverge and have metrics."""
        kept = [each for each in self.of(kind) if not each.diverged and each.history["epoch"]]
        return {member.training.seed: member.history for member in kept}

    def statistics(self) -> dict[str, list[Row]]:
        """Return for each metric one row per epoch, over all models that did not diverge."""
        return self._statistics

    @cached_property
    def _statistics(self) -> dict[str, list[Row]]:
        return by_epoch(self.histories("with_bn"), self.histories("without_bn"))

    @property
    def last(self) -> Row | None:
        """The statistics of test accuracy after the last epoch that every model reached."""
        rows = self.statistics()["val_accuracy"]
        return rows[-1] if rows else None

    @property
    def history(self) -> Any:  # noqa: ANN401 - pandas may not be installed
        """The metrics of every model and epoch as one table.

        A pandas DataFrame where pandas is installed, otherwise a dict of columns: `bn`, `seed`,
        `epoch`, `loss`, `accuracy` (training set), `val_loss`, `val_accuracy` (test set).
        """
        table: dict[str, list[Any]] = {name: [] for name in ("bn", "seed", "epoch", *METRICS)}
        for member in self.members:
            count = len(member.history["epoch"])
            table["bn"] += [member.model.bn] * count
            table["seed"] += [member.training.seed] * count
            table["epoch"] += [int(epoch) for epoch in member.history["epoch"]]
            for name in METRICS:
                table[name] += member.history[name]
        return as_table(table)

    def summary(self) -> str:
        """Return test accuracy with and without BN and the difference, in one sentence."""
        diverged, row = self.diverged(), self.last
        parts = []
        for kind, words in zip(KINDS, ("with BN", "without"), strict=True):
            spread = getattr(row, kind) if row else None
            figure = (
                percent_sd(spread.mean, spread.sd) if spread and spread.mean is not None else ""
            )
            parts.append(
                " ".join(filter(None, [figure, words, self._note(diverged[kind], figure)]))
            )
        line = f"Test accuracy: {', '.join(parts)}"
        if row is None or row.difference.mean is None:
            return f"{line}."
        return f"{line}: {difference_text(row.difference, len(self.seeds))}."

    def _note(self, diverged: Sequence[int], figure: str) -> str:
        """Return which models of one side diverged, in words."""
        if not diverged:
            return "" if figure else "not measured"
        if len(self.seeds) == 1:
            return "diverged"
        left_out = ", left out" if figure else ""
        return f"({len(diverged)} of {len(self.seeds)} diverged: {seeds(diverged)}{left_out})"

    def method(self) -> str:
        """Return how the figures of several seeds were computed; "" for one pair."""
        return METHOD if len(self.seeds) > 1 else ""

    def findings(self) -> list[Finding]:
        """Return what the probes of the first pair found; nothing if it was not probed."""
        return findings_of(self.probed_runs) if self.probed_runs else []

    def curves(self) -> list[Curve]:
        """Return both curves of one pair, or the means over several seeds."""
        if len(self.seeds) == 1:
            return [member.curve() for member in self.members]
        return [
            mean_curve(
                kind,
                self.statistics(),
                list(self.histories(kind).values()),
                [member.history for member in self.of(kind) if member.diverged],
            )
            for kind in KINDS
        ]

    def figure(self) -> "Figure":
        """Draw the curves: for several seeds the mean, its standard deviation and every model."""
        title = self.first.title(seed_range(self.seeds[0], self.seeds[-1]))
        notes = [MEANS] * (len(self.seeds) > 1) + [self.first.data.note]
        return draw_curves(self.curves(), title, " ".join(filter(None, notes)))

    def check_ending(self) -> None:
        """Raise if the comparison did not end as planned; models that diverged are a result.

        Raises:
            CheckFailedError: If every model diverged.
            StoppedError: If Ctrl-C ended it.
        """
        if any(member.status == "interrupted" for member in self.members):
            kept = [plural(len(member.history["epoch"]), "epoch") for member in self.members[:1]]
            pairs = f"{plural(len(self.seeds), 'pair')} with " if len(self.seeds) > 1 else ""
            raise StoppedError(f"stopped; {pairs}{kept[0]} kept in {self.place}")
        if all(member.diverged for member in self.members):
            raise CheckFailedError(
                f"{self.place}: all {len(self.members)} models diverged with learning rate "
                f"{self.first.training.lr:g}, expected a finite loss; try a lower --lr"
            )

    @property
    def place(self) -> str:
        """The folder of the comparison, or its name."""
        return str(self.path or self.name)

    def record(self) -> ComparisonRecord:
        """Return what ``compare.json`` holds."""
        assert self.path is not None
        sides = {kind: [_model_record(self.path, each) for each in self.of(kind)] for kind in KINDS}
        return ComparisonRecord(
            seeds=self.seeds,
            model=self.first.model,
            training=self.first.training,
            data=self.first.data,
            device=self.first.device,
            statistics={name: columns(rows) for name, rows in self.statistics().items()},
            summary=self.summary(),
            **sides,
        )

    def write(self) -> None:
        """Write ``compare.json`` and ``compare.csv`` into the folder of the comparison."""
        assert self.path is not None
        write_json(self.path / RECORD, self.record())
        sides = [f"{kind}_{name}" for kind in KINDS for name in ("mean", "sd", "count")]
        header = ["metric", "epoch", *sides, "difference", "low", "high", "pairs"]
        write_csv(self.path / TABLE, header, self._table_rows())

    def _table_rows(self) -> Iterator[list[object]]:
        for metric, rows in self.statistics().items():
            for row in rows:
                cells: list[object] = [metric, row.epoch]
                for side in (row.with_bn, row.without_bn):
                    cells += [side.mean, side.sd, side.count]
                difference = row.difference
                yield [*cells, difference.mean, difference.low, difference.high, difference.pairs]

    def __repr__(self) -> str:
        return f"<Comparison {self.name}: {self.summary().rstrip('.')}>"

    def _repr_html_(self) -> str:
        """Show the figure and the final metrics in a notebook."""
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=90)
        image = base64.b64encode(buffer.getvalue()).decode()
        rows = []
        for metric, title in PANELS.items():
            text = percent_sd if metric.endswith("accuracy") else loss_sd
            spreads = [getattr(r, k) for r in self.statistics()[metric][-1:] for k in KINDS]
            cells = "".join(f"<td>{text(spread.mean, spread.sd)}</td>" for spread in spreads)
            rows.append(f"<tr><th>{title}</th>{cells}</tr>")
        return (
            f"<p>{html.escape(self.summary())}</p>"
            "<table><tr><th></th><th>With BN</th><th>Without BN</th></tr>"
            f"{''.join(rows)}</table>"
            f"<img alt='Loss and accuracy' src='data:image/png;base64,{image}'>"
        )


def difference_text(difference: Difference, pairs: int) -> str:
    """Return a difference of test accuracy with its interval, as far as there is one."""
    if pairs == 1:
        return points(difference.mean)
    count = plural(difference.pairs, "pair")
    if difference.low is None or difference.high is None:
        return f"{points(difference.mean)} ({count}, an interval needs {MIN_PAIRS})"
    return f"{points(difference.mean)} ({interval(difference.low, difference.high)}, {count})"


def read_comparison(path: Path) -> Comparison:
    """Read the comparison in the folder `path`.

    Raises:
        InputError: If its record is missing or damaged.
    """
    file = path / RECORD
    what, advice = "the record of a comparison", "compare again"
    record = read_json(file, ComparisonRecord, what, advice)
    count = len(record.seeds)
    if not count or not count == len(record.with_bn) == len(record.without_bn):
        raise expected(file, "a damaged record (no pairs, or unequal ones)", what, advice)
    sides: dict[str, tuple[TrainedModel, ...]] = {}
    for kind in KINDS:
        model = replace(record.model, bn=kind == "with_bn")
        members = []
        for seed, saved in zip(record.seeds, getattr(record, kind), strict=True):
            history = _history(saved.history)
            if history is None:
                raise expected(file, "a damaged record (columns of a history)", what, advice)
            member = TrainedModel(
                name=Path(saved.run).name,
                model=model,
                training=replace(record.training, seed=seed),
                data=record.data,
                device=record.device,
                status=saved.status,
                history=history,
                diverged_at_step=saved.diverged_at_step,
            )
            members.append(
                replace(
                    member, run=_unchanged_run(Path(os.path.normpath(path / saved.run)), member)
                )
            )
        sides[kind] = tuple(members)
    return Comparison(path.name, sides["with_bn"], sides["without_bn"], path)


def comparison_of(
    members: Sequence[TrainedModel], name: str | None = None, path: Path | None = None
) -> Comparison | None:
    """Return the comparison that models make up, or None if they do not.

    They do if each has a counterpart that differs in BN alone, and the pairs differ from each other
    in their seeds alone.

    Args:
        members: The models, in any order.
        name: What to call the comparison; by default the names of the models.
        path: Its folder.
    """
    sides: dict[bool, dict[int, TrainedModel]] = {True: {}, False: {}}
    shared = set()
    for member in members:
        sides[member.model.bn][member.training.seed] = member
        shared.add((replace(member.model, bn=True), replace(member.training, seed=0)))
        if member.run is not None and member.run.record.recalibrated is not None:
            return None
    chosen = sorted(sides[True])
    if len(shared) != 1 or chosen != sorted(sides[False]) or 2 * len(chosen) != len(members):
        return None
    with_bn, without_bn = (tuple(sides[bn][seed] for seed in chosen) for bn in (True, False))
    return Comparison(name or listed([m.name for m in members]), with_bn, without_bn, path)


def _model_record(path: Path, member: TrainedModel) -> ModelRecord:
    place = member.run.path if member.run else path / member.name
    history: Mapping[str, Sequence[float]] = member.history
    return ModelRecord(
        run=Path(os.path.relpath(place, path)).as_posix(),
        status=member.status,
        history={name: list(column) for name, column in history.items()},
        diverged_at_step=member.diverged_at_step,
    )


def _history(record: Mapping[str, Sequence[float | None]]) -> History | None:
    """Return a history with NaN in place of null, or None if its columns do not fit together."""
    if any(name not in record for name in HISTORY_COLUMNS):
        return None
    if len({len(column) for column in record.values()}) != 1:
        return None
    return {
        name: [math.nan if value is None else value for value in column]
        for name, column in record.items()
    }


def _unchanged_run(folder: Path, member: TrainedModel) -> Run | None:
    """Return the run in `folder` if it is still the one that a comparison was made of."""
    try:
        found = trained_model(read_run(folder))
    except InputError:
        return None
    same_settings = (found.model, found.training) == (member.model, member.training)
    return found.run if same_settings and found.history == member.history else None
