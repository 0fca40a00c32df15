"""A sweep: train every trial of a grid, here or on a cluster, and keep the study."""

import os
import shlex
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.common.errors import (
    ArgumentError,
    CheckFailedError,
    InputError,
    KerasbnError,
    StoppedError,
    expected,
)
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.experiments.trained_model import data_record
from kerasbn.sweeps.charts import save_charts
from kerasbn.sweeps.findings import write_findings
from kerasbn.sweeps.grid import Grid, load_grid, parse_grid, recipes
from kerasbn.sweeps.progress import CHECKPOINTS, RunningSweep, running
from kerasbn.sweeps.study import STUDIES, Study, open_study, read_study, study_folder, with_runs
from kerasbn.sweeps.trials import Event, TrialBatch, check_trials, list_trials
from kerasbn.training.settings import option_text

Backend = Callable[[Sequence[TrialBatch]], Generator[Event, None, None]]


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
    root: Path | str = STUDIES,
    **settings: Any,  # noqa: ANN401 - the settings of models and trainings
) -> Study:
    """Train a grid of configurations, each with and without BN, over several seeds.

    Finished trials are on disk at once. Sweeping again trains only what is missing. Trials that
    were stopped go on after their last checkpoint; on a cluster, only on nodes that share the
    folder of the study with this machine.

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
    changes = settings if seeds is None else {"seeds": seeds, **settings}
    load = partial(load_dataset, quiet=quiet) if data is None else lambda: data
    how: dict[str, Any] = {"run": run, "yes": True, "force": force, "quiet": quiet}
    where: dict[str, Any] = {"root": Path(root), "address": address, "device": device}
    return run_sweep(grid, changes, load, workers=workers, **how, **where)


def requested(
    given: object, changes: Mapping[str, Any], run: str | None = None, root: Path = STUDIES
) -> tuple[Grid, Path, list[str] | None]:
    """Return the grid and the folder of a new or existing study, and a command that requests it.

    The command lacks the dataset. It is empty for a dict, and None for an existing study, which
    keeps its own.
    """
    if not isinstance(given, str | Path | Mapping):
        expects = "the name of a recipe or study, the path of a TOML file, or a dict"
        raise ArgumentError("grid", given, expects)
    is_grid = isinstance(given, Mapping) or Path(given).is_file() or given in recipes()
    existing = None if is_grid else study_folder(str(given), root)
    if existing is not None:
        if changes or run:
            advice = "give its recipe or file, and a --run"
            raise expected(existing, "changes to an existing study", "none", advice)
        return read_study(existing).grid, existing, None
    command: list[str] = []
    if isinstance(given, Mapping):
        grid = parse_grid(given, run or "sweep", "grid", changes)
    else:
        grid = load_grid(str(given), changes)
        command = _command(Path(given).name, changes, run)
    runs.check_name(run or grid.name, force=True, root=root)
    return grid, root / (run or grid.name), command


def run_sweep(
    given: object,
    changes: Mapping[str, Any],
    load: Callable[[], Dataset],
    *,
    run: str | None = None,
    yes: bool = False,
    root: Path = STUDIES,
    force: bool = False,
    quiet: bool = False,
    **where: Any,  # noqa: ANN401 - the arguments of `_backend`
) -> Study:
    """Train what is missing of a requested study; see `sweep`. A large grid needs `yes`.

    Failed trials are recorded with their error, stop nothing else, and are tried again next time.
    The dataset is loaded only if it is needed.
    """
    grid, path, command = requested(given, changes, run, root)
    grid.check_size(yes=yes)
    trials = list_trials(grid)
    if command is None and not force and with_runs(read_study(path)).is_complete:
        return _finish(path)
    data = load()
    check_trials(trials, len(data.train))
    backend = _backend(data, path / CHECKPOINTS, **where)
    text = shlex.join([*command, *data_record(data).options]) if command else ""
    with running(path) if path.is_dir() else nullcontext():
        study = open_study(path, grid, data, command=text, force=force)
    resume = "the same command without --force" if force else "the same command"
    with running(path):
        _train_missing(study, backend, resume, quiet)
    study = _finish(path)
    if failed := study.with_status("failed"):
        raise CheckFailedError(
            f"{path}: {len(failed)} of {len(trials)} trials could not be trained "
            f"({study.outcomes[failed[0].name].error}); {resume} tries them again"
        )
    return study


def _finish(path: Path) -> Study:
    """Draw the charts of a study and write its findings from its tables."""
    study = read_study(path)
    if study.is_complete:
        shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
    save_charts(study)
    write_findings(study)
    return study


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
    data: Dataset,
    checkpoints: Path,
    *,
    address: str | None,
    workers: int | None,
    device: str,
    verbose: bool = False,
) -> Backend:
    """Return what trains: a cluster, or processes of this machine."""
    if workers is not None and address is not None:
        raise ArgumentError("address", address, "either workers or address")
    if address is not None:
        from kerasbn.sweeps.ray_backend import check_address, train_on_cluster

        check_address(address)
        return partial(
            train_on_cluster, data=data, address=address, device=device, checkpoints=checkpoints
        )
    from kerasbn.sweeps.process_pool import train_in_processes

    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    count = workers or (len(allowed(0)) if allowed else os.cpu_count()) or 1
    return partial(
        train_in_processes, data=data, workers=count, device=device, verbose=verbose,
        checkpoints=checkpoints,
    )  # fmt: skip


def _train_missing(study: Study, backend: Backend, resume: str, quiet: bool) -> None:
    """Train the batches with a missing or failed trial; `resume` says how to continue."""
    sweep = RunningSweep(study, quiet=quiet)
    try:
        with sweep.view, closing(backend(sweep.missing)) as events:
            for event in events:
                sweep.take(event)
        sweep.write_tables()
    except (KeyboardInterrupt, KerasbnError) as error:  # the cluster is lost, or the disk is full
        with suppress(InputError):
            sweep.write_tables()
        words = f"{sweep.kept()}; {resume} continues"
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(f"stopped; {words}") from error
        error.args = (f"{error}; {words}",)
        raise
