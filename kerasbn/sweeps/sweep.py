"""A sweep: train every trial of a grid, here or on a cluster, and keep the study."""

import os
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, CheckFailedError, StoppedError, expected
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.experiments.trained_model import data_record
from kerasbn.sweeps.charts import save_charts
from kerasbn.sweeps.findings import write_findings
from kerasbn.sweeps.grid import Grid, load_grid, parse_grid, recipes
from kerasbn.sweeps.progress import RunningSweep, running
from kerasbn.sweeps.study import RECORD, ROOT, Study, find_study, open_study, read_study, with_runs
from kerasbn.sweeps.trials import Event, TrialBatch, check_trials, list_trials
from kerasbn.training.settings import option_text

Backend = Callable[[Sequence[TrialBatch]], Generator[Event, None, None]]


@dataclass(frozen=True)
class SweepRequest:
    """What to sweep: a grid, and the folder of the study.

    `command` requests the same, without the dataset; it is empty for a dict or an existing study,
    which keeps its own. `is_complete` says that nothing of an existing study is missing.
    """

    grid: Grid
    path: Path
    command: Sequence[str] = ()
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
    load = partial(load_dataset, quiet=quiet) if data is None else lambda: data
    where: dict[str, Any] = {"address": address, "workers": workers, "device": device}
    return run_sweep(request, load, force=force, quiet=quiet, **where)


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
            advice = "give its recipe or file, and a --run"
            raise expected(existing, "changes to an existing study", "none", advice)
        study = with_runs(read_study(existing))
        request = SweepRequest(study.grid, existing, is_complete=study.is_complete)
    else:
        command: list[str] = []
        if isinstance(given, Mapping):
            grid = parse_grid(given, run or "sweep", "grid", changes)
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
    load: Callable[[], Dataset],
    *,
    force: bool = False,
    quiet: bool = False,
    **where: Any,  # noqa: ANN401 - the arguments of `_backend`
) -> Study:
    """Train what is missing of a requested study; see `sweep`.

    Failed trials are recorded with their error, stop nothing else, and are tried again next time.
    The dataset is loaded only if the study is not complete.
    """
    path = request.path
    if request.is_complete and not force:
        return _finish(path)
    data = load()
    check_trials(list_trials(request.grid), len(data.train))
    backend = _backend(data, **where)
    command = shlex.join([*request.command, *data_record(data).options]) if request.command else ""
    with running(path) if path.is_dir() else nullcontext():
        study = open_study(path, request.grid, data, command=command, force=force)
    resume = "the same command without --force" if force else "the same command"
    with running(path):
        _train_missing(study, backend, resume, quiet)
    study = _finish(path)
    if failed := study.with_status("failed"):
        raise CheckFailedError(
            f"{path}: {len(failed)} of {len(study.trials)} trials could not be trained "
            f"({study.outcomes[failed[0].name].error}); {resume} tries them again"
        )
    return study


def _finish(path: Path) -> Study:
    """Draw the charts of a study and write its findings from its tables."""
    study = read_study(path)
    save_charts(study)
    write_findings(study)
    return study


def _existing_study(given: str, root: Path) -> Path | None:
    """Return the folder of the study that `given` names, unless it names a grid."""
    if Path(given).is_file() or given in recipes():
        return None
    return next((path for path in (root / given, Path(given)) if (path / RECORD).is_file()), None)


def _command(given: str, changes: Mapping[str, Any], run: str | None) -> list[str]:
    """Return the command that sweeps a grid with these changes, as words."""
    words = ["kerasbn", "sweep", given]
    for key, value in changes.items():
        values = value if isinstance(value, list) else [value]
        text = " ".join(option_text(each) for each in values)
        is_option = key in ("seeds", "epochs", "steps") and len(values) == 1
        words += [f"--{key}", text] if is_option else ["--set", f"{key}={text}"]
    return [*words, *(["--run", run] if run else [])]


def _backend(
    data: Dataset, *, address: str | None, workers: int | None, device: str, verbose: bool = False
) -> Backend:
    """Return what trains: a cluster, or processes of this machine."""
    if address is not None:
        from kerasbn.sweeps.ray_backend import check_address, train_on_cluster

        check_address(address)
        return partial(train_on_cluster, data=data, address=address, device=device)
    from kerasbn.sweeps.process_pool import train_in_processes

    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    count = workers or (len(allowed(0)) if allowed else os.cpu_count()) or 1
    return partial(train_in_processes, data=data, workers=count, device=device, verbose=verbose)


def _train_missing(study: Study, backend: Backend, resume: str, quiet: bool) -> None:
    """Train the batches with a missing or failed trial; `resume` says how to continue."""
    sweep = RunningSweep(study, quiet=quiet)
    try:
        with sweep.view, closing(backend(sweep.missing)) as events:
            for event in events:
                sweep.take(event)
    except KeyboardInterrupt as error:
        raise StoppedError(f"stopped; {sweep.kept()}; {resume} continues") from error
    except CheckFailedError as error:  # the cluster is lost
        raise CheckFailedError(f"{error}; {sweep.kept()}; {resume} continues") from error
    finally:
        sweep.write()
        sweep.study.write_histories()
