"""What can be reported, read back from its folder: a run, a comparison of pairs, or a sweep.

A comparison is read from its compare.json alone, which holds every history; the runs beside it are
looked at where they are still there and still the same. Loads no Keras.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from kerasbn import runs
from kerasbn.errors import InputError, expected
from kerasbn.experiments.curves import DATA_NAMES
from kerasbn.experiments.statistics import Row, by_epoch
from kerasbn.runs import FIGURES, Run
from kerasbn.sweeps import study as studies
from kerasbn.sweeps.study import Study
from kerasbn.training.settings import ModelSettings, TrainingSettings

COMPARISON = "compare.json"
KINDS = ("with_bn", "without_bn")

History = Mapping[str, Sequence[float]]
Settings = TypeVar("Settings", ModelSettings, TrainingSettings)


@dataclass(frozen=True)
class Data:
    """The digits a network was trained and tested on: their name, checksum and counts."""

    name: str
    digest: str
    train: int
    test: int
    note: str


@dataclass(frozen=True)
class Trained:
    """One trained network, as its record tells it.

    Attributes:
        name: of its run.
        network: what it is.
        training: how it was trained.
        data: on which digits.
        device: where, in words.
        status: how the training ended, as in `Run`.
        history: figures by epoch.
        run: its folder; None if there is none any more, or another run has the name by now.
    """

    name: str
    network: ModelSettings
    training: TrainingSettings
    data: Data
    device: str
    status: str
    history: History
    run: Run | None = None

    @property
    def diverged(self) -> bool:
        """Whether its loss became NaN or infinite."""
        return self.status == "diverged"


@dataclass(frozen=True)
class Pairs:
    """Networks with and without normalization, equal in everything else, a pair for each seed.

    Attributes:
        name: what it is called.
        with_bn: those with, in the order of their seeds.
        without_bn: those without, in the same order.
        path: the folder of the comparison; None where runs were put together.
    """

    name: str
    with_bn: tuple[Trained, ...]
    without_bn: tuple[Trained, ...]
    path: Path | None = None

    @property
    def members(self) -> tuple[Trained, ...]:
        """All of them, those with normalization first."""
        return self.with_bn + self.without_bn

    @property
    def seeds(self) -> list[int]:
        """The seed of each pair."""
        return [each.training.seed for each in self.with_bn]

    @property
    def first(self) -> Trained:
        """The network with normalization of the first seed: whose settings speak for all."""
        return self.with_bn[0]

    def of(self, kind: str) -> tuple[Trained, ...]:
        """The networks of one of `KINDS`."""
        return self.with_bn if kind == "with_bn" else self.without_bn

    def diverged(self) -> dict[str, list[int]]:
        """The seeds of the networks that diverged, by kind."""
        return {kind: [t.training.seed for t in self.of(kind) if t.diverged] for kind in KINDS}

    def histories(self, kind: str) -> dict[int, History]:
        """The histories by seed of those that did not diverge and have a figure."""
        kept = [each for each in self.of(kind) if not each.diverged and each.history["epoch"]]
        return {each.training.seed: each.history for each in kept}

    def statistics(self) -> dict[str, list[Row]]:
        """For every figure a row per epoch, over all networks that did not diverge."""
        return by_epoch(self.histories("with_bn"), self.histories("without_bn"))


Subject = Trained | Pairs | Study


def find_subject(name: str, root: Path = runs.ROOT) -> Subject:
    """What is called `name` in `root` or among the studies there, or the folder at that path.

    Raises:
        InputError: if there is none, or what is there is damaged.
    """
    for path in (root / name, root / studies.ROOT.name / name, Path(name)):
        if os.path.isdir(path):  # noqa: PTH112 - false, not an error, for a name that is too long
            return read_subject(path)
    listed = [*(each.name for each in runs.list_runs(root)), *list_studies(root)]
    names = ", ".join(listed) or "none yet"
    raise expected(
        name, "no run of this name, and no study", f"one in {root} ({names})", "see kerasbn report"
    )


def list_studies(root: Path = runs.ROOT) -> list[str]:
    """The names of the comparisons in `root`, and of the sweeps in its studies."""
    places = (root.glob(f"[!.]*/{COMPARISON}"), root.glob(f"studies/[!.]*/{studies.RECORD}"))
    return [path.parent.name for found in places for path in sorted(found)]


def read_subject(path: Path) -> Subject:
    """The run, comparison or sweep in the folder `path`.

    Raises:
        InputError: if it is neither, or damaged.
    """
    if (path / COMPARISON).is_file() and not (path / runs.RECORD).is_file():
        return read_pairs(path)
    if (path / studies.RECORD).is_file():
        return _read_study(path)
    return read_trained(runs.read_run(path))


def read_trained(run: Run) -> Trained:
    """What the record and the history of a run tell.

    Raises:
        InputError: if one of them is damaged.
    """
    record, file = run.record, run.path / runs.RECORD
    try:
        return Trained(
            run.name,
            _settings(ModelSettings, record["network"]),
            _settings(TrainingSettings, record["training"]),
            _data(record["data"]),
            str(record.get("device", "")),
            run.status,
            run.history,
            run,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(file, error, "a run's whole record", "train again") from error


def read_pairs(path: Path) -> Pairs:
    """The comparison in the folder `path`, of one pair or of many seeds.

    Raises:
        InputError: if its record is missing or damaged.
    """
    file = path / COMPARISON
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        many = "seeds" in record
        seeds = record["seeds"] if many else [record["training"]["seed"]]
        kinds = {kind: _members(path, record, kind, seeds, many) for kind in KINDS}
        if not seeds:
            raise ValueError("without a pair")
        return Pairs(path.name, **kinds, path=path)
    except OSError as error:
        raise expected(
            file, f"a file that cannot be read ({error.strerror})", "a record"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(file, error, "a comparison's whole record", "compare again") from error


def _read_study(path: Path) -> Study:
    try:
        study = studies.read_study(path)
        data_of(study)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        wanted = "a study's whole record"
        raise _damaged(path / studies.RECORD, error, wanted, "sweep again") from error
    return study


def pairs_of(chosen: Sequence[Trained]) -> Pairs | None:
    """Runs that are the pairs of one comparison, put together as one; None if they are not.

    They are if each has a partner that differs in nothing but normalization, and the pairs among
    each other in nothing but the seed.
    """
    kinds: dict[bool, dict[int, Trained]] = {True: {}, False: {}}
    shared = set()
    for each in chosen:
        kinds[each.network.bn][each.training.seed] = each
        shared.add((replace(each.network, bn=True), replace(each.training, seed=0)))
        if each.run is None or "recalibrated" in each.run.record:
            return None
    with_bn, without_bn = kinds[True], kinds[False]
    seeds = sorted(with_bn)
    if len(shared) != 1 or seeds != sorted(without_bn) or 2 * len(seeds) != len(chosen):
        return None
    name = ", ".join(each.name for each in chosen)
    return Pairs(
        name, tuple(with_bn[seed] for seed in seeds), tuple(without_bn[seed] for seed in seeds)
    )


def data_of(subject: Subject) -> Data:
    """The digits that a subject's networks were trained on."""
    if isinstance(subject, Study):
        return _data(subject.record["data"])
    return subject.data if isinstance(subject, Trained) else subject.first.data


