"""The comparison over many seeds: pairs trained in groups, and what they say together."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.errors import CheckFailedError, StoppedError
from kerasbn.experiments import curves
from kerasbn.experiments.compare import PICTURE, RECORD
from kerasbn.experiments.statistics import METHOD, Row, by_epoch, columns, sentence
from kerasbn.experiments.train import Member, train
from kerasbn.files import new_folder
from kerasbn.plotting import draw_curves, save_figure
from kerasbn.probes.charts import save_pictures
from kerasbn.probes.findings import findings_of
from kerasbn.training.settings import ModelSettings, TrainingSettings, seed_settings

TABLE = "compare.csv"
GROUP = 8  # pairs trained together at most: more give the processor no more to do at once
KINDS = ("with_bn", "without_bn")


@dataclass(frozen=True)
class Pair:
    """The two runs of one seed, trained from the same kernels on the same batches."""

    seed: int
    with_bn: runs.Run
    without_bn: runs.Run


@dataclass(frozen=True)
class SeedComparison:
    """A finished comparison over many seeds.

    Attributes:
        path: the study: a folder with `compare.json`, `compare.csv`, `compare.png` and all runs.
        pairs: the runs, by seed.
    """

    path: Path
    pairs: tuple[Pair, ...]

    def diverged(self) -> dict[str, list[int]]:
        """The seeds of the members that diverged, under `with_bn` and `without_bn`."""
        return {kind: [pair.seed for pair in self.pairs if _sick(pair, kind)] for kind in KINDS}

    def statistics(self) -> dict[str, list[Row]]:
        """For every figure a row per epoch, over all members that did not diverge."""
        return by_epoch(*(self.histories(kind) for kind in KINDS))

    def sentence(self) -> str:
        """The answer: accuracy on the test set with and without, and the difference."""
        rows = self.statistics()["val_accuracy"]
        return sentence(rows[-1] if rows else None, self.diverged(), len(self.pairs))

    def summary(self) -> str:
        """The sentence, and how its figures were made."""
        return f"test accuracy in %: {self.sentence()}\n{METHOD}"

    def findings(self) -> list[str]:
        """What the probes of the first pair found, a sentence each; none without probes."""
        first = self.pairs[0]
        found = findings_of([first.with_bn, first.without_bn])
        return [f"of the pair with seed {first.seed}:", *found] if found else []

    def histories(self, kind: str) -> dict[int, dict[str, list[float]]]:
        """The histories by seed of the members that did not diverge, of one of `KINDS`."""
        every = {pair.seed: getattr(pair, kind) for pair in self.pairs if not _sick(pair, kind)}
        # One that was interrupted in its first epoch has no figures.
        return {seed: run.history for seed, run in every.items() if run.history["epoch"]}


def check_ending(result: SeedComparison) -> None:
    """Raise if it did not end as planned; members that diverged are a result, while any is left.

    Raises:
        CheckFailedError: if every member diverged.
        StoppedError: if Ctrl-C ended it.
    """
    members = [run for pair in result.pairs for run in (pair.with_bn, pair.without_bn)]
    if any(run.status == "interrupted" for run in members):
        kept = f"{len(result.pairs)} pairs kept in {result.path}"
        raise StoppedError(f"stopped; {kept}, as far as they came")
    if all(run.status == "diverged" for run in members):
        raise CheckFailedError(
            f"{result.path}: all {len(members)} networks diverged with learning rate "
            f"{members[0].record['training']['lr']:g}, expected some to be left; try a lower --lr"
        )


def compare_seeds(
    network: ModelSettings,
    digits: Dataset,
    training: TrainingSettings,
    seeds: int,
    *,
    device: str = "auto",
    name: str | None = None,
    force: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
    probe: bool = False,
    root: Path = runs.ROOT,
) -> SeedComparison:
    """Train pairs of `network` with and without normalization, one for each seed, and compare them.

    A pair is what `compare` with that seed would train: its own kernels and its own batches, equal
    within the pair. One folder, `compare` or the name given, holds the picture, the figures and the
    run of every member, as `bn-seed-K` and `plain-seed-K`.

    With `probe` what happens inside the first pair is recorded and drawn: probing all of them would
    take longer than training them.

    Args: as in `compare`, and `seeds`: how many, from that of `training` on.

    Raises:
        InputError: if something given cannot be used, before anything is trained.
    """
    every = seed_settings(training, seeds)
    if name is not None:
        runs.check_name(name, force=force, root=root)
    settings = {"bn": replace(network, bn=True), "plain": replace(network, bn=False)}
    pairs: list[Pair] = []
    with new_folder(root, name or "compare", numbered=name is None, replace=force) as folder:
        for group in _groups(every):
            kept = train(
                [
                    Member(
                        f"{key}-{own.seed}", kind, f"{key}-seed-{own.seed}", own,
                        probe and own is every[0],
                    )
                    for own in group
                    for key, kind in settings.items()
                ],
                digits, training, device=device, tensorboard=tensorboard, quiet=quiet,
                root=folder.path, pictures=False,
                heading=f"{curves.seed_range(group[0].seed, group[-1].seed)}: each line is a mean",
            )  # fmt: skip
            ordered = zip(group, kept[::2], kept[1::2], strict=True)
            pairs += [Pair(own.seed, bn, plain) for own, bn, plain in ordered]
            if any(run.status == "interrupted" for run in kept):
                break
        result = SeedComparison(folder.path, tuple(pairs))
        runs.write_record(folder.path, record_of(result), RECORD)
        _write_table(folder.path / TABLE, result)
        save_figure(draw(result), folder.path / PICTURE)
        if probe:
            save_pictures([pairs[0].with_bn, pairs[0].without_bn], folder.path)
    assert folder.placed is not None
    return _moved(result, folder.placed)


def record_of(result: SeedComparison) -> dict[str, Any]:
    """What compare.json holds: every member's history, and the statistics of each epoch."""
    every = {kind: [getattr(pair, kind) for pair in result.pairs] for kind in KINDS}
    first = every["with_bn"][0].record
    return {
        "seeds": [pair.seed for pair in result.pairs],
        "runs": {kind: [run.name for run in members] for kind, members in every.items()},
        "status": {kind: [run.status for run in members] for kind, members in every.items()},
        "diverged": result.diverged(),
        **{key: first[key] for key in ("network", "training", "data", "device")},
        "history": {kind: [run.history for run in members] for kind, members in every.items()},
        "method": METHOD,
        "statistics": {figure: columns(rows) for figure, rows in result.statistics().items()},
        "sentence": result.sentence(),
    }


