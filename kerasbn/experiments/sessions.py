"""A training that can be resumed: what was asked for, and the checkpoint of how far it has come.

    saved_models/.NAME.part/checkpoint/session.json   what was asked for
                                       KEY.npz        the state after an epoch
                                       KEY-probes/    the weights that were probed until then

KEY is that of the first model that trains. An interrupted run keeps its checkpoint in its folder.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kerasbn import runs
from kerasbn.common import folders, records
from kerasbn.common.errors import ArgumentError, InputError
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.experiments.trained_model import data_record
from kerasbn.runs import DataRecord
from kerasbn.training.checkpoint import Checkpoint, read_checkpoint, read_progress
from kerasbn.training.settings import ModelSettings, TrainingSettings, settings_from


@dataclass(frozen=True)
class TrainingSession:
    """What `kerasbn train` or `kerasbn compare` was asked for.

    Attributes:
        names: The names of the runs by key, where the comparison does not hold them.
        seeds: The number of pairs; None for a single one.
        data: The dataset; None until it is known.
        started: When it was started, ISO 8601 in UTC, which its runs have in common.
    """

    command: Literal["train", "compare"]
    model: ModelSettings
    training: TrainingSettings
    device: str = "auto"
    probe: bool = False
    tensorboard: bool = False
    seeds: int | None = None
    names: dict[str, str] = field(default_factory=dict)
    data: DataRecord | None = None
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    def run_of(self, path: Path) -> runs.Run | None:
        """Return the run in a folder if it is of this session."""
        with suppress(InputError):
            run = runs.read_run(path)
            if run.record.started == self.started:
                return run
        return None

    def dataset(self, data: object, *, quiet: bool) -> Dataset:
        """Return `data`, or for None the dataset that was used until now or the default one.

        Raises:
            ArgumentError: If `data` is no dataset, or not the one that was used until now.
        """
        if data is None:
            data = load_dataset(self.data.name if self.data else "auto", quiet=quiet)
        if not isinstance(data, Dataset):
            found, advice = f"a {type(data).__name__}", "make one with kerasbn.load_dataset()"
            raise ArgumentError("data", data, "a kerasbn.Dataset", advice, received=found)
        if self.data is not None and self.data.digest != data.digest:
            wanted = f"{self.data.name} ({self.data.train:,} examples), with which it was started"
            found = f"{data.name} ({len(data.train):,} examples)"
            raise ArgumentError("data", data, wanted, received=found)
        return data

    def check_same(self, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Check that what is given together with `resume` is as it was; defaults are not given.

        Raises:
            ArgumentError: If something differs; the message names it.
        """
        model, training = settings_from(settings)
        given = {
            name: value for name, value in options.items() if value not in (None, False, "auto")
        }
        given |= {name: (asdict(model) | asdict(training))[name] for name in settings}
        own = asdict(self.model) | asdict(self.training) | asdict(self)
        for name, value in given.items():
            if name not in own:
                raise ArgumentError(name, value, "none together with resume", "leave it out")
            if value != own[name]:
                # Only `bn` has an option for False.
                was = None if own[name] is False and name != "bn" else own[name]
                words = "none, as" if was is None else ", with which"
                wanted = f"{words} it was started"
                raise ArgumentError(name, value, wanted, "leave it out", instead=was)


