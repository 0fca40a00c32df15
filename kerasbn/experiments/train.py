"""Train models side by side on the same batches, and keep a run of each."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.files import NewFolder
from kerasbn.common.plotting import save_figure
from kerasbn.common.records import write_json
from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.experiments.curves import label
from kerasbn.experiments.trained_model import TrainedModel, data_record, trained_model, versions
from kerasbn.probes.batch_composition import predict_in_batches
from kerasbn.probes.readings import write_probes
from kerasbn.probes.recording import Probe, probe_stops
from kerasbn.probes.results import save_pictures
from kerasbn.training.callbacks import EvaluateEachEpoch, SingleModelCallbacks, StopOnInterrupt
from kerasbn.training.devices import choose_device
from kerasbn.training.ensembles import Ensemble, SingleModel, compile_model
from kerasbn.training.loop import fit, fit_data_parallel
from kerasbn.training.models import mlp
from kerasbn.training.progress import ProgressDisplay
from kerasbn.training.settings import ModelSettings, TrainingSettings, settings_from


@dataclass(frozen=True)
class TrainingJob:
    """One model to train. Jobs trained together differ in model, `seed` and `lr` at most.

    The key names it in the logs, and its run if no name is requested by `run`.
    """

    key: str
    model: ModelSettings
    training: TrainingSettings
    run: str | None = None
    probe: bool = False


def train(
    data: Dataset | None = None,
    *,
    run: str | None = None,
    force: bool = False,
    probe: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    quiet: bool = True,
    root: Path = runs.ROOT,
    **settings: Any,  # noqa: ANN401 - the settings of the model and its training
) -> TrainedModel:
    """Train a model with or without BN, and keep the run.

    Args:
        data: What to train and test on; None for the result of `kerasbn.load_dataset()`.
        run: The name of the run; None for ``bn`` or ``plain``, numbered if that is taken.
        force: Whether to replace a run of that name.
        probe: Whether to record and plot what happens inside the model.
        tensorboard: Whether to write TensorBoard logs too.
        device: ``auto``, ``cpu``, ``gpu``, ``gpu:N`` or ``all`` (data-parallel).
        quiet: Whether to show no progress.
        root: The folder of the runs.
        **settings: Fields of `kerasbn.ModelSettings` and `kerasbn.TrainingSettings`, such as
            ``bn=False`` or ``epochs=5``.

    Returns:
        The trained model: its settings, `history`, `figure()` and, as `run`, the run on disk.

    Raises:
        InputError: If an argument cannot be used; nothing has been trained then.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> trained = kerasbn.train(data, epochs=1, bn=False)
        >>> trained
        <TrainedModel plain: test accuracy ..., test loss ... after 1 epoch>
        >>> sorted(trained.history)
        ['accuracy', 'epoch', 'loss', 'step', 'val_accuracy', 'val_loss']
    """
    model, training = settings_from(settings)
    job = TrainingJob("bn" if model.bn else "plain", model, training, run, probe)
    (trained,) = train_jobs(
        [job], dataset_or_default(data, quiet=quiet), device=device, force=force,
        tensorboard=tensorboard, quiet=quiet, root=root,
    )  # fmt: skip
    return trained_model(trained)


def dataset_or_default(data: object, *, quiet: bool) -> Dataset:
    """Return `data`, or the default dataset for None.

    Raises:
        ArgumentError: If `data` is anything else than a dataset.
    """
    if data is None:
        return load_dataset(quiet=quiet)
    if isinstance(data, Dataset):
        return data
    found, advice = f"a {type(data).__name__}", "make one with kerasbn.load_dataset()"
    raise ArgumentError("data", data, "a kerasbn.Dataset", advice, received=found)


def train_jobs(
    jobs: Sequence[TrainingJob],
    data: Dataset,
    *,
    device: str = "auto",
    force: bool = False,
    tensorboard: bool = False,
    quiet: bool = True,
    root: Path = runs.ROOT,
    heading: str = "",
    figures: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[runs.Run]:
    """Train models side by side, and return a run of each in the order of the jobs.

    Models of one seed see the same batches in the same order and start from the same Dense kernels.
    Models with equal settings train as an ensemble (see `kerasbn.training.ensembles`), each as it
    would alone. After every epoch each model is evaluated on the full training and test set. A
    model that diverges stops there and the others continue; Ctrl-C stops all of them. The epochs
    until then are kept, and the `status` of the run says so.

    `heading` is a line to print first. Without `figures` no curves are plotted, which take half a
    second a run. `callbacks` see the logs of all models. The rest is as for `train`.

    Raises:
        InputError: If something cannot be used; nothing has been trained then.
    """
    training = jobs[0].training
    training.check([job.model for job in jobs], len(data.train))
    for job in jobs:
        if job.run is not None:
            runs.check_name(job.run, force=force, root=root)
    if tensorboard and find_spec("tensorboard") is None:
        raise expected(
            "--tensorboard", "an installation without TensorBoard", "the package tensorboard",
            'install it: pip install "kerasbn[tensorboard]"',
        )  # fmt: skip
    place = choose_device(device)
    place.check_batch_size(training.batch_size)
    schedule = Schedule.of(len(data.train), training.batch_size, training.epochs, training.steps)
    if any(job.probe for job in jobs):
        schedule = replace(schedule, stops=probe_stops(schedule.steps))
    if place.replicas:
        schedule = schedule.batch_by_batch()
    evaluation = EvaluateEachEpoch(schedule)
    models: dict[str, keras.Model] = {}
    folders: dict[str, NewFolder] = {}
    loggers: list[SingleModelCallbacks] = []
    probes: dict[str, Probe] = {}
    started = datetime.now(UTC)
    with ExitStack() as stack:
        stack.enter_context(_out_of_memory_is_an_input_error(jobs))
        for job in jobs:
            key, new_run = job.key, runs.new_run(job.run, job.key, force=force, root=root)
            folders[key] = stack.enter_context(new_run)
            logs = folders[key].path / "tensorboard" if tensorboard else None
            writers = [keras.callbacks.CSVLogger(folders[key].path / runs.HISTORY)]
            if logs:
                writers.append(keras.callbacks.TensorBoard(logs, write_graph=False))
            with tf.device(place.name):
                model = mlp(**asdict(job.model), seed=job.training.seed)
                models[key] = compile_model(model, job.training)
                if job.probe:
                    probes[key] = Probe(key, model, schedule, data.train, logs and logs / "probes")
            loggers.append(SingleModelCallbacks(key, model, writers))
        labels = {job.key: label(job.model.bn) for job in jobs}
        with ProgressDisplay(schedule, labels, quiet=quiet) as progress:
            # Active until everything is written: Ctrl-C must not lose what was trained.
            interrupt = stack.enter_context(
                StopOnInterrupt(lambda: progress.say("stopping; Ctrl-C again to drop this run"))
            )
            if heading:
                progress.say(heading)
            watching = [evaluation, *loggers, *callbacks, *probes.values(), progress, interrupt]
            # A checkpoint would restore models, optimizers and the epoch here.
            if place.replicas:
                trainings = {job.key: job.training for job in jobs}
                fit_data_parallel(models, trainings, data, schedule, watching, place.replicas)
            else:
                with tf.device(place.name):
                    learners = _learners(jobs, models)
                fit(learners, data, schedule, watching, place.name)
        with ThreadPoolExecutor() as pool:
            batches = {
                key: pool.submit(predict_in_batches, models[key], weights, data.test)
                for key, weights in evaluation.weights.items()
                if key in probes
            }
        # The run of the first job is written last, so that it is the newest.
        for job in reversed(jobs):
            key, diverged = job.key, evaluation.diverged.get(job.key)
            finished = datetime.now(UTC)
            record = runs.RunRecord(
                status="interrupted" if interrupt.interrupted else "finished",
                started=started.isoformat(),
                finished=finished.isoformat(),
                seconds=round((finished - started).total_seconds(), 3),
                model=job.model,
                training=job.training,
                data=data_record(data),
                device=place.description,
                versions=versions(),
                parameters=models[key].count_params(),
                epochs=0,
            )
            if diverged is not None:
                record = replace(record, status="diverged", diverged_at_step=diverged)
            run = _write_run(folders[key].path, models[key], evaluation.weights.get(key), record)
            if key in probes:
                composition = batches[key].result() if key in batches else ()
                write_probes(run.path, probes[key].readings(), probes[key].record(composition))
            if figures:
                save_figure(trained_model(run).figure(), run.path / runs.CURVES)
            if figures and job.probe and len(jobs) == 1:  # a pair is drawn together
                save_pictures([run], run.path)
    return [runs.read_run(folder.placed) for folder in folders.values() if folder.placed]


@contextmanager
def _out_of_memory_is_an_input_error(jobs: Sequence[TrainingJob]) -> Iterator[None]:
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        hidden = max((job.model.hidden for job in jobs), key=sum)
        advice, found = "make the layers or the batch smaller", "more units than the memory holds"
        raise ArgumentError("hidden", hidden, "fewer", advice, received=found) from error


def _learners(
    jobs: Sequence[TrainingJob], models: Mapping[str, keras.Model]
) -> list[SingleModel | Ensemble]:
    """Return what trains the models: an ensemble for those with equal settings."""
    equal: dict[ModelSettings, list[TrainingJob]] = {}
    for job in jobs:
        equal.setdefault(job.model, []).append(job)
    return [
        Ensemble({job.key: models[job.key] for job in group}, [job.training for job in group])
        if len(group) > 1
        else SingleModel(group[0].key, models[group[0].key], group[0].training.seed)
        for group in equal.values()
    ]


def _write_run(
    folder: Path, model: keras.Model, weights: list[Any] | None, record: runs.RunRecord
) -> runs.Run:
    """Write model and record into the folder of a run, which already holds the history."""
    if weights is None:  # no epoch has metrics, so the logger has not even written a header
        (folder / runs.HISTORY).write_text(",".join(runs.HISTORY_COLUMNS) + "\n")
    else:
        model.set_weights(weights)
        model.save(folder / runs.MODEL)
    history = runs.read_history(folder / runs.HISTORY)
    final = {name: column[-1] for name, column in history.items() if column}
    record = replace(record, epochs=len(history["epoch"]), final=final)
    write_json(folder / runs.RECORD, record)
    return runs.Run(folder, record)