def draw(result: SeedComparison) -> Figure:
    """The picture: mean, band of one standard deviation to each side, and every member thinly."""
    statistics = result.statistics()
    shown = []
    for kind in KINDS:
        sick = [getattr(pair, kind).history for pair in result.pairs if _sick(pair, kind)]
        members = list(result.histories(kind).values())
        shown.append(curves.mean_curve(kind, statistics, members, sick))
    first, last = result.pairs[0], result.pairs[-1]
    title = curves.title_of(first.with_bn, curves.seed_range(first.seed, last.seed))
    return draw_curves(
        shown, title, f"{curves.MEANS} {first.with_bn.record['data']['note']}".strip()
    )


def _write_table(path: Path, result: SeedComparison) -> None:
    """The statistics as a table: a row for each figure and epoch."""
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        spreads = [f"{kind}_{name}" for kind in KINDS for name in ("mean", "sd", "members")]
        writer.writerow(["figure", "epoch", *spreads, "difference", "low", "high", "pairs"])
        for figure, rows in result.statistics().items():
            writer.writerows([figure, row.epoch, *_cells(row)] for row in rows)


def _cells(row: Row) -> Iterator[float | None]:
    for found in (row.with_bn, row.without_bn):
        yield from (found.mean, found.sd, found.members)
    difference = row.difference
    yield from (difference.mean, difference.low, difference.high, difference.pairs)


def _groups(every: Sequence[TrainingSettings]) -> list[list[TrainingSettings]]:
    """Groups of nearly equal size, of at most `GROUP`."""
    parts = np.array_split(np.arange(len(every)), ceil(len(every) / GROUP))
    return [[every[int(i)] for i in part] for part in parts]


def _sick(pair: Pair, kind: str) -> bool:
    run: runs.Run = getattr(pair, kind)
    return run.status == "diverged"


def _moved(result: SeedComparison, place: Path) -> SeedComparison:
    """The same comparison, now that its folder has its name."""

    def moved(run: runs.Run) -> runs.Run:
        return runs.Run(place / run.name, run.record)

    pairs = [Pair(each.seed, moved(each.with_bn), moved(each.without_bn)) for each in result.pairs]
    return SeedComparison(place, tuple(pairs))
