"""Train models with and without BN on the same batches, and compare them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasbn import runs
from kerasbn.common.errors import InputError
from kerasbn.common.files import new_folder
from kerasbn.common.plotting import save_figure
from kerasbn.common.wording import seed_range
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.comparison import PICTURE, Comparison, comparison_of, read_comparison
from kerasbn.experiments.train import TrainingJob, dataset_or_default, train_jobs
from kerasbn.experiments.trained_model import trained_model
from kerasbn.probes.results import save_pictures
from kerasbn.training.settings import seed_settings, settings_from

PAIRS_AT_ONCE = 8  # more pairs trained together give the processor nothing more to do at once


def compare(
    data: Dataset | None = None,
    *,
    seeds: int | None = None,
    run: str | None = None,
    force: bool = False,
    probe: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    quiet: bool = True,
    root: Path = runs.ROOT,
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
    model, training = settings_from(settings)
    trainings = seed_settings(training, 1 if seeds is None else seeds)
    runs.check_comparison_name(run, several=seeds is not None, force=force, root=root)
    data = dataset_or_default(data, quiet=quiet)
    place = f"{run}-compare" if run and seeds is None else run or "compare"
    groups = math.ceil(len(trainings) / PAIRS_AT_ONCE)  # of nearly equal size
    trained: list[runs.Run] = []
    with new_folder(root, place, numbered=run is None, replace=force) as folder:
        for chosen in np.array_split(np.arange(len(trainings)), groups):
            group = [trainings[i] for i in chosen]
            first, last = group[0].seed, group[-1].seed
            trained += train_jobs(
                [
                    TrainingJob(
                        kind if seeds is None else f"{kind}-seed-{each.seed}",
                        replace(model, bn=kind == "bn"),
                        each,
                        f"{run}-{kind}" if run and seeds is None else None,
                        probe=probe and each is trainings[0],
                    )
                    for each in group
                    for kind in ("bn", "plain")
                ],
                data,
                device=device,
                force=force,
                tensorboard=tensorboard,
                quiet=quiet,
                root=root if seeds is None else folder.path,
                heading="" if seeds is None else f"{seed_range(first, last)}: each line is a mean",
                figures=seeds is None,
            )
            if any(each.status == "interrupted" for each in trained):
                break
        result = comparison_of([trained_model(each) for each in trained], place, folder.path)
        assert result is not None
        result.write()
        save_figure(result.figure(), folder.path / PICTURE)
        if probe:
            save_pictures(result.probed_runs, folder.path)
    assert folder.placed is not None
    return read_comparison(folder.placed)
