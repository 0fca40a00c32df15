"""Train models with and without BN on the same batches, and compare them."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasbn import runs
from kerasbn.common.errors import InputError
from kerasbn.common.plotting import save_figure
from kerasbn.common.wording import seed_range
from kerasbn.data.datasets import Dataset
from kerasbn.data.examples import write_examples
from kerasbn.experiments.comparison import PICTURE, Comparison, comparison_of, read_comparison
from kerasbn.experiments.sessions import OpenSession, TrainingSession, find_session
from kerasbn.experiments.train import TrainingJob, train_in_folders
from kerasbn.experiments.trained_model import trained_model
from kerasbn.probes import readings
from kerasbn.probes.results import save_pictures
from kerasbn.training.settings import TrainingSettings, seed_settings, settings_from

RUN_KINDS = ("bn", "plain")
PAIRS_AT_ONCE = 8  # more pairs trained together give the processor nothing more to do at once


def compare(
    data: Dataset | None = None,
    *,
    seeds: int | None = None,
    run: str | None = None,
    resume: str | None = None,
    force: bool = False,
    probe: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    quiet: bool = True,
    root: Path | str = runs.ROOT,
    **settings: Any,  # noqa: ANN401 - the settings of models and trainings
) -> Comparison:
    """Train the same model with and without BN, and compare the two.

    Both models start from the same kernels and see the same batches in the same order. One pair
    gives the runs ``bn`` and ``plain`` and the folder ``compare``. Several seeds give several
    pairs, trained together, each as it would be alone: then the folder ``compare`` holds all their
    runs.

    Args:
        data: What to train and test on; None for the result of `kerasbn.load_dataset()`.
        seeds: The number of pairs, with the seeds from `seed` on; None for one pair.
        run: What to call the comparison and its runs; None for ``compare``, ``bn`` and ``plain``,
            numbered where these names are taken.
        resume: The name of a comparison that was stopped, to continue; see `kerasbn.train`.
        force: Whether to replace runs that have these names.
        probe: As for `kerasbn.train`, for the first pair.
        tensorboard: As for `kerasbn.train`.
        device: As for `kerasbn.train`.
        quiet: As for `kerasbn.train`.
        root: As for `kerasbn.train`.
        **settings: As for `kerasbn.train`, without ``bn``.

    Returns:
        The comparison. It has a readable repr, `history` (a table), `figure()` and `summary()`, and
        shows its figure in a notebook.

    Raises:
        InputError: If an argument cannot be used; nothing has been trained then.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> result = kerasbn.compare(data, epochs=1, seeds=2)
        >>> result
        <Comparison compare: Test accuracy: ...>
        >>> result.figure().savefig("compare.png")
    """
    if "bn" in settings:
        raise InputError("bn: received it as a setting, expected none; both models are trained")
    root, start = Path(root), None
    if resume is None:
        model, training = settings_from(settings)
        session = TrainingSession("compare", model, training, device, probe, tensorboard, seeds)
        runs.check_comparison_name(run, several=seeds is not None, force=force, root=root)
        name = run
        if run and seeds is None:
            name = f"{run}-compare"
            session = replace(session, names={kind: f"{run}-{kind}" for kind in RUN_KINDS})
    else:
        options = {"seeds": seeds, "device": device, "probe": probe, "tensorboard": tensorboard}
        given = {"run": run, "force": force, **options}
        found = find_session("compare", resume, given, settings, root)
        if found is None:
            return read_comparison(root / resume)
        name, (session, start) = resume, found
    trainings = seed_settings(session.training, 1 if session.seeds is None else session.seeds)
    data = session.dataset(data, quiet=quiet)
    trained: list[runs.Run] = []
    with runs.new_run(name, "compare", force=force, root=root, start=start) as folder:
        here = OpenSession(session, folder.path)
        groups = math.ceil(len(trainings) / PAIRS_AT_ONCE)  # of nearly equal size
        for chosen in np.array_split(np.arange(len(trainings)), groups):
            group = [trainings[i] for i in chosen]
            trained += _train_group(group, data, here, root=root, force=force, quiet=quiet)
            if any(each.status == "interrupted" for each in trained):
                break
        result = comparison_of([trained_model(each) for each in trained], folder.name, folder.path)
        assert result is not None
        result.write()
        write_examples(folder.path, data.test)
        folder.complete = True
        save_figure(result.figure(), folder.path / PICTURE)
        if session.probe:
            save_pictures(result.probed_runs, folder.path)
    assert folder.placed is not None
    if not any(each.status == "interrupted" for each in trained):
        OpenSession(session, folder.placed).end()
    return read_comparison(folder.placed)


def _is_complete(run: runs.Run, *, curves: bool, probes: bool) -> bool:
    """Return whether a run is finished and has all its files, the last of which are these."""
    last = (runs.CURVES,) * curves + readings.FILES * probes
    return run.status != "interrupted" and all((run.path / name).exists() for name in last)


def _train_group(
    group: Sequence[TrainingSettings],
    data: Dataset,
    here: OpenSession,
    *,
    root: Path,
    force: bool,
    quiet: bool,
) -> list[runs.Run]:
    """Train the pairs of a group, or resume them; return their runs."""
    session = here.session
    several = session.seeds is not None
    parent, suffix = (here.folder, "-seed-{}") if several else (root, "")
    jobs = [
        TrainingJob(
            kind + suffix.format(each.seed),
            replace(session.model, bn=kind == "bn"),
            each,
            probe=session.probe and each.seed == session.training.seed,
        )
        for each in group
        for kind in RUN_KINDS
    ]
    names = {job.key: session.names.get(job.key, job.key if several else None) for job in jobs}
    earlier = [session.run_of(parent / name) if name else None for name in names.values()]
    trained = [
        run
        for job, run in zip(jobs, earlier, strict=True)
        if run and _is_complete(run, curves=not several, probes=job.probe)
    ]
    if len(trained) == len(jobs):
        return trained
    with ExitStack() as stack:
        folders = []
        for job, run in zip(jobs, earlier, strict=True):
            name = names[job.key]
            # What has taken the name since the training was stopped is not replaced.
            is_free = session.data is None or run is not None
            folder = runs.new_run(
                name if is_free else None,
                name or job.key,
                force=force or run is not None,
                root=parent,
            )
            folders.append(stack.enter_context(folder))
        if not several:
            chosen = {job.key: folder.name for job, folder in zip(jobs, folders, strict=True)}
            here = replace(here, session=replace(session, names=chosen))
        first, last = group[0].seed, group[-1].seed
        train_in_folders(
            jobs, folders, data, device=session.device, tensorboard=session.tensorboard,
            quiet=quiet, session=here, figures=not several,
            heading=f"{seed_range(first, last)}: each line is a mean" if several else "",
        )  # fmt: skip
    trained = [runs.read_run(folder.placed) for folder in folders if folder.placed]
    if not any(run.status == "interrupted" for run in trained):
        here.end(finished=False)
    return trained
