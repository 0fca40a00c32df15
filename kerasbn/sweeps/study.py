"""A study: the folder of a sweep.

    saved_models/studies/NAME/study.json     the grid, the data, the versions
                              results.csv    a row for each network: its figures, how it ended
                              history.csv    a row for each network and epoch
                              findings.md    what the figures say, in sentences
                              *.png          and in pictures
                              RUN/           a run for each network that is finished, whole

Reading one needs the first three files only, so a study may be shown, and drawn again, without its
networks.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.errors import InputError, expected
from kerasbn.experiments.provenance import data_of, versions
from kerasbn.files import atomic_write, new_folder
from kerasbn.records import to_plain, write_json
from kerasbn.sweeps.grid import KEYS, Grid, parse
from kerasbn.sweeps.trials import Configuration, configurations, text_of

ROOT = runs.ROOT / "studies"
RECORD, TABLE, HISTORIES, FINDINGS = "study.json", "results.csv", "history.csv", "findings.md"
TRAINED = tuple(key for key in KEYS if key not in ("question", "source"))
COUNTS = ("epochs", "step", "diverged_at_step")
COLUMNS = ("status", *COUNTS, *runs.METRICS, "digest", "error")

History = Mapping[str, list[float]]


@dataclass(frozen=True)
class Result:
    """What became of one network.

    Attributes:
        status: ``finished``, ``diverged`` (its loss became NaN or infinite) or ``failed`` (it could
            not be trained).
        figures: by the names of `runs.METRICS`, after the last epoch; empty unless it finished, so
            that nobody takes a diverged network's last figures for its result.
        counts: by the names of `COUNTS`, where there is one.
        digest: of its history and its weights.
        error: why it failed, in one line.
    """

    status: str
    figures: Mapping[str, float]
    counts: Mapping[str, int]
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class Study:
    """A study on disk, finished or not.

    Attributes:
        path: its folder.
        record: what study.json holds.
        grid: what is to be trained.
        configurations: the same, one by one.
        results: by the names of configurations; those that are not there have not been trained.
    """

    path: Path
    record: dict[str, Any]
    grid: Grid
    configurations: tuple[Configuration, ...]
    results: Mapping[str, Result]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def whole(self) -> bool:
        """Whether every network was trained."""
        return not (self.with_status("missing") or self.with_status("failed"))

    @property
    def axes(self) -> list[str]:
        """The axes on which there is more than one value."""
        return [
            axis
            for axis in self.grid.axes
            if len({each.point[axis] for each in self.configurations}) > 1
        ]

    def with_status(self, status: str) -> list[Configuration]:
        """The configurations that ended so."""
        return [each for each in self.configurations if self.status(each) == status]

    def status(self, configuration: Configuration) -> str:
        """How it ended, or ``missing``."""
        result = self.results.get(configuration.name)
        return result.status if result else "missing"

    @cached_property
    def histories(self) -> Mapping[str, History]:
        """The columns of each network's history by the names of configurations.

        Raises:
            InputError: if history.csv is missing or damaged.
        """
        return _read_histories(self.path / HISTORIES)


def find_study(name: str, root: Path = ROOT) -> Study:
    """The study called `name` in `root`, or that in the folder at the path `name`.

    Raises:
        InputError: if there is none, with the names there are.
    """
    for path in (root / name, Path(name)):
        if (path / RECORD).is_file():
            return read_study(path)
    names = ", ".join(sorted(file.parent.name for file in root.glob(f"[!.]*/{RECORD}")))
    raise expected(name, "no study of this name", f"a study in {root} ({names or 'none yet'})")


def read_study(path: Path) -> Study:
    """The study in the folder `path`.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    file = path / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        raw, name = record["grid"], record["recipe"]
    except OSError as error:
        found = "no study" if not path.exists() else f"a folder without {RECORD}"
        raise expected(path, found, "a study's folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise expected(file, f"a damaged record ({error})", "a study's record") from error
    grid = parse(raw, name, str(file))
    listed = tuple(configurations(grid))
    return Study(path, record, grid, listed, _read_table(path / TABLE))


def open_study(
    path: Path, grid: Grid, digits: Dataset, *, command: str = "", force: bool = False
) -> Study:
    """The study at `path`, begun if there is none.

    Args:
        path: its folder.
        grid: what is to be trained.
        digits: on what.
        command: the command line that repeats it, for its record.
        force: whether another study that is there gives way.

    Raises:
        InputError: if another study is there, or the folder cannot be written.
    """
    record = {
        "recipe": grid.name,
        "command": command,
        "grid": grid.record(),
        "data": to_plain(data_of(digits)),
        "versions": versions(),
    }
    record = json.loads(json.dumps(record))  # as it will be read again
    if (path / RECORD).is_file() and not force:
        study = read_study(path)
        _check_same(study, record)
        write_json(path / RECORD, record | {"command": command or study.record["command"]})
        return with_runs(read_study(path))
    if path.exists() and not force:
        raise expected(path, "a folder that is no study", "a new name", "choose another --run")
    with new_folder(path.parent, path.name, replace=force) as folder:
        write_json(folder.path / RECORD, record)
        write_table(folder.path, (), {}, ())
    return read_study(path)


def write_table(
    folder: Path,
    listed: Iterable[Configuration],
    results: Mapping[str, Result],
    axes: Iterable[str],
) -> None:
    """Write results.csv: the same results make the same bytes, whoever found them and when."""
    axes = list(axes)
    with (
        atomic_write(folder / TABLE) as path,
        path.open("w", newline="", encoding="utf-8") as lines,
    ):
        writer = csv.writer(lines)
        writer.writerow(["run", *axes, "bn", "seed", *COLUMNS])
        for each in listed:
            if each.name in results:
                own = [text_of(each.point[axis]) for axis in axes]
                cells = _cells(results[each.name])
                seed = each.training.seed
                writer.writerow([each.name, *own, text_of(each.bn), seed, *cells])


def write_histories(study: Study) -> None:
    """Write history.csv from the runs' own, or as it was of those that are gone.

    Seven digits of each figure.
    """
    columns = ["epoch", "step", *runs.METRICS]
    no_epochs: History = {column: [] for column in columns}
    file = study.path / HISTORIES
    with atomic_write(file) as path, path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["run", *columns])
        for each in study.configurations:
            if study.status(each) in ("finished", "diverged"):
                own, history = study.path / each.name, no_epochs
                if own.is_dir():
                    history = runs.read_history(own / runs.HISTORY)
                elif each.name in study.histories:
                    history = study.histories[each.name]
                rows = zip(*(history[column] for column in columns), strict=True)
                writer.writerows([each.name, *(f"{cell:.7g}" for cell in row)] for row in rows)


