"""A comparison: models with and without BN, equal in everything else, one pair per seed.

    saved_models/compare/compare.json   settings, every history, statistics
                         compare.csv    the statistics of every epoch
                         compare.png    the curves
                         examples.npz   a few test images, for pages

One pair or many seeds, there is one type, one record and one reader. A comparison is read from its
``compare.json`` alone; the runs it names are looked at where they still exist and still agree with
it. No Keras is loaded.
"""

import html
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn.common import wording
from kerasbn.common.errors import CheckFailedError, InputError, StoppedError
from kerasbn.common.plotting import COLOR, html_image
from kerasbn.common.records import as_table, read_json, write_csv, write_json
from kerasbn.experiments.curves import MEANS, PANELS, Curve, draw_curves, label
from kerasbn.experiments.statistics import METHOD, MIN_PAIRS, Difference, Row, by_epoch, columns
from kerasbn.experiments.trained_model import TrainedModel, trained_model
from kerasbn.probes.results import findings_of
from kerasbn.probes.topics.topic import Finding
from kerasbn.runs import HISTORY_COLUMNS, METRICS, DataRecord, History, Run, Status, read_run
from kerasbn.training.settings import ModelSettings, TrainingSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD, TABLE, PICTURE = "compare.json", "compare.csv", "compare.png"
KINDS = ("with_bn", "without_bn")


@dataclass(frozen=True)
class ModelRecord:
    """One model in ``compare.json``; `run` is relative to the folder of the comparison."""

    run: str
    status: Status
    history: History
    diverged_at_step: int | None = None

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.history.values()}
        if len(lengths) != 1 or not self.history.keys() >= set(HISTORY_COLUMNS):
            raise ValueError("columns of a history")


@dataclass(frozen=True)
class ComparisonRecord:
    """What ``compare.json`` holds; the models differ in `bn` and `seed` alone."""

    seeds: list[int]
    model: ModelSettings
    training: TrainingSettings
    data: DataRecord
    device: str
    with_bn: list[ModelRecord]
    without_bn: list[ModelRecord]
    statistics: dict[str, Any]
    summary: str

    def __post_init__(self) -> None:
        if not self.seeds or {len(self.with_bn), len(self.without_bn)} != {len(self.seeds)}:
            raise ValueError("no pairs, or unequal ones")


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
        data = self.first.data
        resolutions = {"accuracy": 1 / data.train, "val_accuracy": 1 / data.test}
        return by_epoch(self.histories("with_bn"), self.histories("without_bn"), resolutions)

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
        row, parts = self.last, []
        for kind, words in zip(KINDS, ("with BN", "without"), strict=True):
            mean, sd, _ = astuple(getattr(row, kind)) if row else (None, None, 0)
            figure = "" if mean is None else wording.percent_sd(mean, sd)
            parts.append(" ".join(filter(None, [figure, words, self._note(kind, figure)])))
        line = f"Test accuracy: {', '.join(parts)}"
        if row is None or row.difference.mean is None:
            return f"{line}."
        return f"{line}: {difference_text(row.difference, len(self.seeds))}."

    def _note(self, kind: str, figure: str) -> str:
        """Return which models of one side diverged, in words."""
        diverged = self.diverged()[kind]
        if not diverged:
            return "" if figure else "not measured"
        if len(self.seeds) == 1:
            return "diverged"
        count = f"{len(diverged)} of {len(self.seeds)} diverged"
        return f"({count}: {wording.seeds(diverged)}{', left out' if figure else ''})"

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
        return [self._mean_curve(kind) for kind in KINDS]

    def _mean_curve(self, kind: str) -> Curve:
        """Return the mean over seeds, with a band of one standard deviation and every model."""
        history: dict[str, list[float]] = {}
        band = {}
        for metric, rows in self.statistics().items():
            spreads = [getattr(row, kind) for row in rows]
            spreads = [spread for spread in spreads if spread.mean is not None]
            history["epoch"] = [float(i + 1) for i in range(len(spreads))]
            history[metric] = [spread.mean for spread in spreads]
            if spreads and spreads[0].sd is not None:
                low, high = ([each.mean + sign * each.sd for each in spreads] for sign in (-1, 1))
                band[metric] = (low, high)
        members = list(self.histories(kind).values())
        diverged = [member.history for member in self.of(kind) if member.diverged]
        name = f"{label(kind == 'with_bn')}, mean of {len(members)}"
        ending = f"{len(diverged)} of {len(diverged) + len(members)} diverged" if diverged else ""
        return Curve(name, history, ending, band, members, diverged, COLOR[kind])

    def figure(self) -> "Figure":
        """Draw the curves: for several seeds the mean, its standard deviation and every model."""
        title = self.first.title(wording.seed_range(self.seeds[0], self.seeds[-1]))
        notes = [MEANS] * (len(self.seeds) > 1) + [self.first.data.note]
        return draw_curves(self.curves(), title, " ".join(filter(None, notes)))

    def check_ending(self) -> None:
        """Raise if the comparison did not end as planned; models that diverged are a result.

        Raises:
            CheckFailedError: If every model diverged.
            StoppedError: If Ctrl-C ended it.
        """
        place, pairs = self.path or self.name, len(self.seeds)
        if any(member.status == "interrupted" for member in self.members):
            kept = wording.plural(len(self.first.history["epoch"]), "epoch")
            counted = f"{wording.plural(pairs, 'pair')} with " if pairs > 1 else ""
            advice = f"resume with kerasbn compare --resume {self.name}"
            raise StoppedError(f"stopped; {counted}{kept} kept in {place}; {advice}")
        if all(member.diverged for member in self.members):
            raise CheckFailedError(
                f"{place}: all {2 * pairs} models diverged with learning rate "
                f"{self.first.training.lr:g}, expected a finite loss; try a lower --lr"
            )

    def record(self) -> ComparisonRecord:
        """Return what ``compare.json`` holds."""
        path = self.path
        assert path is not None

        def entry(member: TrainedModel) -> ModelRecord:
            folder = member.run.path if member.run else path / member.name
            run = Path(os.path.relpath(folder, path)).as_posix()
            return ModelRecord(run, member.status, member.history, member.diverged_at_step)

        return ComparisonRecord(
            seeds=self.seeds,
            model=self.first.model,
            training=self.first.training,
            data=self.first.data,
            device=self.first.device,
            with_bn=[entry(member) for member in self.with_bn],
            without_bn=[entry(member) for member in self.without_bn],
            statistics={name: columns(rows) for name, rows in self.statistics().items()},
            summary=self.summary(),
        )

    def write(self) -> None:
        """Write ``compare.json`` and ``compare.csv`` into the folder of the comparison."""
        assert self.path is not None
        write_json(self.path / RECORD, self.record())
        sides = [f"{kind}_{name}" for kind in KINDS for name in ("mean", "sd", "count")]
        header = ["metric", "epoch", *sides, "difference", "low", "high", "pairs"]
        rows = [
            (metric, epoch, *with_bn, *without_bn, *difference)
            for metric, rows in self.statistics().items()
            for epoch, with_bn, without_bn, difference in map(astuple, rows)
        ]
        write_csv(self.path / TABLE, header, rows)

    def __repr__(self) -> str:
        return f"<Comparison {self.name}: {self.summary().rstrip('.')}>"

    def _repr_html_(self) -> str:
        """Show the figure and the final metrics in a notebook."""
        rows = []
        for metric, title in PANELS.items():
            text = wording.percent_sd if metric.endswith("accuracy") else wording.loss_sd
            spreads = [getattr(r, k) for r in self.statistics()[metric][-1:] for k in KINDS]
            cells = "".join(f"<td>{text(spread.mean, spread.sd)}</td>" for spread in spreads)
            rows.append(f"<tr><th>{title}</th>{cells}</tr>")
        return (
            f"<p>{html.escape(self.summary())}</p>"
            "<table><tr><th></th><th>With BN</th><th>Without BN</th></tr>"
            f"{''.join(rows)}</table>"
            f"{html_image(self.figure(), 'Loss and accuracy')}"
        )


