"""Train models side by side on the same batches, and keep a run of each."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.folders import NewFolder
from kerasbn.common.keras_internals import deterministic_operations
from kerasbn.common.plotting import save_figure
from kerasbn.common.records import write_csv, write_json
from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset, Split
from kerasbn.experiments.curves import label
from kerasbn.experiments.sessions import OpenSession, TrainingSession, find_session
from kerasbn.experiments.trained_model import TrainedModel, data_record, trained_model, versions
from kerasbn.probes.batch_composition import predict_in_batches
from kerasbn.probes.readings import BatchResult, write_probes
from kerasbn.probes.recording import Probe, probe_stops
from kerasbn.probes.results import save_pictures
from kerasbn.training.callbacks import (
    EvaluateEachEpoch,
    SaveCheckpoints,
    SingleModelCallbacks,
    StopOnInterrupt,
)
from kerasbn.training.checkpoint import Checkpoint, write_arrays
from kerasbn.training.devices import Device, choose_device, environment
from kerasbn.training.ensembles import Ensemble, SingleModel, compile_model
from kerasbn.training.loop import fit, fit_data_parallel
from kerasbn.training.models import default_keras_config, mlp
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
    resume: str | None = None,
    force: bool = False,
    probe: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    quiet: bool = True,
    root: Path | str = runs.ROOT,
    **settings: Any,  # noqa: ANN401 - the settings of the model and its training
) -> TrainedModel:
    """Train a model with or without BN, and keep the run.

    Args:
        data: What to train and test on; None for the result of `kerasbn.load_dataset()`.
        run: The name of the run; None for ``bn`` or ``plain``, numbered if that is taken.
        resume: The name of a training that was stopped, to continue from its last checkpoint. It
            keeps its settings, and its result is the same as if it had never been stopped.
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
    root, start = Path(root), None
    if resume is None:
        session = TrainingSession("train", *settings_from(settings), device, probe, tensorboard)
        if run is not None:
            runs.check_name(run, force=force, root=root)
    else:
        options = {"device": device, "probe": probe, "tensorboard": tensorboard}
        given = {"run": run, "force": force, **options}
        found = find_session("train", resume, given, settings, root)
        if found is None:
            return trained_model(runs.find_run(resume, root))
        run, (session, start) = resume, found
    data = session.dataset(data, quiet=quiet)
    name = "bn" if session.model.bn else "plain"
    job = TrainingJob(name, session.model, session.training, run, session.probe)
    with runs.new_run(run, name, force=force, root=root, start=start) as folder:
        train_in_folders(
            [job], [folder], data, device=session.device, tensorboard=session.tensorboard,
            quiet=quiet, session=OpenSession(session, folder.path),
        )  # fmt: skip
    assert folder.placed is not None
    trained = trained_model(runs.read_run(folder.placed))
    if trained.status != "interrupted":
        OpenSession(session, folder.placed).end()
    return trained


def train_jobs(
    jobs: Sequence[TrainingJob],
    data: Dataset,
    *,
    force: bool = False,
    root: Path = runs.ROOT,
    **options: Any,  # noqa: ANN401 - see `train_in_folders`
) -> list[runs.Run]:
    """Train models side by side with the options of `train_in_folders`; return a run of each."""
    for job in jobs:
        if job.run is not None:
            runs.check_name(job.run, force=force, root=root)
    with ExitStack() as stack:
        folders = [
            stack.enter_context(runs.new_run(job.run, job.key, force=force, root=root))
            for job in jobs
        ]
        train_in_folders(jobs, folders, data, **options)
    return [runs.read_run(folder.placed) for folder in folders if folder.placed]