@dataclass(frozen=True)
class OpenSession:
    """A session that trains in a folder, and its checkpoints by the key of the first model."""

    session: TrainingSession
    folder: Path

    @property
    def _path(self) -> Path:
        return self.folder / folders.CHECKPOINT

    def begin(self, key: str, data: Dataset) -> Checkpoint | None:
        """Write the session, if that is still to be done, and return the state to go on from."""
        self._path.mkdir(exist_ok=True)
        session = replace(self.session, data=data_record(data))
        records.write_json(self._path / folders.SESSION, session)
        return read_checkpoint(self.state(key)) if self.state(key).exists() else None

    def has_begun(self, key: str) -> bool:
        """Return whether there is anything to go on from: a checkpoint or a finished run."""
        return self.state(key).exists() or any(self.folder.glob(f"*/{runs.RECORD}"))

    def state(self, key: str) -> Path:
        """Return the file of a checkpoint."""
        return self._path / f"{key}.npz"

    def probed(self, key: str) -> Path:
        """Return the folder for the weights of a model at its probes."""
        return self._path / f"{key}-probes"

    def end(self, *, finished: bool = True) -> None:
        """Remove the checkpoints, and then the session if all of it has finished."""
        for path in self._path.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != folders.SESSION:
                path.unlink()
        if finished:
            (self._path / folders.SESSION).unlink(missing_ok=True)
            shutil.rmtree(self._path, ignore_errors=True)


@dataclass(frozen=True)
class Unfinished:
    """A training that has not finished.

    Attributes:
        path: The folder of its run or comparison, once it has one.
        session: What was asked for.
        epochs: How many epochs the models that train at present have.
        running: Whether a process is training it.
    """

    path: Path
    session: TrainingSession
    epochs: int
    running: bool

    @property
    def name(self) -> str:
        """The name of that folder."""
        return self.path.name

    @property
    def all_epochs(self) -> int:
        """How many epochs were asked for."""
        training, data = self.session.training, self.session.data
        return training.epochs_on(data.train) if data else training.epochs

    @property
    def command(self) -> str:
        """The command that resumes it."""
        return f"kerasbn {self.session.command} --resume {self.name}"


def find_session(
    command: str,
    name: str,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    root: Path = runs.ROOT,
) -> tuple[TrainingSession, Path] | None:
    """Return the session called `name` and the folder to go on from; None if it has finished.

    What is given of options and settings has to be as it was.

    Raises:
        ArgumentError: If there is none, it is another command's, or an argument differs.
    """
    target = root / name
    if folders.is_being_written(target):
        raise ArgumentError(
            "resume", name, "a training that was stopped", "wait for it to end",
            received="one that is running",
        )  # fmt: skip
    start = folders.resumable_folder(target)
    if start is None:
        if (target / runs.RECORD).exists() and runs.read_run(target).status == "interrupted":
            raise ArgumentError(
                "resume", name, "a training with a checkpoint",
                "resume the comparison that it is part of (see kerasbn report)",
                received="an interrupted run without one",
            )  # fmt: skip
        if target.is_dir():
            return None
        names = ", ".join(each.name for each in unfinished(root)[0]) or "none"
        raise ArgumentError(
            "resume", name, f"an unfinished training in {root} ({names})",
            received="no training of this name",
        )  # fmt: skip
    session = read_session(start)
    if session.command != command:
        raise ArgumentError(
            "resume", name, f"one of kerasbn {command}", f"use kerasbn {session.command} --resume",
            received=f"a training of kerasbn {session.command}",
        )  # fmt: skip
    session.check_same(options, settings)
    return session, start


def read_session(folder: Path) -> TrainingSession:
    """Read the session that a folder can be resumed from."""
    file = folder / folders.CHECKPOINT / folders.SESSION
    return records.read_json(
        file, TrainingSession, "the record of a training", "train again with --force"
    )


def unfinished(root: Path = runs.ROOT) -> tuple[list[Unfinished], list[InputError]]:
    """Return the trainings in `root` that have not finished, and an error for each damaged one."""
    found, problems = [], []
    for file in sorted(root.glob(f"*/{folders.CHECKPOINT}/{folders.SESSION}")):
        folder = file.parent.parent
        target = root / folders.final_name(folder)
        try:
            session = read_session(folder)
            steps = [read_progress(path).epochs for path in file.parent.glob("*.npz")]
        except InputError as error:
            problems.append(error)
        else:
            running = folders.is_being_written(target)
            found.append(Unfinished(target, session, max(steps, default=0), running))
    return found, problems