def difference_text(difference: Difference, pairs: int) -> str:
    """Return a difference of test accuracy with its interval, as far as there is one."""
    text, count = wording.points(difference.mean), wording.plural(difference.pairs, "pair")
    if pairs == 1:
        return text
    if difference.low is None or difference.high is None:
        return f"{text} ({count}, an interval needs {MIN_PAIRS})"
    return f"{text} ({wording.interval(difference.low, difference.high)}, {count})"


def read_comparison(path: Path) -> Comparison:
    """Read the comparison in the folder `path`.

    Raises:
        InputError: If its record is missing or damaged.
    """
    what, advice = "the record of a comparison", "compare again"
    record = read_json(path / RECORD, ComparisonRecord, what, advice)
    members = [
        _with_run(
            TrainedModel(
                name=Path(saved.run).name,
                model=replace(record.model, bn=kind == "with_bn"),
                training=replace(record.training, seed=seed),
                data=record.data,
                device=record.device,
                status=saved.status,
                history=saved.history,
                diverged_at_step=saved.diverged_at_step,
            ),
            Path(os.path.normpath(path / saved.run)),
        )
        for kind in KINDS
        for seed, saved in zip(record.seeds, getattr(record, kind), strict=True)
    ]
    count = len(record.seeds)
    return Comparison(path.name, tuple(members[:count]), tuple(members[count:]), path)


def comparison_of(
    members: Sequence[TrainedModel], name: str | None = None, path: Path | None = None
) -> Comparison | None:
    """Return the comparison that models, in any order, make up, or None if they do not.

    They do if each has a counterpart that differs in BN alone, and the pairs differ from each other
    in their seeds alone. By default it is called by the names of the models.
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
    return Comparison(name or wording.listed([m.name for m in members]), with_bn, without_bn, path)


def _with_run(member: TrainedModel, folder: Path) -> TrainedModel:
    """Return a model with the run in `folder`, if that is still the one it was read from."""
    with suppress(InputError):
        found = trained_model(read_run(folder))
        if replace(found, run=None) == member:
            return found
    return member