def with_runs(study: Study) -> Study:
    """The study with the results of its runs as they are in its folder now.

    A run that is there, whole, tells its own result; a damaged one is missing, and is trained
    again. Of one that is gone altogether, as from a study kept for its figures alone, the table
    tells.
    """
    found = {}
    for each in study.configurations:
        own = study.path / each.name
        told = study.results.get(each.name)
        if told is not None and (told.status == "failed" or not own.exists()):
            found[each.name] = told
        if (own / runs.RECORD).is_file():
            with suppress(InputError, KeyError, TypeError, ValueError):
                found[each.name] = result_of(runs.read_run(own))
    return replace(study, results=found)


def result_of(run: runs.Run) -> Result:
    """What a finished run says."""
    record = run.record
    final = record.final if run.status == "finished" else {}
    numbers = {
        "epochs": record.epochs,
        "step": final.get("step"),
        "diverged_at_step": record.diverged_at_step,
    }
    return Result(
        run.status,
        {name: float(final[name]) for name in runs.METRICS if name in final},
        {name: int(number) for name, number in numbers.items() if number is not None},
        record.digest,
    )


def _check_same(study: Study, record: Mapping[str, Any]) -> None:
    """Raise `InputError` if what is there is not what `record` says."""
    old = study.record
    advice = (
        f"go on with that one (kerasbn sweep {study.path}), choose another --run, or --force to "
        "begin anew"
    )
    if any(old["grid"].get(key) != record["grid"].get(key) for key in TRAINED):
        raise expected(study.path, "a study of another grid", "the same one", advice)
    if old["data"].get("digest") != record["data"]["digest"]:
        kinds = (old["data"].get("name"), record["data"]["name"])
        raise expected(study.path, f"a study on {kinds[0]}", f"one on {kinds[1]}", advice)
    for name, new in record["versions"].items():
        if old["versions"].get(name) != new:
            found = f"a study begun with {name} {old['versions'].get(name)}"
            raise expected(study.path, found, f"{name} {new} for all of it", advice)


def _cells(result: Result) -> list[Any]:
    return [
        result.status,
        *(result.counts.get(name, "") for name in COUNTS),
        *(result.figures.get(name, "") for name in runs.METRICS),
        result.digest,
        result.error,
    ]


def _read_table(path: Path) -> dict[str, Result]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {row["run"]: _result(row) for row in csv.DictReader(lines)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise expected(path, f"a damaged table ({error})", "a study's results") from error


def _result(row: Mapping[str, str]) -> Result:
    return Result(
        row["status"],
        {name: float(row[name]) for name in runs.METRICS if row[name]},
        {name: int(row[name]) for name in COUNTS if row[name]},
        row["digest"],
        row["error"],
    )


def _read_histories(path: Path) -> Mapping[str, History]:
    found: dict[str, dict[str, list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                own = found.setdefault(row.pop("run"), {name: [] for name in row if name != "run"})
                for name, cell in row.items():
                    own[name].append(float(cell))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise expected(path, f"a damaged table ({error})", "a study's histories") from error
    if any(math.isnan(value) for own in found.values() for value in own["epoch"]):
        raise expected(path, "an epoch that is no number", "a study's histories")
    return found
