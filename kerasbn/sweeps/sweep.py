"""A sweep: train every trial of a grid, here or on a cluster, and keep the study."""

import os
import shlex
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, CheckFailedError, StoppedError, expected
from kerasbn.common.files import new_folder
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.sweeps.findings import write_findings
from kerasbn.sweeps.grid import Grid, load_grid, parse_grid, recipes
from kerasbn.sweeps.progress import (
    UPDATE_SECONDS,
    Progress,
    StatusView,
    running,
    status_of,
    write_progress,
)
from kerasbn.sweeps.study import (
    RECORD,
    ROOT,
    Outcome,
    Study,
    find_study,
    open_study,
    outcome_of,
    read_study,
    with_runs,
)
from kerasbn.sweeps.trials import (
    BackendLostError,
    Event,
    Files,
    TrialBatch,
    check_trials,
    list_batches,
    list_trials,
)
from kerasbn.training.settings import option_text

THREADS = 1  # of TensorFlow in each process; the same everywhere, since it affects rounding
TABLE_SHARE = 0.05  # of the time can go into writing results.csv

Backend = Callable[[Sequence[TrialBatch]], Generator[Event, None, None]]


@dataclass(frozen=True)
class SweepRequest:
    """What to sweep.

    Attributes:
        grid: What to train.
        path: The folder of the study.
        command: The command that requests the same, without the dataset; "" for a dict or an
            existing study, which keeps its own.
        is_complete: Whether the study exists and nothing is missing: no dataset is needed.
    """

    grid: Grid
    path: Path
    command: str
    is_complete: bool = False


def sweep(
    grid: str | Path | Mapping[str, Any],
    data: Dataset | None = None,
    *,
    seeds: int | None = None,
    run: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    force: bool = False,
    quiet: bool = True,
    root: Path = ROOT,
    **settings: Any,  # noqa: ANN401 - the settings of models and trainings
) -> Study:
    """Train a grid of configurations, each with and without BN, over several seeds.

    Finished trials are on disk at once. Sweeping again trains only what is missing.

    Args:
        grid: The name of a recipe (``learning-rate``, ``depth``, ``batch-size``, ``figure1``,
            ``teaching-table``), a TOML file, its content as a dict, or an existing study.
        data: The dataset; None for the result of `kerasbn.load_dataset()`.
        seeds: The number of trials per configuration; None for that of the grid.
        run: The name of the study; None for that of the grid.
        workers: The number of processes, with one thread each; None for one per core.
        address: ``HOST:PORT`` of a Ray cluster to train on, instead of processes here.
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.
        force: Whether to replace an existing study of that name.
        quiet: Whether to show no progress.
        root: The folder of the studies.
        **settings: Settings that replace those of the grid, such as ``epochs=1``; a list of values
            is an axis, such as ``lr=[0.01, 0.1]``.

    Returns:
        The study. It has a readable repr, `results` (a table), `findings()`, and the charts as
        `figure()` and `figures()`.

    Raises:
        InputError: If an argument cannot be used; nothing has been trained then.
        CheckFailedError: If trials could not be trained, or the cluster was lost.
        StoppedError: If Ctrl-C stopped it.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> study = kerasbn.sweep({"axes": {"lr": [0.01, 1.0]}}, data, run="rates", epochs=1)
        >>> study
        <Study rates: 4 trials (4 finished). ...>
        >>> len(study.results["val_accuracy"])
        4
        >>> study.figure().savefig("rates.png")
    """
    if not isinstance(data, Dataset | None):
        advice, found = "make one with kerasbn.load_dataset()", f"a {type(data).__name__}"
        raise ArgumentError("data", data, "a kerasbn.Dataset", advice, received=found)
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ArgumentError("workers", workers, "a whole number above 0")
    if workers is not None and address is not None:
        raise ArgumentError("address", address, "either workers or address")
    changes = settings if seeds is None else {"seeds": seeds, **settings}
    request = sweep_request(grid, changes, run, yes=True, root=root)
    if request.is_complete and not force:
        return finish(request.path)
    return run_sweep(
        request,
        load_dataset(quiet=quiet) if data is None else data,
        workers=workers,
        address=address,
        device=device,
        force=force,
        quiet=quiet,
    )