def check_same_data(subjects: Sequence[Subject]) -> None:
    """Raise `InputError` if two of them were trained on different digits; the line names both."""
    for other in subjects[1:]:
        first, second = data_of(subjects[0]), data_of(other)
        if first.digest != second.digest:
            one, two = (f"{data.name} ({data.digest[:8]})" for data in (first, second))
            raise InputError(
                f"{subjects[0].name} and {other.name}: received one on {one} and one on {two}, "
                "expected the same digits; their figures cannot be compared, so report them apart"
            )


def _members(
    path: Path, record: Mapping[str, Any], kind: str, seeds: Sequence[int], many: bool
) -> tuple[Trained, ...]:
    network = replace(_settings(ModelSettings, record["network"]), bn=kind == "with_bn")
    training = _settings(TrainingSettings, record["training"])
    columns = [record[key][kind] for key in ("runs", "status", "history")]
    members = []
    for seed, name, status, history in zip(
        seeds, *(columns if many else ([column] for column in columns)), strict=True
    ):
        folder = path / str(name) if many else path.parent / str(name)
        members.append(
            Trained(
                str(name),
                network,
                replace(training, seed=seed),
                _data(record["data"]),
                str(record.get("device", "")),
                str(status),
                _history(history),
            )
        )
        members[-1] = replace(members[-1], run=_still_there(folder, members[-1]))
    return tuple(members)


def _still_there(folder: Path, told: Trained) -> Run | None:
    """The run in `folder` if it is the one that a comparison tells of."""
    try:
        found = read_trained(runs.read_run(folder))
    except InputError:
        return None
    same = all(
        _equal(found.history[name], column)
        for name, column in told.history.items()
        if name in found.history
    )
    alike = (found.network, found.training) == (told.network, told.training)
    return found.run if same and alike else None


def _equal(first: Sequence[float], second: Sequence[float]) -> bool:
    if len(first) != len(second):
        return False
    return all(
        a == b or not (math.isfinite(a) or math.isfinite(b))
        for a, b in zip(first, second, strict=True)
    )


def _settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """The settings a record holds; of another version's fields, those that are known."""
    known = {each.name: values[each.name] for each in fields(kind) if each.name in values}
    if "hidden" in known:
        known["hidden"] = tuple(known["hidden"])
    required = {"hidden", "activation", "bn"} if kind is ModelSettings else {"lr", "seed"}
    missing = sorted(required - known.keys())
    if missing:
        raise KeyError(missing[0])
    for each in fields(kind):
        value = known.get(each.name, each.default)
        if not _is_like(value, each.default) and not (value is None and each.default is None):
            raise TypeError(f"with {value!r} as '{each.name}'")
    try:
        return kind(**known)
    except InputError as error:
        raise ValueError(f"({error})") from error


def _is_like(value: object, default: object) -> bool:
    """Whether a value from JSON is of the kind of a setting's default."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_is_like(each, 1) for each in value)
    if isinstance(value, bool) or isinstance(default, bool | str):
        return type(value) is type(default)
    if isinstance(default, float):
        return isinstance(value, float | int)
    return isinstance(value, int)


def _data(values: Mapping[str, Any]) -> Data:
    if values["name"] not in DATA_NAMES:
        raise ValueError(f"of the unknown digits '{values['name']}'")
    counts = int(values["train"]), int(values["test"])
    return Data(str(values["name"]), str(values["digest"]), *counts, str(values.get("note", "")))


def _history(columns: Mapping[str, Sequence[float | None]]) -> History:
    """A history as JSON holds it: what is not finite is null there."""
    numbers = {
        name: [_finite(value) for value in columns[name]]
        for name in dict.fromkeys(["epoch", *FIGURES, *columns])
    }
    if len({len(column) for column in numbers.values()}) != 1:
        raise ValueError("with columns of different length")
    return numbers


def _finite(value: float | None) -> float:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan


def _damaged(file: Path, error: Exception, wanted: str, advice: str) -> InputError:
    """The line for a record that is not whole."""
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return expected(file, "text that is not JSON", wanted, advice)
    said = f"without {error}" if isinstance(error, KeyError) else str(error)
    return expected(file, f"a damaged record ({' '.join(said.split())})", wanted, advice)