def train_in_folders(
    jobs: Sequence[TrainingJob],
    folders: Sequence[NewFolder],
    data: Dataset,
    *,
    device: str = "auto",
    tensorboard: bool = False,
    quiet: bool = True,
    heading: str = "",
    figures: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    session: OpenSession | None = None,
) -> None:
    """Train models side by side, and write the run of each into its folder.

    Models of one seed see the same batches in the same order and start from the same Dense kernels.
    Models with equal settings train as an ensemble (see `kerasbn.training.ensembles`), each as it
    would alone. After every epoch each model is evaluated on the full training and test set. A
    model that diverges stops there and the others continue; Ctrl-C stops all of them. The epochs
    until then are kept, and the `status` of the run says so.

    `heading` is a line to print first. Without `figures` no curves are plotted, which take half a
    second a run. `callbacks` see the logs of all models. Checkpoints are written into the
    `session`, and training continues from the one it holds. The rest is as for `train`.

    Raises:
        InputError: If something cannot be used; nothing has been trained then.
    """
    place, schedule = _plan(jobs, data, device, tensorboard=tensorboard)
    started = session.session.started if session else datetime.now(UTC).isoformat()
    labels = {job.key: label(job.model.bn) for job in jobs}
    with (
        default_keras_config(),
        # On a CPU, operations are deterministic anyway.
        deterministic_operations(place.is_gpu and jobs[0].training.deterministic),
        _begun(session, jobs[0].key, data) as start,
        _out_of_memory_is_an_input_error(jobs),
        ProgressDisplay(schedule, labels, quiet=quiet) as progress,
        # Active until everything is written: Ctrl-C must not lose what was trained.
        StopOnInterrupt(lambda: progress.say("stopping; Ctrl-C again to stop at once")) as stop,
    ):
        began = time.monotonic() - (start.progress.seconds if start else 0)
        for folder in folders:
            if folder.cleared:
                progress.say(f"removed {folder.name}, left unfinished without a checkpoint")
        if heading:
            progress.say(heading)
        models = _compiled_models(jobs, place)
        evaluation = EvaluateEachEpoch(schedule)
        watching: list[keras.callbacks.Callback] = [evaluation]
        keep = write_arrays
        if session:
            state = session.state(jobs[0].key)
            checkpoints = SaveCheckpoints(state, evaluation, progress.say, start)
            watching.append(checkpoints)
            keep = checkpoints.keep
        probes: dict[str, Probe] = {}
        for job, folder in zip(jobs, folders, strict=True):
            if tensorboard:
                logger = keras.callbacks.TensorBoard(folder.path / "tensorboard", write_graph=False)
                watching.append(SingleModelCallbacks(job.key, models[job.key], [logger]))
            if job.probe:
                with tf.device(place.name):
                    probes[job.key] = Probe(
                        job.key, models[job.key], schedule, data.train,
                        log=folder.path / "tensorboard/probes" if tensorboard else None,
                        weights=session.probed(job.key) if session else None,
                        first=schedule.steps_after(start.progress.epochs - 1) if start else 0,
                        keep=keep,
                    )  # fmt: skip
        watching += [*callbacks, *probes.values(), progress, stop]
        _fit(jobs, models, data, schedule, watching, place, start)
        stopped = stop.interrupted and evaluation.epochs < schedule.epochs
        with ThreadPoolExecutor() as pool:
            batches = {
                key: pool.submit(_predict_on, place.name, models[key], weights, data.test)
                for key, weights in evaluation.weights.items()
                if key in probes
            }
        alike: dict[str, Any] = {
            "started": started, "seconds": round(time.monotonic() - began, 3),
            "data": data_record(data), "device": place.description, "versions": versions(),
            "environment": environment(place),
        }  # fmt: skip
        # The run of the first job is written last, so that it is the newest.
        for job, folder in reversed(list(zip(jobs, folders, strict=True))):
            diverged = evaluation.diverged.get(job.key)
            record = runs.RunRecord(
                status="diverged" if diverged else "interrupted" if stopped else "finished",
                diverged_at_step=diverged,
                finished=datetime.now(UTC).isoformat(),
                model=job.model,
                training=job.training,
                parameters=models[job.key].count_params(),
                epochs=0,
                ensemble=1 if place.replicas else sum(each.model == job.model for each in jobs),
                **alike,
            )
            run = _write_run(folder.path, job.key, models[job.key], evaluation, record)
            folder.complete = True
            if job.key in probes:
                probe = probes[job.key]
                composition = batches[job.key].result() if job.key in batches else ()
                write_probes(run.path, probe.readings(), probe.record(composition))
            if figures:
                save_figure(trained_model(run).figure(), run.path / runs.CURVES)
            if figures and job.probe and len(jobs) == 1:  # a pair is drawn together
                save_pictures([run], run.path)