def sweep_request(
    given: str | Path | Mapping[str, Any],
    changes: Mapping[str, Any],
    run: str | None = None,
    *,
    yes: bool = False,
    root: Path = ROOT,
) -> SweepRequest:
    """Return what to sweep.

    Args:
        given: A grid as a file, recipe or dict; or an existing study, by its name or folder.
        changes: Changes to the grid, see `parse_grid`.
        run: The name of the study; None for that of the grid.
        yes: Whether a large grid is intended.
        root: The folder of the studies.

    Raises:
        InputError: If there is no such grid or study, or a setting is invalid.
    """
    if not isinstance(given, str | Path | Mapping):
        expects = "the name of a recipe or study, the path of a TOML file, or a dict"
        raise ArgumentError("grid", given, expects)
    existing = None if isinstance(given, Mapping) else _existing_study(str(given), root)
    if existing is not None:
        if changes or run:
            raise expected(
                existing,
                "changes to an existing study",
                "none",
                "give its recipe or file, and a --run",
            )
        study = with_runs(read_study(existing))
        request = SweepRequest(study.grid, existing, "", study.is_complete)
    else:
        if isinstance(given, Mapping):
            grid, command = parse_grid(given, run or "sweep", "grid", changes), ""
        else:
            grid = load_grid(str(given), changes)
            command = _command(Path(given).name, changes, run)
        runs.check_name(run or grid.name, force=True, root=root)
        request = SweepRequest(grid, root / (run or grid.name), command)
    request.grid.check_size(yes=yes)
    list_trials(request.grid)  # refuses invalid settings
    return request


def requested_study(given: str, run: str | None = None, root: Path = ROOT) -> Study:
    """Return the study that `sweep_request` with the same arguments creates.

    Raises:
        InputError: If there is none.
    """
    return find_study(run or (Path(given).stem if given.endswith(".toml") else given), root)


