"""A sweep: every network of a grid trained, here or on a cluster, and a study kept of them."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.errors import CheckFailedError, StoppedError
from kerasbn.files import new_folder
from kerasbn.sweeps.events import Advanced, Began, Event, Failed, Files, LostError, Trained
from kerasbn.sweeps.findings import write_findings
from kerasbn.sweeps.grid import Grid
from kerasbn.sweeps.plots import save_pictures
from kerasbn.sweeps.process_pool import in_processes
from kerasbn.sweeps.progress import SELDOM, Progress, running, status_of, write_progress
from kerasbn.sweeps.study import (
    ROOT,
    Result,
    Study,
    open_study,
    read_study,
    result_of,
    write_histories,
    write_table,
)
from kerasbn.sweeps.trials import Group, check, configurations, groups
from kerasbn.sweeps.view import View

THREADS = 1  # of TensorFlow in each process; the same everywhere, so that the rounding is
Trainer = Callable[[Sequence[Group]], Generator[Event, None, None]]

TABLE_SHARE = 0.05  # the share of the time that may go into writing the table of results


def sweep(
    grid: Grid,
    digits: Dataset,
    *,
    name: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    command: str = "",
    root: Path = ROOT,
) -> Study:
    """Train what is missing of a grid, and keep the study of it.

    Networks that differ in seed and learning rate only train together (`configurations.Group`).
    What is finished is on disk at once, so that a sweep may be stopped, or die, and go on later;
    what failed is recorded with its error, stops nothing else, and is tried again the next time.

    Args:
        grid: what to train.
        digits: on what.
        name: the name of the study; None for the grid's own.
        workers: how many processes train, one thread each; None for as many as there are cores.
        address: of a Ray cluster, which then trains in place of processes here.
        device: as in `experiment.train`.
        force: whether another study of that name gives way.
        quiet: whether to show nothing on the way.
        verbose: whether TensorFlow may say what it has to say.
        command: the command line that repeats it, for the record.
        root: the folder the study goes into.

    Raises:
        InputError: if something given cannot be used, before anything is trained, or the study
            cannot be written.
        CheckFailedError: if networks could not be trained, or the cluster was lost.
        StoppedError: if Ctrl-C ended it.
    """
    listed = configurations(grid)
    check(listed, len(digits.train))
    runs.check_name(name or grid.name, force=True, root=root)
    if address is not None:
        from kerasbn.sweeps.ray_backend import check_address

        check_address(address)
    path = root / (name or grid.name)
    if path.is_dir():
        with running(path):
            study = open_study(path, grid, digits, command=command, force=force)
    else:
        study = open_study(path, grid, digits, command=command)
    again = "the same command without --force" if force else "the same command"
    with running(path):
        trainer = _trainer(digits, workers, address, device, verbose)
        _train_missing(study, trainer, again, quiet=quiet)
    study = finish(path)
    failed = study.with_status("failed")
    if failed:
        error = study.results[failed[0].name].error
        raise CheckFailedError(
            f"{path}: {len(failed)} of {len(listed)} networks could not be trained ({error}); "
            f"{again} tries them again"
        )
    return study


def finish(path: Path) -> Study:
    """Draw the pictures of a study, and write what they say, anew from its tables."""
    study = read_study(path)
    save_pictures(study)
    write_findings(study)
    return study


def cores() -> int:
    """How many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _trainer(
    digits: Dataset, workers: int | None, address: str | None, device: str, verbose: bool
) -> Trainer:
    """Who trains: processes of this machine, or the cluster at an address."""
    if address is not None:
        from kerasbn.sweeps.ray_backend import on_cluster

        return lambda missing: on_cluster(missing, digits, address=address, device=device)
    count = workers or cores()
    return lambda missing: in_processes(
        missing, digits, workers=count, threads=THREADS, device=device, verbose=verbose
    )


def _train_missing(study: Study, trainer: Trainer, again: str, *, quiet: bool) -> None:
    """Train the groups of which a network is missing or failed, and write what comes of them.

    `again` names the command that goes on, for whoever is told that it stopped.
    """
    results = {name: each for name, each in study.results.items() if each.status != "failed"}
    missing = [
        group
        for group in groups(list(study.configurations))
        if any(member.name not in results for member in group.members)
    ]
    now = _Now(replace(study, results=results), results, Progress(missing), quiet=quiet)
    try:
        with now.view:
            if len(missing) < len(groups(list(study.configurations))):
                now.view.say(f"{len(results)} of {len(study.configurations)} networks are there")
            with closing(trainer(missing)) as events:
                for event in events:
                    now.take(event)
    except KeyboardInterrupt as error:
        raise StoppedError(f"stopped; {now.kept()}; {again} goes on") from error
    except LostError as error:
        raise LostError(f"{error}; {now.kept()}; {again} goes on") from error
    finally:
        now.write()
        write_histories(now.study)


class _Now:
    """A sweep while it runs: what it knows, writes and shows.

    Args:
        study: the study, with `results`.
        results: what is known, to which it adds.
        progress: how far it is.
        quiet: whether to show nothing.
    """

    def __init__(
        self, study: Study, results: dict[str, Result], progress: Progress, *, quiet: bool
    ) -> None:
        self.study = study
        self.view = View(quiet=quiet)
        self._results = results
        self._progress = progress
        self._groups = {group.number: group for group in progress.groups}
        self._shown = 0.0  # when it was last shown
        self._next_table = 0.0  # when the table may be written again

    def take(self, event: Event) -> None:
        """Keep what an event brings, and show it."""
        if isinstance(event, Began):
            self._progress.shares[event.group] = 0.0
        elif isinstance(event, Advanced):
            self._progress.shares[event.group] = event.share
        elif isinstance(event, Trained):
            self._keep(event.files)
        else:
            for member in self._groups[event.group].members:
                self._results[member.name] = Result("failed", {}, {}, error=event.error)
        ended = isinstance(event, Trained | Failed)
        if ended:
            self._progress.shares.pop(event.group, None)
            self._progress.done.add(event.group)
            if time.monotonic() > self._next_table:
                self.write()
        if not isinstance(event, Advanced) or time.monotonic() - self._shown > SELDOM:
            write_progress(self.study.path, self._progress)
            self.view.show(status_of(self.study, self._progress.record(), alive=True), ended=ended)
            self._shown = time.monotonic()

    def write(self) -> None:
        """Write the table of results; of a large sweep not after every group."""
        began = time.monotonic()
        study = self.study
        write_table(study.path, study.configurations, self._results, study.grid.axes)
        ended = time.monotonic()
        self._next_table = ended + (ended - began) / TABLE_SHARE

    def kept(self) -> str:
        """What there is so far, in words."""
        done = [each for each in self._results.values() if each.status != "failed"]
        whole = len(self.study.configurations)
        return f"{len(done)} of {whole} networks are kept in {self.study.path}"

    def _keep(self, files: Files) -> None:
        """Write the runs of a group, each whole."""
        for name, content in files.items():
            with new_folder(self.study.path, name, replace=True) as folder:
                for file, data in content.items():
                    (folder.path / file).write_bytes(data)
            self._results[name] = result_of(runs.read_run(self.study.path / name))