def _plan(
    jobs: Sequence[TrainingJob], data: Dataset, device: str, *, tensorboard: bool
) -> tuple[Device, Schedule]:
    """Check what can be checked before the training; return its device and its schedule."""
    training = jobs[0].training
    training.check([job.model for job in jobs], len(data.train))
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
    return place, schedule.batch_by_batch() if place.replicas else schedule


@contextmanager
def _begun(session: OpenSession | None, key: str, data: Dataset) -> Iterator[Checkpoint | None]:
    """Begin or resume a session; leave nothing if it fails before its first checkpoint."""
    if session is None:
        yield None
        return
    try:
        yield session.begin(key, data)
    except Exception:  # whatever failed: a kill is none, and leaves a session to resume
        if not session.has_begun(key):
            session.end()
        raise


@contextmanager
def _out_of_memory_is_an_input_error(jobs: Sequence[TrainingJob]) -> Iterator[None]:
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        hidden = max((job.model.hidden for job in jobs), key=sum)
        advice, found = "make the layers or the batch smaller", "more units than the memory holds"
        raise ArgumentError("hidden", hidden, "fewer", advice, received=found) from error


def _compiled_models(jobs: Sequence[TrainingJob], place: Device) -> dict[str, keras.Model]:
    with tf.device(place.name):
        models = {job.key: mlp(**asdict(job.model), seed=job.training.seed) for job in jobs}
        for job in jobs:
            compile_model(models[job.key], job.training)
    return models


def _fit(
    jobs: Sequence[TrainingJob],
    models: Mapping[str, keras.Model],
    data: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    place: Device,
    start: Checkpoint | None,
) -> None:
    """Train all models on a device or, each on its own, over several."""
    epoch = start.progress.epochs if start else 0
    if start and len(start.progress.diverged) == len(jobs):
        epoch = schedule.epochs  # there is nothing left to train
    if place.replicas:
        trainings = {job.key: job.training for job in jobs}
        fit_data_parallel(models, trainings, data, schedule, callbacks, place.replicas, epoch)
        return
    with tf.device(place.name):
        learners = _learners(jobs, models)
    fit(learners, data, schedule, callbacks, place.name, epoch)


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


def _predict_on(
    device: str, model: keras.Model, weights: Sequence[np.ndarray], test: Split
) -> tuple[BatchResult, ...]:
    """Call `predict_in_batches` on a device, in any thread: TensorFlow's scopes are per thread."""
    with tf.device(device):
        return predict_in_batches(model, weights, test)


def _write_run(
    folder: Path, key: str, model: keras.Model, evaluation: EvaluateEachEpoch,
    record: runs.RunRecord,
) -> runs.Run:  # fmt: skip
    """Write history, model and record of the model called `key` into the folder of its run."""
    rows = [{"epoch": i, **row} for i, row in enumerate(evaluation.history.get(key, ()), 1)]
    cells = [[row[name] for name in runs.HISTORY_COLUMNS] for row in rows]
    write_csv(folder / runs.HISTORY, runs.HISTORY_COLUMNS, cells)
    if rows:
        model.set_weights(evaluation.weights[key])
        model.save(folder / runs.MODEL)
    run = runs.Run(folder, record)
    final = {name: column[-1] for name, column in run.history.items() if column}
    epochs, digest = len(run.history["epoch"]), runs.digest_of(run)
    record = replace(record, epochs=epochs, final=final, digest=digest)
    write_json(folder / runs.RECORD, record)
    return runs.Run(folder, record)