def run_sweep(
    request: SweepRequest,
    data: Dataset,
    *,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> Study:
    """Train what is missing of a requested study; see `sweep`.

    Failed trials are recorded with their error, stop nothing else, and are tried again next time.
    """
    path = request.path
    trials = list_trials(request.grid)
    check_trials(trials, len(data.train))
    if address is not None:
        from kerasbn.sweeps.ray_backend import check_address

        check_address(address)
    command = f"{request.command} --dataset {data.name}" if request.command else ""
    if path.is_dir():
        with running(path):
            study = open_study(path, request.grid, data, command=command, force=force)
    else:
        study = open_study(path, request.grid, data, command=command)
    resume = "the same command without --force" if force else "the same command"
    with running(path):
        _train_missing(study, _backend(data, workers, address, device, verbose), resume, quiet)
    study = finish(path)
    failed = study.with_status("failed")
    if failed:
        raise CheckFailedError(
            f"{path}: {len(failed)} of {len(trials)} trials could not be trained "
            f"({study.outcomes[failed[0].name].error}); {resume} tries them again"
        )
    return study


def finish(path: Path) -> Study:
    """Draw the charts of a study and write its findings from its tables."""
    from kerasbn.sweeps.charts import save_charts

    study = read_study(path)
    save_charts(study)
    write_findings(study)
    return study


def _existing_study(given: str, root: Path) -> Path | None:
    """Return the folder of the study that `given` names, unless it names a grid."""
    if Path(given).is_file() or given in recipes():
        return None
    return next((path for path in (root / given, Path(given)) if (path / RECORD).is_file()), None)


def _command(given: str, changes: Mapping[str, Any], run: str | None) -> str:
    words = ["kerasbn", "sweep", given]
    for key, value in changes.items():
        values = value if isinstance(value, list) else [value]
        text = " ".join(option_text(each) for each in values)
        is_option = key in ("seeds", "epochs", "steps") and len(values) == 1
        words += [f"--{key}", text] if is_option else ["--set", f"{key}={text}"]
    return shlex.join([*words, *(["--run", run] if run else [])])


def _backend(
    data: Dataset, workers: int | None, address: str | None, device: str, verbose: bool
) -> Backend:
    """Return what trains: a cluster, or processes of this machine."""
    if address is not None:
        from kerasbn.sweeps.ray_backend import train_on_cluster

        return lambda missing: train_on_cluster(missing, data, address=address, device=device)
    from kerasbn.sweeps.process_pool import train_in_processes

    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    count = workers or (len(allowed(0)) if allowed else os.cpu_count()) or 1
    return lambda missing: train_in_processes(
        missing, data, workers=count, threads=THREADS, device=device, verbose=verbose
    )


def _train_missing(study: Study, backend: Backend, resume: str, quiet: bool) -> None:
    """Train the batches with a missing or failed trial; `resume` says how to continue."""
    outcomes = {name: each for name, each in study.outcomes.items() if each.status != "failed"}
    batches = list_batches(list(study.trials))
    missing = [
        batch for batch in batches if any(trial.name not in outcomes for trial in batch.trials)
    ]
    running_sweep = _RunningSweep(replace(study, outcomes=outcomes), outcomes, missing, quiet)
    try:
        with running_sweep.view:
            if len(missing) < len(batches):
                kept = f"{len(outcomes)} of {len(study.trials)} trials are already trained"
                running_sweep.view.say(kept)
            with closing(backend(missing)) as events:
                for event in events:
                    running_sweep.take(event)
    except KeyboardInterrupt as error:
        raise StoppedError(f"stopped; {running_sweep.kept()}; {resume} continues") from error
    except BackendLostError as error:
        raise BackendLostError(f"{error}; {running_sweep.kept()}; {resume} continues") from error
    finally:
        running_sweep.write()
        running_sweep.study.write_histories()


class _RunningSweep:
    """A sweep while it runs: its outcomes so far, and its progress.

    Args:
        study: The study, with `outcomes`.
        outcomes: The outcomes so far; new ones are added.
        missing: The batches that will be trained.
        quiet: Whether to show no progress.
    """

    def __init__(
        self,
        study: Study,
        outcomes: dict[str, Outcome],
        missing: Sequence[TrialBatch],
        quiet: bool,
    ) -> None:
        self.study = study
        self.view = StatusView(quiet=quiet)
        self._outcomes = outcomes
        self._progress = Progress(missing)
        self._batches = {batch.number: batch for batch in missing}
        self._shown_at = 0.0
        self._next_table = 0.0  # when results.csv can be written again

    def take(self, event: Event) -> None:
        """Record and show an event."""
        if event.files is not None:
            self._keep(event.files)
        elif event.error:
            for trial in self._batches[event.batch].trials:
                self._outcomes[trial.name] = Outcome("failed", error=event.error)
        if event.is_last:
            self._progress.shares.pop(event.batch, None)
            self._progress.done.add(event.batch)
            if time.monotonic() > self._next_table:
                self.write()
        else:
            self._progress.shares[event.batch] = event.share
        is_due = time.monotonic() - self._shown_at > UPDATE_SECONDS
        if event.is_last or not event.share or is_due:
            write_progress(self.study.path, self._progress)
            status = status_of(self.study, self._progress.record(), alive=True)
            self.view.show(status, ended=event.is_last)
            self._shown_at = time.monotonic()

    def write(self) -> None:
        """Write results.csv; in a large sweep not after every batch."""
        began = time.monotonic()
        self.study.write_results()
        ended = time.monotonic()
        self._next_table = ended + (ended - began) / TABLE_SHARE

    def kept(self) -> str:
        """Say what is on disk."""
        done = [each for each in self._outcomes.values() if each.status != "failed"]
        return f"{len(done)} of {len(self.study.trials)} trials are kept in {self.study.path}"

    def _keep(self, files: Files) -> None:
        """Write the runs of a batch, each complete or not at all."""
        for name, content in files.items():
            with new_folder(self.study.path, name, replace=True) as folder:
                for file, data in content.items():
                    (folder.path / file).write_bytes(data)
            self._outcomes[name] = outcome_of(runs.read_run(self.study.path / name))
